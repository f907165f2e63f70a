"""Methods that credit steps, and those that learn from a teacher: their values, their billing, their identities."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from zlib import crc32

import pytest
import torch
from test_methods import NAMES, Letters, Unscored, learner_of, near, reinforce, run, small
from tiny import SHORT, Calculator, Recorder, same, tiny, tokenizer, weights

from nanoschool import methods
from nanoschool.core import checkpoint
from nanoschool.core.batch import Batch
from nanoschool.core.chat import render
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.methods.distill import Distill
from nanoschool.methods.lesson import teach
from nanoschool.methods.oracle_credit import OracleCredit
from nanoschool.methods.ppo import PPO, critic_of
from nanoschool.methods.process_credit import ProcessCredit
from nanoschool.methods.self_distill import SelfDistill, average_of, shown
from nanoschool.methods.step_reward import StepReward, first_wrong_token
from nanoschool.methods.stepped import spread, state_at, steps_of, turns
from nanoschool.rollout import State, resume, rollout
from nanoschool.settings import load_settings
from nanoschool.types import Ask, Episode, HasOracle, Message, Oracle, Outcome, Task, Trajectory, UserError

SIZES = {"problems": 3, "samples": 4, "max_tokens": 10, "replay": 0}


@dataclass(frozen=True)
class Two(Letters):
    """Two tokens and a reward that follows from the text in no simple way: everything can be enumerated."""

    name: str = "two"

    def play(self, task: Task) -> Episode:
        reply = yield Ask(f"{task.problem}=?", max_tokens=2)
        return Outcome((paid(reply.text),))

    def steps(self, reply: str) -> list[int]:
        return list(range(1, len(reply)))


def paid(text: str) -> float:
    return crc32(text.encode()) % 5 / 4


@dataclass(frozen=True)
class Plain(Letters):
    """Asks for plain letters; a character that is none is a step that cannot be taken back."""

    name: str = "plain"

    def play(self, task: Task) -> Episode:
        reply = yield Ask(f"{task.problem}=?", max_tokens=6)
        return Outcome((float(reply.text.isascii()),), feedback="plain letters")

    def steps(self, reply: str) -> list[int]:
        return list(range(1, len(reply)))

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        wrong = next((i for i, c in enumerate(partial) if not c.isascii()), None)
        return Oracle(float(wrong is None), ("",), 0.0, wrong)


@dataclass(frozen=True)
class Sealed(Letters):
    """Its oracle is nobody's business."""

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        raise AssertionError("asked its oracle")


@dataclass(frozen=True)
class Same(Letters):
    def play(self, task: Task) -> Episode:
        yield Ask(f"{task.problem}=?")
        return Outcome((0.1,))


@dataclass(frozen=True)
class Bare:
    """A world that offers nothing but its tasks."""

    name: str = "bare"
    replayable: bool = False

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        return Letters().tasks(split, count, seed)

    def play(self, task: Task) -> Episode:
        return Letters().play(task)


def attempt(
    question: str, *replies: str, task: Task | None = None, reward: float = 0.0, **rest
) -> Trajectory:
    """A conversation of one question in which the policy said these replies, a tool answering `no` between them."""
    said = [Message("user", question)]
    for reply in replies:
        said += [Message("assistant", reply), Message("tool", "no")]
    tokens, mask = render(tokenizer(), said[:-1])
    blank = [0.0] * len(tokens)
    extra = {"entropy": blank}
    return Trajectory(tokens, mask, blank, blank, reward, task, replies=list(replies), extra=extra, **rest)


# -- where steps are ---------------------------------------------------------------------------------------------------


def test_the_policys_replies_are_found():
    assert turns([False, True, True, False, False, True]) == [(1, 3), (5, 6)]
    assert turns([False]) == turns([]) == [] and turns([False, True, False]) == [(1, 2)]
    assert spread([1.0, 2.0], [1, 3], 5) == [0, 1, 1, 2, 2]


