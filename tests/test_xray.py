"""X-ray: its arithmetic on worked-out answers, its truth against enumeration, the pushes against the methods' formulas."""

import json
from dataclasses import replace
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from test_methods import Letters, Unscored
from test_methods_steps import Bare, Two, exact
from tiny import same, tiny, weights

from nanoschool import methods
from nanoschool.cli import main
from nanoschool.core.batch import Batch
from nanoschool.credit import leave_one_out
from nanoschool.envs.rules import Rules
from nanoschool.lab import grade
from nanoschool.lab.credited import Bench, Sizes, credited
from nanoschool.lab.gradients import by_problem
from nanoschool.lab.marks import Told, counts, grades, luckiest, sureness
from nanoschool.lab.pushes import Watched, numbered, said
from nanoschool.lab.remembered import remembered
from nanoschool.lab.truth import Step, Value, mean, states_of, steps, values
from nanoschool.lab.xray import Plan, check, xray
from nanoschool.methods.stepped import steps_of
from nanoschool.report.node import Node
from nanoschool.report.xray import lines, ranked, render
from nanoschool.rollout import rollout
from nanoschool.stepwise import generalised_jsd, with_tail
from nanoschool.types import Trajectory, UserError

SMALL = Sizes(problems=3, samples=4, max_tokens=10, critic_steps=1)


# -- the arithmetic ----------------------------------------------------------------------------------------------------


