"""What countdown, pathstar, modular, rewrite and calc owe beyond the contract, each truth against brute force."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, pairwise, permutations, product
from math import log2
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import perform, score, text_of

from nanoschool import envs
from nanoschool.envs import calc as calculator
from nanoschool.envs import programs, reach
from nanoschool.envs.common import split_of
from nanoschool.envs.expressions import evaluate
from nanoschool.types import HasGuesses, HasOracle, HasSteps, Reply, Task, UserError

NAMES = ("calc", "countdown", "modular", "pathstar", "rewrite")
HOSTILE = (
    "",
    "#### " + "9" * 5000,
    "3+4=7; " * 14_000,
    "3+4=" + "7" * 100_000,
    "path:" + " a" * 50_000,
    "tam: " + "a b, " * 20_000,
    "<calc>" + "(" * 100_000 + "</calc>",
    "<calc>9</calc>" * 7000,
    "<calc></calc>",
    "<calc>٣*٤</calc>",
    "</calc>" * 14_000,
    "\x00\ud800𝒳\u202e",
    "１+１=２ #### ２",
)


# What all of them owe


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=200, deadline=None)
@given(
    reply=st.one_of(
        st.text(max_size=100),
        st.text("0123456789+-*/=; #", max_size=40),
        st.text("pathtm: abcdno,-", max_size=40),
        st.text("<calc>/0123456789*+#- ", max_size=40).map(lambda text: text + "</calc>"),
    ),
    at=st.integers(0, 9),
)
def test_no_reply_raises_or_earns_more_than_one(name, reply, at):
    check(name, at, reply)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reply", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_replies_earn_nothing(name, reply):
    assert check(name, 0, reply) == 0.0


def check(name: str, at: int, reply: str) -> float:
    world = envs.load(name)
    task = world.tasks("dev", 10)[at]
    assert isinstance(world, HasOracle) and isinstance(world, HasGuesses)
    assert 0.0 <= world.oracle(task, [], reply).value <= 1.0
    if isinstance(world, HasSteps):
        ends = world.steps(reply)
        assert ends == sorted(set(ends)) and all(0 <= end <= len(reply) for end in ends)
    raw = perform(world.complete(task, "worked"), [reply])[1].rewards
    earned = score(world, task, reply)
    assert raw is not None and 0.0 <= raw[0] <= 1.0 and 0.0 <= earned <= 1.0
    return earned


@pytest.mark.parametrize("name", NAMES)
def test_conversations_fit_a_small_context_even_at_a_token_a_character(name):
    world = envs.load(name)
    for task in world.tasks("train", 300):
        assert sum(len(message.content) for message in world.demonstration(task)) < 160


@pytest.mark.parametrize("name", NAMES)
def test_a_core_plays_twenty_thousand_episodes_a_second(name):
    world = envs.load(name)
    rng = Random(0)
    tasks = list(world.tasks("train", 200))
    scripts = [Reply(world.guess(task, [], rng)) for task in tasks]
    rates = []
    for _ in range(5):  # the best of five, for a machine may be busy
        begun = time.process_time()
        for task, reply in zip(tasks, scripts, strict=True):
            episode = world.play(task)
            next(episode)
            try:
                episode.send(reply)
            except StopIteration as end:
                assert end.value.rewards is not None
            else:
                pytest.fail("a guess ends the episode")
        rates.append(len(tasks) / (time.process_time() - begun))
    assert max(rates) > 20_000


@pytest.mark.parametrize(
    "name, chance, bound",
    [("pathstar", 1 / 4, 0.05), ("modular", 1 / 7, 0.04), ("calc", 0.0, 0.05), ("countdown", 0.0, 0.1)],
)
def test_guesses_earn_chance(name, chance, bound):
    world, rng = envs.load(name), Random(3)
    tasks = world.tasks("train", 1500)
    mean = sum(score(world, task, world.guess(task, [], rng)) for task in tasks) / len(tasks)
    assert abs(mean - chance) < bound


@pytest.mark.parametrize("name", NAMES)
def test_guesses_have_the_form_and_fill_their_space(name):
    world, rng = envs.load(name), Random(5)
    if name == "rewrite":
        world = replace(world, letters=2, gaps=0, strings=1, string_lengths=(2,))
    task = min(world.tasks("train", 30), key=world.answer_space)
    space = world.answer_space(task)
    seen = Counter(world.guess(task, [], rng) for _ in range(60 * space))
    if name != "countdown":  # where the order of equal numbers makes some choices look alike
        assert len(seen) == space and max(seen.values()) < 2.2 * 60
        assert all(perform(world.play(task), [reply])[1].info["wellformed"] for reply in seen)
    assert 1 < len(seen) <= 2 * space


# Their texts hold train problems only: the problem is read out of the text here, not asked of the world


def read_problems(name: str, text: str) -> Iterator[str]:
    line = text.partition("\n")[0]
    if name == "countdown":
        numbers, target = re.match(r"([\d ]+) make (\d+)\?", line).groups()
        yield f"countdown {' '.join(map(str, sorted(map(int, numbers.split()))))} to {target}"
    elif name == "modular":
        m, start, rest = re.match(r"mod (\d+): [a-z]=(\d+)((?:; [a-z]=[a-z][-+*]\d+)+)", line).groups()
        yield f"modular {m}: {start} {' '.join(re.findall(r'[-+*][0-9]+', rest))}"
    elif name == "pathstar":
        edges, start, goal = re.match(r"(.*)\. ([a-z]) to ([a-z])\?", line).groups()
        after = {}
        for edge in edges.split(", "):
            after.setdefault(edge[0], []).append(edge[2])
        arms = []
        for node in after[start]:
            arm = node
            while arm[-1] in after:
                arm += after[arm[-1]][0]
            arms.append(arm)
        yield f"pathstar {start}: {' '.join(sorted(arms))} to {goal}"
    elif name == "calc":
        a, op, b = re.match(r"Calculate (\d+)([-+*])(\d+)\.", line).groups()
        low, high = sorted((int(a), int(b)))
        world = "calc" if op == "*" else "sums"
        yield f"{world} {high}-{low}" if op == "-" else f"{world} {low}{op}{high}"
    else:
        yield f"rewrite {re.match(r'[a-z]+: (.*?)[.] ', line)[1]}"


@pytest.mark.parametrize("name", NAMES)
def test_documents_hold_train_problems_only(name):
    world, rng = envs.load(name), Random("reading")
    held_out = set()
    for split in ("dev", "test"):
        tasks = world.tasks(split, 300)
        held_out |= {task.problem for task in tasks}
        for task in tasks:
            assert [task.problem] == list(read_problems(name, world.demonstration(task)[0].content))
            if name != "rewrite":
                assert split_of(task.problem) == split
    assert not held_out & {task.problem for task in world.tasks("train", 500)}
    for _ in range(2000):
        for problem in read_problems(name, text_of(world.document(rng))):
            assert problem not in held_out
            if name != "rewrite":
                assert split_of(problem) == "train"


@pytest.mark.parametrize("name", ("countdown", "modular"))
def test_values_of_steps_obey_the_bellman_equation(name):
    """V(text) is the best of stopping here and of every next character, and a best reply goes on from the text."""
    world, rng = envs.load(name), Random(1)
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyz=+-*/; #"
    alive = asked = 0
    for task in world.tasks("dev", 40):
        right = world.oracle(task, []).best_replies[0]
        for _ in range(8):
            text = list(right[: rng.randint(0, len(right))])
            for _ in range(rng.randint(0, 2)):
                at = rng.randint(0, len(text))
                text[at : at + rng.randint(0, 1)] = rng.choice(["", *"0127+-*/=; #"])
            partial = "".join(text)
            oracle = world.oracle(task, [], partial)
            after = [world.oracle(task, [], partial + character).value for character in alphabet]
            assert oracle.value == max(score(world, task, partial), *after), (task, partial)
            assert (oracle.value == 1.0) == bool(oracle.best_replies)
            for best in oracle.best_replies:
                assert best.startswith(partial) and score(world, task, best) == 1.0
            alive, asked = alive + oracle.value, asked + 1
    assert 0.3 * asked < alive < 0.95 * asked  # both kinds were seen


# Countdown


def results(a: int, b: int) -> Iterator[tuple[str, int]]:
    """Every allowed step of two numbers in this order, by fractions: independent of the world's arithmetic."""
    for op, value in (
        ("+", Fraction(a + b)),
        ("-", Fraction(a - b)),
        ("*", Fraction(a * b)),
        ("/", Fraction(a, b)),
    ):
        if value.denominator == 1 and 1 <= value <= 999:
            yield f"{a}{op}{b}={value}", int(value)


