"""Rollout: worlds meet minds. Tool turns, seats, prefixes and forks, and that how it is computed changes nothing."""

import copy
from dataclasses import dataclass, replace
from functools import cache

import pytest
from tiny import Calculator, scored, tiny, tokenizer

from nanoschool.core.batch import Batch
from nanoschool.core.chat import render
from nanoschool.core.optim import adamw
from nanoschool.core.policy import Policy
from nanoschool.rollout import rollout, stable_hash
from nanoschool.types import Ask, Episode, Message, Outcome, Reply, Task, Trajectory, UserError

WORLD = Calculator()
TASKS = WORLD.tasks("train", 16)


@cache
def calculator() -> Policy:
    """A tiny policy that has learned by heart to call the tool, and to say what it is told."""
    policy, rows = tiny(gain=0.1), []
    for task in TASKS:
        tokens, mask = render(tokenizer(), WORLD.demonstration(task))
        rows.append(Trajectory(tokens, mask, [0.0] * len(tokens), [float(learned) for learned in mask]))
    policy.optimizer = adamw(policy.model, 4e-3, (0.9, 0.95))
    for step in range(80):
        policy.fit(rows, scale=1 - step / 80)
    return policy


def play(policy: Policy | None = None, env=WORLD, tasks=TASKS, **how) -> list[Trajectory]:
    return rollout(policy or calculator(), env, tasks, **how)


def test_a_tool_turn_from_end_to_end():
    before = calculator().ledger.total()
    attempts = play(temperature=0.0)
    for task, attempt in zip(TASKS, attempts, strict=True):
        total = str(task.data["a"] + task.data["b"])
        assert attempt.replies == [f"<calc>{task.problem}</calc>", total]
        assert attempt.rewards == 1.25 and attempt.stop_reason == "end", "the ask's reward is added"
        assert attempt.task is task and attempt.info == {"wellformed": True} and attempt.seat == 0
        # Sampled tokens are never encoded again, but where they are the usual ones they are what `render` gives.
        tokens, mask = render(tokenizer(), WORLD.demonstration(task))
        assert (attempt.tokens, attempt.mask) == (tokens, mask)
        assert len(attempt.weights) == len(attempt.extra["entropy"]) == len(tokens) and not any(
            attempt.weights
        )
    spent = calculator().ledger.total() - before
    assert spent.rollouts == 16 and spent.sampled == sum(sum(a.mask) for a in attempts) and spent.trained == 0


def test_log_probabilities_of_all_turns_are_the_trainers():
    attempts = play(samples=6, temperature=1.3, seed=3)
    batch = Batch.of(attempts)
    assert (scored(calculator(), attempts, 1.3) - batch.logprobs).abs().max() < 1e-4
    assert any(a.rewards != 1.25 for a in attempts) and any(a.feedback == "ask the tool" for a in attempts)


def test_the_order_is_task_then_sample_and_samples_differ():
    attempts = play(tasks=TASKS[:5], samples=4, temperature=2.0, seed=1)
    assert [a.group for a in attempts] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert all(a.task is TASKS[a.group] for a in attempts)
    assert len({tuple(a.tokens) for a in attempts}) > 15
    assert play(tasks=TASKS[:5], samples=4, temperature=2.0, seed=1) == attempts
    assert play(tasks=TASKS[:5], samples=4, temperature=2.0, seed=2) != attempts
    assert play(tasks=[]) == []


def alike(one: list[Trajectory], other: list[Trajectory]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.tokens, a.mask, a.replies, a.group) == (b.tokens, b.mask, b.replies, b.group)
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


@pytest.mark.parametrize("rows", [1, 6, 13])
def test_how_many_are_live_at_once_changes_nothing(rows):
    alike(play(samples=4, seed=5), play(samples=4, seed=5, rows=rows))


@dataclass(frozen=True)
class Unreplayable(Calculator):
    replayable: bool = False


def test_a_group_that_shares_its_prompt_is_as_one_that_does_not():
    calculator().ledger.accounts.clear()
    shared = play(samples=4, seed=5)
    paid = calculator().ledger.total()
    apart = play(env=Unreplayable(), samples=4, seed=5)
    alike(shared, apart)
    paid_apart = calculator().ledger.total() - paid
    prompt = shared[0].mask.index(True)
    assert paid.sampled == paid_apart.sampled
    assert paid_apart.tokens - paid.tokens == 16 * 3 * (prompt - 1), "three of four read the prompt once more"


