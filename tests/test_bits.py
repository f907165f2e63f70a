"""Bits: entropies on worked-out answers, what each method bills of its signal, and that every forward pass is billed."""

import math
from dataclasses import replace

import pytest
import torch
from test_methods import LEARNS_FROM_REWARD, NAMES, Fair, learner_of, run, small
from tiny import tiny, trajectories
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nanoschool import bits, methods
from nanoschool.core.batch import Batch
from nanoschool.core.critic import Critic
from nanoschool.core.fused import Fused
from nanoschool.core.model import GPT
from nanoschool.core.reward_model import RewardModel
from nanoschool.ledger import Budget, Cost
from nanoschool.methods import critique, gepa, shown
from nanoschool.methods.comparisons import Comparisons
from nanoschool.stepwise import kl

# -- the arithmetic ----------------------------------------------------------------------------------------------------


def test_entropies_on_worked_out_answers():
    assert [bits.binary(p) for p in (0, 0.5, 1)] == [0, 1, 0]
    assert bits.binary(0.25) == bits.binary(0.75) == pytest.approx(2 - 0.75 * math.log2(3))
    assert (
        bits.entropy("abcd") == 2
        and bits.entropy("aabb") == 1
        and bits.entropy("aaaa") == 0 == bits.entropy("")
    )
    assert bits.entropy([1.0, 0.0, 0.0, 0.0]) == pytest.approx(bits.binary(0.25))
    assert bits.of_label(0.0) == 1 and bits.of_label(50.0) < 1e-15 and bits.of_label(-1e9) == 0
    assert bits.of_label(math.log(3)) == bits.of_label(-math.log(3)) == pytest.approx(bits.binary(0.25))


def test_a_group_foretells_its_own_signals():
    groups, rewards = [0, 0, 0, 0, 1, 1, 2, 2, 2], [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, None]
    assert bits.of_groups(groups, rewards) == pytest.approx(4 * bits.binary(0.25) + 0 + 2 * 1)
    assert bits.of_groups([], []) == 0


# -- what methods bill -------------------------------------------------------------------------------------------------

SILENT = {"majority", "sleep"}  # it pays itself; its teacher is itself


@pytest.mark.parametrize("name", NAMES)
def test_every_method_that_is_told_something_bills_it(name):
    learner = learner_of(method := small(name, **({"replay": 0} if name not in ("sft", "pretrain") else {})))
    run(method, learner, 1)
    ledger = learner.policy.ledger
    if name != "gepa":  # whose whole search is one step
        asked = ledger.total("collect").bits
        assert asked == ledger.total("collect/review").bits, "asking says nothing, a review does"
    assert (ledger.total().bits == 0) if name in SILENT else 0 < ledger.total().bits < 1e4
    assert Budget("bits", 1e-6).left(ledger.total()) < 0 or name in SILENT


@pytest.mark.parametrize("name", LEARNS_FROM_REWARD)
def test_equal_rewards_say_nothing(name):
    learner = learner_of(method := small(name, replay=0), Fair())
    run(method, learner, 1)
    assert learner.policy.ledger.total().bits == 0


def test_rewards_are_billed_by_the_shares_of_their_group():
    learner = learner_of(method := small("rloo", replay=0))
    attempts = method.collect(learner)
    expected = bits.of_groups([t.group for t in attempts], [t.rewards for t in attempts])
    run(method, learner, 1)
    assert learner.policy.ledger.total("signal") == Cost(bits=expected) and 0 < expected <= 12 * 2


def test_what_is_shown_is_billed_by_the_learners_own_surprise():
    """−log2 p of the tokens that nobody sampled, before the step; of what it sampled itself nothing."""
    policy = tiny(context=64)
    rows = [replace(t, logprobs=[0.0] * len(t.tokens)) for t in trajectories(policy, (9, 20, 14))]
    sampled = trajectories(policy, (12,), seed=5)
    batch = Batch.of(rows)
    expected = -float(policy.logprobs(batch)[batch.mask].sum()) / math.log(2)
    for micro_tokens in (10**6, 1):
        learner = learner_of(small("sft"))
        learner.policy.micro_tokens = micro_tokens
        shown.fit(learner.policy, [*rows, *sampled])
        assert learner.policy.ledger.total().bits == pytest.approx(expected, rel=1e-5)


def test_a_teacher_offers_no_more_than_the_divergence():
    learner = learner_of(method := small("distill", replay=0))
    attempts = method.collect(learner)
    batch = Batch.of(attempts)
    student, teacher = learner.policy.whole(batch), learner.teacher.whole(batch)
    expected = float(kl(teacher, student).sum()) / math.log(2)
    spent = learner.policy.ledger.total().bits
    method.credit(learner, attempts)
    method.fit(learner, attempts)
    assert learner.policy.ledger.total().bits - spent == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", [n for n in methods.describe() if issubclass(methods.load(n), Comparisons)])
