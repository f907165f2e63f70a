"""What a model's programs may do: run, print a little, fail in words. What they may not: sixty attempts at it."""

import os
import signal
import subprocess
import sys
import time
from random import Random

import harmful
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import perform, score
from watched import Watched

from nanoschool import envs
from nanoschool.envs import python, sandbox
from nanoschool.envs.sandbox import Limits, Ran, Sandbox
from nanoschool.types import UserError

QUICK = Limits(seconds=0.3, sleep=0.05)


@pytest.fixture(scope="module")
def quick():
    box = Sandbox(QUICK)
    yield box
    box.close()


# Programs that mean no harm


@pytest.mark.parametrize(
    "program, text, ok",
    [
        ("print(6 * 7)", "42\n", True),
        ("x = [i * i for i in range(5)]\nprint(x, sum(x))", "[0, 1, 4, 9, 16] 30\n", True),
        ("6 * 7", "", True),
        ("", "", True),
        ("print(1)\n1 / 0", "1\nZeroDivisionError: division by zero", False),
        ("print(", "SyntaxError: ", False),
        ("raise ValueError('one\\ntwo')", "ValueError: one two", False),
        ("while True: pass", "TimeoutError: the program ran for more than 0.3 s", False),
        ("x = [0] * 10**9", "MemoryError: the program needs more than 16 MiB", False),
        ("def f(): return f()\nf()", "RecursionError: maximum recursion depth exceeded", False),
        (
            "import time\ntime.sleep(0.2)\ntime.sleep(0.2)",
            "TimeoutError: the program slept for more than 0.05 s",
            False,
        ),
        (
            "import time\ntime.sleep(9)\nprint(1)",
            "TimeoutError: the program slept for more than 0.05 s",
            False,
        ),
        ("#" * 20_001, "SyntaxError: the program is longer than 20000 characters", False),
    ],
)
def test_a_program_prints_or_fails_in_one_line(quick, program, text, ok):
    ran = quick.run(program)
    assert ran.ok == ok and ran.text.startswith(text) and "\n" not in ran.text[len(text) :]
    assert ok or ran.text
    assert quick.run(program) == ran


def test_what_is_told_is_bounded_and_keeps_its_head_and_the_error(quick):
    assert quick.run("print('a' * 10**6)") == Ran("a" * 400, True)
    ran = quick.run("print('a' * 1000)\n1 / 0")
    assert len(ran.text) == 400 and ran.text.startswith("aaa")
    assert ran.text.endswith("\nZeroDivisionError: division by zero")
    assert len(quick.run("raise ValueError('é' * 5000)").text) == 400


def test_sessions_share_nothing(quick):
    for program in ("x = 5", "import math\nmath.pi = 3", "print = None", "len = lambda x: 0"):
        quick.run(program)
    assert quick.run("import math\nprint(math.pi > 3.1, len('ab'))").text == "True 2\n"
    assert quick.run("print(x)").text == "NameError: name 'x' is not defined"


def test_the_clock_stands_still_and_chance_is_seeded(quick):
    program = (
        "import random, time\nprint(random.random(), time.time(), time.perf_counter(), hash('a'), {'a', 'b'})"
    )
    first = quick.run(program)
    other = Sandbox(QUICK)
    assert first.ok and quick.run(program) == first == other.run(program)
    other.close()


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.text(alphabet="()[]{}:=+*'\"\\\n lambda def 01", max_size=100)))
def test_any_text_is_a_program(program):
    ran = sandbox.shared().run(program)
    assert len(ran.text) <= 400


def test_a_missing_package_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydantic_monty", None)
    with pytest.raises(UserError, match=r"pydantic_monty cannot be imported .*pip install 'pydantic-monty'"):
        Sandbox()


# Workers


def test_the_pool_serves_the_next_call_after_its_workers_are_killed():
    with Watched() as watched:
        box = Sandbox(QUICK)
        assert box.run("print(1)").text == "1\n"
        for _ in range(3):
            workers = watched.processes()
            assert 1 <= len(workers) <= 2
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            assert watched.gone()  # a signal takes its time
            assert box.run("print(6 * 7)") == Ran("42\n", True)
        box.close()
        assert watched.gone()


def test_workers_end_with_a_host_that_is_killed(tmp_path):
    with Watched() as watched:
        program = (
            "from nanoschool.envs.sandbox import shared; shared().run('1'); print(1, flush=True); input()"
        )
        host = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert host.stdout is not None and host.stdout.readline() == b"1\n"
        assert len(watched.processes()) == 3
        host.kill()
        host.communicate()
        assert watched.gone()


