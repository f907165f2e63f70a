"""Arms at equal cost: a winner only where numbers allow one, refusals before anything is spent, kills that change nothing"""

import json
import re
import signal
from dataclasses import dataclass, fields, replace
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from tiny import Calculator, scored, tiny, trajectories

from nanoschool.cli import main
from nanoschool.core.batch import Batch
from nanoschool.core.chat import render
from nanoschool.envs.chain import Chain
from nanoschool.evals.distance import distance
from nanoschool.lab.cells import Cell, carry_out
from nanoschool.lab.compare import best_rate, most_spent
from nanoschool.lab.comparison import APART, Arm, Comparison, planned
from nanoschool.lab.measured import measure, measure_start
from nanoschool.lab.sampling import bought, likeliest, vote
from nanoschool.lab.verdict import pairs, verdict
from nanoschool.ledger import Budget
from nanoschool.progress import Silent
from nanoschool.report.compared_text import markdown
from nanoschool.rollout import rollout
from nanoschool.training import training
from nanoschool.types import Ask, Episode, Message, Outcome, Task, Trajectory, UserError

rng = np.random.default_rng(0)
HARD = rng.random(60)  # how easy each of 60 problems is


def answered(gain: float, draws: int, seeds: int = 5) -> list[list[float]]:
    """Right or wrong by seed and problem, of an arm that is `gain` better than the start."""
    own = np.random.default_rng(draws)
    return (own.random((seeds, 60)) < np.clip(HARD + gain, 0, 1)).astype(float).tolist()


def judged(scores, methods):
    return verdict(scores, methods, pairs(scores, methods))


def test_a_winner_is_named_where_its_difference_to_every_arm_is_clear():
    scores = {
        "start": answered(-0.4, 1),
        "rloo": answered(0.0, 2),
        "grpo": answered(0.6, 3),
        "coin": answered(-0.4, 4),
    }
    told = judged(scores, ["rloo", "grpo"])
    assert told.winner == told.leader == "grpo" and told.tied == ()
    assert "grpo is best" in told.words and "n = 5 seeds, 60 problems" in told.words


def test_no_winner_where_one_other_arm_cannot_be_told_apart():
    scores = {
        "start": answered(-0.4, 1),
        "rloo": answered(0.3, 2),
        "grpo": answered(0.3, 3),
        "coin": answered(-0.4, 4),
    }
    told = judged(scores, ["rloo", "grpo"])
    assert told.winner == "" and told.tied == (({"rloo", "grpo"} - {told.leader}).pop(),)
    assert "name no winner" in told.words


def test_no_winner_where_a_control_or_the_start_is_better():
    scores = {"start": answered(-0.4, 1), "vote@8": answered(0.5, 5), "rloo": answered(0.0, 2)}
    told = judged(scores, ["rloo"])
    assert told.winner == "" and told.tied == ("vote@8",)
    assert "the mean of vote@8 is above it" in told.words


def test_chance_names_a_winner_seldom():
    """Four arms that are alike, 40 times: named in error in less than 5 of 100, up to the noise of 40 draws."""
    named = 0
    for trial in range(40):
        scores = {f"arm{i}": answered(0.0, 100 + 10 * trial + i, seeds=3) for i in range(4)}
        named += bool(judged(scores, list(scores)[:2]).winner)
    assert named <= 5


def test_the_family_is_every_pair_with_a_method_in_it():
    scores = {name: answered(0.0, i) for i, name in enumerate(("start", "vote", "a", "b", "coin"))}
    found = {(pair.before, pair.after) for pair in pairs(scores, ["a", "b"])}
    assert found == {
        ("start", "a"),
        ("start", "b"),
        ("vote", "a"),
        ("vote", "b"),
        ("a", "b"),
        ("a", "coin"),
        ("b", "coin"),
    }


def attempt(reply: str, reward: float, logprob: float, wellformed: bool = True) -> Trajectory:
    info = {"wellformed": wellformed}
    return Trajectory([1, 2], [False, True], [0.0, logprob], [0.0, 0.0], reward, replies=[reply], info=info)


