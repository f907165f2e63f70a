"""The lab without a model: scripted play, the catalogue, a person at the keyboard, and their commands."""

import io
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean

import pytest

from nanoschool import envs
from nanoschool.cli import main
from nanoschool.lab.catalogue import entry, table
from nanoschool.lab.play import play
from nanoschool.lab.scripted import (
    POLICIES,
    against,
    cut,
    estimate,
    guesser,
    oracle,
    perform,
    scores,
    tasks_of,
)
from nanoschool.types import Ask, Environment, Episode, Outcome, Reply, Task, TooFew, UserError


class Tally:
    """A world of two turns and two seats: each says a number, the higher one wins; a reward is given on the way."""

    name = "tally"
    replayable = True

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        if count > 3:
            raise TooFew("world tally: found only 3 tasks", 3)
        return [Task("tally", f"{split} {number}", {}) for number in range(count)]

    def play(self, task: Task) -> Episode:
        first = yield Ask("a number")
        second = yield Ask("a number", seat=1, stop=(".",))
        last = yield Ask("well?", reward=0.5)
        won = 1.0 if first.text > second.text else -1.0
        return Outcome((won, -won), feedback="the end", info={"last": last.text})


def says(*replies: str) -> Callable:
    return lambda ask, said: replies[len(said)]


# Scripted play


def test_rewards_on_the_way_are_added_to_the_seat_that_they_were_for():
    played = perform(Tally().play(Tally().tasks("dev", 1)[0]), says("3", "2. and more", "done"))
    assert played.replies == ("3", "2.", "done") and len(played.asks) == 3
    assert played.outcome.rewards == (1.0, -1.0) and played.rewards == (1.5, -1.0)


def test_a_reply_ends_with_the_first_stop_string():
    assert cut("a</calc> b; c", (";", "</calc>")) == Reply("a</calc>", "stop")
    assert cut("abc", (";",)) == Reply("abc", "end") == cut("abc", ())


def test_a_world_that_does_not_end_or_ends_wrongly_is_said():
    def forever() -> Episode:
        while True:
            yield Ask("again?")

    def wrong() -> Episode:
        yield Ask("?")
        return 1.0  # type: ignore[return-value]

    with pytest.raises(UserError, match="still asks after 1000 replies"):
        perform(forever(), lambda ask, said: "x")
    with pytest.raises(UserError, match=r"ended with 1\.0"):
        perform(wrong(), lambda ask, said: "x")


def test_each_seat_has_its_speaker():
    nim = envs.load("nim")
    for task in tasks_of(nim, "dev", 20):
        for seat in (0, 1):
            played = perform(nim.play(task), against(nim, task, lambda ask, said: "nonsense", seat))
            assert played.rewards is not None and played.rewards[seat] in (-1.0, 1.0)
            if "nonsense" in played.replies:
                assert played.rewards[seat] == -1.0 and played.asks[-1].seat == seat


def test_policies_are_ordered_as_they_must_be():
    for name in ("chain", "facts", "nim", "tictactoe"):
        env = envs.load(name)
        tasks = tasks_of(env, "test", 100)
        echo, chance, best = (fmean(scores(env, policy, tasks)) for policy in ("echo", "random", "oracle"))
        assert echo <= chance < best
        assert scores(env, "random", tasks, seed=1) == scores(env, "random", tasks, seed=1)
    assert set(POLICIES) == {"oracle", "random", "echo"}


def test_a_policy_that_the_world_cannot_serve_is_said():
    tally = Tally()
    task = tally.tasks("dev", 1)[0]
    for make, what in ((oracle, "has no oracle"), (guesser, "has no guesses")):
        with pytest.raises(UserError, match=what):
            make(tally, task)


def test_a_small_world_gives_what_it_has():
    assert len(tasks_of(Tally(), "dev", 2)) == 2
    assert [len(tasks_of(Tally(), "dev", count)) for count in (1, 3, 4, 5, 6, 7, 8, 100)] == [
        1,
        3,
        3,
        3,
        3,
        3,
        3,
        3,
    ]
    with pytest.raises(UserError, match="unknown split"):
        tasks_of(envs.load("chain"), "trian", 8)