def test_a_forked_child_is_refused_rather_than_left_waiting():
    assert sandbox.shared().run("print(1)").text == "1\n"
    child = os.fork()
    if child == 0:
        try:
            sandbox.shared()
        except UserError as error:
            os._exit(0 if "forked" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert sandbox.shared().run("print(3)").text == "3\n"


# Programs that mean harm


@pytest.mark.parametrize("name", harmful.PROGRAMS)
def test_a_hostile_program_gets_nothing(name, tmp_path):
    with Watched(tmp_path) as watched:
        box = Sandbox(QUICK)
        before = watched.processes()
        began = time.perf_counter()
        ran = box.run(watched.aimed(harmful.PROGRAMS[name]))
        took = time.perf_counter() - began
        assert took < QUICK.seconds + QUICK.sleep + 1.0
        assert len(ran.text) <= QUICK.output and watched.word not in ran.text
        assert box.run("print(6 * 7)") == Ran("42\n", True)
        assert watched.untouched()
        assert len(watched.processes()) <= len(before)
        box.close()
        assert watched.gone()


# How fast


def programs_a_second(count: int, rounds: int) -> float:
    """Of the best round: what the sandbox can do where the machine lets it."""
    box, best = Sandbox(), 0.0
    for _ in range(rounds):
        began = time.perf_counter()
        for i in range(count):
            assert box.run(f"x = {i}\nprint(x * 2)").text == f"{2 * i}\n"
        best = max(best, count / (time.perf_counter() - began))
    box.close()
    return best


def test_fresh_programs_are_fast():
    assert programs_a_second(500, 5) > 800  # on a machine that does other things too


@pytest.mark.soak
def test_three_thousand_fresh_programs_a_second():
    assert programs_a_second(1000, 40) > 3000


@pytest.mark.soak
def test_no_memory_or_worker_is_lost_over_many_programs():
    rng = Random(0)
    with Watched() as watched:
        box = Sandbox(Limits(seconds=0.05, sleep=0.01))
        kinds = [*harmful.PROGRAMS.values(), *["print(1)"] * 600]
        box.run("print(1)")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(4000):
            box.run(rng.choice(kinds))
        assert box.run("print(6 * 7)").text == "42\n"
        assert len(watched.processes()) <= 2 and len(os.listdir("/proc/self/fd")) <= before + 4
        box.close()
        assert watched.gone()


# The world


def test_a_demonstrated_call_prints_what_is_shown_and_earns_all():
    world = envs.load("python")
    for task in world.tasks("train", 300):
        asked, called, told, answered = world.demonstration(task)
        asks, outcome = perform(world.play(task), [called.content, answered.content])
        assert [ask.text for ask in asks] == [asked.content, told.content] and asks[1].role == "tool"
        assert outcome.rewards == (1.0,) and outcome.info["calls"] == 1 and outcome.info["failed"] == 0
        assert score(world, task, answered.content) == 1.0
        assert 0 <= int(told.content) <= python.HIGHEST[task.data["kind"]]
        asks, outcome = perform(world.complete(task, "worked"), [called.content, f" {answered.content}\n"])
        assert asks[1].text == f" {told.content}" and outcome.rewards == (1.0,)


def test_answers_are_spread_so_that_no_constant_pays():
    world = envs.load("python")
    for kind in python.KINDS:
        said = [python.solution(task) for task in python.Python(kinds=(kind,)).tasks("train", 150)]
        assert max(said.count(answer) for answer in said) <= 0.05 * 150, kind
    assert {task.data["kind"] for task in world.tasks("dev", 60)} == set(python.KINDS)


def test_errors_are_told_and_calls_run_out():
    world = envs.load("python")
    task = world.tasks("train", 1)[0]
    right = f"#### {python.solution(task)}"
    for call, told in (
        ("<python>print(1/0)</python>", "ZeroDivisionError: division by zero"),
        ("<python>1</python>", "no output"),
        ("</python>", "no output"),
        (
            "<python>print(open('/etc/passwd').read())</python>",
            "PermissionError: Permission denied: '/etc/passwd'",
        ),
        ("<python>print('a'*999)</python>", "a" * 80),
        ("I think <python>print(2)</python>", "2"),
    ):
        asks, outcome = perform(world.play(task), [call, right])
        assert asks[1].text == told and outcome.rewards == (1.0,)
    asks, outcome = perform(world.play(task), ["<python>print(1)</python>"])
    assert len(asks) == 1 + world.calls and outcome.rewards == (0.0,)
    assert outcome.feedback.endswith(f" {python.solution(task)}")


def test_the_oracle_knows_what_can_still_be_said():
    world = envs.load("python")
    for task in world.tasks("dev", 40):
        right = f"#### {python.solution(task)}"
        for partial, error in (
            ("", None),
            ("#### ", None),
            (right, None),
            ("####  1", 0),
            ("<python>pr", None),
            ("so", None),
        ):
            oracle = world.oracle(task, [], partial)
            (best,) = oracle.best_replies
            assert oracle.value == 1.0 and oracle.first_error == error and best.startswith(partial)
            assert score(world, task, best, right) == 1.0
        spent = [python.call(task)] * world.calls
        assert (
            world.oracle(task, spent).best_replies == (right,)
            and world.oracle(task, spent, "so").value == 0.0
        )
        assert world.oracle(task, [*spent, right]).value == 1.0 and world.oracle(task, ["no"]).value == 0.0


def test_a_setting_out_of_range_is_named():
    for setting in (dict(kinds=("cube",)), dict(calls=0), dict(shown=0)):
        with pytest.raises(UserError, match=f"world python: {next(iter(setting))}="):
            python.Python(**setting)