def test_correlation_on_worked_out_answers():
    problems = [0, 0, 1, 1]
    assert grade.correlation([1, 2, 3, 4], [2, 4, 6, 8], problems).mean == pytest.approx(1)
    assert grade.correlation([4, 3, 2, 1], [2, 4, 6, 8], problems).mean == pytest.approx(-1)
    found = grade.correlation([1, 0, 0, 1], [1, 1, 0, 0], problems)
    assert found.mean == pytest.approx(0) and found.low <= 0 <= found.high and found.n == 2
    worked = grade.correlation([1, 2, 4], [1, 3, 2], [0, 1, 2])  # covariance 1/3 over sqrt(14/9 · 2/3)
    assert worked.mean == pytest.approx(0.5 / 7**0.5 * 3**0.5)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 60))
    assert grade.correlation(x, x + y, [i // 5 for i in range(60)]).mean == pytest.approx(
        np.corrcoef(x, x + y)[0, 1]
    )
    assert grade.correlation([1, 1, 1], [1, 2, 3], [0, 1, 2]) is None, "constant credit has no correlation"


def test_the_interval_is_over_problems_and_not_over_steps():
    """Copies of a step within its problem are no evidence."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    one = grade.correlation(x, y, range(30))
    copied = grade.correlation(np.repeat(x, 9), np.repeat(y, 9), np.repeat(np.arange(30), 9))
    assert (one.low, one.high, one.n) == pytest.approx((copied.low, copied.high, copied.n))
    assert one.high - one.low > 0.2


def test_signs_and_shares_on_worked_out_answers():
    credit, truth, problems = [0.5, -0.1, 0.0, 0.3], [0.2, 0.3, 0.4, 0.01], [0, 1, 2, 3]
    assert grade.sign_agreement(credit, truth, problems, 0.05).mean == pytest.approx(1 / 3), (
        "0 agrees with nothing"
    )
    assert grade.idle_share([1, 2, 0, 3], truth, problems, 0.05).mean == pytest.approx(0.5)
    assert grade.sign_agreement(credit, [0.0] * 4, problems, 0.05) is None
    assert grade.idle_share([0] * 4, truth, problems, 0.05) is None
    every = grade.sign_agreement([1, 1], [1, 1], [0, 1], 0.05)
    assert every.mean == 1 == every.high > every.low, "no interval is a point"


def test_signal_to_noise_on_worked_out_answers():
    """Gradients (1, 1), (1, −1), (1, 0): the squared mean without bias is 1, the spread 2/3."""
    parts = np.array([[1.0, 1], [1, -1], [1, 0]])
    own = (2 + 2 + 1) / 3
    pairs = (0 + 1 + 1) / 3
    found = grade.signal_to_noise(parts @ parts.T)
    assert found.mean == pytest.approx(pairs / (own - pairs)) and found.n == 3
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(40, 200))
    of_noise = grade.signal_to_noise(noise @ noise.T)
    assert of_noise.low < 0 < of_noise.high and abs(of_noise.mean) < 0.02
    signal = noise + 1.0  # ‖μ‖² = 200 = tr Σ
    assert grade.signal_to_noise(signal @ signal.T).mean == pytest.approx(1, abs=0.1)


def test_cosine_on_worked_out_answers():
    one, other = np.array([[1.0, 0], [1, 0]]), np.array([[1.0, 1], [1, 1]])

    def of(a, b):
        return grade.cosine(a @ a.T, a @ b.T, b @ b.T).mean

    assert of(one, one) == pytest.approx(1) and of(one, -3 * one) == pytest.approx(-1)
    assert of(one, other) == pytest.approx(0.5**0.5)


def test_a_mean_of_equal_rewards_has_an_error_still():
    assert mean([1.0] * 9) == Value(1.0, 0.1, 9)
    assert mean([0.0, 1.0]) == Value(0.5, 0.5, 2)


# -- the truth ---------------------------------------------------------------------------------------------------------


def test_the_true_advantage_is_that_of_enumeration():
    """n = 2 tasks of two tokens: every value known exactly, 400 forks a state."""
    env, policy, forks = Two(), tiny(context=64), 400
    attempts = rollout(policy, env, env.tasks("train", 2), samples=12, max_tokens=10, seed=3)
    states = states_of(policy, env, attempts)
    found = values(policy, env, list(states.values()), forks=forks, temperature=1.0, max_tokens=10, seed=5)
    known = dict(zip(states, found, strict=True))
    scores, forked_twice = [], 0
    truth = {t.task.problem: exact(policy, t.task) for t in attempts[::12]}
    for t in attempts:
        start, _, behind = truth[t.task.problem]
        mine = steps(policy, env, t, known)
        assert [s.first for s in mine] == [at for _, at in steps_of(policy.tokenizer, env, t)]
        assert sum(s.advantage for s in mine) == pytest.approx(t.rewards - mine[0].before.mean)
        if len(mine) == 2:
            forked_twice += 1
            (value, variance), (first, last) = behind[t.tokens[mine[0].first]], mine
            if variance > 1e-4:
                scores.append((first.advantage - (value - start)) / first.error)
                scores.append((last.advantage - (t.rewards - value)) / last.error)
        else:
            assert mine[0].advantage == pytest.approx(t.rewards - start, abs=4 * mine[0].error)
    assert forked_twice > 6 and len(scores) > 8
    assert max(map(abs, scores)) < 4 and 0.2 < np.mean(np.square(scores)) < 3, "and the error is what it says"


def test_perfect_play_beside_it():
    env, policy = Letters(), tiny(context=64)
    (t,) = rollout(policy, env, env.tasks("train", 1), max_tokens=12, seed=5)
    states = states_of(policy, env, [t])
    mine = steps(policy, env, t, {key: Value(0.0, 0.0, 1) for key in states})
    best = [env.oracle(s.task, s.replies, policy.tokenizer.decode(s.begun)).value for s in states.values()]
    assert len(mine) > 1 and [s.perfect for s in mine] == pytest.approx(np.diff([*best, t.rewards]).tolist())
    assert all(s.perfect is None for s in steps(policy, Bare(), t, dict.fromkeys(states, Value(0.0, 0.0, 1))))


# -- the pushes --------------------------------------------------------------------------------------------------------


def bench(env=None, sizes: Sizes = SMALL, seed: int = 3) -> Bench:
    policy, env = tiny(context=64), env or Letters()
    tasks = env.tasks("train", sizes.problems)
    attempts = rollout(policy, env, tasks, samples=sizes.samples, max_tokens=sizes.max_tokens, seed=seed)
    return Bench(policy, env, sizes, 1, attempts, tiny(context=64, seed=5).snapshot())


def test_of_a_policy_gradient_the_push_is_the_advantage():
    """RLOO's on every token; GRPO's over the attempt's own length, for it averages each attempt first (Eq. 3)."""
    b = bench()
    rloo, grpo = credited(b, "rloo"), credited(b, "grpo")
    useful = [t for t, row in zip(b.attempts, grpo, strict=True) if any(row)]
    tokens = sum(sum(t.mask) for t in useful)
    for group in range(3):
        mine = [i for i, t in enumerate(b.attempts) if t.group == group]
        rewards = torch.tensor([b.attempts[i].rewards for i in mine])
        for i, advantage, normal in zip(
            mine,
            leave_one_out(rewards.tolist()),
            (rewards - rewards.mean()) / (rewards.std() + 1e-6),
            strict=True,
        ):
            t = b.attempts[i]
            assert rloo[i] == pytest.approx([advantage * m for m in t.mask], abs=1e-5)
            share = tokens / len(useful) / sum(t.mask)
            assert grpo[i] == pytest.approx([float(normal) * share * m for m in t.mask], abs=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_of_a_divergence_the_push_has_its_gradient(beta):
    """Σ_y π(y) push(y) ∇log π(y) = −∇L, over all tokens y: the policy gradient of the push is the loss's."""
    logits = torch.randn(
        1, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True
    )
    teacher = torch.randn(1, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64).log_softmax(
        -1
    )
    student = logits.log_softmax(-1)
    for divergence in (
        lambda s: generalised_jsd(s, teacher, beta).sum(),
        lambda s: generalised_jsd(*(with_tail(x, student.topk(4).indices) for x in (s, teacher)), beta).sum(),
    ):
        (wanted,) = torch.autograd.grad(divergence(student), logits, retain_graph=True)
        seen = student.detach().requires_grad_()
        (slope,) = torch.autograd.grad(divergence(seen), seen)
        pushes = -torch.stack([
            said(slope, seen.detach(), Batch(torch.tensor([[0, y]]), torch.tensor([[False, True]]), *[torch.zeros(1, 2)] * 2,
                 torch.tensor([2]), torch.ones(1)))[0, 1] for y in range(9)
        ])  # fmt: skip
        p = student.detach()[0].exp()
        assert abs(float(p @ pushes)) < 1e-6, "it is centred"
        (got,) = torch.autograd.grad((p * pushes) @ logits.log_softmax(-1)[0], logits)
        assert torch.allclose(got, -wanted, atol=1e-6)


def test_of_the_reverse_kl_the_push_is_the_log_ratio():
    b = bench()
    (row, *_), t = credited(b, "distill"), b.attempts[0]
    batch = Batch.of([t])
    p, q = (policy.whole(batch) for policy in (b.policy, b.teacher))
    own = batch.tokens[batch.mask][:, None]
    kl = (p.exp() * (p - q)).sum(-1)
    expected = kl - (p - q).gather(1, own)[:, 0]
    assert [w for w, m in zip(row, t.mask, strict=True) if m] == pytest.approx(expected.tolist(), abs=2e-3)


def test_of_dpo_at_its_reference_the_push_is_half_of_beta():
    b = bench()
    rows = credited(b, "dpo")
    pushed = [i for i, row in enumerate(rows) if any(row)]
    tokens = sum(sum(b.attempts[i].mask) for i in pushed)
    assert len(pushed) == 6, "the best and the worst of each of three problems"
    for group in range(3):
        (best, worst) = sorted(
            (i for i in pushed if b.attempts[i].group == group), key=lambda i: -b.attempts[i].rewards
        )
        others = [t.rewards for t in b.attempts if t.group == group]
        assert b.attempts[best].rewards == max(others) and b.attempts[worst].rewards == min(others)
        for i, sign in ((best, 1), (worst, -1)):
            assert rows[i] == pytest.approx(
                [sign * 0.05 * tokens / 3 * m for m in b.attempts[i].mask], abs=1e-4
            )


@pytest.mark.parametrize("name", methods.describe())
def test_looking_changes_no_weight_and_is_billed(name):
    b = bench()
    before, spent = weights(b.policy), b.policy.ledger.total()
    try:
        rows = credited(b, name)
    except UserError as reason:
        assert "does not learn from attempts" in str(reason) or "other texts than the attempts" in str(reason)
        assert same(weights(b.policy), before) and b.policy.ledger.total().trained == spent.trained
        return
    assert all(len(row) == len(t.tokens) for row, t in zip(rows, b.attempts, strict=True))
    assert not any(
        w for row, t in zip(rows, b.attempts, strict=True) for w, m in zip(row, t.mask, strict=True) if not m
    )
    assert same(weights(b.policy), before) and not any(any(t.weights) for t in b.attempts)
    assert b.policy.ledger.total().flops > spent.flops or name == "expert_iteration", (
        "here nothing reaches its threshold"
    )


def test_a_split_step_pushes_as_a_whole_one():
    b = bench()
    whole = credited(b, "grpo")
    b.policy.micro_tokens = 1
    assert np.allclose(np.concatenate(whole), np.concatenate(credited(b, "grpo")), atol=1e-5)
    watched = Watched(b.policy)
    watched.fit(b.attempts)
    assert not watched.pushes and watched.others == 1, "others' batches are let by"
    watched.fit(numbered(b.attempts)[2:3])
    assert list(watched.pushes) == [2]


def test_who_cannot_be_asked_says_why():
    b = replace(bench(), teacher=None)
    with pytest.raises(UserError, match="needs a teacher; name one by --teacher RUN:STAGE"):
        credited(b, "distill")
    with pytest.raises(UserError, match="world 'bare' has no oracle"):
        credited(replace(b, env=Bare()), "oracle_credit")


def test_gradients_add_up_to_that_of_the_batch():
    b = bench()
    credit = [[w * i % 3 - 1.0 for w in t.mask] for i, t in enumerate(b.attempts)]
    parts = by_problem(b.policy, b.attempts, credit)
    batch = Batch.of([replace(t, weights=row) for t, row in zip(b.attempts, credit, strict=True)])
    total = (b.policy.logprobs(batch, grad=True) * batch.weights)[batch.mask].sum()
    whole = torch.cat(
        [g.flatten() for g in torch.autograd.grad(total, list(b.policy.model.parameters()))]
    ).numpy()
    assert parts.shape == (3, len(whole)) and np.allclose(parts.sum(0), whole, atol=1e-4)
    assert all(p.grad is None for p in b.policy.model.parameters())
    assert b.policy.ledger.total().trained == sum(sum(t.mask) for t in b.attempts)


# -- the marks ---------------------------------------------------------------------------------------------------------


def told_of(worth: list[list[float]], groups: list[int]) -> Told:
    """Attempts of one-token steps with these advantages, known exactly."""
    attempts, rows = [], []
    for mine, group in zip(worth, groups, strict=True):
        n = len(mine)
        at = np.concatenate([[0.5], 0.5 + np.cumsum(mine)])
        rows.append([Step(k, k + 1, Value(at[k], 0.1, 9), Value(at[k + 1], 0.0, 9), None) for k in range(n)])
        attempts.append(Trajectory([1] * n, [True] * n, [0.0] * n, [0.0] * n, float(at[-1]), group=group))
    return Told(attempts, rows, least=0.05)


def test_marks_on_worked_out_answers():
    told = told_of([[0.3, 0.0, -0.2, 0.4], [0.0, -0.5], [0.5, 0.0]], [0, 1, 2])
    assert told.rewarded == [True, False, True] and luckiest(told) == 0
    same_for_all = [[1.0] * 4, [-1.0] * 2, [1.0] * 2]
    found = grades(told, same_for_all)
    assert found["sign"]["mean"] == pytest.approx(4 / 5) and found["idle"]["mean"] == pytest.approx(3 / 8)
    assert found["lucky"]["mean"] == 1 == found["harm"]["mean"], "every step of a lucky path is rewarded"
    assert "perfect" not in found
    exactly = grades(told, told.credit())
    assert exactly["correlation"]["mean"] == pytest.approx(1) and exactly["idle"]["mean"] == pytest.approx(
        0, abs=1e-9
    )
    assert exactly["lucky"]["mean"] == pytest.approx(0) and exactly["sign"]["mean"] == pytest.approx(1)
    n = counts(told)
    assert (n["problems"], n["steps"], n["idle"], n["helpful"], n["harmful"]) == (3, 8, 3, 3, 2)
    assert (n["rewarded"], n["lucky"], n["harm"]) == (2, 3, 1)
    truth = sureness(told)
    assert truth["error"] == pytest.approx(0.1) and truth["ceiling"] == pytest.approx(
        (1 - 0.01 / np.var(told.truth_K)) ** 0.5
    )


# -- the whole ---------------------------------------------------------------------------------------------------------

PLAN = Plan(SMALL, forks=4)
NAMES = ("rloo", "process_credit", "dpo", "random_reward", "sft")


def look(folder: Path, lines: list[str] | None = None) -> dict:
    heard = [] if lines is None else lines
    return xray(tiny(context=64), Letters(), NAMES, PLAN, folder / "values.jsonl", heard.append)


def test_what_was_killed_goes_on_to_the_same_bits(tmp_path):
    whole = json.dumps(look(tmp_path))
    file = tmp_path / "values.jsonl"
    said = file.read_text().splitlines(keepends=True)
    file.write_text("".join(said[:3]))
    heard: list[str] = []
    assert json.dumps(look(tmp_path, heard)) == whole and file.read_text() == "".join(said)
    assert [line for line in heard if line.startswith("values")] == [f"values: {len(json.loads(said[3])['values'])} "
                                                                     "states, problem 3 of 3"]  # fmt: skip
    file.write_text(said[0].replace('"seed": 1', '"seed": 2'))
    with pytest.raises(
        UserError, match="is of another policy, world or plan; name another --out, or delete it"
    ):
        look(tmp_path)
    file.write_text("".join(said[:2]) + "{")
    with pytest.raises(UserError, match="is no longer as it was written"):
        look(tmp_path)


def test_a_part_is_done_once(tmp_path):
    done = []

    def work(part: int) -> int:
        done.append(part)
        if part == 2 and done.count(2) == 1:
            raise KeyboardInterrupt
        return part * part

    with pytest.raises(KeyboardInterrupt):
        remembered(tmp_path / "x", {}, 4, work)
    assert remembered(tmp_path / "x", {}, 4, work) == [0, 1, 4, 9] and done == [0, 1, 2, 2, 3]


def test_the_page_says_it_all_and_needs_nothing_else(tmp_path):
    seen = Node(json.loads(json.dumps({"from": "a<b", **look(tmp_path)})), "x")
    page = render(seen)
    assert (
        all(f">{name}</span>" in page for name in NAMES[:4])
        and "method sft: does not learn from attempts" in page
    )
    assert "a&lt;b" in page and "a<b" not in page and "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<pre>") == 2 + 4 and page == render(seen)
    told = lines(seen)
    assert told[0].startswith("3 problems, 12 attempts") and told[-1].startswith("left out: sft")
    assert set(ranked(seen)) == set(NAMES[:4])


@pytest.mark.parametrize(
    "env, complaint",
    [(Rules(), "world 'rules' has no steps to credit; name one that has"), (Bare(), "has no steps")],
    ids=["rules", "bare"],
)
def test_a_world_without_steps_is_refused(env, complaint):
    with pytest.raises(UserError, match=complaint):
        check(env)


def test_a_world_that_scores_nothing_is_told(tmp_path):
    with pytest.raises(UserError, match="scores no attempt"):
        xray(tiny(context=64), Unscored(), NAMES, PLAN, tmp_path / "v", print)


def test_the_command(nano, tmp_path, capsys):
    run = forked.copy(nano, tmp_path)
    args = [
        "xray",
        "--env",
        "chain",
        "--runs-dir",
        str(tmp_path),
        "--problems",
        "3",
        "--samples",
        "2",
        "--forks",
        "2",
    ]
    args += ["--max-tokens", "12"]
    assert main([*args, "--from", f"{run.name}:sft", "--methods", "rloo", "oracle_credit"]) == 0
    out = capsys.readouterr().out
    page = tmp_path / "xray-chain" / "xray.html"
    assert out.strip().endswith(str(page)) and page.is_file() and "rloo" in out
    assert json.loads(page.with_suffix(".json").read_text())["from"] == "nano:sft"
    for wrong, complaint in (
        (["--from", "nano", "--env", "rules"], "world 'rules' has no steps to credit"),
        (["--from", "nani"], "no run 'nani'"),
        (["--from", "nano:sfx"], "has no stage 'sfx'"),
        ([], "whose attempts? Say --from RUN"),
        (["--from", "nano", "--forks", "1"], "--forks is 1, must be at least 2"),
        (["--from", "nano", "--methods", "rlo"], "unknown method 'rlo'"),
    ):
        assert main([*args, *wrong]) == 2
        assert complaint in (err := capsys.readouterr().err) and err.count("\n") == 1
