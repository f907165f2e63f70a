"""No document or demonstration holds a problem of another split.

The canonical problems are read out of the texts by the parsers below, which know nothing of how the worlds made
them, and the split is computed here anew.
"""

import re
from collections.abc import Callable, Iterator
from random import Random
from zlib import crc32

import pytest

from nanoschool import envs
from nanoschool.settings import load_settings

DOCUMENTS = 4000


def split(problem: str) -> str:
    if re.fullmatch(r"sums (?:\d\+\d+|\d+-\d)", problem):
        return "train"  # a step of longer problems is read everywhere
    return ["test", "dev", *["train"] * 8][crc32(problem.encode()) % 10]


def chains(text: str) -> Iterator[str]:
    found = re.search(r"^([a-z])=(\d+); ((?:[a-z]=[a-z][-+*]\d+(?:; |\. |\.$)?)+)", text)
    if found:
        yield f"chain {found[2]} {' '.join(re.findall(r'[a-z]=[a-z]([-+*][0-9]+)', found[3]))}"


def sums(text: str) -> Iterator[str]:
    for a, op, b in re.findall(r"(?:^|So )(\d+)([-+])(\d+)=", text):
        low, high = sorted((int(a), int(b)))
        yield f"sums {low}+{high}" if op == "+" else f"sums {a}-{b}"


ENTRY = re.compile(r"\b([a-z]) ([a-z]|no)\b")


def maps(text: str) -> Iterator[str]:
    """Every map that a reader can gather: the book, and the answer that all corrections and the note lead to."""
    lines = text.rstrip("\n").split("\n")
    book = re.sub(r"(\. |^)\w+\?.*", "", lines[0])  # the question after it names keys alone
    if ":" in book and not book.startswith("said "):
        yield "rules " + " ".join(sorted(key + output for key, output in ENTRY.findall(book)))
    answer: dict[str, str] = {}
    for line in lines:
        if line.startswith("said "):
            answer |= ENTRY.findall(line)
        elif line.startswith("wrong: "):
            answer |= ENTRY.findall(line.partition("right:")[2])
        elif line.startswith("note "):
            assert set(ENTRY.findall(line)) <= set(answer.items())
    if answer:
        yield "rules " + " ".join(sorted(key + output for key, output in answer.items()))


def people(text: str) -> Iterator[str]:
    for _, name in re.findall(r"What is the (\w+) of (\w+ \w+)\?", text):
        yield name


def stories(text: str) -> Iterator[str]:
    """The events, told from the verbs."""
    told = re.sub(r"(Then|After that|Soon|A little later) (?=[A-Z])", "", text.partition(" Q: ")[0])
    events = []
    for sentence in re.findall(r"[^.?]+[.?]", told):
        if found := re.search(r"[Aa] \w+ (\w+) (?:lay in|in) the (\w+)\.", sentence):
            events.append(f"lie {found[1]} {found[2]}")
        elif found := re.search(r"In the (\w+) there was a \w+ (\w+)\.", sentence):
            events.append(f"lie {found[2]} {found[1]}")
        elif found := re.search(r"(\w+) asked for the (\w+), and (\w+) gave", sentence):
            events.append(f"give {found[3]} {found[1]} {found[2]}")
        elif found := re.search(r"(\w+) (?:gave|handed) the (\w+) to (\w+)", sentence):
            events.append(f"give {found[1]} {found[3]} {found[2]}")
        elif found := re.search(r"(\w+) gave (\w+) the (\w+)", sentence):
            events.append(f"give {found[1]} {found[2]} {found[3]}")
        elif found := re.search(r"([A-Z]\w+) .*?(?:took|picked up|saw) the (\w+)", sentence):
            events.append(f"take {found[1]} {found[2]}")
        elif found := re.search(r"([A-Z]\w+) .*?(?:down|dropped|did not want) the (\w+)", sentence):
            events.append(f"drop {found[1]} {found[2]}")
        elif found := re.search(r"([A-Z]\w+) .*?(?:went|walked|ran|hurried) to the (\w+)", sentence):
            events.append(f"go {found[1]} {found[2]}")
        elif found := re.search(r"([A-Z]\w+) (?:was|sat|stood|waited) in the (\w+)\.", sentence):
            events.append(f"be {found[1]} {found[2]}")
    yield f"stories {'; '.join(events)}"


