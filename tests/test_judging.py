"""RLHF in the main job: a stage trains a reward model, the next is paid by it; and an alarm when pay and truth part."""

import json
import random
import signal
from pathlib import Path

import forked
import pytest
from synthetic_run import write_run
from tiny import tiny, trajectories

from nanoschool.core import checkpoint
from nanoschool.evals.overoptimisation import Drift, divergence, parted
from nanoschool.ledger import Ledger
from nanoschool.report import write
from nanoschool.settings import PRESETS, load_settings
from nanoschool.types import Trajectory, UserError

STAGES = """
[reward]
use = "reward_model"
env = "taste"
budget = "tokens=8e3"
check = 4
save = 2

[reward.method]
pairs = 8
known = 64
members = 2

[rlhf]
use = "rloo"
env = "taste"
judge = "reward"
pessimism = 0.5
budget = "rollouts=160"
check = 2
save = 1

[rlhf.method]
problems = 4
samples = 8
max_tokens = 24
kl = 0.05
replay = 2
"""


def preset(folder: Path, **changes: str) -> Path:
    """nano with a taste to learn, and shorter."""
    text = (
        (PRESETS / "nano.toml")
        .read_text()
        .replace('["pretrain", "sft", "rl"]', '["pretrain", "sft", "reward", "rlhf"]')
    )
    text = text.replace("tokens=20e3", "tokens=3e3").replace("tokens=13e3", "tokens=3e3")
    text = text.replace("[mix]", "[mix]\ntaste = 0.3").replace("[taught]", "[taught]\ntaste = 0.5")
    text = text.replace('["rules", "digit"]', '["rules", "taste"]').replace("vocab = 320", "vocab = 400")
    text += STAGES
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "judged.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, forked.Done, Path]:
    folder = tmp_path_factory.mktemp("judged")
    path = preset(folder)
    done = forked.command(["run", str(path), "--runs-dir", str(folder)], forked.Trouble("/checkpoints/"))
    assert done.status == 0, done.err
    return folder / "judged", done, path


def rows(run: Path, kind: str) -> list[dict]:
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in told if kind in row and row["stage"] == "rlhf"]


def test_the_reward_model_is_handed_on_and_pays(whole):
    run, _, _ = whole
    summary = json.loads((run / "summary.json").read_text())
    assert list(summary["stages"]) == ["pretrain", "sft", "reward", "rlhf"]
    assert summary["stages"]["reward"]["agreement"]["n"] == 500
    assert summary["gain"] is None and summary["gains"]["rlhf"]["world"] == "taste"
    assert forked.weights(run, "reward") == forked.weights(run, "sft") != forked.weights(run, "rlhf")
    for row in rows(run, "metrics"):
        assert {"reward", "paid", "kl"} <= set(row["metrics"])
    ledger = Ledger.from_json(json.loads((run / "ledger.json").read_text()))
    for account in ("reward/fit", "reward/standardise", "rlhf/judge", "rlhf/credit/reference"):
        assert ledger.total(account).flops > 0, account


def test_every_look_tells_how_far_it_came_and_what_it_said(whole):
    run, _, _ = whole
    looks = rows(run, "drift")
    assert [row["step"] for row in looks] == [row["step"] for row in rows(run, "dev")] == [0, 2, 4, 5]
    far = [row["drift"]["kl"]["mean"] for row in looks]
    assert far[0] == pytest.approx(0, abs=1e-5) and far[-1] > 1e-3
    for row in looks:
        assert row["drift"]["proxy"]["n"] == row["drift"]["gold"]["n"] == 4
        assert row["drift"]["said"]["prompt"].startswith("write ")


def test_in_a_training_the_reward_model_of_a_run_pays(whole, tmp_path):
    run, _, _ = whole
    flags = ["--from", f"{run}:sft", "--reward-model", f"{run}:reward", "--runs-dir", str(tmp_path)]
    size = [
        "--budget",
        "rollouts=16",
        "--method.problems",
        "2",
        "--method.samples",
        "4",
        "--method.replay",
        "0",
    ]
    small = ["--evaluation.problems", "8", "--evaluation.look", "4", "--evaluation.pass-problems", "4"]
    done = forked.command(["train", "rloo", "--env", "taste", *flags, *size, *small])
    assert done.status == 0, done.err
    told = [json.loads(line) for line in (tmp_path / "rloo-taste" / "metrics.jsonl").read_text().splitlines()]
    paid = [row["metrics"] for row in told if "metrics" in row]
    assert len(paid) == 2 and all(row["paid"] != row["reward"] for row in paid)


