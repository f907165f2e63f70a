"""What rules, facts and stories owe beyond the contract: entropy, feedback, the reading gate, exposure, raw text."""

from dataclasses import replace
from itertools import pairwise
from math import log2
from random import Random

from scripted import perform, text_of

from nanoschool import envs
from nanoschool.envs import common, rules
from nanoschool.types import Task


def test_a_prompted_word_answers_its_question():
    for name in ("facts", "stories"):
        for task in envs.load(name).tasks("train", 100):
            ask, *_ = perform(envs.load(name).complete(task, "worked"), [""])[0]
            assert ask.text.endswith(f"Q: {task.data['question']} A:")
            for reply, reward in (
                (f" {task.data['answer']}.", 1.0),
                (f" {task.data['answer']}x", 0.0),
                (" no", 0.0),
            ):
                assert perform(envs.load(name).complete(task, "worked"), [reply])[1].rewards == (reward,)


def test_raw_text_asks_the_same_question_with_its_book():
    world = envs.load("rules")
    for shown in (world, replace(world, book=False)):
        for task in shown.tasks("train", 50):
            right = world.demonstration(task)[1].content
            ask = next(shown.complete(task, "worked"))
            assert ask.text == f"{world.demonstration(task)[0].content}\n" and ask.role == "text"
            for reply, reward in ((f"{right}\n", 1.0), (right, 1.0), (f"{right}x", 0.0), ("", 0.0)):
                assert perform(shown.complete(task, "worked"), [reply])[1].rewards == (reward,)


# The truth about rules


def test_a_full_map_without_gaps_has_24_bits():
    hidden = replace(envs.load("rules"), gaps=0, book=False, asked=(8,))
    for task in hidden.tasks("test", 20):
        assert hidden.oracle(task, []).entropy_bits == 24.0 == 8 * log2(8)
        assert ":" not in next(hidden.play(task)).text
        assert envs.load("rules").oracle(task, []).entropy_bits == 0.0
    gapped = replace(hidden, gaps=2)
    for task in gapped.tasks("test", 20):
        gaps = list(task.data["map"].values()).count("no")
        assert gapped.oracle(task, []).entropy_bits == 3.0 * (8 - gaps)


def test_feedback_names_the_first_wrong_position():
    world = envs.load("rules")
    task = Task(
        "rules", "", {"name": "tam", "map": dict(a="k", b="m", c="no", d="q"), "asked": ["d", "a", "c"]}
    )
    for reply, fraction, feedback in (
        ("tam: d q, a k, c no", 1.0, ""),
        ("tam: d m, a m, c no", 1 / 3, "wrong: d m, right: d q"),
        ("tam: d q, a k", 2 / 3, "wrong: nothing, right: c no"),
        ("tam: d q, a k, c no, b m", 1.0, "wrong: b m, right: nothing"),
        ("tum: d q, a k, c no", 1.0, "wrong: tum, right: tam"),
        ("I do not know", 0.0, "wrong: nothing, right: d q"),
    ):
        outcome = perform(world.play(task), [reply])[1]
        assert outcome.rewards == (float(feedback == ""),)
        assert (outcome.info["fraction"], outcome.feedback) == (fraction, feedback)


def test_the_reading_gate_asks_unseen_maps_and_shuffles_only_the_book():
    world = envs.load("rules")
    open_rows, shuffled = world.gate_rows(200, 5)[0], world.gate_rows(200, 5, shuffled=True)[0]
    assert len(open_rows) == len(shuffled) == 200
    moved = gaps = 0
    for row, other in zip(open_rows, shuffled, strict=True):
        assert row[1:] == other[1:]  # the same questions and answers
        books = [
            dict(entry.split(" ") for entry in r[0][0].partition(": ")[2].partition("\n")[0].split(", "))
            for r in (row, other)
        ]
        answers = [span.strip() for span, learned in row if learned]
        keys = [span.split(" ")[-1] for (span, _), (_, learned) in pairwise(row) if learned]
        assert sorted(keys) == sorted(books[0]) and len(keys) == 8
        assert [books[0][key] for key in keys] == answers
        assert sorted(books[1].values()) == sorted(answers) and books[1].keys() == books[0].keys()
        assert common.split_of(rules.problem(books[0])) == "test"
        assert {f" {symbol}" for symbol in (*keys, *answers)} <= set(world.symbols())
        moved += sum(books[0][key] != books[1][key] for key in keys)
        gaps += answers.count("no")
    assert moved / 1600 > 0.7 and gaps > 100


def test_a_reading_row_has_a_book_of_any_size_and_a_fixed_number_of_entries():
    world = replace(envs.load("rules"), shares=(1.0, 0.0, 0.0, 0.0))
    sizes = set()
    for seed in range(200):
        document = world.document(Random(seed))
        size = document[0][0].count(",") + 1
        sizes.add(size)
        assert size + sum(learned for _, learned in document) == world.entries
    assert sizes == set(range(1, world.size + 1))


# The truth about people


def test_exposure_is_what_documents_show():
    world = replace(envs.load("facts"), town_share=1.0)
    known = {
        task.data["person"]: task.data["exposure"]
        for task in replace(world, kinds=("closed",)).tasks("train", 300)
    }
    counts = dict.fromkeys(known, 0)
    rng = Random(0)
    for _ in range(4000):
        text = text_of(world.document(rng))
        for name in known:
            counts[name] += name in text
    by_exposure = {}
    for name, exposure in known.items():
        by_exposure.setdefault(exposure, []).append(counts[name])
    means = [sum(values) / len(values) for _, values in sorted(by_exposure.items())]
    assert 0 not in by_exposure and means[-1] > 100 > means[0] and means[-3:] == sorted(means[-3:])


def test_open_questions_are_answered_by_their_prompt_and_closed_ones_hide_four_bits():
    world = envs.load("facts")
    tasks = world.tasks("test", 150)
    assert {task.data["kind"] for task in tasks} == {"open", "closed"}
    for task in tasks:
        prompt = next(world.play(task)).text
        told = task.data["answer"] in prompt.split("What is")[0].replace(".", "").split()
        assert told == (task.data["kind"] == "open")
        assert world.oracle(task, []).entropy_bits == (0.0 if told else 4.0)
        outcome = perform(world.play(task), ["nothing"])[1]
        assert (
            outcome.feedback
            == f"the {task.data['attribute']} of {task.data['person']} is {task.data['answer']}"
        )
        assert not outcome.info["wellformed"]