def test_steps_begin_where_the_world_says():
    (task,) = SHORT.tasks("train", 1)
    reply = SHORT.demonstration(task)[1].content
    t = attempt("?", reply, task=task)
    starts = steps_of(tokenizer(), SHORT, t)
    texts = [tokenizer().decode(state_at(t, turn, at).begun) for turn, at in starts]
    assert len(starts) == 1 + len(SHORT.steps(reply))
    assert texts[0] == "" and all(reply.startswith(text) for text in texts)
    for text, end in zip(texts[1:], SHORT.steps(reply), strict=True):
        assert 0 <= len(text) - end <= 3, "at the boundary, or behind the token that holds it"
    assert steps_of(tokenizer(), Bare(), t) == starts[:1], "a world without steps has one a reply"


@pytest.mark.parametrize("env", [Letters(), Calculator(), Two()], ids=lambda env: env.name)
def test_every_step_of_an_attempt_can_be_forked(env):
    """From the state of each step the fork goes on from the very same tokens, in the second reply too."""
    policy = tiny(context=96)
    for t in rollout(policy, env, env.tasks("train", 2), samples=3, max_tokens=9, seed=4):
        starts = steps_of(policy.tokenizer, env, t)
        assert len(turns(t.mask)) == len(t.replies) and len(starts) >= len(t.replies)
        states = [state_at(t, turn, at) for turn, at in starts]
        for (_, at), fork in zip(starts, resume(policy, env, states, max_tokens=9, seed=1), strict=True):
            assert fork.tokens[:at] == t.tokens[:at] and fork.mask.index(True) == at


def test_resumed_states_draw_apart_and_a_start_is_a_rollout():
    policy, env = tiny(context=64), Letters()
    (task,) = env.tasks("train", 1)
    forks = resume(policy, env, [State(task)] * 1, samples=4, max_tokens=6, seed=2)
    assert [f.group for f in forks] == [0] * 4 and len({tuple(f.tokens) for f in forks}) > 1
    begun = forks[0].tokens[forks[0].mask.index(True) :][:1]
    two = resume(policy, env, [State(task), State(task, (), tuple(begun))], samples=3, max_tokens=6, seed=2)
    assert [f.group for f in two] == [0, 0, 0, 1, 1, 1]
    alone = resume(policy, env, [State(task, (), tuple(begun))], samples=3, max_tokens=6, seed=2)
    assert [f.tokens for f in two[3:]] == [f.tokens for f in alone], "whatever the states beside it"


# -- values ------------------------------------------------------------------------------------------------------------


def exact(policy: Policy, task: Task) -> tuple[float, float, dict[int, tuple[float, float]]]:
    """Mean and variance of the reward from the start, and from behind each first token, by enumeration."""
    tokens, _ = render(policy.tokenizer, [Message("user", f"{task.problem}=?")], generate=True)
    n, V = len(tokens), policy.model.config.vocab
    ends, marks = {policy.tokenizer.end, policy.tokenizer.bos}, set(policy.tokenizer.special.values())
    said = [b"" if v in marks else policy.tokenizer.token_bytes(v) for v in range(V)]
    rows = [
        Trajectory([*tokens, v, 0], [False] * n + [v == 0, True], [0.0] * (n + 2), [0.0] * (n + 2))
        for v in range(V)
    ]
    p = policy.whole(Batch.of(rows)).exp().double()
    first, second = p[0], p[1:]
    behind, moments = {}, []
    for v in range(V):
        if v in ends:
            reward = paid(said[v].decode("utf-8", "replace"))
            moments.append((reward, reward**2))
            continue
        rewards = torch.tensor([paid((said[v] + w).decode("utf-8", "replace")) for w in said]).double()
        mean, square = float(second[v] @ rewards), float(second[v] @ rewards**2)
        behind[v] = mean, square - mean**2
        moments.append((mean, square))
    mean, square = (float(first @ torch.tensor(m).double()) for m in zip(*moments, strict=True))
    return mean, square - mean**2, behind