@pytest.mark.soak
def test_killed_inside_both_stages_it_ends_in_the_same_bits(whole, tmp_path):
    run, done, path = whole
    rng = random.Random(0)
    args = ["run", str(path), "--runs-dir", str(tmp_path)]
    for _ in range(3):
        killed = forked.command(
            args, forked.Trouble("/checkpoints/", rng.randrange(done.touches // 8, done.touches // 3))
        )
        assert killed.status == -signal.SIGKILL, killed.err
    again = forked.command(args)
    assert again.status == 0, again.err
    assert forked.told(tmp_path / "judged") == forked.told(run)
    ours, theirs = (
        checkpoint.read(folder / "checkpoints" / "reward").training for folder in (run, tmp_path / "judged")
    )
    assert ours.keys() == theirs.keys() and all((ours[key] == theirs[key]).all() for key in ours)


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({'judge = "reward"': 'judge = "sft"'}, "judge 'sft' is no earlier stage that trains a reward model"),
        ({'judge = "reward"': 'judge = "nowhere"'}, "judge 'nowhere' is no earlier stage"),
        (
            {'use = "rloo"\nenv = "taste"': 'use = "dapo"\nenv = "taste"', "kl = 0.05\n": ""},
            "dapo learns from more than a reward",
        ),
        ({'judge = "reward"': 'judge = "reward"\nreward = "a.py:b"'}, "a reward and a judge"),
        ({"pessimism = 0.5": "pessimism = -1"}, "pessimism is -1"),
        ({"kl = 0.05": "kl = -1"}, "kl=-1.0 must be 0 or above"),
    ],
)
def test_what_cannot_judge_is_refused_before_anything_is_spent(tmp_path, changes, complaint):
    with pytest.raises(UserError, match=complaint):
        load_settings(str(preset(tmp_path, **changes)))


def drifted(gold: list[float], proxy: list[float]) -> Drift:
    return Drift([0.0] * len(gold), proxy, gold, Trajectory([1], [False], [0.0], [0.0]))


def test_the_alarm_rings_where_pay_rises_and_truth_falls_and_not_otherwise():
    rng = random.Random(0)

    def noisy(level: float) -> list[float]:
        return [level + rng.gauss(0, 1) for _ in range(64)]

    def ring(golds: list[float], proxies: list[float]) -> list[bool]:
        state: dict = {}
        looks = enumerate(zip(golds, proxies, strict=True))
        return [parted(state, step, drifted(noisy(g), noisy(p))) is not None for step, (g, p) in looks]

    assert ring([0, 1, 2, 0], [0, 1, 2, 4]) == [False, False, False, True]
    assert not any(ring([0, 1, 2, 3], [0, 1, 2, 3])), "both rise"
    assert not any(ring([0, 1, 2, 0], [0, 1, 2, 0])), "both fall: a bad step, not a judge's mistake"
    still = [any(ring([0] * 8, [0] * 8)) for _ in range(10)]
    assert not any(still), "nothing moves: 8 looks at noise, of which each rings with 0.06 % at most"
    rising = [any(ring([0] * 8, [*range(8)])) for _ in range(20)]
    assert sum(rising) <= 8, "gold stands still under a rising proxy: 8 looks, 2.5 % each at most"


def test_the_divergence_is_exact_and_0_from_oneself():
    policy, other = tiny(context=64), tiny(context=64, seed=3)
    attempts = trajectories(policy, [12, 7, 20])
    assert divergence(policy, policy.snapshot(), attempts) == pytest.approx([0, 0, 0], abs=1e-5)
    found = divergence(policy, other, attempts)
    alone = [divergence(policy, other, [t])[0] for t in attempts]
    assert found == pytest.approx(alone, abs=1e-4) and min(found) > 0.1


def test_the_report_shows_the_way_the_alarm_and_what_was_written(tmp_path):
    """Collapse is to be seen where it happened."""
    folder = write_run(tmp_path / "run")

    def estimate(mean: float) -> dict:
        return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 64}

    with open(folder / "metrics.jsonl", "a") as file:
        for step, kl, proxy, gold, reply in ((0, 0, 0, 1, "sea rain"), (4, 9, 3, -2, "the the <the>")):
            drift = {"kl": estimate(kl), "proxy": estimate(proxy), "gold": estimate(gold)}
            drift["said"] = {"prompt": "write", "reply": reply}
            if step:
                drift["alarm"] = {"since": 0, "proxy": estimate(3), "gold": estimate(-3)}
            file.write(json.dumps({"stage": "rlhf", "step": step, "drift": drift}) + "\n")
    page = write(folder).read_text()
    for words in (
        "When the reward is learned",
        "The alarm rang at step 4",
        "the the &lt;the&gt;",
        "-3.00 [-3.10, -2.90]",
    ):
        assert words in page, words
