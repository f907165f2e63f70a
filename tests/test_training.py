"""train: one method in one world from a start, measured before and after, killed and gone on with, refused in a line."""

import json
import shutil
import signal
from dataclasses import fields
from pathlib import Path

import forked
import pytest

from nanoschool import methods
from nanoschool.methods.comparisons import Comparisons
from nanoschool.settings import differences, load_run
from nanoschool.start import open_start
from nanoschool.training import training
from nanoschool.types import UserError

LITTLE = "--evaluation.problems 4 --evaluation.look 4 --evaluation.pass-problems 2 --evaluation.gate-books 4"
PRACTICE = "--method.problems 4 --method.samples 4 --method.max-tokens 16 --check 2 --save 1 --threads 1"
ARGS = ["train", "rloo", "--env", "digit", "--from", "nano:sft", "--budget", "rollouts=96"]
ARGS += [*LITTLE.split(), *PRACTICE.split()]


@pytest.fixture(scope="module")
def runs(nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with a start in it."""
    folder = tmp_path_factory.mktemp("runs")
    other = Path(shutil.copytree(nano, folder / "other", symlinks=True))
    spec = other / "checkpoints" / "rl" / "tokenizer.json"
    spec.write_text(spec.read_text().replace("<|tool|>", "<|took|>"))
    shutil.copytree(nano, folder / "nano", symlinks=True)
    return folder


@pytest.fixture(scope="module")
def whole(runs: Path) -> tuple[Path, forked.Done]:
    done = forked.command([*ARGS, "--runs-dir", str(runs)], forked.Trouble("/rloo-digit/"))
    assert done.status == 0, done.err
    return runs / "rloo-digit", done


def test_it_says_what_was_won_over_the_start(whole: tuple[Path, forked.Done], runs: Path) -> None:
    run, done = whole
    said = json.loads((run / "summary.json").read_text())
    assert list(said["stages"]) == ["start", "train"] and said["preset"] == "train rloo"
    assert said["gain"]["from"] == "start" and said["gain"]["to"] == "train" and said["gain"]["n"] == 4
    assert forked.weights(run, "start") == forked.weights(runs / "nano", "sft")
    assert forked.weights(run, "train") == forked.weights(run, "best")
    spent = json.loads((run / "ledger.json").read_text())
    assert sum(cost["rollouts"] for name, cost in spent.items() if name == "train/collect") == 96
    assert {"evaluation/start-test", "evaluation/train-test"} <= spent.keys()
    assert "train over start, digit" in done.out


def test_it_is_a_run_like_any_other(whole: tuple[Path, forked.Done]) -> None:
    run, _ = whole
    where = ["--runs-dir", str(run.parent)]
    for stage in ("start", "train"):
        said = forked.command(["chat", run.name, "-p", "3+4=?", "--stage", stage, *where])
        assert said.status == 0 and said.out.strip(), said.err
    measured = forked.command(["eval", run.name, "--env", "digit", "-n", "4", *where])
    assert measured.status == 0 and "n=4" in measured.out
    again = forked.command([*ARGS, *where])
    assert again.status == 0 and "is finished, nothing is left to train" in again.out
    page = (run / "report.html").read_text()
    assert "start" in page and "train over start" in page


@pytest.mark.parametrize("share", [pytest.param(0.03, marks=pytest.mark.soak), 0.6])
def test_killed_it_goes_on_to_the_same_bits(
    whole: tuple[Path, forked.Done], runs: Path, tmp_path: Path, share: float
) -> None:
    """Also without its start, once it has begun."""
    run, counted = whole
    shutil.copytree(runs / "nano", tmp_path / "nano", symlinks=True)
    args = [*ARGS, "--runs-dir", str(tmp_path)]
    killed = forked.command(args, forked.Trouble("/rloo-digit/", int(counted.touches * share)))
    assert killed.status == -signal.SIGKILL
    if (config := tmp_path / run.name / "config.toml").exists():
        args = ["run", str(config), "--name", run.name, "--runs-dir", str(tmp_path)]
        shutil.rmtree(tmp_path / "nano")
    assert forked.command(args).status == 0
    told, expected = forked.told(tmp_path / run.name), forked.told(run)
    del told["manifest.json"], expected["manifest.json"]  # of the settings, which say where the start was
    assert told == expected


def test_what_the_start_was_taught_and_measured_by_goes_on(runs: Path) -> None:
    flags = ["--from", "nano", "--budget", "rollouts=8", "--runs-dir", str(runs)]
    settings, nano = training("rloo", [*flags, "--env", "chain"]), load_run(runs / "nano")
    assert settings.taught == nano.taught and settings.worlds["digit"] == nano.worlds["digit"]
    assert settings.evaluation.worlds == ("chain", *nano.evaluation.worlds)
    assert settings.stages["train"].method.replay > 0
    same = {"env": "digit", "start": "nano", "budget": "rollouts=8", "runs_dir": runs, "method": {"lr": 1e-5}}
    assert training("rloo", **same) == training("rloo", [*flags, "--env", "digit", "--method.lr", "1e-5"])
    learner = training("distill", [*flags, "--env", "digit", "--teacher", "nano:rl"]).stages["train"].method
    assert learner.teacher == f"{runs / 'nano'}:rl"
    taught = training("sft", [*flags[:2], "--budget", "tokens=10", *flags[4:], "--env", "chain"])
    assert taught.taught == {"chain": 1.0} and taught.stages["train"].env == "chain"
    ours = training("rloo", [*flags, "--env", "digit", "--worlds.digit.digits", "2", "--method.lr", "1e-5"])
    assert ours.worlds["digit"].digits == 2 and ours.stages["train"].method.lr == 1e-5


MINE = """
from dataclasses import dataclass
from nanoschool.methods.practice import Practice
@dataclass(frozen=True)
class Mine(Practice):
    push: float = 1.0
    def advantages(self, trajectories):
        return [self.push * t.rewards for t in trajectories]
METHOD = Mine
"""
WORLD = """
from dataclasses import dataclass
from nanoschool.types import Ask, Outcome, Task
@dataclass(frozen=True)
class Yes:
    word: str = "yes"
    name: str = "yes"
    replayable: bool = True
    def tasks(self, split, count, seed=0):
        return [Task("yes", f"{split} {i}", {}) for i in range(count)]
    def play(self, task):
        reply = yield Ask(task.problem)
        return Outcome((float(self.word in reply.text),))
WORLD = Yes()
"""


def test_a_method_and_a_world_of_the_users(runs: Path, tmp_path: Path) -> None:
    """They are read again from the run's settings, too."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "world.py").write_text(WORLD)
    mine, world = (str(tmp_path / name) for name in ("mine.py", "world.py"))
    flags = ["--env", world, "--from", "nano", "--budget", "rollouts=16", "--runs-dir", str(runs)]
    flags += ["--worlds.world.word", "e", "--method.push", "0.5", *LITTLE.split(), *PRACTICE.split()]
    done = forked.command(["train", "--method", mine, *flags])
    assert done.status == 0, done.err
    settings = load_run(runs / "mine-world")
    assert differences(settings, training(mine, flags)) == []
    assert settings.worlds[world].word == "e"
    assert settings.stages["train"].method.push == 0.5


@pytest.mark.parametrize(
    "args, complaint",
    [
        ("", "usage: nanoschool train METHOD"),
        ("--env digit", "which method"),
        ("rlo --env digit", "unknown method 'rlo': did you mean rloo"),
        ("rloo --env digit --from nano", "how long? --budget"),
        ("rloo --env digit --budget rollouts=9", "--from: name a run"),
        ("rloo --env dgit --from nano --budget rollouts=9", "unknown world 'dgit'"),
        ("rloo --from nano --budget rollouts=9", "practises in a world"),
        ("rloo --env digit --from nano --budget rollout=9", "unknown unit 'rollout'"),
        ("rloo --env digit --from nano --budget rollouts=9 --method.lr -1", "lr=-1.0 must be above 0"),
        ("rloo --env digit --from nano --budget rollouts=9 --methd.lr 1", "unknown flag --methd.lr"),
        ("rloo --env digit --from nano --budget rollouts=9 --data x.jsonl", "it learns from no file"),
        ("dpo --env digit --from nano --budget tokens=9", "world 'sums' has no pairs"),
        ("dpo --from nano --budget tokens=9", "has no comparisons to learn from"),
        ("distill --env digit --from nano --budget tokens=9", "teacher='' must be"),
        ("distill --env digit --from nano --teacher nan --budget tokens=9", "no run 'nan'"),
        (
            "distill --env digit --from nano --teacher other --budget tokens=9",
            "other: has another tokenizer than",
        ),
        ("rloo --env digit --from nano --teacher nano:rl --budget tokens=9", "it has no teacher"),
        ("rloo --env digit --from nano --budget rollouts=9 --context -5", "--context -5 must be"),
        ("rloo --env digit --from nano --budget rollouts=9 --pessimism 1", "name one by --reward-model"),
        ("rloo --env digit --from nano --budget rollouts=9 --lora-alpha 3", "give their --lora rank"),
        ("oracle_credit --env yes.py --from nano --budget rollouts=9", "has no oracle"),
        ("broken.py --env digit --from nano --budget rollouts=9", "broken.py:2: NameError: name 'nothing'"),
        ("empty.py --env digit --from nano --budget rollouts=9", "exports no METHOD"),
        ("none.py --env digit --from nano --budget rollouts=9", "there is no such file"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_line_before_anything_is_spent(
    runs: Path, tmp_path: Path, args: str, complaint: str, monkeypatch, capsys
) -> None:
    from nanoschool.cli import main

    (tmp_path / "broken.py").write_text("x = 1\nnothing\n")
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "yes.py").write_text(WORLD)
    monkeypatch.chdir(tmp_path)
    there = sorted(runs.iterdir())
    status = main(["train", *args.split(), *(["--runs-dir", str(runs)] if args else [])])
    said = capsys.readouterr()
    assert complaint in said.out + said.err
    assert status == (2 if args else 0) and len(said.err.splitlines()) <= 1
    assert sorted(runs.iterdir()) == there


def test_the_run_of_another_start_is_not_gone_on_with(whole: tuple[Path, forked.Done]) -> None:
    run, _ = whole
    args = [word if word != "nano:sft" else "nano:rl" for word in ARGS]
    done = forked.command([*args, "--runs-dir", str(run.parent)])
    assert done.status == 2 and "start.path" in done.err and "give this one another --name" in done.err
    with pytest.raises(UserError, match="is no name of a folder"):
        training("rloo", [*ARGS[2:], "--name", "a/b", "--runs-dir", str(run.parent)])


@pytest.fixture(scope="module")
def noted(runs: Path) -> Path:
    """A start whose prompt holds notes."""
    args = ["train", "notes_oracle", "--env", "hidden", "--from", "nano:sft", "--budget", "rollouts=2"]
    sizes = ["--method.problems", "2", "--method.max-tokens", "12", "--name", "noted", "--threads", "1"]
    done = forked.command([*args, *LITTLE.split(), *sizes, "--runs-dir", str(runs)])
    assert done.status == 0, done.err
    return runs / "noted"


SLEEP = ["train", "sleep", "--env", "hidden", "--budget", "rollouts=8", "--check", "1", "--threads", "1"]
SLEEP += [*LITTLE.split(), "--method.problems", "2", "--method.max-tokens", "12", "--method.replay", "2"]


def test_sleep_starts_with_the_notes_and_ends_without(noted: Path) -> None:
    done = forked.command([*SLEEP, "--from", "noted", "--runs-dir", str(noted.parent)])
    assert done.status == 0, done.err
    run = noted.parent / "sleep-hidden"
    prompts = {stage: open_start(f"{run}:{stage}").prompt for stage in ("start", "train")}
    assert prompts == {"start": open_start(f"{noted}:train").prompt, "train": ""} and prompts["start"]


def test_who_has_no_notes_cannot_sleep_and_no_exam_is_held(runs: Path) -> None:
    done = forked.command([*SLEEP, "--from", "nano:sft", "--name", "awake", "--runs-dir", str(runs)])
    assert done.status == 2 and "the prompt holds no notes" in done.err and "the test split" not in done.out
    assert not (runs / "awake" / "config.toml").exists() and not (runs / "awake" / "checkpoints").exists()


def test_a_reward_that_gives_no_number_is_refused_before_the_exam(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "pay.py").write_text("def score(reply): return 1.0\n")
    args = [*ARGS[:6], "--budget", "rollouts=8", "--name", "paid", "--reward", f"{tmp_path / 'pay.py'}:score"]
    done = forked.command([*args, *LITTLE.split(), *PRACTICE.split(), "--runs-dir", str(runs)])
    assert done.status == 2 and "pay.py" in done.err and "the test split" not in done.out
    assert not (runs / "paid" / "config.toml").exists()


def test_a_budget_of_less_than_a_step_is_told_of(runs: Path) -> None:
    args = [*ARGS[:6], "--budget", "rollouts=8", "--name", "little"]
    done = forked.command([*args, *LITTLE.split(), *PRACTICE.split(), "--runs-dir", str(runs)])
    assert done.status == 0 and "spent 2.0 times its budget" in done.out


AFTER_NOTES = {"sleep"}  # it starts from notes in the prompt
OF_REVIEWS = {
    *("notes", "notes_oracle", "gepa", "process_grpo", "sleep"),
    *("review_imitation", "review_pairs", "review_reward"),
}
SIZES = {"problems": 3, "samples": 4, "max_tokens": 12, "pairs": 4, "rows": 4, "forks": 2, "replay": 2}


@pytest.mark.soak
@pytest.mark.identities
@pytest.mark.parametrize("name", methods.describe())
def test_each_method_killed_goes_on_to_the_same_bits(
    name: str, runs: Path, noted: Path, tmp_path: Path
) -> None:
    kind = methods.load(name)
    if name == "gepa":
        pytest.importorskip("gepa")
    env = "taste" if issubclass(kind, Comparisons) else "hidden" if name in OF_REVIEWS else "chain"
    flags = [
        f"--method.{key.replace('_', '-')}={n}"
        for key, n in SIZES.items()
        if key in {f.name for f in fields(kind)}
    ]
    flags += ["--worlds.chain.lengths", "1", "2"] if env == "chain" else []  # they fit nano's context
    flags += [f"--method.teacher={runs / 'nano'}:sft"] if kind.needs_teacher else []
    start = noted if name in AFTER_NOTES else runs / "nano:sft"
    flags += f"--check 2 --save 1 --threads 1 --name it --from {start}".split()
    goes_on(["train", name, "--env", env, "--budget", "tokens=4000", *LITTLE.split(), *flags], tmp_path)


@pytest.mark.soak
def test_killed_it_goes_on_to_the_same_bits_in_bfloat16(runs: Path, tmp_path: Path) -> None:
    flags = "--sampling.dtype bfloat16 --worlds.chain.lengths 1 2 --check 2 --save 1 --threads 1"
    flags = [*flags.split(), "--from", str(runs / "nano:sft"), "--name", "it"]
    goes_on(["train", "rloo", "--env", "chain", "--budget", "tokens=4000", *LITTLE.split(), *flags], tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("method", ["sft", "rloo", "ppo"])
def test_killed_it_goes_on_to_the_same_bits_where_training_is_compiled(
    runs: Path, tmp_path: Path, method: str
) -> None:
    flags = "--fitting compiled --worlds.chain.lengths 1 2 --check 2 --save 1 --threads 1"
    flags = [*flags.split(), "--from", str(runs / "nano:sft"), "--name", "it"]
    goes_on(["train", method, "--env", "chain", "--budget", "tokens=4000", *LITTLE.split(), *flags], tmp_path)


@pytest.mark.soak
def test_killed_sleep_goes_on_to_the_same_bits_in_bfloat16(noted: Path, tmp_path: Path) -> None:
    """Its reference samples too, and so does what it makes of itself without the notes."""
    goes_on(
        [*SLEEP, "--sampling.dtype", "bfloat16", "--save", "1", "--from", str(noted), "--name", "it"],
        tmp_path,
    )


def goes_on(args: list[str], tmp_path: Path) -> None:
    """Killed at a quarter, a half and three quarters of what it does to its folder, it ends in the same bits."""
    args = [*args, "--runs-dir"]
    counted = forked.command([*args, str(tmp_path / "whole")], forked.Trouble("/it/"))
    assert counted.status == 0, counted.err
    expected = forked.told(tmp_path / "whole" / "it")
    for share in (0.25, 0.5, 0.75):
        mine = str(tmp_path / str(share))
        killed = forked.command([*args, mine], forked.Trouble("/it/", int(counted.touches * share)))
        assert killed.status == -signal.SIGKILL
        assert forked.command([*args, mine]).status == 0
        assert forked.told(Path(mine) / "it") == expected, share