def test_an_estimate_is_wilsons_where_all_is_0_or_1():
    assert estimate([0.0] * 50).high > 0.05
    assert estimate([0.5, 0.7]).mean == pytest.approx(0.6)


# The catalogue


def test_the_table_says_what_is_known():
    chain, nim = entry(envs.load("chain"), 40), entry(envs.load("nim"), 40)
    assert (chain.turns, chain.seats, chain.space, chain.bits) == ((1.0, 1), 1, (100, 100), 0.0)
    assert chain.oracle is not None and chain.oracle.mean == 1.0 and chain.oracle.n == 40
    assert nim.seats == 2 and nim.turns[0] > 1
    assert 0 < chain.seconds < 1
    hidden = entry(replace(envs.load("rules"), book=False, gaps=0), 40)
    assert hidden.bits == pytest.approx(12, abs=1.5)  # 3 bits for each of 3 to 5 keys
    facts = entry(envs.load("facts"), 200)
    assert facts.chance is not None and facts.chance.low < 1 / 16 < facts.chance.high
    head, *rows = table([chain, nim])
    assert head.split()[:4] == ["world", "turns", "seats", "answers"]
    assert [row.split()[0] for row in rows] == ["chain", "nim"] and len({len(row) for row in rows}) == 1
    with pytest.raises(UserError, match="nobody can play it"):
        entry(Tally(), 2)


# At the keyboard


def at_the_keyboard(env: Environment, count: int, *lines: str) -> tuple[list[float], str]:
    said: list[str] = []
    tasks = env.tasks("train", count)
    earned = play(env, tasks, iter([f"{line}\n" for line in lines]), said.append)
    return earned, "\n".join(said)


def test_a_person_sees_reward_and_feedback_and_may_ask_the_oracle():
    chain = envs.load("chain")
    right = chain.demonstration(chain.tasks("train", 1)[0])[1].content
    earned, said = at_the_keyboard(chain, 2, "?", f"?{right[:3]}", "?nonsense", right, "no idea")
    assert earned == [1.0, 0.0]
    assert said.count(f"best: {right}") == 2 and "wrong from character 0" in said
    assert "reward 1\n" in said and "mean reward 0.500 (n = 2)" in said
    rules = envs.load("rules")
    assert "feedback: wrong: nothing, right:" in at_the_keyboard(rules, 1, "x")[1]


@pytest.mark.parametrize("lines", [(), ("/quit",), ("begun \\",)])
def test_the_end_of_the_input_ends_the_game(lines):
    earned, said = at_the_keyboard(envs.load("chain"), 3, *lines)
    assert earned == [] and "reward" not in said


def test_an_empty_line_is_no_reply():
    chain = envs.load("chain")
    right = chain.demonstration(chain.tasks("train", 1)[0])[1].content
    earned, said = at_the_keyboard(chain, 1, "", "  ", right)
    assert earned == [1.0] and said.count("an empty line is no reply") == 2


@pytest.mark.parametrize("name", ["nim", "tictactoe", "connect3", "kuhn"])
def test_a_game_shows_the_form_of_a_reply_once(name):
    game = envs.load(name)
    said: list[str] = []
    tasks = game.tasks("train", 2)
    play(game, tasks, iter(["I pass\n"] * 9), said.append)
    forms = [line[len("(reply like: ") : -1] for line in said if line.startswith("(reply like: ")]
    assert len(forms) == 1
    outcome = perform(game.play(tasks[0]), lambda ask, replies: "?" if replies else forms[0]).outcome
    assert outcome.info["wellformed"] or outcome.rewards[0] > 0  # it is not what ended the game


def test_a_reply_of_several_lines():
    env = Tally()
    said: list[str] = []
    tally = iter(["1 \\\n", "2\n", "/quit\n"])
    spoken = []
    task = env.tasks("train", 1)[0]

    class Solo(Tally):
        def play(self, task: Task) -> Episode:
            reply = yield Ask("say")
            spoken.append(reply.text)
            return Outcome(None)

    assert play(Solo(), [task], tally, said.append) == []
    assert spoken == ["1 \n2"] and "no reward: this world does not score" in said