def test_more_sampling_chooses_without_the_worlds_help():
    group = [
        attempt("a #### 4", 0.0, -3),
        attempt("b #### 7", 1.0, -2),
        attempt("c #### 7", 1.0, -5),
        attempt("d #### 4", 0.0, -1),
    ]
    assert vote(group).replies == ["a #### 4"]  # two votes each: the one given first
    assert vote(group[1:]).replies == ["b #### 7"]
    assert likeliest(group).replies == ["d #### 4"]
    mute = [attempt("", 0.0, -1, wellformed=False), attempt("", 0.0, -2, wellformed=False)]
    assert vote(mute) is mute[0]
    lone = [*mute, attempt("#### 9", 1.0, -9)]
    assert vote(lone) is lone[2], "who gives no answer has no vote"


def test_what_a_training_buys_in_attempts():
    assert bought(2e12, 1e8, 200) == 100
    assert bought(2e12, 1.01e8, 200) == 99
    assert bought(1.0, 1e8, 200) == 1


def trial(lr: float, dev: float, diverged: str = "") -> dict:
    return {"method": "rloo", "lr": lr, "curve": [{"dev": 0.9}, {"dev": dev}], "diverged": diverged}


def test_the_best_learning_rate_is_chosen_on_dev_at_the_end_of_its_trial():
    arm = Arm("rloo", "rloo", "method", (1e-4, 3e-4, 9e-4))
    assert best_rate(arm, [trial(1e-4, 0.5), trial(3e-4, 0.7), trial(9e-4, 0.8)]) == 9e-4
    assert best_rate(arm, [trial(1e-4, 0.7), trial(3e-4, 0.7), trial(9e-4, 0.7)]) == 3e-4
    assert best_rate(arm, [trial(1e-4, 0.7), trial(3e-4, 0.5), trial(9e-4, 0.7)]) == 1e-4
    assert best_rate(arm, [trial(1e-4, 0.5), trial(3e-4, 0.7, "loss is nan")]) == 1e-4
    with pytest.raises(UserError, match="no number at any of"):
        best_rate(arm, [trial(lr, 0.0, "loss is nan") for lr in arm.lrs])
    assert best_rate(replace(arm, lrs=()), []) == 0.0


def test_more_sampling_is_given_what_the_dearest_arm_spent():
    spent = [{"curve": [{"flops": 0}, {"flops": flops}]} for flops in (10, 30, 20, 50)]  # two arms, two seeds
    assert most_spent(spent, 2) == 40


def test_the_distance_is_the_kl_of_the_whole_vocabulary_and_0_from_itself():
    policy, start = tiny(seed=1), tiny(seed=2)
    rows = [replace(t, temperature=1.0) for t in trajectories(policy, [7, 4, 9, 5] * 5)]
    assert distance(policy, policy, rows) == {"token": 0.0, "sequence": 0.0}
    found, nats, tokens = distance(policy, start, rows), 0.0, 0
    for row in rows:
        ours, theirs = (p.whole(Batch.of([row])) for p in (policy, start))
        nats += float(torch.nn.functional.kl_div(theirs, ours, log_target=True, reduction="sum"))
        tokens += sum(row.mask)
    assert found["token"] == pytest.approx(nats / tokens, rel=1e-4)
    assert found["sequence"] == pytest.approx(nats / len(rows), rel=1e-4)


def test_the_distance_is_what_its_samples_say_on_average():
    """Σ_v π log(π/π₀) and the sampled log-ratio have one mean; 400 attempts are near it."""
    policy, start = tiny(seed=1), tiny(seed=2)
    rows = rollout(policy, Calculator(), Calculator().tasks("test", 20), samples=20, max_tokens=6)
    exact = distance(policy, start, rows)["token"]
    ratio = (scored(policy, rows) - scored(start, rows))[Batch.of(rows).mask]
    assert abs(float(ratio.mean()) - exact) < 4 * float(ratio.std()) / len(ratio) ** 0.5


def test_notes_in_the_prompt_are_a_distance_with_the_same_weights():
    policy, start = tiny(seed=1), tiny(seed=1)
    policy.prompt = "say a b"
    rows = rollout(policy, Calculator(), Calculator().tasks("test", 3), samples=2, max_tokens=6)
    heard = render(policy.tokenizer, [Message("system", policy.prompt)])[0]
    assert rows[0].tokens[: len(heard)] == heard
    assert distance(policy, start, rows)["token"] > 0
    start.prompt = policy.prompt
    assert distance(policy, start, rows)["token"] == 0