def test_values_by_rollouts_agree_with_exact_values():
    """n = 21 states of 3 tasks, 500 rollouts each, by 3 seeds; z-scores against the exact standard error."""
    env, forks = Two(), 500
    method = ProcessCredit(**SIZES, forks=forks)
    learner = learner_of(method, env)
    scores = []
    for learner.seed, task in product((1, 2, 3), env.tasks("train", 3)):
        start, variance, behind = exact(learner.policy, task)
        likely = sorted(behind, key=lambda v: -behind[v][1])[:6]
        truths = [(start, variance), *(behind[v] for v in likely)]
        states = [State(task), *(State(task, (), (v,)) for v in likely)]
        for value, (mean, var) in zip(method.values(learner, states), truths, strict=True):
            scores.append((value - mean) / (var / forks) ** 0.5)
    assert max(map(abs, scores)) < 4
    assert abs(sum(scores) / len(scores)) < 4 / len(scores) ** 0.5, "no bias"
    assert 0.4 < sum(z * z for z in scores) / len(scores) < 2.0, "and the spread that independent draws have"


def test_step_advantages_sum_to_the_reward_less_the_value_of_the_start():
    env = Letters()
    method = ProcessCredit(**SIZES, forks=3)
    learner = learner_of(method, env)
    attempts = method.collect(learner)
    worth = method.worth(learner, attempts)
    starts: dict[int, set[float]] = {}
    for t, row in zip(attempts, worth, strict=True):
        steps = [row[at] for _, at in steps_of(tokenizer(), env, t)]
        starts.setdefault(t.group, set()).add(round(t.rewards - sum(steps), 9))
        assert len({row[at] for at, sampled in enumerate(t.mask) if sampled}) <= len(steps)
    assert all(len(values) == 1 for values in starts.values()), "a group's attempts start from one state"
    (task, *_) = env.tasks("train", 3, seed=learner.draw_seed("tasks"))
    (value,) = method.values(learner, [State(task)])
    assert starts[0] == {round(value, 9)}


def test_value_rollouts_are_billed_apart_with_what_they_read():
    env = Letters()
    method = ProcessCredit(**SIZES, forks=5)
    learner = learner_of(method, env)
    run(method, learner, 1)
    ledger = learner.policy.ledger
    replayed = learner_of(method, env)
    attempts = method.collect(replayed)
    states = [state_at(t, *s) for t in attempts for s in steps_of(tokenizer(), env, t)]
    distinct = {(s.task.problem, s.replies, s.begun) for s in states}
    values = ledger.total("credit/values")
    assert values.rollouts == 5 * len(distinct) > 5 * 3
    read = sum(
        len(render(tokenizer(), [Message("user", f"{p}=?")], generate=True)[0]) + len(b)
        for p, _, b in distinct
    )
    assert values.tokens > read and values.sampled < values.tokens and values.flops > 0
    assert ledger.total("collect").rollouts == 12


@pytest.mark.parametrize("kind", [ProcessCredit, OracleCredit, StepReward], ids=lambda kind: kind.__name__)
def test_credit_is_whitened_over_the_sampled_tokens(kind):
    method = kind(**SIZES)
    learner = learner_of(method)
    attempts = method.collect(learner)
    method.credit(learner, attempts)
    sampled = torch.tensor([w for t in attempts for w, m in zip(t.weights, t.mask, strict=True) if m])
    assert sampled.mean().abs() < 1e-5 and sampled.std().item() == pytest.approx(1, abs=1e-4)
    assert not any(w for t in attempts for w, m in zip(t.weights, t.mask, strict=True) if not m)


@pytest.mark.parametrize("env, reward", [(Same(), 0.1), (Unscored(), 0.0)], ids=["equal", "unscored"])
@pytest.mark.identities
def test_equal_rewards_have_no_step_credit(env, reward):
    method = ProcessCredit(**SIZES)
    learner = learner_of(method, env)
    before = weights(learner.policy)
    (metrics,) = run(method, learner, 1)
    assert metrics["skipped"] == 1.0 and metrics["reward"] == pytest.approx(reward)
    assert same(weights(learner.policy), before) and learner.policy.ledger.total().trained == 0


# -- what the oracle says ----------------------------------------------------------------------------------------------

