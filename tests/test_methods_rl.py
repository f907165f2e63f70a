"""Methods that learn from a reward: golden losses, identities, what each keeps and drops, that it learns."""

from collections import Counter
from dataclasses import dataclass, replace
from string import printable
from typing import Any

import pytest
import torch
from test_credit import ADVANTAGE, MASK, NEW, OLD
from test_methods import Fair, Letters, Unscored, learner_of, near, practise, reinforce, run, small
from tiny import Recorder, same, tiny, trajectories, weights

from nanoschool import methods
from nanoschool.core.batch import Batch
from nanoschool.credit import clipped, ratio
from nanoschool.methods.dapo import DAPO
from nanoschool.methods.majority import answer
from nanoschool.methods.practice import Practice
from nanoschool.methods.reuse import Reuse
from nanoschool.rollout import rollout
from nanoschool.types import Ask, Episode, Outcome, Task, Trajectory, UserError

RATIO = ["grpo", "dr_grpo", "dapo", "gspo", "cispo", "reinforce_pp"]
PROXIES = ["random_reward", "format_reward", "inverted_reward", "majority"]


def golden_batch(sampled: float = 1.0) -> Batch:
    """2.12's losses' inputs, after a first column that nobody samples."""
    pad = torch.zeros(4, 1)
    mask, old = torch.cat([pad.bool(), MASK], 1), torch.cat([pad, OLD], 1)
    worth = torch.cat([pad, (ADVANTAGE * MASK).float()], 1)
    extra = {"sampled": torch.full((4, 5), sampled), "reference": old}
    return Batch(torch.zeros(4, 5).long(), mask, worth, old, torch.tensor([5, 4, 3, 5]), torch.ones(4), extra)


@pytest.mark.parametrize(
    "name, settings, golden",
    [
        ("dapo", {}, -0.193246),
        ("gspo", {"clip": 0.2, "clip_high": 0.28}, -0.067050),
        ("cispo", {"clip": 0.2, "clip_high": 0.28}, 0.149854),
    ],
)
def test_golden_losses(name, settings, golden):
    batch = golden_batch()
    new = torch.cat([torch.zeros(4, 1), NEW], 1)
    loss = methods.load(name)(**settings).loss(new, batch, batch.totals()).item()
    assert loss == pytest.approx(golden, abs=6e-7)


@pytest.mark.golden
def test_dr_grpo_is_the_mean_of_the_sums_over_the_longest():
    """2.12's seq-mean-token-sum, over a constant."""
    method, batch = methods.load("dr_grpo")(problems=2, samples=2, max_tokens=8), golden_batch()
    loss_BT = clipped(ratio(torch.cat([torch.zeros(4, 1), NEW], 1), batch.logprobs), batch.weights, 0.2, 0.28)
    loss = method.aggregate(loss_BT, batch, batch.totals()).item()
    assert loss == pytest.approx(-0.628050 / 8, abs=6e-7)


@pytest.mark.parametrize("name", RATIO)
def test_demonstrations_are_imitated_in_the_same_loss(name):
    """Where nobody sampled, −w log p, in the method's own average."""
    batch, new = golden_batch(sampled=0.0), torch.cat([torch.zeros(4, 1), NEW], 1)
    method: Reuse = methods.load(name)()
    got = method.loss(new, batch, batch.totals())
    assert got.item() == pytest.approx(method.aggregate(-batch.weights * new, batch, batch.totals()).item())


@pytest.mark.parametrize("name", ["dr_grpo", "dapo", "gspo", "cispo", "reinforce_pp"])
@pytest.mark.identities
def test_on_policy_the_gradient_is_reinforces(name):
    method = small(name, replay=0, minibatches=1)
    learner, useful, gradient = practise(method)
    tokens = sum(sum(a.mask) for a in useful)
    per = {
        "dr_grpo": lambda a: 3 * 4 * 10,
        "gspo": lambda a: sum(a.mask) * len(useful),
    }.get(name, lambda a: tokens)
    near(gradient, reinforce(learner.policy, useful, [[w / per(a) for w in a.weights] for a in useful]))


