"""What chain, sums and steps owe beyond the contract: values, steps, grades and raw text."""

from dataclasses import replace
from random import Random

import pytest
from scripted import perform, score, text_of

from nanoschool import envs
from nanoschool.types import UserError

WRITTEN = ("chain", "sums", "steps")  # worlds of written steps


# Raw text: what a document goes on with is what a completion asks for


def test_a_line_of_written_steps_answers_its_own_question():
    for name in ("chain", "sums"):
        world = envs.load(name)
        for task in world.tasks("train", 200):
            for worked, answer_format in ((True, "worked"), (False, "direct")):
                line = text_of(world.line(task, worked))
                ask = next(world.complete(task, answer_format))
                assert line.startswith(ask.text)
                outcome = perform(world.complete(task, answer_format), [line[len(ask.text) :]])[1]
                assert outcome.rewards == (1.0,) and outcome.info["wellformed"]
                assert perform(world.complete(task, answer_format), [" 100000"])[1].rewards == (0.0,)


# The truth about written steps


def mutated(rng: Random, right: str) -> str:
    """A prefix of a right reply with a few characters changed, dropped or put in."""
    text = list(right[: rng.randint(0, len(right))])
    for _ in range(rng.randint(0, 2)):
        at = rng.randint(0, len(text))
        text[at : at + rng.randint(0, 1)] = rng.choice(["", *"019ab=+-*; #"])
    return "".join(text)


@pytest.mark.parametrize("name", WRITTEN)
def test_values_obey_the_bellman_equation(name):
    """V(text) is the best of stopping here and of every next character, and a best reply goes on from the text."""
    world, rng = envs.load(name), Random(1)
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyz=+-*; #"
    alive = 0
    for task in world.tasks("dev", 40):
        right = world.oracle(task, []).best_replies[0]
        for _ in range(8):
            partial = mutated(rng, right)
            oracle = world.oracle(task, [], partial)
            after = [world.oracle(task, [], partial + character).value for character in alphabet]
            assert oracle.value == max(score(world, task, partial), *after), (task, partial)
            assert (oracle.value == 1.0) == bool(oracle.best_replies)
            for best in oracle.best_replies:
                assert best.startswith(partial) and score(world, task, best) == 1.0
            alive += oracle.value == 1.0
    assert 100 < alive < 300  # both kinds were seen


@pytest.mark.parametrize("name", WRITTEN)
def test_steps_and_the_first_wrong_one(name):
    world = envs.load(name)
    for task in world.tasks("train", 100):
        right = world.oracle(task, []).best_replies[0]
        body, _, answer = right.partition(" #### ")
        pieces = body.split("; ")
        ends = world.steps(right)
        assert len(ends) == len(pieces) and ends[-1] == len(body)
        starts = [0, *ends[:-1]]
        assert [right[a:b].removesuffix("; ") for a, b in zip(starts, ends, strict=True)] == pieces
        for wrong, start in enumerate(starts):
            said = [*pieces[:wrong], pieces[wrong][:-1] + "#", *pieces[wrong + 1 :]]
            said[wrong] = pieces[wrong][:-1] + str((int(pieces[wrong][-1]) + 1) % 10)
            reply = "; ".join(said) + f" #### {answer}"
            oracle = world.oracle(task, [], reply)
            assert oracle.first_error == start
            assert oracle.value == 1.0  # the answer is right, and only the answer is graded
        early = "; ".join(pieces[:-1]) + " #### 1"
        if len(pieces) > 1:
            assert world.oracle(task, [], early).first_error == len(early) - len(" #### 1")
        assert world.oracle(task, [], f"{body} #### {answer}1").first_error == len(body)
        assert world.oracle(task, [], f"{body} #### {answer}1").value == 0.0


def test_work_is_right_by_python():
    chain, sums = envs.load("chain"), envs.load("sums")
    for task in chain.tasks("train", 300):
        steps, answer = chain.work(task)
        assert all(eval(step.split("=")[1]) == int(step.split("=")[2]) for step in steps)
        assert answer == int(steps[-1].split("=")[2]) and 0 <= answer <= 99 and len(steps) == task.data["L"]
    for digits in (1, 2, 3):
        world = replace(sums, digits=digits)
        for task in world.tasks("train", 60):
            steps, answer = world.work(task)
            assert all(eval(left) == int(right) for left, right in (step.split("=") for step in steps))
            assert answer == eval(sums.question(task).removesuffix("=?")) >= 0
            assert world.reply_form.fullmatch("; ".join(steps) + f" #### {answer}")


def test_only_form_and_answer_are_graded():
    world = envs.load("chain")
    task = next(task for task in world.tasks("train", 50) if task.data["L"] > 1)
    _, answer = world.work(task)
    info = {
        reply: perform(world.play(task), [reply])[1] for reply in (f"b=1+1=9 #### {answer}", f"#### {answer}")
    }
    wrong_steps, no_steps = info.values()
    assert wrong_steps.rewards == (1.0,) and wrong_steps.info["wellformed"]
    assert no_steps.rewards == (0.0,) and no_steps.info["correct"] and not no_steps.info["wellformed"]
    for spoilt in (
        f"b=1+1=9 #### {answer}.",
        f" b=1+1=9 #### {answer}",
        f"b=1+1=9 #### 0{answer}",
        f"b=1+1=9\n#### {answer}",
    ):
        assert score(world, task, spoilt) == 0.0


def test_settings_are_fields():
    short = replace(envs.load("chain"), lengths=(1, 2))
    assert {task.data["L"] for task in short.tasks("dev", 50)} == {1, 2}
    with pytest.raises(UserError, match=r"found only \d+ distinct test tasks of the 1000"):
        replace(short, lengths=(1,)).tasks("test", 1000)
    union = replace(envs.load("steps"), chain=short)
    assert {task.world for task in union.tasks("dev", 9)} == {"chain", "sums"}
    assert all(task.data["L"] < 3 for task in union.tasks("dev", 40) if task.world == "chain")