def test_a_comparison_is_one_bit_at_most(name):
    """At the reference, where a policy foretells nothing, exactly one of dpo and its kin."""
    learner = learner_of(method := methods.load(name)(pairs=6))
    run(method, learner, 1)
    sides = 2 if name == "kto" else 1  # each reply is judged by itself
    offered = learner.policy.ledger.total().bits
    assert 0 < offered <= 6 * sides + 1e-6
    if name in ("dpo", "cdpo", "ipo", "kto"):
        assert offered == pytest.approx(6 * sides, rel=1e-3)


def test_a_review_is_billed_by_its_words_and_by_whether_there_is_one():
    """−log2 p of the words behind the attempt, as the policy has it; and the entropy of who is spoken of."""
    policy = tiny(context=64)
    rows = [
        replace(t, feedback=said)
        for t, said in zip(trajectories(policy, (9, 9)), ("", "wrong: d"), strict=True)
    ]
    words = policy.tokenizer.encode("\nwrong: d")
    tokens = [*rows[1].tokens, *words]
    behind = replace(
        rows[1], tokens=tokens, mask=[False] * 9 + [True] * len(words), logprobs=[0.0] * len(tokens)
    )
    batch = Batch.of([replace(behind, weights=[0.0] * len(tokens))])
    expected = 2 - float(policy.logprobs(batch).sum()) / math.log(2)
    spent = policy.ledger.total()
    assert critique.offered(policy, rows) == pytest.approx(expected, rel=1e-6)
    assert policy.ledger.total() == spent, "the meter's own pass is nobody's expense"
    assert critique.offered(policy, rows[:1]) == 0 == critique.offered(policy, [])


# -- every pass is billed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_forward_pass_is_billed(name, monkeypatch):
    """Tokens that went through any model (policy, reference, critic, reward model, teacher) against those on the ledger."""
    live, forward, logits = [], GPT.forward, GPT.logits

    def watched(model, tokens_BS, *rest, **named):
        live.append(
            int((tokens_BS != 0).flip(1).cumsum(1).gt(0).sum())
        )  # padding is of token 0, on the right
        return forward(model, tokens_BS, *rest, **named)

    def never_0(model, x):
        said = logits(model, x)
        return torch.cat([said[..., :1] - 60, said[..., 1:]], dim=-1)

    for module in (critique, gepa):  # the meter's own pass, over the words of reviews
        monkeypatch.setattr(module, "offered", lambda policy, reviewed: 0.0)
    monkeypatch.setattr(GPT, "forward", watched)
    monkeypatch.setattr(GPT, "logits", never_0)  # so that a 0 is padding
    sampled, likely = Fused.layers_of, Fused.logits

    def watched_too(fused, tokens_N, attend):
        live.append(len(tokens_N))  # the engine computes no padding
        return sampled(fused, tokens_N, attend)

    def never_0_too(fused, *found):
        said = likely(fused, *found)
        return torch.cat([said[..., :1] - 60, said[..., 1:]], dim=-1)

    monkeypatch.setattr(Fused, "layers_of", watched_too)
    monkeypatch.setattr(Fused, "logits", never_0_too)
    learner = learner_of(method := small(name))
    run(method, learner, 2)
    assert sum(live) == learner.policy.ledger.total().tokens > 0


def counted(work) -> float:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def test_the_flops_of_critic_reward_model_and_reference_are_what_torch_counts():
    """Within 2 % under the math kernel, whose count of attention is of all pairs: what a causal mask hides is taken off.

    Policy, training step, prefill and decoding: test_model.py and test_engine.py.
    """
    policy, S, B = tiny(depth=2), 48, 3
    batch, c = Batch.of(trajectories(policy, [S] * B)), policy.model.config
    hidden = c.flops(0, B * (S * S - S * (S + 1) // 2), 0)
    critic, judge = Critic(policy, 1e-3, 0.99), RewardModel(policy.model, policy.tokenizer, policy.ledger)
    reference = policy.snapshot()
    for passes, work in (
        (1, lambda: reference.logprobs(batch)),
        (1, lambda: reference.whole(batch)),
        (1, lambda: critic.values(batch)),
        (
            3,
            lambda: critic.fit(
                batch, lambda v, b, t: (v * v).sum(), scale=0.0, epochs=1, minibatches=1, seed=0
            ),
        ),
        (1, lambda: judge.scores(batch)),
        (3, lambda: judge.fit(0, batch, lambda r, b, n: (r * r).sum())),
    ):
        before = policy.ledger.total()
        expected = counted(work) - passes * hidden
        assert (policy.ledger.total() - before).flops == pytest.approx(expected, rel=0.02)