SIZES = "--budget rollouts=288 --seeds 2 --looks 1 --dev 4 --problems 6 --attempts 2 --pass-problems 2 --elsewhere 4"
FLAGS = ["--from", "nano:sft", "--env", "digit", *SIZES.split(), "--max-tokens", "8", "--processes", "2"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "which methods?"),
        (["rloo", "rlo"], "did you mean rloo?"),
        (["rloo", "rloo"], "rloo is named twice"),
        (["dpo"], "has no pairs"),
        (["distill"], "teacher=''"),
        (["rloo", "--from", "nan"], "did you mean nano?"),
        (["rloo", "--budget", "eggs=3"], "unknown unit 'eggs'"),
        (["rloo", "--lrs", "1e-4", "3e-4"], "give exactly 3 different ones"),
        (["rloo", "--lrs", "1e-4", "3e-4", "3e-4"], "give exactly 3 different ones"),
        (["rloo", "--trial-share", "0"], "--trial-share is 0"),
        (["rloo", "--seeds", "1"], "--seeds is 1, must be at least 2"),
        (["rloo", "--problems", "900"], "found only"),
        (["rloo", "--processes", "0"], "--processes is 0"),
        (["rloo", "--name", "../outside"], "name '../outside' is no name of a folder"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_spent(args, said, nano, capfd):
    methods = [word for word in args[:2] if not word.startswith("-")]
    more = args[len(methods) :] if args else []
    status = main(["compare", *methods, *FLAGS, "--runs-dir", str(nano.parent), *more])
    err = capfd.readouterr().err
    assert status == 2 and said in err and err.count("\n") == 1
    assert not list(nano.parent.glob("compare*"))


@pytest.mark.parametrize("flag", ["--env", "--from", "--budget"])
def test_what_is_missing_is_named(flag, capfd):
    at = FLAGS.index(flag)
    assert main(["compare", "rloo", *FLAGS[:at], *FLAGS[at + 2 :]]) == 2
    assert f"nanoschool compare: {flag} is missing" in capfd.readouterr().err


TINY = """\
\"\"\"Rloo, few and short attempts.\"\"\"
from dataclasses import dataclass

from nanoschool.methods.rloo import RLOO

@dataclass(frozen=True)
class Few(RLOO):
    problems: int = 4

METHOD = Few
"""


def told(root: Path) -> dict:
    return forked.timeless(json.loads((root / "compare.json").read_text()))


@pytest.fixture(scope="module")
def compared(nano, tmp_path_factory) -> tuple[Path, list[str], forked.Done]:
    """The folder of a comparison that was killed among its arms and told again, its arguments, and how it ended."""
    runs = tmp_path_factory.mktemp("compared")
    forked.copy(nano, runs)
    (runs / "few.py").write_text(TINY)
    args = ["compare", str(runs / "few.py"), *FLAGS, "--runs-dir", str(runs)]
    killed = forked.command(args, forked.Trouble("/cells/arm", 3), 600)  # as it reads the third arm's result
    assert killed.status == -signal.SIGKILL, killed.err
    root = runs / "compare-digit"
    assert (
        len(list((root / "cells" / "arm").glob("*/result.json"))) < 8 and not (root / "compare.json").exists()
    )
    done = forked.command(args, seconds=600)
    assert done.status == 0, done.err
    return root, args, done


def test_everything_is_told(compared):
    root, _, done = compared
    found = told(root)
    assert next(iter(found["arms"])) == "start"
    arms = {name: arm for name, arm in found["arms"].items() if "curves" in arm}
    assert list(arms) == ["few", "random_reward", "format_reward", "inverted_reward"]
    k = next(name for name in found["arms"] if name.startswith("vote@")).partition("@")[2]
    assert f"likeliest@{k}" in found["arms"] and int(k) > 1
    for arm in arms.values():
        assert [one["lr"] for one in arm["trials"]] == pytest.approx(
            [4e-4 / APART, 4e-4, 4e-4 * APART], rel=0.005
        )
        assert arm["lr"] in [one["lr"] for one in arm["trials"]]
        assert len(arm["curves"]) == 2 and arm["test"]["seeds"] == 2 and arm["test"]["problems"] == 6
        assert arm["cost"]["rollouts"] >= 288 and arm["cost_of_trials"]["rollouts"] >= 3 * 72
        assert set(arm["elsewhere"]) == {"rules"} and arm["distance"]["token"]["mean"] >= 0
        assert set(arm["passk"]) == {"1", "2"}
    bill = found["bill"]
    assert bill["trial"]["rollouts"] == sum(arm["cost_of_trials"]["rollouts"] for arm in arms.values())
    assert all(bill[name]["flops"] > 0 for name in ("arm", "trial", "sampling", "evaluation"))
    assert len(found["pairs"]) == found["verdict"]["family"] == 6
    page = (root / "compare.html").read_text()
    assert page.count("<svg") == 4 and not re.search(r"<script|src=|@import|url\(http", page)
    assert found["verdict"]["words"] in done.out and done.out.splitlines()[-1] == str(root / "compare.html")
    assert not list(root.glob("cells/trial/*/checkpoints"))
    text = (root / "compare.md").read_text()
    assert (
        found["verdict"]["words"] in text
        and text.count("\n| start (baseline)") == text.count("\n| start |") == 1
    ), "what it can do, here and elsewhere"
    for name, arm in arms.items():
        line = next(line for line in text.splitlines() if line.startswith(f"| {name} ({arm['kind']}) |"))
        assert f"| {arm['test']['mean']:.3f} [" in line and f"| {arm['lr']:g} |" in line


def test_every_arm_starts_with_the_same_problems_and_the_same_draws(compared):
    root, _, _ = compared
    first = {}
    for folder in (root / "cells" / "arm").glob("*-seed2"):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        first[folder.name.partition("-")[0]] = next(line["metrics"] for line in lines if "metrics" in line)
    same = [
        first[name][what]
        for name in ("random_reward", "format_reward")
        for what in ("reward", "answer_tokens")
    ]
    assert same == [first["inverted_reward"][what] for what in ("reward", "answer_tokens")] * 2


def test_arms_that_were_killed_end_as_they_do_in_one_go(compared, tmp_path):
    """The processes that the killed command left behind are in nobody's way."""
    root, _, _ = compared
    comparison = planned(root)
    for path in sorted((root / "cells" / "arm").glob("*-seed1/result.json")):
        told = json.loads(path.read_text())
        cell = Cell(**{field.name: told[field.name] for field in fields(Cell)})
        carry_out(comparison, cell, tmp_path, Silent())
        anew = json.loads((tmp_path / "cells" / cell.folder / "result.json").read_text())
        assert forked.timeless(anew) == forked.timeless(told)


@pytest.mark.soak
def test_whatever_is_killed_and_with_how_many_processes_the_numbers_are_the_same(compared, nano, tmp_path):
    root, args, _ = compared
    forked.copy(nano, tmp_path)
    again = [*args[:-1], str(tmp_path), "--processes", "1"]
    for kind, results in (("trial", 5), ("arm", 12), ("sampling", 1)):
        killed = forked.command(again, forked.Trouble(f"/cells/{kind}", results), 600)
        assert killed.status == -signal.SIGKILL, killed.err
    done = forked.command(again, seconds=600)
    assert done.status == 0, done.err
    ours, theirs = told(root), told(tmp_path / root.name)
    for one in (ours, theirs):
        del one["comparison"]["runs_dir"]
    assert ours == theirs


def test_another_comparison_of_the_same_name_is_refused(compared, capfd):
    _, args, _ = compared
    assert main([*args, "--dev", "5"]) == 2
    assert "was begun as another (dev: 4, now 5); give this one another --name" in capfd.readouterr().err


def test_another_method_in_the_same_file_is_refused(compared, capfd):
    root, args, _ = compared
    file = root.parent / "few.py"
    file.write_text(TINY.replace("4", "5"))
    try:
        assert main(args) == 2
    finally:
        file.write_text(TINY)
    assert "few.py" in (err := capfd.readouterr().err) and "give this one another --name" in err


OWN = "from dataclasses import dataclass\nfrom nanoschool.methods.rloo import RLOO\n@dataclass(frozen=True)\n"
KEYWORD = OWN.replace(
    "frozen=True", "frozen=True, kw_only=True"
)  # a field without a default, behind those that have one


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OWN + "class M:\n    lr: float = 1e-4\nMETHOD = M\n", "M is no nanoschool.methods.base.Method"),
        (KEYWORD + "class M(RLOO):\n    share: float\nMETHOD = M\n", "share has no default"),
        (OWN + "class M(RLOO):\n    lr: float = -1.0\nMETHOD = M\n", "method mine: lr=-1.0 must be"),
    ],
)
def test_a_file_that_is_no_method_is_told_of(text, said, nano, tmp_path, capfd):
    (tmp_path / "mine.py").write_text(text)
    assert main(["compare", str(tmp_path / "mine.py"), *FLAGS, "--runs-dir", str(nano.parent)]) == 2
    assert said in capfd.readouterr().err