@pytest.mark.parametrize("name", ["rloo", "expert_iteration", *RATIO])
@pytest.mark.identities
def test_one_micro_batch_of_eight_is_eight_of_one(name):
    """Off policy, attempts and demonstrations, of unlike lengths."""
    policy, reference = tiny(context=64), tiny(context=64, seed=9)
    rows = trajectories(policy, (5, 21, 9, 30, 12, 7, 17, 40))
    found = []
    for micro_tokens in (10**6, 1):
        policy.micro_tokens = micro_tokens
        policy.optimizer = recorder = Recorder(policy.model)
        method = small(name, minibatches=1)
        if isinstance(method, Reuse):
            for i, row in enumerate(rows):
                row.extra["sampled"] = [float(i % 3 > 0)] * len(row.tokens)
            batch = Batch.of(rows)
            with torch.no_grad():  # near, so that some ratios are clipped and others not
                batch = replace(batch, logprobs=policy.logprobs(batch) + 0.3 * batch.weights)
            batch.extra["reference"] = reference.logprobs(batch)
            metrics = policy.fit(batch, method.loss)
        else:
            metrics = policy.fit(Batch.of(rows))
        found.append((metrics["loss"], recorder.gradients[0]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    near(found[0][1], found[1][1])


@pytest.mark.parametrize(
    "name, world",
    [("reinforce_pp", Fair()), ("reinforce_pp", Unscored()), ("inverted_reward", Fair()), ("inverted_reward", Unscored())],
)  # fmt: skip
@pytest.mark.identities
def test_equal_rewards_teach_nothing_here_either(name, world):
    learner = learner_of(method := small(name), world)
    assert learner.policy.optimizer is not None
    before, state = weights(learner.policy), learner.policy.optimizer.state()
    for metrics in run(method, learner, 2):
        assert metrics["skipped"] == 1.0 and metrics["zero_variance"] == 1.0
    assert same(weights(learner.policy), before) and same(learner.policy.optimizer.state(), state)
    assert learner.policy.ledger.total().trained == 0


@dataclass(frozen=True)
class Formed(Letters):
    """All replies have the right form and different rewards."""

    formed: bool = True

    def play(self, task: Task) -> Episode:
        reply = yield Ask(f"{task.problem}=?", stop=("e", "a", "i", "o", " "))
        ended = reply.stop_reason != "length"
        return Outcome((len(reply.text) % 7 / 7,), info={"wellformed": self.formed} if ended else {})


def test_equal_pay_teaches_nothing_whatever_the_world_pays():
    method = small("format_reward", max_tokens=40)
    learner = learner_of(method, Formed(formed=False))
    before = weights(learner.policy)
    attempts = method.collect(learner)
    metrics = method.credit(learner, attempts)
    assert metrics["zero_variance"] == 1.0 and metrics["paid"] == 0.0 < metrics["reward"]
    assert not any(any(a.weights) for a in attempts)
    assert run(method, learner, 1)[0]["skipped"] == 1.0 and same(weights(learner.policy), before)


def test_format_reward_needs_a_world_that_says_what_form_is():
    method = small("format_reward")
    with pytest.raises(UserError, match="method format_reward: world 'letters' does not say which replies"):
        method.check(Fair())


@dataclass(frozen=True)
class Partly(Letters):
    """Scores only replies of even length."""

    def play(self, task: Task) -> Episode:
        reply = yield Ask(f"{task.problem}=?", stop=("e",))
        length = len(reply.text)
        return Outcome(None if length % 2 else (length % 7 / 7,), info={"wellformed": True})


@pytest.mark.parametrize("name", ["rloo", "expert_iteration", *RATIO, "inverted_reward"])
def test_unscorable_attempts_are_left_out(name):
    """They are worth 0, and the others what they would be without them."""
    method: Any = small(name, samples=8)
    learner = learner_of(method, Partly())
    attempts = method.collect(learner)
    metrics = method.credit(learner, attempts)
    scored = [replace(a, weights=[0.0] * len(a.tokens)) for a in attempts if a.rewards is not None]
    assert 0 < len(scored) < len(attempts)
    assert not any(any(a.weights) for a in attempts if a.rewards is None)
    method.credit(learner, scored)
    assert [a.weights for a in attempts if a.rewards is not None] == [a.weights for a in scored]
    assert any(any(a.weights) for a in scored)
    assert metrics["reward"] == pytest.approx(sum(a.rewards or 0 for a in scored) / len(scored))
    assert {"loss", "skipped"} <= set(method.fit(learner, attempts))


# What a paper keeps and drops


@dataclass(frozen=True)
class Numbered(Letters):
    """`hopeless` of ten problems pay everybody 0; the others pay by the length of the reply."""

    hopeless: int = 5

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        return [Task(self.name, str((seed + i) % 10), {}) for i in range(count)]

    def play(self, task: Task) -> Episode:
        reply = yield Ask(f"{task.problem}=?", stop=("e",))
        return Outcome((0.0 if int(task.problem) < self.hopeless else len(reply.text) % 7 / 7,))


def test_dapo_draws_again_until_every_group_differs():
    method = DAPO(problems=6, samples=8, max_tokens=10, draws=9)
    learner = learner_of(method, Numbered())
    attempts = method.collect(learner)
    pay = {g: {a.rewards for a in attempts if a.group == g} for g in {a.group for a in attempts}}
    assert sum(len(p) > 1 for p in pay.values()) == 6, "as many as asked for, and no more"
    assert len(attempts) == 8 * len(pay) == learner.policy.ledger.total().rollouts
    assert all(len({a.task.problem for a in attempts if a.group == g and a.task}) == 1 for g in pay)
    method.credit(learner, attempts)
    assert {a.group for a in attempts if any(a.weights)} == {g for g, p in pay.items() if len(p) > 1}


def test_dapo_gives_up_after_so_many_draws():
    method = DAPO(problems=6, samples=4, max_tokens=10, draws=3)
    learner = learner_of(method, Numbered(hopeless=10))
    assert len(method.collect(learner)) == 3 * 6 * 4 == learner.policy.ledger.total().rollouts
    learner = learner_of(method, Numbered(hopeless=0))
    assert len(method.collect(learner)) == 6 * 4, "one draw is enough where all differ"


def attempt(sampled: list[bool], reward: float | None, group: int = 0, **more) -> Trajectory:
    n = len(sampled)
    entropy = {"entropy": [0.0] * n}
    return Trajectory([1] * n, sampled, [0.0] * n, [0.0] * n, reward, group=group, extra=entropy, **more)


def test_dapo_punishes_length_softly_where_groups_differ():
    method = DAPO(problems=1, samples=4, max_tokens=10, buffer=0.4)
    lengths = [(4, 1.0), (8, 1.0), (10, 1.0), (4, 0.0)]
    group = [attempt([False] + [True] * n, reward) for n, reward in lengths]
    assert [method.punishment(a) for a in group] == [0, -0.5, -1, 0]
    paid = [1.0, 0.5, 0.0, 0.0]
    got = method.advantages(group)
    assert got[0] > got[1] > got[2] == got[3] and sum(got) == pytest.approx(0)
    mean, std = 0.375, torch.tensor(paid).std().item()
    assert got == pytest.approx([(p - mean) / (std + 1e-6) for p in paid])
    assert method.advantages([replace(a, rewards=1.0) for a in group]) == [0, 0, 0, 0], (
        "all right: dropped, not shortened"
    )
    turns = attempt([False] + [True] * 6 + [False] * 9 + [True] * 5, 1.0)
    assert method.punishment(turns) == 0, "each reply has max_tokens of its own"


def test_dr_grpo_divides_by_a_constant():
    """Half the attempts make half the loss: what teaches nothing counts."""
    batch, new = golden_batch(), torch.cat([torch.zeros(4, 1), NEW], 1)
    method = methods.load("dr_grpo")(problems=2, samples=2, max_tokens=8)
    whole = method.loss(new, batch, batch.totals())
    parts = [batch.rows(torch.tensor(rows)) for rows in ([0, 1], [2, 3])]
    cut = [
        method.loss(new[i : i + 2, : part.tokens.shape[1]], part, part.totals())
        for i, part in zip((0, 2), parts, strict=True)
    ]
    assert sum(cut).item() == pytest.approx(whole.item())


def test_expert_iteration_imitates_each_right_answer_once():
    method = methods.load("expert_iteration")(most=2)
    said = [("a", 1.0), ("a", 1.0), ("b", 0.9), ("c", 1.0), ("d", 1.0), ("e", None)]
    group = [attempt([False, True], reward, replies=[word]) for word, reward in said]
    other = attempt([False, True], 1.0, group=1, replies=["a"])
    assert method.advantages([*group, other]) == [1, 0, 0, 1, 0, 0, 1]


def test_expert_iteration_has_imitations_gradient():
    learner, useful, gradient = practise(small("expert_iteration", replay=0))
    tokens = sum(sum(a.mask) for a in useful)
    near(gradient, reinforce(learner.policy, useful, [[m / tokens for m in a.mask] for a in useful]))


def test_reinforce_pp_draws_back_to_the_reference():
    """At the reference the KL is nothing; elsewhere tokens that the policy likes better than it are worth less."""
    plain, held = (small("reinforce_pp", replay=0, kl=kl) for kl in (0.0, 5.0))
    learner = learner_of(held)
    attempts = held.collect(learner)

    def worth(method: Practice) -> torch.Tensor:
        method.credit(learner, attempts)
        return torch.tensor([w for a in attempts for w, m in zip(a.weights, a.mask, strict=True) if m])

    assert (worth(held) - worth(plain)).abs().max() < 1e-2
    learner.reference = tiny(context=64, seed=5).snapshot()
    assert (worth(held) - worth(plain)).abs().max() > 0.1
    assert worth(held).mean().abs() < 1e-5 and worth(held).std().item() == pytest.approx(1, abs=1e-4)


# Controls


@pytest.mark.parametrize("name", PROXIES)
def test_a_control_is_rloo_paid_by_something_else(name):
    """Credit is RLOO's of what it was paid; the metrics tell the world's reward."""
    method: Any = small(name)
    learner = learner_of(method)
    attempts = method.collect(learner)
    metrics = method.credit(learner, attempts)
    paid = list(method.paid(learner, attempts))
    assert metrics["reward"] == pytest.approx(sum(a.rewards or 0 for a in attempts) / 12)
    assert metrics["paid"] == pytest.approx(sum(paid) / 12)
    twins = [replace(a, rewards=p) for a, p in zip(attempts, paid, strict=True)]
    methods.load("rloo")().credit(learner, twins)
    assert [a.weights for a in attempts] == [a.weights for a in twins]
    assert any(any(a.weights) for a in attempts)


@pytest.mark.parametrize("name", ["random_reward", "format_reward", "majority"])
def test_these_controls_never_read_the_reward(name):
    method: Any = small(name)
    learner = learner_of(method)
    attempts = method.collect(learner)
    blind = [replace(a, rewards=None) for a in attempts]
    assert list(method.paid(learner, attempts)) == list(method.paid(learner, blind))


@pytest.mark.identities
def test_inverted_reward_is_rloos_mirror():
    learner = learner_of(method := small("inverted_reward"))
    attempts = method.collect(learner)
    method.credit(learner, attempts)
    mirrored = [a.weights for a in attempts]
    methods.load("rloo")().credit(learner, attempts)
    assert mirrored == [[-w for w in a.weights] for a in attempts]


def test_what_an_attempt_votes_for():
    assert answer(attempt([True], 0.0, replies=["b=1+2=3 #### 3"])) == "3"
    assert answer(attempt([True], 0.0, replies=["<calc>1+2</calc>", "#### 3"])) == "3", "the last reply's"
    assert answer(attempt([True], 0.0, replies=["The answer is red."])) == "The answer is red."
    assert answer(attempt([True], 1.0, replies=["#### 3"], stop_reason="length")) is None
    assert answer(attempt([True], 1.0, replies=["3"], info={"wellformed": False})) is None


# Do they learn? One token, of 420.


@dataclass(frozen=True)
class OneToken(Letters):
    """Right is a reply of an even number of letters; its form is to begin with a letter."""

    def play(self, task: Task) -> Episode:
        reply = yield Ask(f"{task.problem}=?", stop=tuple(printable))
        formed, right = reply.text[:1].isalpha(), self.right(task, reply.text)
        return Outcome((float(right),), info={"wellformed": formed, "correct": right})

    def right(self, task: Task, said: str) -> bool:
        return len(said) % 2 == 0


@dataclass(frozen=True)
class Unknowable(OneToken):
    """An even number is right for one half of the tasks, an odd one for the other: the form tells nothing of it."""

    def right(self, task: Task, said: str) -> bool:
        return (len(said) + task.data["a"] + task.data["b"]) % 2 == 0


def taught(
    name: str, seed: int, world: OneToken = OneToken(), steps: int = 25
) -> tuple[dict[str, float], dict[str, float]]:
    """What the policy does before and after a short training: right, in form, and how many say the same to a problem."""
    sizes = {"problems": 4, "samples": 16, "max_tokens": 2, "replay": 0}
    method = small(name, lr=5e-3, warmup=0.0, cooldown=0.0, **sizes)
    learner = learner_of(method, world, seed=seed)
    tasks = world.tasks("dev", 4)

    def measure() -> dict[str, float]:
        said = rollout(learner.policy, world, tasks, samples=128, max_tokens=2, seed=99)
        replies = [[a.replies[0] for a in said if a.task == task] for task in tasks]
        common = sum(Counter(of_one).most_common(1)[0][1] for of_one in replies)
        formed = sum(bool(a.info["wellformed"]) for a in said)
        return {
            "right": sum(a.rewards or 0 for a in said) / len(said),
            "formed": formed / len(said),
            "same": common / len(said),
        }

    before = measure()
    run(method, learner, steps)
    return before, measure()


@pytest.mark.parametrize("name", ["rloo", "expert_iteration", *RATIO])
def test_it_learns_from_the_reward(name):
    before, after = taught(name, seed=1)
    assert after["right"] > before["right"] + 0.15, (before, after)


def test_controls_do_what_they_are_for():
    before, after = taught("inverted_reward", seed=1)
    assert after["right"] < before["right"] - 0.15, "it loses what was known"
    before, after = taught("majority", seed=1, steps=75)  # two words may be said as often for a while
    assert after["same"] > before["same"] + 0.15, "it says more often what it said most often"
    before, after = taught("format_reward", seed=1, world=Unknowable())
    assert after["formed"] > before["formed"] + 0.15 and abs(after["right"] - before["right"]) < 0.06
    moved = [
        after["right"] - before["right"]
        for before, after in (taught("random_reward", seed) for seed in (1, 2, 3))
    ]
    assert abs(sum(moved)) / 3 < 0.1, "a coin tells nothing"


@pytest.mark.parametrize(
    "name, wrong",
    [("dapo", {"draws": 0}), ("dapo", {"buffer": 1.5}), ("dapo", {"clip_high": -1.0}), ("gspo", {"clip": -0.1}),
     ("cispo", {"clip": 2.0}), ("dr_grpo", {"clip": -1.0}), ("reinforce_pp", {"gamma": 1.5}), ("reinforce_pp", {"kl": -1.0}),
     ("expert_iteration", {"most": 0}), ("random_reward", {"chance": 1.0}), ("gspo", {"minibatches": 0})],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(name, wrong):
    (setting, value) = next(iter(wrong.items()))
    with pytest.raises(UserError, match=f"method {name}: {setting}={value} must be"):
        methods.load(name)(**wrong)