def either(text: str) -> Iterator[str]:
    yield from chains(text) if re.match(r"[a-z]=", text) else sums(text)


def calculations(text: str) -> Iterator[str]:
    for a, op, b in re.findall(r"Calculate (\d+)([-+*])(\d+)\.", text):
        low, high = sorted((int(a), int(b)))
        kind = "calc" if op == "*" else "sums"
        yield f"{kind} {high}-{low}" if op == "-" else f"{kind} {low}{op}{high}"


def topics(text: str) -> Iterator[str]:
    for length, named in re.findall(r"write (\d+) words about ([a-z]+(?:, [a-z]+)*)", text):
        yield f"taste {length} {named.replace(',', '')}"


PARSERS: dict[str, Callable[[str], Iterator[str]]] = {
    "chain": chains,
    "calc": calculations,
    "sums": sums,
    "steps": either,
    "rules": maps,
    "facts": people,
    "look": people,
    "stories": stories,
    "taste": topics,
}


@pytest.mark.parametrize("name", PARSERS)
def test_the_parser_reads_the_same_problem_as_the_world(name):
    """The parsers are held against the worlds where both are known, so that below silence means innocence."""
    world = envs.load(name)
    for wanted in ("train", "dev", "test"):
        for task in world.tasks(wanted, 200):
            prompt = world.demonstration(task)[0].content
            expected = task.data["person"] if name in ("facts", "look") else task.problem
            found = list(PARSERS[name](prompt))
            assert found == [expected], prompt
            assert split(expected) == wanted


@pytest.mark.parametrize("name", PARSERS)
def test_splits_are_disjoint(name):
    world = envs.load(name)
    problems = {
        s: {task.problem for task in world.tasks(s, 300, seed=seed)}
        for seed, s in enumerate(("train", "dev", "test"))
    }
    assert not problems["train"] & problems["dev"] and not problems["train"] & problems["test"]
    assert not problems["dev"] & problems["test"]


@pytest.mark.parametrize("name", PARSERS)
def test_documents_hold_train_problems_only(name):
    world, rng = envs.load(name), Random("documents")
    read = silent = 0
    for _ in range(DOCUMENTS):
        text = "".join(span for span, _ in world.document(rng))
        problems = list(PARSERS[name](text))
        silent += not problems
        for problem in problems:
            read += 1
            assert split(problem) == "train", (problem, text)
    if name == "facts":  # biographies of most town people ask nothing
        assert 0 < silent < 0.5 * DOCUMENTS and read > DOCUMENTS
    else:
        assert silent == 0 and read >= DOCUMENTS


@pytest.mark.parametrize("name", PARSERS)
def test_no_held_out_question_occurs_in_the_reading(name):
    world, rng = envs.load(name), Random(7)
    stream = "".join("".join(span for span, _ in world.document(rng)) for _ in range(DOCUMENTS))
    for wanted in ("dev", "test"):
        for task in world.tasks(wanted, 100):
            for answer_format in world.formats:
                text = next(world.complete(task, answer_format)).text
                asked = re.compile(r"(?<![0-9A-Za-z])" + re.escape(text))  # 8+1=? is not asked in 88+1=?
                assert not asked.search(stream)


def test_no_held_out_arithmetic_is_told_by_another_world():
    """A chain's steps, a sum's columns and the calculator's lines are problems of each other's kind."""
    settings = load_settings("laptop")
    held_out = set()
    for name in ("sums", "calc"):
        for wanted in ("dev", "test"):
            held_out |= {task.problem for task in settings.worlds[name].tasks(wanted, 300)}
    rng, told = Random("told"), set()
    for name in settings.mix.keys() | settings.taught.keys():
        world = settings.worlds[name]
        texts = [m.content for task in world.tasks("train", 400) for m in world.demonstration(task)]
        if settings.mix.get(name):
            texts += ["".join(span for span, _ in world.document(rng)) for _ in range(DOCUMENTS)]
        for a, op, b in re.findall(r"(?<![\d+-])(\d+)([-+*])(\d+)(?![\d+-])", "\n".join(texts)):
            low, high = sorted((int(a), int(b)))
            kind = "calc" if op == "*" else "sums"
            told.add(f"{kind} {high}-{low}" if op == "-" else f"{kind} {low}{op}{high}")
    assert {"sums 7+8", "sums 3+76"} <= told and len(told) > 5000
    assert not held_out & told