def test_a_prefix_is_replayed_into_the_whole_conversation():
    task = TASKS[3]
    prefix = [f"<calc>{task.problem}</calc>"]
    (whole,) = play(tasks=[task], temperature=0.0)
    (forked,) = play(tasks=[task], temperature=0.0, prefix=prefix)
    assert forked.tokens == whole.tokens and forked.replies == whole.replies and forked.rewards == 1.25
    (other,) = play(tasks=[task], temperature=0.0, prefix=["nonsense"])
    assert other.rewards == 0.0 or other.rewards == 1.0
    assert other.replies[0] == "nonsense" and tokenizer().decode(other.tokens).startswith(
        f"{task.problem}=?nonsenseno"
    )
    last = forked.mask.index(True)
    assert forked.mask[last:] == whole.mask[last:] and not any(forked.mask[:last])
    with pytest.raises(UserError, match="more replies than task '2\\+2' of calculator asks for"):
        play(tasks=[task], prefix=[*prefix, "5", "more"])


def test_a_fork_inside_a_reply():
    """What was said already is in the tokens and the reply, but was not sampled here; the limit counts it."""
    task = TASKS[6]
    (whole,) = play(tasks=[task], temperature=0.0)
    first = whole.mask.index(True)
    partial = whole.tokens[first : first + 7]
    (forked,) = play(tasks=[task], temperature=0.0, partial=partial)
    assert forked.tokens == whole.tokens and forked.replies == whole.replies and forked.rewards == 1.25
    assert forked.mask == [False] * (first + 7) + whole.mask[first + 7 :]
    assert forked.logprobs[: first + 7] == [0.0] * (first + 7)
    (cut,) = play(tasks=[task], temperature=0.0, partial=partial, max_tokens=9)
    assert cut.mask.index(True) == first + 7 and sum(cut.mask[: first + 12]) == 2
    answer = tokenizer().encode(whole.replies[1])
    (later,) = play(tasks=[task], temperature=0.0, prefix=whole.replies[:1], partial=answer)
    assert later.tokens == whole.tokens and sum(later.mask) == 1 and later.replies == whole.replies
    with pytest.raises(UserError, match="room for one"):
        play(tasks=[task], partial=partial, max_tokens=7)


@pytest.mark.parametrize("how", [{"prefix": ["x"]}, {"partial": [65]}])
def test_a_world_that_cannot_be_replayed_is_not_forked(how):
    with pytest.raises(UserError, match="'calculator' cannot be replayed"):
        play(env=Unreplayable(), **how)


def test_no_samples_is_a_mistake():
    with pytest.raises(UserError, match="at least 1"):
        play(samples=0)


# -- seats -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Duel:
    """Two seats speak in turn, `rounds` times each; each hears what the other said. Rewards and asks tell them apart."""

    rounds: int = 2
    name: str = "duel"
    replayable: bool = True

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        return [Task(self.name, str(i), {}) for i in range(count)]

    def play(self, task: Task) -> Episode:
        said, heard = [], f"begin {task.problem}"
        for _ in range(self.rounds):
            for seat in (0, 1):
                reply = yield Ask(f"{heard}", seat=seat, max_tokens=4, reward=0.5 * seat)
                heard = f"{seat} said {len(reply.text)}"
                said.append(reply)
        return Outcome(
            (1.0, -1.0), info={"said": [r.text for r in said], "why": [r.stop_reason for r in said]}
        )


def test_self_play_gives_each_seat_its_own_conversation():
    policy, env = tiny(), Duel()
    attempts = rollout(policy, env, env.tasks("train", 3), samples=2, seed=1)
    assert [(a.group, a.seat) for a in attempts] == [
        (g, s) for g in range(3) for _ in range(2) for s in (0, 1)
    ]
    for first, second in zip(attempts[::2], attempts[1::2], strict=True):
        assert first.rewards == 1.0 and second.rewards == -1.0 + 2 * 0.5
        turns = first.replies[0], second.replies[0], first.replies[1], second.replies[1]
        assert first.info["said"] == list(turns) == second.info["said"]
        heard = tokenizer().decode(second.tokens[: second.mask.index(True)])
        assert heard == f"0 said {len(turns[0])}"
    assert (scored(policy, attempts) - Batch.of(attempts).logprobs).abs().max() < 1e-4


def test_an_opponent_holds_a_seat():
    policy, env, heard = tiny(), Duel(), []

    def opponent(ask: Ask) -> Reply:
        heard.append(ask.text)
        return Reply("x" * len(heard), "end")

    attempts = rollout(policy, env, env.tasks("train", 1), seed=1, opponents={0: opponent})
    assert [a.seat for a in attempts] == [1] and attempts[0].info["said"][::2] == ["x", "xx"]
    assert heard == ["begin 0", f"1 said {len(attempts[0].replies[0])}"]
    shown = tokenizer().decode(attempts[0].tokens)
    assert shown.startswith("0 said 1") and "0 said 2" in shown