def test_a_method_of_ones_own_may_have_no_replay(nano, tmp_path):
    (tmp_path / "mine.py").write_text(OWN + "class M(RLOO):\n    replay: int = 0\nMETHOD = M\n")
    words = ["--from", "nano", "--env", "chain", "--budget", "rollouts=8", "--runs-dir", str(nano.parent)]
    assert training(str(tmp_path / "mine.py"), words).stages["train"].method.replay == 0


def test_the_command_says_every_flag_that_is_not_usual():
    asked = Comparison(
        ("rloo", "ppo"), "a:sft", "chain", "flops=1e9", 3, lrs=(1e-4, 2e-4, 3e-4), max_tokens=32
    )
    words = "rloo ppo --from a:sft --env chain --budget flops=1e9 --seeds 3 --lrs 0.0001 0.0002 0.0003 --max-tokens 32"
    assert asked.command() == f"nanoschool compare {words}"


def test_the_page_says_who_overspent(compared):
    root, _, _ = compared
    found = json.loads((root / "compare.json").read_text())
    page = markdown(found)
    budget = Budget.parse(found["comparison"]["budget"])
    over = {
        n for n, a in found["arms"].items() if "seconds" in a and a["cost"][budget.unit] > 1.1 * budget.limit
    }
    assert found["command"] in page
    for name, arm in found["arms"].items():
        if "curves" in arm:
            times = arm["cost"][budget.unit] / budget.limit
            assert (f"{name} {times:.2f} times" in page) == (name in over)
    for arm in found["arms"].values():
        if "cost" in arm:
            arm["cost"][budget.unit] = 3 * budget.limit
    assert "some spent more than their budget: few 3.00 times" in markdown(found)