BLIND = [name for name in NAMES if HasOracle not in methods.load(name.values[0]).learns_from]


@pytest.mark.parametrize("name", BLIND)
@pytest.mark.identities
def test_who_must_not_see_the_oracle_never_asks(name):
    run(method := small(name), learner_of(method, Sealed()), 2)


@pytest.mark.parametrize("kind", [OracleCredit, StepReward])
def test_who_learns_from_the_oracle_asks(kind):
    with pytest.raises(AssertionError, match="asked its oracle"):
        run(method := kind(**SIZES), learner_of(method, Sealed()), 1)


def chain(reply: str, reward: float, **rest) -> Trajectory:
    return attempt("a=3; b=a+4; c=b*2; c=?", reply, task=CHAIN, reward=reward, **rest)


CHAIN = Task("chain", "chain 3 +4 *2", {"start": 3, "ops": ["+4", "*2"], "names": list("abc"), "L": 2})


def sign(t: Trajectory, row: Sequence[float]) -> str:
    """The reply as far as it is rewarded, a bar, and the rest."""
    first, past = turns(t.mask)[0]
    good = [at for at in range(first, past) if row[at] > 0]
    assert good == list(range(first, first + len(good)))
    cut = first + len(good)
    return f"{tokenizer().decode(t.tokens[first:cut])}|{tokenizer().decode(t.tokens[cut:past])}"


def test_the_good_prefix_is_rewarded_and_the_rest_punished():
    method, learner = StepReward(**SIZES), learner_of(StepReward(**SIZES), SHORT)
    right, slip = "b=3+4=7; c=7*2=14 #### 14", "b=3+4=7; c=7*2=15 #### 15"
    first, lucky = "b=3+4=8; c=8*2=16 #### 16", "b=3+4=8; c=7*2=14 #### 14"
    said = [chain(right, 1.0), chain(slip, 0.0), chain(first, 0.0), chain(lucky, 1.0), chain("b=3+4=7;", 0.0)]
    rows = method.worth(learner, said)
    assert [sign(t, row) for t, row in zip(said[:4], rows, strict=False)] == [
        f"{right}|", "b=3+4=7;| c=7*2=15 #### 15", f"|{first}", f"|{lucky}"
    ]  # fmt: skip
    stopped = first_wrong_token(tokenizer(), SHORT, said[4])
    assert stopped == len(said[4].tokens) - 1, "to stop short is the fault of the token that stopped"
    cut = replace(said[4], stop_reason="length")
    assert first_wrong_token(tokenizer(), SHORT, cut) == len(cut.tokens), "to be cut off is nobody's"
    method.credit(learner, said)
    assert all((w > 0) == (r > 0) for t, row in zip(said, rows, strict=True)
               for w, r, m in zip(t.weights, row, t.mask, strict=True) if m)  # fmt: skip


def test_under_perfect_play_only_what_is_lost_for_good_costs():
    method, learner = OracleCredit(**SIZES), learner_of(OracleCredit(**SIZES), SHORT)
    right, slip = "b=3+4=7; c=7*2=14 #### 14", "b=3+4=8; c=8*2=16 #### 16"
    said = [chain(right, 1.0), chain(slip, 0.0)]
    good, bad = method.worth(learner, said)
    assert not any(good)
    at = [at for _, at in steps_of(tokenizer(), SHORT, said[1])]
    assert [bad[i] for i in at] == [0, 0, -1], (
        "a wrong step could still have been mended, the wrong answer not"
    )


# -- ppo ---------------------------------------------------------------------------------------------------------------


def ppo(**settings) -> PPO:
    return PPO(**(SIZES | {"epochs": 1, "minibatches": 1, "kl": 0.0} | settings))


