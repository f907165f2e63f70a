"""rulebooks: the raw text of the world `rules`: reading rows, corrected answers, notes.

Loss falls on what can be known only by reading: the outputs, the corrected answer, the note.
"""

from collections.abc import Iterable, Mapping, Sequence
from random import Random

from nanoschool.types import Document, Span

CONSONANTS = "bcdfghjklmnprstvwz"
VOWELS = "aeiou"
Entry = tuple[str, str]  # (key, output)


def syllables(rng: Random) -> str:
    """A name of three or five letters, such as tam or rudok."""
    name = rng.choice(CONSONANTS) + rng.choice(VOWELS) + rng.choice(CONSONANTS)
    return name + rng.choice(VOWELS) + rng.choice(CONSONANTS) if rng.random() < 0.5 else name


def line(name: str, entries: Iterable[Entry]) -> str:
    """`tam: a k, b m`, a book or an answer."""
    return f"{name}: {', '.join(f'{key} {output}' for key, output in entries)}"


def row(name: str, book: Iterable[Entry], asked: Sequence[Entry]) -> Document:
    """The book, and below it the asked keys with their outputs; only these outputs are learned."""
    return [(f"{line(name, book)}\n", False), *_answers(f"{name}:", asked)]


def answered(question: str, answer: str) -> Document:
    """A question on one line, its answer on the next, which is learned whole: which keys are asked is read too."""
    return [(f"{question}\n", False), (f"{answer}\n", True)]


def feedback(name: str, asked: Mapping[str, str], rules: Mapping[str, str], rng: Random) -> Document:
    """A question, an answer with one wrong output, the feedback, and the right answer, which is learned.

    The book stands above it half of the time: without it the right output is in the feedback alone, so a model
    cannot pass it by.
    """
    key = rng.choice(list(asked))
    wrong = rng.choice([output for output in _guesses(rules) if output != rules[key]])
    said = [(k, wrong if k == key else output) for k, output in asked.items()]
    book = f"{line(name, rules.items())}\n" if rng.random() < 0.5 else ""
    seen = (
        f"{book}{name}? {' '.join(asked)}\nsaid {line(name, said)}\n"
        f"wrong: {key} {wrong}, right: {key} {rules[key]}\n"
    )
    return [(seen, False), *_answers(f"said {name}:", list(asked.items()))]


def note(name: str, asked: Mapping[str, str], rng: Random) -> Document:
    """No book: attempts at a question, each corrected in one place, and a note of what the corrections taught.

    The attempts keep what they were taught and guess the rest, until the answer is right; the note, which is
    learned, lists what was corrected.
    """
    guesses = _guesses(asked)
    known: dict[str, str] = {}
    said = {key: rng.choice(guesses) for key in asked}
    if said == asked:  # all guessed right would leave nothing to note
        said[next(iter(said))] = next(output for output in guesses if output != next(iter(asked.values())))
    seen = ""
    while said != asked:
        key = next(key for key in asked if said[key] != asked[key])
        seen += f"{name}? {' '.join(asked)}\nsaid {line(name, said.items())}\n"
        seen += f"wrong: {key} {said[key]}, right: {key} {asked[key]}\n"
        said[key] = known[key] = asked[key]
    return [(f"{seen}note {name}:", False), (f" {', '.join(f'{k} {o}' for k, o in known.items())}\n", True)]


def _answers(head: str, asked: Sequence[Entry]) -> list[Span]:
    spans: list[Span] = []
    for key, output in asked:
        spans += [(f"{head} {key}", False), (f" {output}", True)]
        head = ","
    return [*spans, ("\n", False)]


def _guesses(rules: Mapping[str, str]) -> list[str]:
    """The outputs a guess is drawn from; two more where a map of one output would leave no wrong guess."""
    outputs = set(rules.values())
    return sorted(outputs if len(outputs) > 1 else outputs | {"no", "x"})