def test_a_game_shows_the_other_seats_moves():
    nim = envs.load("nim")
    task = nim.tasks("train", 1)[0]
    move = nim.oracle(task, []).best_replies[0]
    earned, said = at_the_keyboard(nim, 1, move, "give up")
    assert len(earned) == 1 and (earned[0] == -1.0 or "they: " not in said)
    assert re.search(r"they: \S", said) or earned == [1.0]


# The commands


def command(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(args) == 0
    return capsys.readouterr().out


def test_play_at_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("?\nfoo\n"))
    out = command(["play", "sums", "--n", "2"], capsys)
    assert "oracle: value 1" in out and "reward 0" in out and "n = 1" in out

    class Interrupting(io.StringIO):
        def __next__(self) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Interrupting())
    assert "--- sums 1" in command(["play", "sums"], capsys)


@pytest.mark.parametrize("policy", POLICIES)
def test_eval_of_a_policy_on_every_world(policy, capsys):
    out = command(["eval", "--policy", policy, "-n", "8"], capsys)
    assert [line.split()[0] for line in out.splitlines()] == envs.names()
    assert all(
        re.search(r"-?\d\.\d{3}  \[-?\d\.\d{3}, -?\d\.\d{3}\]  n=\d", line) for line in out.splitlines()
    )


def test_eval_of_the_oracle_is_at_its_maximum(capsys):
    out = command(["eval", "--policy", "oracle", "--env", "chain", "look", "nim", "-n", "100"], capsys)
    for line in out.splitlines():
        found = re.search(r" (-?\d\.\d{3})  \[.*V\*=(-?\d\.\d{3})", line)
        assert found and found[1] == found[2]


def test_a_small_world_is_taken_whole_and_says_so(tmp_path, capsys, monkeypatch):
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(f'{{"question": "{a}+1?", "answer": {a + 1}}}\n' for a in range(60)))
    sizes = {split: len(tasks) for split, tasks in envs.load(str(questions)).by_split.items()}  # type: ignore[attr-defined]
    commands = {
        ("eval", "--policy", "echo", "--env", str(questions)): ("test", 400),
        ("audit", str(questions)): ("test", 200),
        ("play", str(questions), "--split", "dev", "--n", "30"): ("dev", 30),
    }
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    for args, (split, asked) in commands.items():
        assert main(list(args)) == 0
        said = f"nanoschool: {questions} has {sizes[split]} {split} problems, not {asked}: all are taken\n"
        assert capsys.readouterr().err == said
    questions.write_text('{"question": "1+1?", "answer": 2}\n' * 3)
    for args in commands:
        assert main(list(args)) == 2
        err = capsys.readouterr().err
        assert "question among 1" in err and "write about 50 lines, or give a folder with train.jsonl" in err


def test_envs_lists_every_world_without_torch():
    code = "import sys; from nanoschool.cli import main; main(['envs', '--n', '8']); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    lines = out.splitlines()
    assert lines[-1] == "False" and [line.split()[0] for line in lines[1:-1]] == envs.names()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["eval", "--policy", "orcale"], "--policy"),
        (["eval", "--policy", "oracle", "--env", "chian"], "did you mean 'chain'?"),
        (["eval", "--policy", "oracle", "-n", "0"], "--n is 0"),
        (["eval", "laptop", "--policy", "oracle", "--env", "chain"], "leave out run 'laptop'"),
        (["eval", "--policy", "oracle", "--stage", "sft", "--env", "chain"], "leave out --stage sft"),
        (["eval", "--policy", "oracle", "--temperature", "1"], "leave out --temperature 1.0"),
        (["eval", "laptop", "--samples", "4"], "--samples is 4"),
        (["eval", "laptop", "--samples", "0", "--temperature", "1"], "--samples is 0"),
        (["eval", "laptop", "--temperature", "nan"], "--temperature is nan"),
        (["play", "chian"], "did you mean 'chain'?"),
        (["play"], "which env?"),
        (["play", "chain", "--n", "0"], "--n is 0"),
        (["play", "chain", "--split", "trian"], "unknown split 'trian'"),
        (["play", "chain", "--seat", "1"], "has no seat 1, only 0 to 0"),
        (["envs", "--n", "0"], "--n is 0"),
        (["audit"], "which env?"),
    ],
)
def test_mistakes(args, said, capsys):
    assert main(args) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
