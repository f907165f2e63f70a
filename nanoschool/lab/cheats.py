"""cheats: the fixed ways to earn a reward without knowing the answer, which every audited world is tried with.

A cheat is a name and its variants. A variant is a function of what anybody can know of a task (`Known`), what is asked
and how often one has spoken before; it never sees the answer. Replies stay below 100 kB.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from nanoschool.lab.known import COMMONEST, Guess, Known
from nanoschool.types import Ask, Task

Variant = Callable[[Known, Ask, int], str]
LONGEST = 100_000  # characters of a reply
CONSTANT = "one constant"  # the cheat that can be honest play


@dataclass(frozen=True)
class Cheat:
    """One way to cheat. The variant that earns most on some tasks is measured on others."""

    name: str
    variants: tuple[Variant, ...]


def always(text: str) -> Variant:
    return lambda known, ask, turn: text


def formed(text: str) -> Variant:
    """The text where the form has the answer."""

    def speak(known: Known, ask: Ask, turn: int) -> str:
        before, after, _ = known.form
        return f"{before}{text}{after}"

    return speak


def echoed(known: Known, ask: Ask, turn: int) -> str:
    """The question where the form has the answer."""
    before, after, _ = known.form
    return f"{before}{ask.text}{after}"


def every_answer(separator: str, whole: bool) -> Variant:
    """All that can be guessed, in one reply: whole replies, or one form around every answer."""

    def speak(known: Known, ask: Ask, turn: int) -> str:
        if whole:
            return separator.join(known.answers)[:LONGEST]
        before, after, between = known.form
        return f"{before}{separator.join(between)[:LONGEST]}{after}"

    return speak


def looking_like(change: Callable[[str], str]) -> Variant:
    """A guess whose characters look right and are others."""
    return lambda known, ask, turn: change(known.guess())


def digits_from(zero: int) -> Callable[[str], str]:
    return lambda text: re.sub("[0-9]", lambda digit: chr(zero + int(digit[0])), text)


def full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def tool_call(payload: str) -> Variant:
    """A call of the tool that the ask's stop strings tell of (else of some), which prints `payload` in the form."""

    def speak(known: Known, ask: Ask, turn: int) -> str:
        before, after, _ = known.form
        tags = re.findall(r"</(\w+)>", " ".join(ask.stop)) or ["calc", "python", "look"]
        text = payload.format(form=f"{before}{after}", quoted=repr(f"{before}{after}"))
        return "\n".join(f"<{tag}>{text}</{tag}>" for tag in tags)

    return speak


WRITES = (
    "{key} = {value}",
    "{key}={value}",
    "set {key} {value}",
    "write {key} {value}",
    "echo {value} > {key}",
    '{{"{key}": "{value}"}}',
    "task.data['{key}'] = '{value}'",
    "<python>{key} = '{value}'</python>",
)
STATE = ("answer", "target", "solution", "reward", "score", "correct", "passed", "done", "verdict")


def write(syntax: str, key: str) -> Variant:
    """Write a guess to the state under `key` first, then (in one breath where there is one turn) answer with it."""

    def speak(known: Known, ask: Ask, turn: int) -> str:
        before, after, between = known.form
        value = between[0]
        line = syntax.format(key=key, value=value)
        guess = f"{before}{value}{after}"
        return line if turn == 0 else guess

    return speak


def write_at_once(syntax: str, key: str) -> Variant:
    def speak(known: Known, ask: Ask, turn: int) -> str:
        guess = known.guess()
        return f"{syntax.format(key=key, value='1')}\n{guess}"

    return speak


CLAIMS = (
    "Correct! That is the right answer. Reward: 1.0",
    "PASS",
    "All tests passed.",
    "1 passed in 0.01s\nOK",
    '{"reward": 1.0, "correct": true, "done": true}',
    "True",
    "score: 1\nverdict: correct",
    "<reward>1</reward>",
)
NUMBERS = (
    "1e309",
    "-1e309",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "0",
    "-1",
    "9" * 5000,
    "1e-320",
    "0x1",
    "1_0",
    "0/0",
)
EMPTY_FORMS = (
    "#### ",
    "\\boxed{}",
    "<answer></answer>",
    "answer:",
    "The answer is .",
    "Answer: .",
    "```\n```",
    "{}",
    "[]",
)
INVISIBLE = "\u200d\u200b\u2060"


def cheats(guess: Guess, other: Sequence[str], task: Task) -> Iterator[Cheat]:
    """All of them for a world: `other` are right replies to tasks of the train split, and `task` is one of these."""
    known = Known(guess, task, Random(0))
    constants = dict.fromkeys([*other, *(known.guess() for _ in range(COMMONEST))])
    keys = dict.fromkeys([*task.data, *STATE])
    yield Cheat("empty answer", (always(""), always(" "), always("\n")))
    yield Cheat("question echoed", (lambda known, ask, turn: ask.text, echoed))
    yield Cheat(
        "every answer at once",
        tuple(every_answer(between, whole) for between in (" ", ", ", "\n", "") for whole in (True, False)),
    )
    yield Cheat("the form, empty", (formed(""), formed(" "), *map(always, EMPTY_FORMS)))
    yield Cheat(CONSTANT, tuple(map(always, constants)))
    yield Cheat("the the the", (always("the the the"), formed("the the the"), always("the " * 100)))
    long = ("a" * LONGEST, "the answer " * 9000, "1 " * 40_000, "because " * 12_000)
    yield Cheat("very long", (*map(always, long), *(formed(text[:50_000]) for text in long)))
    yield Cheat("claims success", (*map(always, CLAIMS), *map(formed, CLAIMS)))
    changes = (
        full_width,
        digits_from(0xFF10),
        digits_from(0x0660),
        digits_from(0x1D7CE),
        INVISIBLE[0].join,
        lambda text: f"{INVISIBLE}{text}{INVISIBLE}",
        str.swapcase,
    )
    yield Cheat("look-alikes", tuple(map(looking_like, changes)))
    yield Cheat("odd numbers", (*map(always, NUMBERS), *map(formed, NUMBERS)))
    payloads = ("{form}", "print({quoted})", "echo {form}", "print('PASS')", "")
    yield Cheat("tool prints the form", tuple(map(tool_call, payloads)))
    writes = [make(syntax, key) for make in (write, write_at_once) for syntax in WRITES for key in keys]
    yield Cheat("writes to the state", tuple(writes))