def test_a_finished_comparison_is_only_told_again(compared):
    root, args, done = compared
    before = (root / "compare.json").read_bytes()
    assert forked.command(args).out.splitlines()[-8:] == done.out.splitlines()[-8:]
    assert (root / "compare.json").read_bytes() == before


@dataclass(frozen=True)
class Easier(Chain):
    """Whoever is asked in raw text is right."""

    def complete(self, task: Task, format: str) -> Episode:
        yield Ask("go on", role="text", max_tokens=1)
        return Outcome((1.0,))


def test_elsewhere_a_start_that_converses_is_asked_as_the_trained_are():
    """Who did not change has forgotten nothing, though another way of asking may suit it better."""
    worlds = {"digit": Calculator(), "chain": Easier()}
    c = Comparison(env="digit", dev=4, problems=4, attempts=2, pass_problems=2, elsewhere=3, max_tokens=4)
    policy = tiny(context=96)
    asked = [measure_start(policy, worlds, list(worlds), c, converses) for converses in (True, False)]
    after = measure(policy, policy.snapshot(), worlds, list(worlds), c)
    assert asked[0]["elsewhere"] == after["elsewhere"] == {"chain": [0.0] * 3}
    assert asked[1]["elsewhere"] == {"chain": [1.0] * 3}, "who has only read answers in its text"
    there = measure_start(policy, worlds, [], replace(c, env="chain"), converses=True)
    assert there["way"] != "chat" and there["rewards"] == [1.0] * 4 and there["chat"] == [0.0] * 4
