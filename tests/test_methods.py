"""The same questions of every method, found in the folder; and of each paper, its identities."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from tiny import SHORT, Calculator, Recorder, same, tiny, weights

from nanoschool import methods
from nanoschool.core.batch import Batch
from nanoschool.core.policy import Policy
from nanoschool.envs.facts import Facts
from nanoschool.ledger import Budget, Cost
from nanoschool.methods.base import Learner, Method, trapezoid
from nanoschool.methods.grpo import GRPO
from nanoschool.methods.held import Held
from nanoschool.methods.material import demonstrations, trained
from nanoschool.methods.practice import Practice
from nanoschool.methods.rloo import RLOO
from nanoschool.train import every, shares
from nanoschool.types import Ask, Environment, Episode, Oracle, Outcome, Task, Trajectory, UserError

GEPA = find_spec("gepa") is not None
NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(name == "gepa" and not GEPA, reason="needs the package gepa"))
    for name in methods.describe()
]
IN_THE_PROMPT = {"notes", "notes_oracle", "gepa"}  # and change no weight
LEAVES_THE_POLICY = {"reward_model", *IN_THE_PROMPT}  # and trains something beside it, or nothing
SMALL = {"problems": 3, "samples": 4, "max_tokens": 10, "rows": 6, "replay": 2, "threshold": 0.5, "room": 16}
SMALL |= {"validation": 3, "evaluations": 12, "temperature": 1.0}


@dataclass(frozen=True)
class Letters(Calculator):
    """Pays for the length of the reply and likes the form of every second one, so that any policy's attempts differ;
    offers all that a method may ask for."""

    name: str = "letters"

    def play(self, task: Task) -> Episode:
        reply = yield Ask(f"{task.problem}=?", stop=("e",))
        length = len(reply.text)
        feedback = f"wrong: {reply.text[:2]}, right: {length}"
        return Outcome((length % 7 / 7,), feedback, info={"wellformed": length % 2 == 0})

    def steps(self, reply: str) -> list[int]:
        return list(range(3, len(reply), 3))

    def step_rewards(self, task: Task, replies: Sequence[str]) -> list[float]:
        return [float(replies[-1][end - 1] in "aeiou ") for end in self.steps(replies[-1])]

    def invite(self, task: Task, replies: Sequence[str], review: str) -> Ask:
        return Ask(f"{task.problem} {review}", max_tokens=5)

    def items(self, note: str) -> dict[str, str]:
        return {note[:1]: f"{note} {len(note)}"}

    def playbook(self, items: Sequence[str]) -> str:
        return "".join(items)[:20]

    def lesson(self, task: Task, replies: Sequence[str]) -> str:
        return f"{task.problem} {replies[-1][:4]}"

    def pairs(self, split: str, count: int, seed: int = 0) -> list[tuple[str, str, str]]:
        rng = random.Random(f"{split}/{seed}")
        sums = [rng.choices("123456789", k=3) for _ in range(count)]
        return [(f"{a}+{b}=?", c * rng.randint(2, 5), c) for a, b, c in sums]

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        return Oracle(1 - len(partial) % 5 / 10, (), 0.0, 3 if len(partial) > 3 else None)


@dataclass(frozen=True)
class Fair(Letters):
    """Pays everybody the same, which no sum of floats divides evenly."""

    def play(self, task: Task) -> Episode:
        yield Ask(f"{task.problem}=?")
        return Outcome((0.1,))


@dataclass(frozen=True)
class Unscored(Letters):
    def play(self, task: Task) -> Episode:
        yield Ask(f"{task.problem}=?")
        return Outcome(None)


def small(name: str, **settings) -> Method:
    """The method with its sizes cut down."""
    kind = methods.load(name)
    mine = {key: value for key, value in (SMALL | settings).items() if key in kind.__dataclass_fields__}
    return kind(**mine)


def learner_of(method: Method, env: Environment | None = None, step: int = 0, seed: int = 1) -> Learner:
    policy = tiny(context=64)
    shares = {"chain": 0.5, "facts": 0.5}
    worlds: dict[str, Environment] = {"chain": SHORT, "facts": Facts(), "letters": Letters()}
    learner = Learner(
        policy, env or Letters(), worlds, shares, {"chain": 0.6, "letters": 0.4}, seed, "stage", step=step
    )
    if method.needs_reference:
        learner.reference = policy.snapshot()
        learner.reference.prompt = "shorter"
    if method.needs_teacher:
        learner.teacher = tiny(context=64, seed=5).snapshot()
    method.begin(learner)
    return learner


def learned(learner: Learner) -> dict[str, torch.Tensor]:
    """The policy's weights and notes, and all that its optimizer keeps, with what is trained beside it."""
    notes = {"notes": torch.tensor(list(learner.policy.prompt.encode()))}
    return weights(learner.policy) | optimized(learner) | notes