def test_a_prefix_goes_to_the_seats_in_their_order():
    policy, env = tiny(), Duel(rounds=3)
    tasks = env.tasks("train", 1)
    first, second = rollout(policy, env, tasks, prefix=["aa", "b", "ccc"], seed=2)
    assert first.replies[:2] == ["aa", "ccc"] and len(first.replies) == 3
    assert second.replies[0] == "b" and len(second.replies) == 3
    told = [Message("user", "0 said 2"), Message("assistant", "b"), Message("user", "0 said 3")]
    tokens, _ = render(tokenizer(), told, generate=True)
    assert second.tokens[: len(tokens)] == tokens and second.mask.index(True) == len(tokens)
    told = [Message("user", "begin 0"), Message("assistant", "aa"), Message("user", "1 said 1")]
    tokens, _ = render(tokenizer(), [*told, Message("assistant", "ccc")])
    assert first.tokens[: len(tokens)] == tokens
    (last,) = rollout(policy, env, tasks, prefix=["aa", "b", "ccc", "d", "e"], seed=2)
    assert last.seat == 1, "seat 0 has nothing left to say"


def test_only_the_first_turn_begins_inside_a_reply():
    policy, env = tiny(), Duel(rounds=1)
    partial = tokenizer().encode("zz")
    first, second = rollout(policy, env, env.tasks("train", 1), partial=partial, seed=2)
    assert first.replies[0].startswith("zz") and not second.replies[0].startswith("zz")
    assert len(second.mask) - second.mask.index(True) <= 4 and all(second.mask[second.mask.index(True) :])


# -- the rest of the contract ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Endless(Duel):
    """Asks for `rounds` long replies of one seat, and tells how each ended."""

    rounds: int = 6

    def play(self, task: Task) -> Episode:
        why, text = [], "go on " * 4
        for turn in range(self.rounds):
            reply = yield Ask(text if turn != 3 else "0", stop=("\x00\x01",))
            why.append((reply.stop_reason, reply.text))
        return Outcome(None, info={"why": why})


def test_a_full_context_is_told_to_the_world_and_stays_full():
    policy = tiny(context=48)
    env = Endless()
    (attempt,) = rollout(policy, env, env.tasks("train", 1), max_tokens=20, seed=1)
    reasons = [reason for reason, _ in attempt.info["why"]]
    room = attempt.replies.index("")
    assert 0 < room < 4 and reasons[-1] == "length" and len(attempt.tokens) <= 48
    assert attempt.replies[room:] == [""] * (6 - room), "a later, shorter ask is not put after one left out"
    assert attempt.stop_reason == "length" and attempt.rewards is None
    with pytest.raises(UserError, match="conversation too long"):
        rollout(tiny(context=16), env, env.tasks("train", 1))


def test_raw_text_has_no_marks():
    policy, env, told = tiny(), Duel(), []

    def complete(task: Task) -> Episode:
        first = yield Ask("a=3; b=", role="text", stop=("\n",), max_tokens=3)
        yield Ask("\nc=", role="text", max_tokens=2)
        told.append(first)
        return Outcome((0.0,))

    tasks = env.tasks("train", 1)
    (attempt,) = rollout(policy, env, tasks, play=complete, seed=3)
    tok = tokenizer()
    given = [t for t, sampled in zip(attempt.tokens, attempt.mask, strict=True) if not sampled]
    assert given == [tok.bos, *tok.encode("a=3; b="), *tok.encode("\nc=")]
    (forked,) = rollout(policy, env, tasks, play=complete, prefix=["7"], seed=3)
    assert forked.tokens[: forked.mask.index(True)] == [
        tok.bos,
        *(tok.encode("a=3; b=") + tok.encode("7") + tok.encode("\nc=")),
    ]
    assert told[1] == Reply("7", "end")


def test_notes_stand_before_the_conversation():
    policy = tiny()
    policy.prompt = "be brief"
    env = Duel(rounds=1)
    (attempt, _) = rollout(policy, env, env.tasks("train", 1))
    tokens, _ = render(
        tokenizer(), [Message("system", "be brief"), Message("user", "begin 0")], generate=True
    )
    assert attempt.tokens[: len(tokens)] == tokens


def test_a_draw_depends_on_task_sample_and_seed_alone():
    alone = play(tasks=TASKS[4:5], samples=2, temperature=2.0, seed=8)
    beside = play(tasks=TASKS, samples=2, temperature=2.0, seed=8)[8:10]
    alike([replace(a, group=4) for a in alone], beside)
    assert stable_hash("a") == stable_hash("a") != stable_hash("b") and 0 <= stable_hash("a") < 2**63


def test_a_rollout_leaves_the_weights_alone():
    policy = tiny()
    before = copy.deepcopy(policy.model.state_dict())
    env = Duel()
    rollout(policy, env, env.tasks("train", 2))
    assert all((policy.model.state_dict()[name] == value).all() for name, value in before.items())