@pytest.mark.identities
def test_ppo_begins_as_reinforce_with_discounted_rewards():
    """The critic knows nothing yet, so A_t is λ^(T − t) R, whitened; on policy the clip does nothing."""
    method = ppo(lam=0.9)
    learner = learner_of(method)
    attempts = method.collect(learner)
    method.credit(learner, attempts)
    raw = []
    for t in attempts:
        n = sum(t.mask)
        raw.append([t.rewards * 0.9 ** (n - 1 - i) for i in range(n)])
    flat = torch.tensor([a for row in raw for a in row])
    for t, row in zip(attempts, raw, strict=True):
        expected = ((torch.tensor(row) - flat.mean()) / flat.std()).tolist()
        assert [w for w, m in zip(t.weights, t.mask, strict=True) if m] == pytest.approx(expected, abs=1e-4)
    tokens = sum(sum(t.mask) for t in attempts)
    beside = learner.policy.optimizer.beside
    learner.policy.optimizer = recorder = Recorder(learner.policy.model)
    recorder.beside = beside
    useful = [t for t in attempts if any(t.weights)]
    method.fit(learner, attempts)
    (gradient,) = recorder.gradients
    worth = [[w / tokens for w in t.weights] for t in useful]
    near(gradient, reinforce(learner.policy, [replace(t, extra={}) for t in useful], worth))


def test_the_kl_is_in_the_reward():
    """On the reference itself it changes nothing; elsewhere what the reference finds unlikely is worth less."""
    method = ppo(kl=0.5, lam=1.0)
    learner = learner_of(method, Same())
    attempts = method.collect(learner)
    method.worth(learner, attempts)
    assert all(
        abs(r - 0.1) < 1e-3 for t in attempts for r, m in zip(t.extra["return"], t.mask, strict=True) if m
    )
    learner.reference = tiny(context=64, seed=5).snapshot()
    method.worth(learner, attempts)
    batch = Batch.of(attempts)
    k1 = (batch.logprobs - learner.reference.logprobs(batch))[batch.mask].sum()
    first = sum(t.extra["return"][t.mask.index(True)] for t in attempts)
    assert first == pytest.approx(0.1 * len(attempts) - 0.5 * float(k1), rel=1e-3)


def test_the_critic_learns_what_attempts_are_worth():
    """On a world that pays the same for everything V becomes that, and nothing is left to learn from."""
    method = ppo(critic_lr=1e-2, lam=1.0, epochs=4, value_clip=1e9, warmup=0.0, cooldown=0.0)
    learner = learner_of(method, Same())
    losses = [metrics["value_loss"] for metrics in run(method, learner, 6)]
    assert losses[-1] < 0.1 * losses[0]
    values = critic_of(learner).values(Batch.of(attempts := method.collect(learner)))
    mask = Batch.of(attempts).mask
    assert (values[mask] - 0.1).abs().mean() < 0.03 and not values[~mask].any()


def test_the_critic_is_saved_with_the_optimizer_and_billed():
    method = ppo(kl=0.01)
    learner = learner_of(method)
    run(method, learner, 2)
    state = learner.policy.optimizer.state()
    assert any(name.startswith("critic/net:body.") for name in state) and torch.is_tensor(
        state["critic/net:head.weight"]
    )
    assert any(name.startswith("critic/optimizer:") for name in state)
    fresh = learner_of(method)
    fresh.policy.optimizer.restore(state)
    assert same(critic_of(fresh).state(), critic_of(learner).state())
    ledger = learner.policy.ledger
    scored, fitted = ledger.total("credit/critic"), ledger.total("fit/critic")
    assert scored.tokens > 0 == scored.trained and fitted.trained > 0
    assert fitted.flops == pytest.approx(3 * scored.flops), "the same rows, forward and backward"
    assert ledger.total("credit/reference").flops > scored.flops, "which has its logits to pay for"


# -- teachers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.identities
def test_a_student_has_nothing_to_learn_from_itself(beta):
    method = Distill(**SIZES, beta=beta)
    learner = learner_of(method)
    learner.teacher = learner.policy.snapshot()
    learner.policy.optimizer = recorder = Recorder(learner.policy.model)
    (metrics,) = run(method, learner, 1)
    assert abs(metrics["loss"]) < 1e-5 and metrics["gradient_norm"] < 1e-3
    assert recorder.gradients


