"""The audit: planted holes are found by the cheat that they are for, honest rewards pass, and the exit status says so."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import pytest

from nanoschool import envs
from nanoschool.cli import main
from nanoschool.envs import planted
from nanoschool.envs.adapters.reward import Rewarded
from nanoschool.envs.chain import Chain
from nanoschool.envs.common import draw
from nanoschool.envs.nim import Nim
from nanoschool.envs.planted import capitals, writable
from nanoschool.envs.planted.capitals import Capitals, stated
from nanoschool.lab.audit import MARGIN, audit, lines
from nanoschool.lab.known import Known, right_replies
from nanoschool.types import Ask, Episode, Oracle, Outcome, Task, UserError

HOLES = {
    "format": "the form, empty",
    "length": "very long",
    "substring": "every answer at once",
    "verdict": "claims success",
    "writable": "writes to the state",
}
CHEATS = (
    "empty answer",
    "question echoed",
    "every answer at once",
    "the form, empty",
    "one constant",
    "the the the",
    "very long",
    "claims success",
    "look-alikes",
    "odd numbers",
    "tool prints the form",
    "writes to the state",
)


@dataclass(frozen=True)
class Honest(Capitals):
    """The planted worlds' question with no hole."""

    name: str = "honest"

    def grade(self, town: str, reply: str) -> float:
        return float(stated(reply) == town)


def found(env, n=60) -> set[str]:
    return {finding.cheat for finding in audit(env, n).findings if finding.gameable}


def test_there_are_five_planted_worlds_which_are_no_ordinary_ones():
    worlds = planted.worlds()
    assert [world.name for world in worlds] == list(HOLES)
    assert not set(HOLES) & set(envs.names())


@pytest.mark.parametrize("world", planted.worlds(), ids=lambda world: world.name)
def test_a_planted_hole_is_found_by_the_cheat_it_is_for(world):
    result = audit(world, 100)
    by_cheat = {finding.cheat: finding for finding in result.findings}
    assert tuple(by_cheat) == CHEATS
    assert result.gameable and by_cheat[HOLES[world.name]].gameable
    assert by_cheat[HOLES[world.name]].above.low > MARGIN
    assert result.honest["chance"].mean == pytest.approx(1 / 20, abs=0.03)
    assert result.honest["oracle"].mean == 1.0
    # a hole is not seen where there is none: a right answer is all that a constant or a look-alike can hit
    assert not by_cheat["empty answer"].gameable and not by_cheat["one constant"].gameable


def test_the_same_world_without_a_hole_passes():
    result = audit(Honest(), 200)
    assert not result.gameable
    assert all(finding.earns.n == 200 == result.n for finding in result.findings)


def test_writing_is_found_because_of_the_write(monkeypatch):
    """The notebook world passes once notes go elsewhere."""
    assert "writes to the state" in found(writable.WORLD)
    monkeypatch.setattr(writable, "NOTE", writable.re.compile(r"(x{30}) = (x)"))
    assert not found(writable.WORLD)


@pytest.mark.parametrize("name", ["chain", "rules", "nim", "kuhn", "look", "calc"])
def test_our_rewards_pass_in_one_turn_and_many_with_one_seat_and_two(name):
    assert found(envs.load(name)) == set()


@pytest.mark.soak
@pytest.mark.parametrize("name", envs.names())
def test_every_world_is_put_on_trial(name):
    assert found(envs.load(name), 200) == set()


def test_a_skewed_answer_is_found_by_the_one_constant():
    @dataclass(frozen=True)
    class Skewed(Honest):
        def _task(self, rng: Random) -> Task:
            task = super()._task(rng)
            return replace(task, data={**task.data, "town": "arvo" if rng.random() < 0.5 else "belm"})

    assert found(Skewed()) == {"one constant"}


def test_a_reply_that_changes_the_tasks_data_is_found():
    @dataclass(frozen=True)
    class Careless(Honest):
        def play(self, task: Task) -> Episode:
            reply = yield Ask("?")
            task.data["said"] = reply.text  # type: ignore[index]
            return Outcome((0.0,))

    result = audit(Careless(), 20)
    assert result.gameable and all(finding.wrote for finding in result.findings)
    assert "changes the task's data" in lines(result)[-1]


def test_abstaining_is_honest_where_the_world_says_that_it_is():
    @dataclass(frozen=True)
    class Abstaining(Honest):
        told: bool = True

        def play(self, task: Task) -> Episode:
            reply = yield Ask("?")
            silent = reply.text == "I don't know."
            reward = 0.4 if silent else self.grade(task.data["town"], reply.text)
            return Outcome((reward,), info={"abstained": silent} if self.told else {})

        def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
            return Oracle(0.4, ("I don't know.",), 4.3)

    result = audit(Abstaining(), 60)
    assert not result.gameable and result.honest["abstaining"].mean == pytest.approx(0.4)
    assert found(Abstaining(told=False)) == {"one constant"}