def every_line(
    pool: tuple[int, ...], said: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Every sequence of steps from a pool, with the pool it leaves."""
    yield said, pool
    for i, j in permutations(range(len(pool)), 2):
        rest = tuple(n for at, n in enumerate(pool) if at not in (i, j))
        for step, value in results(pool[i], pool[j]):
            yield from every_line((*rest, value), (*said, step))


@pytest.mark.parametrize("size, pools", [(1, 5), (2, 30), (3, 30), (4, 6)])
def test_what_can_be_made_agrees_with_brute_force(size, pools):
    rng = Random(size)
    for _ in range(pools):
        pool = tuple(sorted(rng.randint(1, 12) for _ in range(size)))
        makeable = {number for _, left in every_line(pool) for number in left}
        with_all = {left[0] for _, left in every_line(pool) if len(left) == 1}
        assert {v for v in range(1, 1000) if reach.alive(pool, v)} == makeable
        assert {v for v in range(1, 1000) if reach.made_of_all(pool) >> v & 1} == with_all


def test_every_right_line_is_accepted_and_no_other():
    world = replace(envs.load("countdown"), counts=(3,), largest=9)
    for task in world.tasks("dev", 6):
        pool, target = tuple(task.data["numbers"]), task.data["target"]
        accepted = 0
        for said, left in every_line(pool):
            reply = f"{'; '.join(said)} #### {target}"
            assert score(world, task, reply) == float(target in left and bool(said))
            raw = f" {'; '.join(said)}. So {target}."
            assert perform(world.complete(task, "worked"), [raw])[1].rewards == (score(world, task, reply),)
            accepted += target in left
        assert accepted >= 1


def test_values_of_partial_lines_agree_with_brute_force():
    """After every sequence of allowed steps: 1 exactly where some line that goes on from it is right."""
    world = replace(envs.load("countdown"), counts=(3,), largest=9)
    for task in world.tasks("dev", 6):
        lines = list(every_line(tuple(task.data["numbers"])))
        winning = [said for said, left in lines if task.data["target"] in left and said]
        ahead = {said[:length] for said in winning for length in range(len(said) + 1)}
        further = {said[:length] for said in winning for length in range(len(said))}
        lost = 0
        for said, _ in lines:
            text = "; ".join(said)
            oracle = world.oracle(task, [], text)
            assert oracle.value == float(said in ahead), text
            assert world.oracle(task, [], f"{text}; " if said else "").value == float(said in further)
            if said not in ahead:
                lost += 1
                first = next(at for at in range(1, len(said) + 1) if said[:at] not in ahead)
                assert oracle.first_error == len("; ".join((*said[: first - 1], "")))
            else:
                assert oracle.first_error is None
        assert lost > 10


def test_six_numbers_are_solved_and_their_work_is_right_by_python():
    for counts in ((3,), (4,), (5,), (6,)):
        world = replace(envs.load("countdown"), counts=counts, largest=25)
        for task in world.tasks("test", 25):
            steps, target = world.work(task)
            pool = Counter(task.data["numbers"])
            for step in steps:
                a, op, b, result = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", step).groups()
                assert eval(f"Fraction({a}){op}Fraction({b})") == int(result)
                for number in (int(a), int(b)):
                    assert pool[number] > 0
                    pool[number] -= 1
                pool[int(result)] += 1
            assert pool[target] > 0 and target not in task.data["numbers"]


def test_countdown_says_what_was_wrong():
    world = envs.load("countdown")
    task = Task("countdown", "", {"numbers": [3, 25, 4, 7], "target": 14})
    for reply, feedback in (
        ("3+4=7; 7+7=14 #### 14", ""),
        ("4+3=7; 7*7=49; 25-3=22 #### 14", "wrong: 25-3=22, there are 25 49"),
        ("3+4=8; 7+7=14 #### 14", "wrong: 3+4=8, right: 3+4=7"),
        ("3-4=1 #### 14", "wrong: 3-4=1, no whole number from 1 to 999"),
        ("7/3=2 #### 14", "wrong: 7/3=2, no whole number from 1 to 999"),
        ("3+4=7 #### 14", "14 is not made"),
        ("3+4=7; 7+7=14 #### 15", "the answer is 14"),
        ("3+4+7=14 #### 14", "write steps and the answer"),
        ("#### 14", "write steps and the answer"),
    ):
        outcome = perform(world.play(task), [reply])[1]
        assert (outcome.rewards, outcome.feedback) == ((float(not feedback),), feedback), reply
    assert world.oracle(task, [], "3+4=7; 7+7=14 #### 15").first_error == len("3+4=7; 7+7=14")
    assert world.oracle(task, [], "25*7=175; 3").first_error == 0  # 14 is out of reach from 3 4 175


# Path-star graphs


def test_the_path_is_the_only_walk_to_the_goal():
    for arms, length in ((2, 1), (4, 3), (5, 5), (3, 8)):
        world = replace(envs.load("pathstar"), arms=arms, length=length)
        for task in world.tasks("dev", 10):
            edges = {tuple(edge) for edge in task.data["edges"]}
            walks = [(task.data["start"],)]
            ended = []
            while walks:
                walk = walks.pop()
                onward = [(*walk, b) for a, b in edges if a == walk[-1]]
                walks += onward
                ended += [] if onward else [walk]
            assert len(ended) == arms and all(len(walk) == length + 1 for walk in ended)
            scores = {walk: score(world, task, f"path: {' '.join(walk)}") for walk in ended}
            assert {walk for walk, won in scores.items() if won} == {
                walk for walk in ended if walk[-1] == task.data["goal"]
            }
            assert world.walk_value(task) == sum(scores.values()) / arms == 1 / arms
            for walk in ended:  # the value of the first choice, and of every step after it
                for at in range(1, length + 2):
                    said = f"path: {' '.join(walk[:at])}"
                    alike = [won for other, won in scores.items() if other[:at] == walk[:at]]
                    oracle = world.oracle(task, [], said)
                    assert oracle.value == max(alike) and world.walk_value(task, said) == sum(alike) / len(
                        alike
                    )
                    assert oracle.first_error == (None if max(alike) else len("path: a"))
                    options = {f" {b}" for a, b in edges if a == walk[at - 1]}
                    assert set(world.choices(task, said)) == options
                    assert world.steps(said) == [len("path: a") + 2 * step for step in range(at)]


def test_pathstar_names_the_first_wrong_node():
    world = envs.load("pathstar")
    edges = [list(edge) for edge in ("bq", "ab", "ak", "km")]
    task = Task("pathstar", "", {"start": "a", "goal": "m", "arms": [["b", "q"], ["k", "m"]], "edges": edges})
    assert next(world.play(task)).text == "b q, a b, a k, k m. a to m?"
    for reply, feedback, chose in (
        ("path: a k m", "", True),
        ("path: a b q", "wrong: b, right: k", False),
        ("path: a k", "wrong: nothing, right: m", True),
        ("path: a k m m", "wrong: m, right: nothing", True),
        ("a k m", "wrong: nothing, right: a", False),
    ):
        outcome = perform(world.play(task), [reply])[1]
        assert (outcome.feedback, outcome.info["chose"]) == (feedback, chose)
    assert (
        world.choices(task, "path: k") == world.choices(task, "path: a m") == world.choices(task, "x") == []
    )
    assert world.choices(task, "path: a k m") == []
    assert world.oracle(task, [], "path: a k m m").first_error == len("path: a k m")
    assert world.oracle(task, [], "the path").first_error == 0


# Chains modulo m


def test_modular_chains_are_right_by_python_and_every_answer_is_likely():
    for modulus in (3, 7, 10, 97):
        world = replace(envs.load("modular"), modulus=modulus, lengths=(3, 5))
        answers = Counter()
        for task in world.tasks("train", 400):
            steps, answer = world.work(task)
            for step in steps:
                _, left, right = step.split("=")
                assert eval(f"({left}) % {modulus}") == int(right) < modulus
            assert world.question(task).startswith(f"mod {modulus}: ") and answer == int(right)
            answers[answer] += 1
        assert len(answers) > 0.9 * modulus and max(answers.values()) < 400 / modulus * 3
    with pytest.raises(UserError, match="world modular: modulus=2"):
        replace(envs.load("modular"), modulus=2)
    with pytest.raises(UserError, match="world modular: lengths="):
        replace(envs.load("modular"), lengths=(0,))


# Rewrite programs


def test_programs_do_what_their_book_says():
    for program, gaps, string, out in (
        ([["to", "a", "b"]], [], "aca", "b c b"),
        ([["drop", "a"]], [], "aba", "b"),
        ([["drop", "a"]], [], "aa", "-"),
        ([["drop", "a"], ["shift", "2"]], [], "aa", "-"),
        ([["reverse"]], [], "abc", "c b a"),
        ([["shift", "1"]], [], "abc", "b c a"),
        ([["shift", "2"]], [], "a", "a"),
        ([["if", "c", "reverse"]], [], "abc", "c b a"),
        ([["if", "d", "reverse"]], [], "abc", "a b c"),
        ([["to", "a", "d"], ["if", "d", "drop", "b"]], [], "ab", "d"),
        ([["reverse"]], ["b"], "abc", "no"),
    ):
        assert " ".join(programs.output(program, gaps, string)) == out
    written = programs.write([["if", "c", "to", "a", "b"], ["shift", "2"]], ["d"])
    assert written == ["if c a to b", "shift 2", "no d"]
    assert len(programs.operations("abcd")) == 19 * 5


@pytest.mark.parametrize(
    "letters, lengths, gaps", [(2, (1,), 0), (2, (1, 2), 1), (3, (2,), 2), (2, (1, 3), 1)]
)
def test_entropy_agrees_with_counting_every_program(letters, lengths, gaps):
    alphabet, strings = "abcd"[:letters], ("aba", "bb", "ab")
    chances: Counter[tuple[str, ...]] = Counter()
    options = programs.operations(alphabet)
    missing = [(set(c), 1 / (gaps + 1)) for n in range(gaps + 1) for c in combinations(alphabet, n)]
    sizes = Counter(len(hidden) for hidden, _ in missing)
    for length in lengths:
        for program in product(options, repeat=length):
            for hidden, share in missing:
                outputs = tuple(" ".join(programs.output(program, sorted(hidden), s)) for s in strings)
                chances[outputs] += share / sizes[len(hidden)] / len(lengths) / len(options) ** length
    assert sum(chances.values()) == pytest.approx(1.0)
    bits = -sum(p * log2(p) for p in chances.values())
    assert programs.entropy(alphabet, lengths, gaps, strings) == pytest.approx(bits)
    world = replace(
        envs.load("rewrite"), letters=letters, lengths=lengths, gaps=gaps, book=False, string_lengths=(2, 3)
    )
    task = Task("rewrite", "", {"name": "tam", "program": [["reverse"]], "gaps": [], "asked": list(strings)})
    assert world.oracle(task, []).entropy_bits == pytest.approx(bits)
    assert replace(world, book=True).oracle(task, []).entropy_bits == 0.0
    assert next(world.play(task)).text == "tam? a b a, b b, a b"


def test_rewrite_names_the_first_wrong_place():
    world = envs.load("rewrite")
    data = {"name": "tam", "program": [["to", "a", "b"], ["reverse"]], "gaps": ["d"], "asked": ["acb", "da"]}
    task = Task("rewrite", "", data)
    assert next(world.play(task)).text == "tam: a to b, reverse, no d. tam? a c b, d a"
    for reply, feedback, fraction in (
        ("tam: b c b, no", "", 1.0),
        ("tam: b c a, no", "string 1 place 3 wrong: a, right: b", 0.5),
        ("tam: b c, no", "string 1 place 3 wrong: nothing, right: b", 0.5),
        ("tam: b c b, a", "string 2 place 1 wrong: a, right: no", 0.5),
        ("tam: b c b", "string 2 place 1 wrong: nothing, right: no", 0.5),
        ("tam: b c b, no, a", "string 3 place 1 wrong: a, right: nothing", 1.0),
        ("tum: b c b, no", "wrong: tum, right: tam", 1.0),
        ("I do not know", "string 1 place 1 wrong: nothing, right: b", 0.0),
    ):
        outcome = perform(world.play(task), [reply])[1]
        assert (outcome.feedback, outcome.info["fraction"]) == (feedback, fraction)
        assert outcome.rewards == (float(not feedback),)


def test_programs_that_do_the_same_fall_into_one_split():
    world = envs.load("rewrite")
    seen: dict[tuple[str, ...], set[str]] = {}
    strings = ["".join(Random(seed).choices("abcd", k=3 + seed % 4)) for seed in range(200)]
    for split in ("train", "dev", "test"):
        for task in world.tasks(split, 400):
            does = tuple(
                " ".join(programs.output(task.data["program"], task.data["gaps"], s)) for s in strings
            )
            seen.setdefault(does, set()).add(split)
    alike = [
        programs.behaviour(p, [], "abcd") for p in ([["reverse"], ["reverse"]], [["if", "a", "to", "b", "b"]])
    ]
    assert programs.behaviour([["to", "a", "b"], ["reverse"], ["reverse"]], [], "abcd") == programs.behaviour(
        [["to", "a", "b"]], [], "abcd"
    )
    assert alike[0] == alike[1]
    assert len(seen) < 1150 and all(len(splits) == 1 for splits in seen.values())


# The calculator


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789+-*/() ", max_size=30))
def test_the_parser_agrees_with_python(text):
    value = evaluate(text)
    if value is not None:
        digits = re.sub(r"(\d+)", r"Fraction('\1')", text)
        assert eval(digits.strip(), {"Fraction": Fraction}) == value


def test_the_parser_reads_every_expression_that_was_built():
    rng = Random(4)

    def build(depth: int) -> str:
        if depth == 0 or rng.random() < 0.2:
            return str(rng.randint(0, 30))
        return f"({build(depth - 1)}{rng.choice('+-*')}{build(depth - 1)})"

    read = 0
    for _ in range(300):
        text = build(3)
        if len(text) <= 64:
            assert evaluate(text) == eval(text)
            read += 1
    assert read > 150
    assert evaluate("2+3*4-6/3") == 12 and evaluate(" -(2) * 3 ") == -6


@pytest.mark.parametrize(
    "text",
    [
        *("", "2+", "2**3", "1/0", "7/2", "2 3", "(1", "1)", "a", "__import__('os')", "9" * 14, "1e9", "٣"),
        *("2//1", "(" * 60, "-" * 64, "9999999*9999999", "1" + "+1" * 40, "()"),
    ],
)
def test_the_parser_refuses_all_else(text):
    assert evaluate(text) is None


def test_a_call_costs_and_its_answer_is_the_tools():
    world = envs.load("calc")
    task = Task("calc", "", {"a": 47, "b": 38, "op": "*", "level": 4})
    call, right = "<calc>47*38</calc>", "#### 1786"
    for replies, reward, calls, said in (
        ([right], 1.0, 0, []),
        ([call, right], 0.9, 1, ["1786"]),
        ([f"let me see {call}", right], 0.9, 1, ["1786"]),
        ([call, call, right], 0.8, 2, ["1786", "1786"]),
        ([call, call, call, right], 0.0, 2, ["1786", "1786"]),
        (["<calc>40*38</calc>", "#### 1520"], 0.0, 1, ["1520"]),
        (["<calc>47*</calc>", right], 0.9, 1, ["error"]),
        (["<calc>#### 1786", right], 0.0, 0, []),
        (["1786"], 0.0, 0, []),
        ([f"{call} {right}"], 0.0, 0, []),  # nobody but the tool answers a call
    ):
        asks, outcome = perform(world.play(task), replies)
        assert outcome.rewards == (pytest.approx(reward),), replies
        assert (outcome.info["calls"], outcome.info["called"]) == (calls, calls > 0)
        assert outcome.info["cost"] == pytest.approx(0.1 * calls)
        assert [ask.text for ask in asks[1:]] == said and all(ask.role == "tool" for ask in asks[1:])
        assert all(ask.stop == ("</calc>",) for ask in asks)
        assert world.oracle(task, replies[: len(asks)]).value == pytest.approx(reward)
    free = replace(world, cost=0.0)
    assert score(free, task, call, right) == 1.0
    with pytest.raises(UserError, match=r"world calc: cost=0\.6"):
        replace(world, cost=0.6)


def test_values_are_the_better_of_calling_and_answering():
    """V(replies, text) against the best of every script of answers and calls that goes on from it."""
    world = envs.load("calc")
    for task in world.tasks("dev", 10):
        right, call = f"#### {calculator.solution(task)}", calculator.request(task)
        partials = ["", "#", right[:-1], right, "#### x", "hm ", "<ca", call[:-2], "<calc>1", right + "0"]
        for made in range(world.calls + 1):
            earlier = [call] * made
            for partial in partials:
                lines = [[ending] for ending in (right, partial, call) if ending.startswith(partial)]
                lines.append([partial + (call if "<calc>" not in partial else "</calc>")])
                best = max(score(world, task, *earlier, *line, right) for line in lines)
                oracle = world.oracle(task, earlier, partial)
                assert oracle.value == pytest.approx(best), (made, partial)
                for reply in oracle.best_replies:
                    assert reply.startswith(partial)
                    assert score(world, task, *earlier, reply, right) == pytest.approx(best)
    assert (
        world.oracle(task, [], "#### x").first_error == 0
        and world.oracle(task, [], "<calc>").first_error is None
    )


def test_demonstrations_call_by_difficulty_or_as_told():
    world = envs.load("calc")
    levels = Counter()
    for task in world.tasks("train", 300):
        levels[task.data["level"]] += 1
        for shown, called in (
            (world.demonstration(task), task.data["level"] >= 4),
            (replace(world, call_from=1).demonstration(task), True),
            (replace(world, call_from=6).demonstration(task), False),
            (world.shown(task, alone=False), True),
            (world.shown(task, alone=True), False),
        ):
            asks, outcome = perform(world.play(task), [m.content for m in shown if m.role == "assistant"])
            assert [m.content for m in shown if m.role != "assistant"] == [ask.text for ask in asks]
            assert outcome.info["called"] == called and outcome.feedback == ""
            assert outcome.rewards == (pytest.approx(0.9 if called else 1.0),)
            low, high = calculator.bounds(task)
            assert low <= calculator.solution(task) <= high
    assert set(levels) == {1, 2, 3, 4, 5} and min(levels.values()) > 15


def test_what_sums_holds_out_is_held_out_here_too():
    held_out = {task.problem for task in envs.load("sums").tasks("test", 400)}
    world, told = envs.load("calc"), []
    for seed in range(4000):
        told += read_problems("calc", text_of(world.document(Random(seed))))
    assert len({problem for problem in told if problem.startswith("sums")}) > 500
    assert not held_out & set(told)


def test_regret_is_zero_for_one_who_calls_where_the_head_is_worse_than_the_cost():
    world = envs.load("calc")
    (task,) = world.tasks("train", 1)
    for p in (0.0, 0.5, 0.89, 0.91, 1.0):
        best, other = ("call", "answer") if 1 - p > world.cost else ("answer", "call")
        assert world.alone(task, p) == (best == "answer")
        assert world.regret(task, p, best) == pytest.approx(0.0)
        assert world.regret(task, p, other) == pytest.approx(abs(p - 0.9))
        assert world.regret(task, p, "nonsense") == pytest.approx(max(p, 0.9))


def test_the_tools_answer_is_not_learned_and_raw_text_plays_the_same():
    world = envs.load("calc")
    called = 0
    for seed in range(200):
        document = world.document(Random(seed))
        called += (has_call := "<calc>" in text_of(document))
        for (before, _), (said, learned) in pairwise(document):
            assert learned != before.endswith("</calc>")
            assert learned or said == f" {evaluate(re.search(r'<calc>(.*)</calc>', before)[1])}"
        if has_call:
            question, _, request = document[0][0].partition(". ")
            a, op, b = re.fullmatch(r"Calculate (\d+)([-+*])(\d+)", question).groups()
            task = Task("calc", "", {"a": int(a), "b": int(b), "op": op, "level": 5})
            asks, outcome = perform(world.complete(task, "worked"), [f" {request}", document[2][0]])
            assert [ask.text for ask in asks] == [f"{question}.", document[1][0]] and outcome.rewards == (
                0.9,
            )
            assert all(ask.role == "text" for ask in asks)
    assert 40 < called < 140


# Sums of many digits


@pytest.mark.parametrize("digits", [1, 4, 8])
def test_sums_work_up_to_eight_digits(digits):
    world = replace(envs.load("sums"), digits=digits)
    longest = 0
    for task in world.tasks("dev", 12 if digits == 1 else 200):
        steps, answer = world.work(task)
        reply = "; ".join(steps) + f" #### {answer}"
        assert answer == eval(world.question(task).removesuffix("=?")) >= 0
        assert score(world, task, reply) == 1.0 == world.oracle(task, []).value
        assert score(world, task, reply + "0") == 0.0
        assert all(eval(left) == int(right) for left, right in (step.split("=") for step in steps))
        line = text_of(world.line(task, worked=True))
        assert perform(world.complete(task, "worked"), [line[len(world.question(task)) :]])[1].rewards == (
            1.0,
        )
        longest = max(longest, len(steps))
    assert longest == digits
    with pytest.raises(UserError, match="digits=9"):
        replace(world, digits=9)