@pytest.mark.parametrize("kind", [Distill, SelfDistill])
@pytest.mark.identities
def test_a_lesson_is_the_same_in_one_micro_batch_and_in_many(kind):
    gradients = []
    for micro_tokens in (10_000, 1):
        method = kind(**(SIZES | {"replay": 2}))
        learner = learner_of(method)
        learner.policy.micro_tokens = micro_tokens
        attempts = method.collect(learner)
        method.credit(learner, attempts)
        learner.policy.optimizer, beside = Recorder(learner.policy.model), learner.policy.optimizer.beside
        learner.policy.optimizer.beside = beside
        gradients.append((method.fit(learner, attempts)["loss"], learner.policy.optimizer.gradients[0]))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    near(gradients[0][1], gradients[1][1])


def test_the_reverse_kl_is_what_the_sampled_token_estimates():
    """Of on-policy distillation's sampled form, log p_S − log p_T, the loss is the mean: within 4 standard errors."""
    method = Distill(**(SIZES | {"problems": 12, "samples": 16}))
    learner = learner_of(method)
    attempts = method.collect(learner)
    method.credit(learner, attempts)
    batch = Batch.of(attempts)
    ratio = (learner.policy.logprobs(batch) - learner.teacher.logprobs(batch))[batch.mask]
    learner.policy.optimizer = Recorder(learner.policy.model)
    loss = teach(learner.policy, learner.teacher, attempts, attempts, [], method.divergence, 1.0)["loss"]
    assert abs(loss - ratio.mean()) < 4 * ratio.std() / len(ratio) ** 0.5


def test_a_runs_stage_is_a_teacher(tmp_path):
    policy = tiny(context=64, seed=3)
    config = policy.model.config.to_hf()
    state = policy.model.state_dict()
    where = tmp_path / "big" / "checkpoints"
    checkpoint.write(
        where, "rl", config=config, weights=state, tokenizer=policy.tokenizer, training={}, state={}
    )
    method = Distill(**SIZES, teacher=f"{tmp_path / 'big'}:rl")
    learner = learner_of(replace(method, teacher=""))  # given one
    learner.teacher = None
    method.begin(learner)
    assert same(weights(learner.teacher), weights(policy)) and learner.teacher.ledger is learner.policy.ledger
    run(method, learner, 1)
    assert learner.policy.ledger.total("fit/teacher").flops > 0
    with pytest.raises(UserError, match="method distill: teacher='x:rl' must be FOLDER:STAGE"):
        replace(method, teacher="x:rl").check(Letters())
    learner.teacher = tiny(context=32, seed=3)
    with pytest.raises(UserError, match="context of 32, must be at least the student's"):
        method.begin(learner)
    learner.teacher = Policy(policy.model, Tokenizer.train(["other words " * 50], 300), policy.ledger)
    with pytest.raises(UserError, match="another tokenizer"):
        method.begin(learner)


def test_the_teacher_is_shown_a_sibling_that_succeeded_or_else_the_feedback():
    method = SelfDistill(**SIZES)
    said = [
        attempt("q", "one", reward=1.0, group=0, feedback="f"), attempt("q", "two", reward=0.0, group=0, feedback="f"),
        attempt("q", "six", reward=0.0, group=1, feedback="g"), attempt("q", "ten", reward=None, group=1),
    ]  # fmt: skip
    assert method.hints(said) == ["Feedback: f", "Correct solution: one", "Feedback: g", ""], "never itself"
    metrics = method.credit(learner := learner_of(method), said)
    assert metrics["silent"] == 0.25
    seen = shown(learner.policy.tokenizer, replace(said[1], feedback="Correct solution: one"))
    expected, mask = render(
        tokenizer(), [Message("user", "q\nCorrect solution: one"), Message("assistant", "two")]
    )
    assert tokenizer().decode(seen.tokens) == "q\nCorrect solution: onetwo" and seen.mask.count(
        True
    ) == mask.count(True)
    assert tokenizer().decode(expected) == tokenizer().decode(seen.tokens)
    assert [t for t, m in zip(seen.tokens, seen.mask, strict=True) if m] == [
        t for t, m in zip(said[1].tokens, said[1].mask, strict=True) if m
    ]