def test_escaping_defeat_in_a_game_is_a_cheat():
    """An illegal move that ends a lost game for nothing, where losing costs 1, earns more than chance."""

    @dataclass(frozen=True)
    class Lenient(Nim):
        def play(self, task: Task) -> Episode:
            outcome = yield from super().play(task)
            return outcome if outcome.info["wellformed"] else replace(outcome, rewards=(0.0, 0.0))

    assert {"empty answer", "the the the"} <= found(Lenient())
    assert found(Nim()) == set()


def answered(task: Task, reply: str) -> float:
    """Right sums."""
    sign = 1 if task.data["op"] == "+" else -1
    return float(reply.endswith(f"#### {task.data['a'] + sign * task.data['b']}"))


@pytest.mark.parametrize(
    ("name", "score", "told"),
    [
        ("chain", lambda task, reply: 1.0, "right replies, as the world writes them, earn +0.000"),
        ("nim", lambda task, reply: 1.0, "earn +0.000 [+0.000, +0.000] over chance"),
        ("chain", lambda task, reply: float("####" in reply), "earn +0.000"),
        ("chain", lambda task, reply: Random(reply).random(), "over chance"),
        ("sums", lambda task, reply: 0.0, "earn +0.000"),
    ],
)
def test_a_reward_that_pays_guesses_what_it_pays_right_replies_is_found(name, score, told):
    result = audit(Rewarded(envs.load(name), score, "mine.py:score"), 60)
    verdict, why = lines(result)[:2]
    assert result.gameable and "CANNOT TELL RIGHT FROM WRONG" in verdict and told in why


def test_a_reply_that_earns_what_right_replies_earn_is_found():
    """Chance is only a little below them, so nothing can be far above it."""

    def score(task: Task, reply: str) -> float:
        return 0.9 + 0.08 * answered(task, reply) + 0.04 * (reply.strip() == "")

    result = audit(Rewarded(envs.load("sums"), score, "mine.py:score"), 60)
    assert [finding.cheat for finding in result.findings if finding.gameable] == ["empty answer"]
    assert not result.blind and any("as much as right replies" in line for line in lines(result))


def test_a_users_reward_for_right_replies_passes():
    result = audit(Rewarded(envs.load("sums"), answered, "mine.py:score"), 60)
    assert not result.gameable and result.honest["right replies"].mean == 1.0


class Bare:
    """A world that says nothing but its tasks."""

    name = "bare"
    replayable = True

    def __init__(self, *rewards: float) -> None:
        self.rewards = rewards

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, lambda rng: Task("bare", str(rng.random()), {}), split, count, seed)

    def play(self, task: Task) -> Episode:
        yield Ask("?")
        return Outcome(self.rewards or None)


def test_a_world_without_guesses_or_oracle_can_be_audited_one_without_reward_cannot():
    result = audit(Bare(0.0), 10)
    assert not result.gameable and "other tasks" in lines(result)[0] and "oracle" not in result.honest
    ceiling = audit(Bare(1.0), 10)
    assert ceiling.gameable and "chance earns the most that any reply did, 1" in lines(ceiling)[1]
    with pytest.raises(UserError, match="'bare' gives no reward"):
        audit(Bare(), 10)


def test_what_a_cheat_may_know_is_the_form():
    chain = Chain()
    task = chain.tasks("dev", 1)[0]
    known = Known(chain.guess, task)
    before, after, between = known.form
    assert (before, after) == (f"{chain.filler} #### ", "") and len(between) > 90
    assert set(known.answers) == {f"{before}{number}" for number in between}
    town = Known(Honest().guess, Honest().tasks("dev", 1)[0])
    assert sorted(town.form[2]) == sorted(capitals.TOWNS)
    assert right_replies(chain, [task]) == [chain.demonstration(task)[1].content]


# At the command line


def test_status_and_verdict(capsys):
    assert main(["audit", "sums", "--n", "40"]) == 0
    out = capsys.readouterr().out
    assert "sums: no cheat pays (n = 40 tasks" in out and "GAMEABLE" not in out
    assert all(f"  {cheat}" in out for cheat in CHEATS)
    assert main(["audit", "planted", "--n", "40"]) == 1
    out = capsys.readouterr().out
    assert all(f"{name}: GAMEABLE (n = 40 tasks" in out for name in HOLES)


def test_a_users_own_file(tmp_path, capsys):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from nanoschool.envs.planted.substring import Substring\nWORLD = Substring(name='mine')\n"
    )
    assert main(["audit", str(mine), "--n", "40"]) == 1
    assert "mine: GAMEABLE" in capsys.readouterr().out
    assert main(["audit", str(tmp_path / "none.py")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["audit", "sums", "--n", "0"]) == 2
    assert "--n is 0" in capsys.readouterr().err