def optimized(learner: Learner) -> dict[str, torch.Tensor]:
    optimizer = learner.policy.optimizer
    return {n: t.clone() for n, t in optimizer.state().items()} if optimizer else {}


def run(method: Method, learner: Learner, steps: int) -> list[dict[str, float]]:
    """As `train` does it."""
    metrics = []
    for _ in range(steps):
        learner.progress = learner.step / 10
        metrics.append(method.step(learner))
        learner.step += 1
    return metrics


def test_the_folder_is_the_registry():
    names = set(methods.describe())
    assert {"pretrain", "sft", "rloo", "grpo", "dpo", "reward_model"} <= names
    assert not {"base", "practice", "material"} & names
    for name, line in methods.describe().items():
        assert line.startswith(f"{name}: ") and "(" in line, "a name, what it does, a citation"
        assert issubclass(methods.load(name), Method)
    with pytest.raises(UserError, match="unknown method 'grop': did you mean grpo"):
        methods.load("grop")


@pytest.mark.parametrize("name", NAMES)
def test_every_method_runs(name):
    method = small(name)
    learner = learner_of(method)
    before, notes = weights(learner.policy), learner.policy.prompt
    with learner.policy.ledger.account("stage"):
        for metrics in run(method, learner, 2):
            assert all(isinstance(v, float) and np.isfinite(v) for v in metrics.values()), metrics
            assert name in IN_THE_PROMPT or {"loss", "gradient_norm", "lr"} <= set(metrics)
    unchanged = [torch.equal(before[n], w) for n, w in learner.policy.model.state_dict().items()]
    assert all(unchanged) if name in LEAVES_THE_POLICY else not any(unchanged)
    ledger = learner.policy.ledger
    assert all(account.startswith("stage/") for account in ledger.accounts)
    if name != "gepa":  # a candidate of whose may have been no better
        assert (learner.policy.prompt != notes) == (name in IN_THE_PROMPT)
    assert (ledger.total("stage").trained == 0) == (name in IN_THE_PROMPT)
    assert ledger.total("stage/fit").trained == ledger.total("stage").trained
    assert "stage/credit" not in ledger.accounts, (
        "what credit costs is billed by name: critic, values, reference"
    )
    if method.needs_env:
        draws = getattr(method, "draws", 1)  # DAPO's, of other problems
        attempts = 3 * getattr(method, "samples", 1) + 2 * (name == "sleep")  # its replay is answered, too
        if name != "gepa":
            assert 2 * attempts <= ledger.total("stage/collect").rollouts <= 2 * attempts * draws
        assert ledger.total("stage/collect").sampled > 0
    else:
        assert ledger.total("stage/collect") == Cost(), "text is not sampled"
    if method.needs_reference:
        billed = "/teacher" if name == "sleep" else "/reference"
        assert sum(c.flops for n, c in ledger.accounts.items() if n.endswith(billed)) > 0, (
            "its passes are billed"
        )
    if method.needs_teacher:
        assert ledger.total("stage/fit/teacher").flops > 0, "the teacher's passes are billed"


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_a_function_of_seed_stage_and_step(name):
    method, finals = small(name), []
    for noise in (1, 2):
        learner = learner_of(method)
        random.seed(noise), np.random.seed(noise), torch.manual_seed(noise)
        metrics = run(method, learner, 3)
        finals.append((learned(learner), metrics, learner.policy.ledger.to_json()))
    assert same(finals[0][0], finals[1][0]) and finals[0][1:] == finals[1][1:]
    other = learner_of(method, seed=2)
    told = run(method, other, 3)
    assert not same(learned(other), finals[0][0]) or told != finals[0][1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.identities
def test_a_method_resumes_bitwise(name):
    """It keeps nothing of its own: weights, optimizer, step and `learner.state` are all there is."""
    method = small(name)
    whole, broken = learner_of(method), learner_of(method)
    run(method, whole, 3)
    run(method, broken, 2)
    resumed = learner_of(small(name), step=2)
    resumed.policy.model.load_state_dict(weights(broken.policy))
    resumed.policy.prompt, resumed.state = broken.policy.prompt, broken.state
    if resumed.policy.optimizer is not None:
        resumed.policy.optimizer.restore(optimized(broken))
    run(method, resumed, 1)
    assert same(learned(resumed), learned(whole))


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_is_overspent_by_one_step_at_most(name):
    """Whatever comes of a step, its cost is bounded by the settings."""
    method = small(name)
    learner = learner_of(method)
    run(method, learner, 1)
    one = learner.policy.ledger.total()
    unit = "rollouts" if method.needs_env else "tokens"
    budget, steps = Budget(unit, 3.5 * getattr(one, unit)), 1
    while budget.left(learner.policy.ledger.total()) > 0:
        run(method, learner, 1)
        steps += 1
    assert 3 <= steps <= 5
    assert -budget.left(learner.policy.ledger.total()) * budget.limit < 1.3 * getattr(one, unit)


CRITIC_FREE = [  # one number an attempt, from rewards alone; test_methods_steps.py has those that credit otherwise
    name
    for name in methods.describe()
    if issubclass(methods.load(name), Practice)
    and methods.load(name).credit in (Practice.credit, RLOO.credit)
]


@pytest.mark.parametrize("name", [n for n in methods.describe() if issubclass(methods.load(n), Held)])
def test_what_holds_at_nothing_neither_keeps_a_reference_nor_pays_one(name: str) -> None:
    assert small(name, kl=0.1).needs_reference
    learner = learner_of(small(name, kl=0.0))
    assert learner.reference is None
    small(name, kl=0.0).step(learner)
    assert not any("reference" in account for account in learner.policy.ledger.to_json())


@pytest.mark.parametrize("name", CRITIC_FREE)
@pytest.mark.parametrize("env, reward", [(Fair(), 0.1), (Unscored(), 0.0)], ids=["equal", "unscored"])
@pytest.mark.identities
def test_equal_rewards_teach_nothing(name, env, reward):
    method = small(name)
    learner = learner_of(method, env)
    assert learner.policy.optimizer is not None
    before, state = weights(learner.policy), learner.policy.optimizer.state()
    attempts = method.collect(learner)
    metrics = method.credit(learner, attempts)
    assert not any(weight for attempt in attempts for weight in attempt.weights), "exactly 0"
    assert metrics["zero_variance"] == 1.0
    for metrics in run(method, learner, 2):
        assert metrics["skipped"] == 1.0 and metrics["reward"] == pytest.approx(reward)
    assert same(weights(learner.policy), before) and same(learner.policy.optimizer.state(), state)
    assert learner.policy.ledger.total().trained == 0


TOLD_MORE = {  # than the reward: by a coin, a form, each other, a critic, a teacher, the oracle or the world, step by step
    *(
        "random_reward",
        "format_reward",
        "majority",
        "ppo",
        "distill",
        "sleep",
        "oracle_credit",
        "step_reward",
    ),
    *("process_grpo", "review_reward", "review_pairs", "review_imitation"),
}
LEARNS_FROM_REWARD = [
    name
    for name in methods.describe()
    if methods.load(name).needs_env and name not in TOLD_MORE | IN_THE_PROMPT
]


@pytest.mark.identities
@pytest.mark.parametrize("name", LEARNS_FROM_REWARD)
def test_on_equal_rewards_nobody_steps(name):
    """Whatever it does with rewards that differ, what learns from them alone leaves weights and optimizer as they are."""
    learner = learner_of(method := small(name), Fair())
    before = learned(learner)
    assert all(metrics["skipped"] == 1.0 for metrics in run(method, learner, 2))
    assert same(learned(learner), before) and learner.policy.ledger.total().trained == 0


@pytest.mark.identities
@pytest.mark.parametrize("name", [n for n in methods.describe() if n not in LEAVES_THE_POLICY])
def test_a_step_is_the_same_in_one_micro_batch_and_in_many(name, monkeypatch):
    """Loss and gradient in float32, a row a pass or all rows in one; of the reward model: test_reward_model.py."""
    monkeypatch.setattr(Policy, "fast", torch.float32)
    found = []
    for micro_tokens in (10**6, 1):
        learner = learner_of(method := small(name))
        learner.policy.micro_tokens = micro_tokens
        assert learner.policy.optimizer is not None
        beside = learner.policy.optimizer.beside
        learner.policy.optimizer = recorder = Recorder(learner.policy.model)
        recorder.beside = beside
        (metrics,) = run(method, learner, 1)
        found.append((metrics["loss"], recorder.gradients[0]))
    (loss, gradient), (other_loss, other) = found
    assert loss == pytest.approx(other_loss, rel=1e-4, abs=1e-6)
    for parameter, value in gradient.items():
        assert (value - other[parameter]).abs().max() <= 1e-3 * value.abs().max() + 1e-7, parameter


@pytest.mark.parametrize("name", CRITIC_FREE)
def test_advantages_fall_on_sampled_tokens_and_sum_to_nothing_in_a_group(name):
    method = small(name, replay=0)
    learner = learner_of(method)
    attempts = method.collect(learner)
    metrics = method.credit(learner, attempts)
    worth = [next(w for w, m in zip(a.weights, a.mask, strict=True) if m) for a in attempts]
    for attempt, value in zip(attempts, worth, strict=True):
        assert attempt.weights == [value if sampled else 0.0 for sampled in attempt.mask]
    if name == "expert_iteration":
        assert set(worth) <= {0.0, 1.0}, "it has no baseline: it imitates"
    else:
        for group in {a.group for a in attempts}:
            mine = [w for a, w in zip(attempts, worth, strict=True) if a.group == group]
            assert len(mine) == 4 and sum(mine) == pytest.approx(0, abs=1e-9)
    assert metrics["reward"] == pytest.approx(sum(a.rewards for a in attempts) / len(attempts))
    assert metrics["answer_tokens"] == sum(sum(a.mask) for a in attempts) / len(attempts)
    assert 0 < metrics["entropy"] <= np.log(learner.policy.model.config.vocab)
    assert metrics["cut_off"] == sum(a.stop_reason == "length" for a in attempts) / len(attempts)


def practise(method: Practice) -> tuple[Learner, list[Trajectory], dict[str, torch.Tensor]]:
    """One step on attempts alone; what was learned from, and the gradient."""
    learner = learner_of(method)
    attempts = method.collect(learner)
    method.credit(learner, attempts)
    learner.policy.optimizer = recorder = Recorder(learner.policy.model)
    method.fit(learner, attempts)
    (gradient,) = recorder.gradients
    return learner, [a for a in attempts if any(a.weights)], gradient


def reinforce(
    policy: Policy, attempts: list[Trajectory], worth: list[list[float]]
) -> dict[str, torch.Tensor]:
    """The gradient of −Σ w·log p, plainly."""
    batch = Batch.of([replace(a, weights=w) for a, w in zip(attempts, worth, strict=True)])
    loss = -(policy.logprobs(batch, grad=True) * batch.weights)[batch.mask].sum()
    names, parameters = zip(*policy.model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def near(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, gradient in one.items():
        assert gradient.abs().max() > 1e-4 and (gradient - other[name]).abs().max() < 1e-6, name


@pytest.mark.identities
def test_on_policy_grpo_has_reinforces_gradient_with_normalised_advantages():
    learner, useful, gradient = practise(GRPO(problems=3, samples=4, max_tokens=10, replay=0, kl=0.0))
    worth = [[w / sum(a.mask) / len(useful) for w in a.weights] for a in useful]  # Eq. 3's means
    near(gradient, reinforce(learner.policy, useful, worth))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_grpos_kl_is_towards_the_reference(temperature):
    """On the reference itself it has no gradient; elsewhere it draws back."""
    method = GRPO(problems=3, samples=4, max_tokens=10, replay=0, kl=0.5, temperature=temperature)
    near(practise(method)[2], practise(replace(method, kl=0.0))[2])
    learner, useful, plain = practise(replace(method, kl=0.0))
    learner.reference = tiny(context=64, seed=5).snapshot()
    learner.policy.optimizer = recorder = Recorder(learner.policy.model)
    method.fit(learner, useful)
    assert any((recorder.gradients[0][name] - plain[name]).abs().max() > 1e-4 for name in plain)


@pytest.mark.identities
def test_rloo_has_reinforces_gradient_with_leave_one_out_advantages():
    learner, useful, gradient = practise(RLOO(problems=3, samples=4, max_tokens=10, replay=0))
    tokens = sum(sum(a.mask) for a in useful)
    for group in {a.group for a in useful}:
        mine = [a for a in useful if a.group == group]
        for a in mine:
            rest = [b.rewards for b in mine if b is not a]
            if len(mine) == 4:
                assert max(a.weights, key=abs) == pytest.approx(a.rewards - sum(rest) / 3)
    near(gradient, reinforce(learner.policy, useful, [[w / tokens for w in a.weights] for a in useful]))


def test_temperature_is_the_one_sampled_at():
    """So that on policy the ratio is 1, though the policy is sampled at half its temperature."""
    method = GRPO(problems=3, samples=4, max_tokens=10, replay=0, kl=0.0, temperature=0.5)
    learner, useful, gradient = practise(method)
    worth = [[w / sum(a.mask) / len(useful) for w in a.weights] for a in useful]
    batch = Batch.of([replace(a, weights=w) for a, w in zip(useful, worth, strict=True)])
    logprobs = learner.policy.logprobs(batch, grad=True)
    assert (logprobs - batch.logprobs)[batch.mask].abs().max() < 1e-4
    names, parameters = zip(*learner.policy.model.named_parameters(), strict=True)
    plain = torch.autograd.grad(-(logprobs * batch.weights)[batch.mask].sum(), parameters)
    near(gradient, dict(zip(names, plain, strict=True)))


@pytest.mark.parametrize("method", [RLOO, GRPO])
def test_replay_is_imitated_beside_practice(method):
    settings = {"problems": 3, "samples": 4, "max_tokens": 10}
    if method is GRPO:
        settings["kl"] = 0.0
    learner, useful, gradient = practise(method(**settings, replay=5, replay_weight=0.3))
    kept = demonstrations(learner, 5, 0.3)
    rows = useful + kept
    tokens = sum(sum(row.mask) for row in rows)
    if method is RLOO:
        worth = [[w / tokens for w in row.weights] for row in rows]
    else:
        worth = [[w / sum(row.mask) / len(rows) for w in row.weights] for row in rows]
    rows = [replace(row, extra={}) for row in rows]
    near(gradient, reinforce(learner.policy, rows, worth))


def test_what_is_taught_and_read_is_drawn_by_its_share():
    learner = learner_of(small("sft"))
    rows = demonstrations(learner, 400, weight=0.5)
    chains = sum(row.task is not None and row.task.world == "chain" for row in rows)
    assert len(rows) == 400 and abs(chains - 240) < 50
    assert all(set(row.weights) == {0.0, 0.5} and not row.mask[0] for row in rows)
    assert all((w > 0) == m for row in rows for w, m in zip(row.weights, row.mask, strict=True))
    again = demonstrations(learner, 400, weight=0.5)
    learner.step = 1
    assert rows == again != demonstrations(learner, 400, weight=0.5)
    assert trained([1, 2], [False, True], 2.0).weights == [0.0, 2.0]


def test_imitation_lowers_the_loss():
    for name in ("pretrain", "sft"):
        method = small(name, replay=0, rows=12)
        learner = learner_of(method)
        losses = [metrics["loss"] for metrics in run(method, learner, 10)]
        assert min(losses[7:]) < losses[0] - 0.3, name


def test_the_learning_rate_rises_holds_and_falls():
    assert [trapezoid(p, 0.1, 0.4) for p in (0.1, 0.3, 0.6)] == pytest.approx([1, 1, 1])
    assert 0 < trapezoid(0.0, 0.1, 0.4) < 0.02 and trapezoid(0.05, 0.1, 0.4) == pytest.approx(0.505, abs=1e-3)
    assert trapezoid(0.8, 0.1, 0.4) == pytest.approx(0.5) and trapezoid(1.0, 0.1, 0.4) == 0.0
    assert trapezoid(1.2, 0.1, 0.4) == 0.0 and trapezoid(0.9, 0.0, 0.0) == 1.0


@pytest.mark.parametrize(
    "name, wrong",
    [("rloo", {"problems": 0}), ("grpo", {"samples": 1}), ("rloo", {"temperature": 0.0}), ("grpo", {"max_tokens": 0}),
     ("sft", {"rows": 0}), ("pretrain", {"rows": 0}), ("pretrain", {"warmup": -0.001}), ("sft", {"lr": -1.0}),
     ("rloo", {"cooldown": 2.0}), ("rloo", {"replay": -1}), ("grpo", {"epochs": 0}), ("grpo", {"minibatches": 0}),
     ("grpo", {"clip": -0.1}), ("pretrain", {"gain_lr": float("inf")})],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(name, wrong):
    (setting, value) = next(iter(wrong.items()))
    with pytest.raises(UserError, match=f"method {name}: {setting}={value} must be"):
        methods.load(name)(**wrong)


def test_looks_fall_due_by_steps_or_by_the_budgets_share():
    """A step that passes several shares is looked at once; a budget of 5 looks is looked at 5 times less its end."""
    assert [step for step in range(1, 10) if every(4)(step, 0.0, 0.0)] == [4, 8]
    spent = [0.0, 0.15, 0.3, 0.7, 0.75, 0.9]
    due = [shares(5)(0, before, now) for before, now in itertools.pairwise(spent)]
    assert due == [False, True, True, False, True]
