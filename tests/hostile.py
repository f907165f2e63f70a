"""Replies that a world must bear: any Unicode, up to 100 kB, and right replies spoilt; and what it must still hold to."""

import json
import math
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from random import Random

from nanoschool.lab.scripted import Played, oracle, perform
from nanoschool.types import Ask, Environment, HasCompletions, HasOracle, HasSteps, Oracle, Task

LONGEST = 100_000
NONSENSE = (
    "",
    " ",
    "1e309",
    "NaN",
    "#### ",
    "#### " + "9" * 5000,
    "9" * LONGEST,
    "-" * LONGEST,
    "(" * LONGEST,
    "<" * LONGEST,
    "b=3+4=7; " * 11_000,
    "b=3+4=" + "1" * 99_000 + " #### 7",
    "tam: " + "a k, " * 19_000,
    "٣+٤=٧ #### ٧",
    "So b=" * 19_000 + "So b=٧",
    "\x00\ud800𝒳\u202e\u200d",
    " \n" * 50_000,
    "the the the",
    '{"reward": 1}',
    "</calc></look>",
)
ALPHABETS = (
    "abc=+-*;# 0123456789",
    "tam: KQno,<>/()[]{}|'\"\\\n\t",
    "٠٣۷७３９²⅓ⅷ𝟟",
    "\x00\x1f\x7f\ud800\udfff\u202e\u200b\u200d\ufeff\U0010ffff",
    "éß漢字🙂\u0301İı",
)


def hostile(rng: Random, right: str, asked: str) -> str:
    """One of many kinds: short noise, long noise, the question, a right reply repeated or with a few characters spoilt."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(NONSENSE)
    if kind == 1:
        return "".join(rng.choices(rng.choice(ALPHABETS), k=rng.randint(0, 60)))
    if kind == 2:
        piece = rng.choice((right, asked, "".join(rng.choices(rng.choice(ALPHABETS), k=9)), right[:3])) or "0"
        length = rng.choice((100, 1000, 10_000, LONGEST)) if rng.random() < 0.05 else 200
        return (piece * (length // len(piece) + 1))[:length]
    if kind == 3:
        return asked
    return spoilt(rng, right)


def hostile_play(rng: Random, env: Environment, task: Task) -> list[str]:
    """Replies to a task: perfect play up to some turn, where there is an oracle, and then one or two hostile ones."""
    begun: tuple[str, ...] = ()
    if isinstance(env, HasOracle):
        begun = perform(env.play(task), oracle(env, task)).replies
    at = rng.randrange(len(begun)) if begun else 0
    right = begun[at] if begun else "0"
    asked = next(env.play(task)).text
    return [*begun[:at], *(hostile(rng, right, asked) for _ in range(rng.randint(1, 2)))]


def spoilt(rng: Random, right: str) -> str:
    text = list(right[: rng.randint(0, len(right))] if rng.random() < 0.3 else right)
    for _ in range(rng.randint(0, 3)):
        at = rng.randint(0, len(text))
        text[at : at + rng.randint(0, 2)] = rng.choice(("", *rng.choice(ALPHABETS)))
    return "".join(text)


def bear(env: Environment, task: Task, replies: Sequence[str]) -> Played:
    """Play the replies, the last repeated; whatever they are, the world must hold to its contract."""
    before = deepcopy(task.data)
    played = perform(env.play(task), lambda ask, said: replies[min(len(said), len(replies) - 1)])
    holds(played)
    if isinstance(env, HasCompletions):
        for form in env.formats:
            in_text = perform(
                env.complete(task, form), lambda ask, said: replies[min(len(said), len(replies) - 1)]
            )
            assert all(ask.role == "text" and any("\n" in mark for mark in ask.stop) for ask in in_text.asks)
            holds(in_text)
    if isinstance(env, HasOracle):
        sound(env.oracle(task, [], replies[0]))
        sound(env.oracle(task, played.replies[:-1], replies[-1]))
        sound(env.oracle(task, played.replies))
    if isinstance(env, HasSteps):
        offsets = env.steps(replies[0])
        assert all(a < b for a, b in pairwise(offsets))
        assert not offsets or (offsets[0] >= 0 and offsets[-1] <= len(replies[0]))
    assert task.data == before
    return played


def holds(played: Played) -> None:
    """An episode's asks can be put to a model, its outcome can be learned from and be written into a file."""
    rewards, outcome = played.rewards, played.outcome
    seats = len(rewards) if rewards is not None else 1
    for ask in played.asks:
        assert isinstance(ask, Ask) and isinstance(ask.text, str)
        assert ask.role in ("user", "tool", "text") and 0 <= ask.seat < seats
        assert all(ask.stop) and (ask.max_tokens is None or ask.max_tokens > 0)
    low = 0.0 if seats == 1 else -1.0
    assert rewards is None or all(math.isfinite(reward) and low <= reward <= 1.0 for reward in rewards)
    assert isinstance(outcome.feedback, str)
    json.dumps(dict(outcome.info), allow_nan=False)


def sound(oracle: Oracle) -> None:
    assert -1.0 <= oracle.value <= 1.0 and 0.0 <= oracle.entropy_bits < math.inf
    assert oracle.first_error is None or oracle.first_error >= 0
