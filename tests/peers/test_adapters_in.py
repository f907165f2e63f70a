"""Other people's worlds through our adapters: the same replies give the same episode, and nothing leaks."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted import perform, score

from nanoschool import envs
from nanoschool.types import Reply, UserError

pytestmark = pytest.mark.peers


def needs(module: str):
    return pytest.importorskip(module, reason=f"{module} is absent; `make peers` installs it")


# TextArena

GAMES = (
    "TicTacToe-v0",
    "Nim-v0",
    "KuhnPoker-v0",
    "ConnectFour-v0",
    "GuessTheNumber-v0",
    "Minesweeper-v0-small",
    "Sokoban-v0",
)


@pytest.mark.parametrize("game", GAMES)
def test_a_game_is_a_function_of_its_seed_and_its_replies(game):
    needs("textarena")
    world = envs.load(f"ta:{game}")
    random.seed(5)
    before = random.getstate()
    for task in world.tasks("test", 3):
        replies = ["[0]", "[1 1]", "[check]", "[up]", "[4]", "[reveal 0 0]"]
        first = perform(world.play(task), replies)
        random.random()
        assert perform(world.play(task), replies) == first
        assert len(first[1].rewards) == world.seats and all(
            -1.0 <= reward <= 1.0 for reward in first[1].rewards
        )
    random.setstate(before)
    perform(world.play(world.tasks("test", 1)[0]), ["[0]"])
    assert random.getstate() == before


def test_episodes_side_by_side_do_not_disturb_each_other():
    needs("textarena")
    world = envs.load("ta:KuhnPoker-v0")
    tasks = world.tasks("train", 6)
    alone = [perform(world.play(task), ["[check]"]) for task in tasks]
    episodes = [world.play(task) for task in tasks]
    heard = [[next(episode)] for episode in episodes]
    ended = {}
    while len(ended) < len(episodes):
        for at, episode in enumerate(episodes):
            if at not in ended:
                try:
                    heard[at].append(episode.send(Reply("[check]")))
                except StopIteration as end:
                    ended[at] = end.value
    assert [(heard[at], ended[at]) for at in range(len(tasks))] == alone


def test_tictactoe_is_won_and_lost_by_two_seats():
    needs("textarena")
    world = envs.load("ta:TicTacToe-v0")
    task = world.tasks("train", 1)[0]
    asks, outcome = perform(
        world.play(task), ["[0]", "3", "[1]", "[4]", "[2]"]
    )  # brackets are put where none are
    assert [ask.seat for ask in asks] == [0, 1, 0, 1, 0] and outcome.rewards == (1.0, -1.0)
    assert "Player 0: [1]" in asks[3].text and "You are Player" not in asks[3].text  # only what is new
    lost = perform(world.play(task), ["\ud800" + "x" * 100_000])[1]
    assert lost.rewards == (-1.0, 1.0) and lost.info["invalid"] == [0]


def test_a_game_that_is_not_there():
    needs("textarena")
    with pytest.raises(UserError, match=r"did you mean 'ta:TicTacToe-v0'"):
        envs.load("ta:TicTacTo-v0")


# Gymnasium


def test_frozen_lake_is_walked_in_words():
    needs("gymnasium")
    from nanoschool.envs.adapters.gym import Gymnasium

    world = Gymnasium("FrozenLake-v1", {"is_slippery": False})
    task = world.tasks("test", 1)[0]
    asks, outcome = perform(world.play(task), ["1", "1", "go right!", "2", "2", "1", "2"])
    assert asks[0].text == "[S]FFF\nFHFH\nFFFH\nHFFG\nAction 0 to 3?" and asks[3].text == "Action 0 to 3?"
    assert outcome.rewards == (1.0,) and world.replayable
    assert perform(world.play(task), ["1", "1", "2", "1", "0"])[1].rewards == (0.0,)


def test_steps_are_paid_where_they_were_taken():
    needs("gymnasium")
    world = envs.load("gym:Taxi-v4")
    task = world.tasks("test", 1)[0]
    asks, outcome = perform(world.play(task), ["0"])
    assert {ask.reward for ask in asks[1:]} == {-1.0} and outcome.info["truncated"]
    assert perform(world.play(task), ["9" * 100_000, "\ud800"])[1].rewards == (0.0,)


def test_what_cannot_be_put_in_words_is_refused():
    needs("gymnasium")
    with pytest.raises(UserError, match="gym:CartPole-v1: shows Box"):
        envs.load("gym:CartPole-v1")
    with pytest.raises(UserError, match=r"gym:Nowhere-v0: .*Gymnasium"):
        envs.load("gym:Nowhere-v0")


# verifiers

SUMS = """
import verifiers.v1 as vf