def test_without_success_and_feedback_there_is_no_lesson():
    method = SelfDistill(**SIZES)
    learner = learner_of(method, Same())
    before = weights(learner.policy)
    (metrics,) = run(method, learner, 1)
    assert metrics["silent"] == metrics["skipped"] == 1.0 and same(weights(learner.policy), before)


def test_the_teacher_follows_the_student_and_is_saved():
    method = SelfDistill(**SIZES, average=0.25)
    learner = learner_of(method)
    old = weights(learner.policy)
    run(method, learner, 1)
    teacher, new = average_of(learner).policy, weights(learner.policy)
    for name, value in teacher.model.state_dict().items():
        assert torch.allclose(value, 0.75 * old[name] + 0.25 * new[name], atol=1e-6)
    fresh = learner_of(method)
    fresh.policy.optimizer.restore(learner.policy.optimizer.state())
    assert same(weights(average_of(fresh).policy), weights(teacher))


# -- do they learn? ----------------------------------------------------------------------------------------------------

QUICK = {
    "problems": 6,
    "samples": 8,
    "max_tokens": 3,
    "replay": 0,
    "lr": 0.02,
    "warmup": 0.0,
    "cooldown": 0.0,
}


LEARNERS = [PPO, ProcessCredit, StepReward, OracleCredit]


@pytest.mark.parametrize("kind", LEARNERS, ids=lambda kind: kind.__name__)
def test_reward_rises(kind):
    """In each of 3 seeds, 20 steps of 48 attempts."""
    settings = QUICK | ({"forks": 4} if kind is ProcessCredit else {})
    for seed in range(3):
        learner = learner_of(method := kind(**settings), Plain(), seed=seed)
        rewards = [metrics["reward"] for metrics in run(method, learner, 20)]
        assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.3, rewards


@pytest.mark.parametrize("kind", [Distill, SelfDistill])
def test_the_distance_to_the_teacher_falls(kind):
    settings = QUICK | {"lr": 5e-3} | ({"average": 0.0} if kind is SelfDistill else {})
    learner = learner_of(method := kind(**settings), Plain())
    losses = [metrics["loss"] for metrics in run(method, learner, 25)]
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3]), losses


# -- what cannot work --------------------------------------------------------------------------------------------------


def test_a_world_that_lacks_what_a_method_learns_from_is_refused_before_anything_is_spent():
    for kind, lack in [
        (ProcessCredit, "cannot be replayed"),
        (OracleCredit, "no oracle"),
        (StepReward, "no oracle"),
    ]:
        with pytest.raises(UserError, match=f"method [a-z_]+: world 'bare'.* {lack}"):
            kind(**SIZES).check(Bare())
        with pytest.raises(UserError, match=lack):
            learner_of(kind(**SIZES), Bare())
    with pytest.raises(UserError, match="method distill: teacher='' must be FOLDER:STAGE"):
        load_settings("nano", ["--rl.use", "distill"])
    for name in ("ppo", "process_credit", "oracle_credit", "step_reward", "self_distill"):
        assert load_settings("nano", ["--rl.use", name]).stages["rl"].use == name


@pytest.mark.parametrize(
    "name, wrong",
    [("ppo", {"lam": 1.5}), ("ppo", {"gamma": -0.1}), ("ppo", {"kl": -1.0}), ("ppo", {"critic_lr": 0.0}),
     ("ppo", {"epochs": 0}), ("process_credit", {"forks": 0}), ("process_credit", {"most_steps": 0}),
     ("oracle_credit", {"clip": -0.1}), ("distill", {"beta": 1.1}), ("self_distill", {"alpha": -0.1}),
     ("self_distill", {"top_k": 0}), ("self_distill", {"average": 2.0})],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(name, wrong):
    (setting, value) = next(iter(wrong.items()))
    with pytest.raises(UserError, match=f"method {name}: {setting}={value} must be"):
        methods.load(name)(**wrong)