class Sum(vf.TaskData):
    answer: str

class SumTask(vf.Task[Sum, vf.State, vf.TaskConfig]):
    @vf.reward
    async def right(self, trace) -> float:
        return float(trace.assistant_messages[-1].content.strip() == self.data.answer)

    @vf.reward(weight=0.5)
    async def short(self, trace) -> float:
        return float(len(trace.assistant_messages[-1].content) < 5)

class Sums(vf.Taskset[SumTask, vf.TasksetConfig]):
    def load(self):
        for a in range(100):
            yield SumTask(Sum(prompt=f"{a}+1=?", answer=str(a + 1), system_prompt="Add."), self.config.task)

__all__ = ["Sums"]
"""


def test_a_verifiers_taskset_is_scored_by_its_own_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    needs("verifiers.v1")
    (tmp_path / "sums_of_theirs.py").write_text(SUMS)
    monkeypatch.syspath_prepend(tmp_path)
    world = envs.load("vf:sums_of_theirs")
    splits = {split: world.tasks(split, 3) for split in ("train", "dev", "test")}
    assert len({task.problem for tasks in splits.values() for task in tasks}) == 9
    for task in splits["train"]:
        asked = next(world.play(task)).text
        right = str(int(asked.removeprefix("Add.\n\n").removesuffix("+1=?")) + 1)
        assert score(world, task, right) == 1.5 and score(world, task, f"   {right}   ") == 1.0
        assert score(world, task, "\ud800") == 0.5
    with pytest.raises(UserError, match=r"vf:not_installed_here.*not found"):
        envs.load("vf:not_installed_here")


# OpenEnv, in and out


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Our chains behind a server of theirs."""
    needs("openenv.core")
    import uvicorn

    from nanoschool.envs.adapters.to_openenv import app

    server = uvicorn.Server(uvicorn.Config(app(envs.load("chain"), count=20), port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(600):
        if server.started:
            break
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def test_our_world_comes_back_from_an_openenv_server(address):
    served, chain = envs.load(f"openenv:{address}"), envs.load("chain")
    assert not served.replayable
    for task in served.tasks("test", 3):
        mine = chain.tasks("train", 20)[task.data["seed"] % 20]
        asked, shown = chain.demonstration(mine)
        assert next(served.play(task)).text == asked.content
        assert score(served, task, shown.content) == 1.0
        assert score(served, task, "\ud800" + "x" * 100_000) == 0.0


def test_turns_and_their_pay_cross_the_wire():
    needs("openenv.core")
    from nanoschool.envs.adapters.to_openenv import environment

    world = envs.load("desk")
    made, say, _ = environment(world, count=3)
    theirs = made()
    task = world.tasks("train", 3)[1]
    replies = [message.content for message in world.demonstration(task) if message.role == "assistant"]
    heard = theirs.reset(seed=1)
    asks, outcome = perform(world.play(task), replies)
    total = heard.reward
    for at, reply in enumerate(replies):
        assert heard.text == asks[at].text and not heard.done
        heard = theirs.step(say(text=reply))
        total += heard.reward
    assert heard.done and theirs.state.step_count == len(replies) > 1
    assert total == sum(ask.reward for ask in asks) + outcome.rewards[0]


def test_a_server_that_does_not_answer():
    needs("openenv.core")
    with pytest.raises(UserError, match=r"openenv:http://127.0.0.1:1: .*start the server"):
        envs.load("openenv:http://127.0.0.1:1")
