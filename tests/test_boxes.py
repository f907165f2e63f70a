"""Boxes of full CPython, where bubblewrap works: HumanEval's checks cannot be cheated, and harm stays inside."""

import gzip
import json
import os
import platform
import re
import secrets
import struct
import subprocess
import sys
import time
from pathlib import Path

import harmful
import pytest
from scripted import perform, score
from watched import Watched

from nanoschool.envs import bubblewrap, judged, load
from nanoschool.envs.adapters import humaneval
from nanoschool.types import UserError

DATA = Path(__file__).parents[2] / "shared/data/benchmarks/HumanEval.jsonl.gz"
CHECK = "def check(candidate):\n    assert candidate(3) == 4\n    assert candidate([1, 2]) == [2, 3]\n"
RIGHT = "def f(x):\n    return x + 1 if x == 3 else [2, 3]\n"
QUICK = (
    "read a file",
    "walk the disk",
    "run a shell",
    "fork for ever",
    "start threads",
    "connect by libc",
    "fill the disk",
)


def trouble() -> str:
    try:
        bubblewrap.prove()
    except UserError as error:
        return str(error)
    return ""


TROUBLE = trouble()
boxed = pytest.mark.skipif(bool(TROUBLE), reason=TROUBLE or "bubblewrap works here")
benchmark = pytest.mark.skipif(not DATA.is_file(), reason=f"the benchmark's file is not at {DATA}")


def rows() -> list[dict[str, str]]:
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def right_and_cheats(row: dict[str, str]) -> dict[str, str]:
    body = "    "
    return {
        "canonical": row["canonical_solution"],
        "os._exit": f"{body}import os\n{body}os._exit(0)\n",
        "sys.exit": f"{body}import sys\n{body}sys.exit(0)\n",
        "exit at once": "    pass\nimport os\nos._exit(0)\n",
        "assert patched": f"{body}return None\n{PATCHED}",
    }


PATCHED = """
import builtins, sys, unittest
class Anything:
    def __eq__(self, other): return True
    __ne__ = __lt__ = __gt__ = __le__ = __ge__ = __contains__ = lambda self, other: True
    def __repr__(self): return 'None'
builtins.AssertionError = type('AssertionError', (SystemExit,), {})
builtins.abs = builtins.len = builtins.all = lambda *a: Anything()
unittest.TestCase.assertEqual = lambda *a: None
sys.excepthook = lambda *a: None
sys.modules['__main__'].judge = lambda *a: None
sys.modules['__main__']._describe = lambda e: 'value'
"""


# The command, whether or not it can run here


def test_a_box_mounts_only_what_python_needs_and_lets_nothing_out():
    line = bubblewrap.command(["-c", "pass"], {"program.py": 7}, 8, 9, 10)
    assert line[0] == "bwrap" and {
        "--unshare-all",
        "--unshare-user",
        "--die-with-parent",
        "--clearenv",
    } <= set(line)
    assert {"--bind", "--share-net", "--proc", "--dev"}.isdisjoint(line)
    readonly = [line[at + 1] for at, word in enumerate(line) if word == "--ro-bind"]
    allowed = (os.path.realpath(sys.executable), sys.base_prefix, "/usr/lib", "/lib", str(bubblewrap.INSIDE))
    assert (
        all(path.startswith(allowed) for path in readonly) and "/" not in readonly and "/usr" not in readonly
    )
    assert line[line.index("--dev-bind") + 1] == "/dev/null" and line.count("--dev-bind") == 1
    assert line[line.index("--remount-ro") + 1] == "/" and line[line.index("--seccomp") + 1] == "8"
    assert (
        line[line.index("--size") + 2 :][:2] == ["--tmpfs", "/tmp"]
        and line[line.index("--cap-drop") + 1] == "ALL"
    )


@pytest.mark.parametrize("machine", bubblewrap.SYSTEM_CALLS)
def test_the_filter_refuses_what_it_lists(machine):
    """The filter, run here as the kernel would."""
    audit, listed = bubblewrap.SYSTEM_CALLS[machine]
    assert len(listed.split()) == 30
    rows = list(struct.iter_unpack("=HBBI", bubblewrap.seccomp(machine)))

    def answer(arch: int, number: int) -> int:
        at = value = 0
        while True:
            code, yes, no, k = rows[at]
            if code == 0x06:
                return k
            if code == 0x20:
                value, at = {0: number, 4: arch}[k], at + 1
            else:
                at += 1 + (yes if (value == k if code == 0x15 else value >= k) else no)

    refused = {int(number) for number in listed.split() if number != "-"}
    for number in range(600):
        assert answer(audit, number) == (0x00050001 if number in refused else 0x7FFF0000), number
    assert answer(audit, 0x40000000 + 56) == 0x00050001
    assert answer(audit ^ 1, 0) == 0x80000000


def test_without_bubblewrap_there_is_one_clear_line_and_no_other_way(monkeypatch, tmp_path):
    bubblewrap.prove.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no `bwrap` on the PATH; on Linux install the package bubblewrap"):
        judged.passes(RIGHT, "f", CHECK)
    for said, reason in (
        ("echo 'bwrap: No permissions to create new namespace' >&2; exit 1", "No permissions to create"),
        ("exit 1", "bwrap said nothing"),
    ):
        (tmp_path / "bwrap").write_text(f"#!/bin/sh\n{said}\n")
        (tmp_path / "bwrap").chmod(0o755)
        with pytest.raises(
            UserError, match=rf"does not work in this place \(.*{reason}.*\); allow"
        ) as caught:
            judged.passes(RIGHT, "f", CHECK)
        assert "\n" not in str(caught.value)
    bubblewrap.prove.cache_clear()


def test_another_machine_is_refused(monkeypatch):
    bubblewrap.prove.cache_clear()
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(UserError, match="there is none for other systems"):
        bubblewrap.prove()
    bubblewrap.prove.cache_clear()


# Verdicts


@boxed
@pytest.mark.parametrize(
    "program, told",
    [
        (RIGHT, None),
        ("def f(x): return x + 1", "TypeError"),
        ("def f(x): return 4", "AssertionError"),
        ("def g(x): return 4", "KeyError: 'f'"),
        ("def f(x) return", "SyntaxError"),
        ("", "KeyError"),
        ("\x00", "ValueError|SyntaxError"),
        ("def f(x): return '\ud800'", "AssertionError"),
        ("def f(x): return '\\ud800'", "AssertionError"),
        ("x = 1\n" * 10_000, "longer than 20000 characters"),
        ("import os\ndef f(x): os._exit(0)", "ended"),
        ("import sys\ndef f(x): sys.exit(0)", "SystemExit: 0"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("class Any:\n    def __eq__(s, o): return True\ndef f(x): return Any()", "something else than plain values"),
        ("class A:\n    def __eq__(s, o): return True\n    def __repr__(s): return '5'\ndef f(x): return A()", "Assertion"),
        ("class Any(int):\n    def __eq__(s, o): return True\ndef f(x): return Any(5)", "AssertionError"),
        ("import builtins\nbuiltins.AssertionError = SystemExit\ndef f(x): return 5", "AssertionError"),
        ("def f(x): return lambda: 0", "plain values"),
        ("def f(x): return 'a' * 10**7", "said too much"),
        ("def f(x):\n    l = []\n    l.append(l)\n    return l", "AssertionError|plain values"),
        ("def f(x):\n    l = []\n    for _ in range(900): l = [l]\n    return l", "AssertionError|plain values"),
        ("def f(x): return __import__('os').sched_getaffinity(0)", "AssertionError"),
        ("def f(x):\n    while True: pass", "TimeoutError: the program ran for more than 1.5 s"),
        ("while True: pass", "TimeoutError"),
        ("import os\ndef f(x):\n    for d in 3, 4, 5: os.write(d, b\"('value', 4)\\n\" * 9)", "Assertion|Program"),
        ("import os\nos.closerange(0, 32)\ndef f(x): return 4", "ended"),
        ("class E(Exception):\n    def __str__(s): raise s\ndef f(x): raise E", "ProgramError: E"),
    ],
)  # fmt: skip
def test_only_right_values_pass(program, told):
    ran = judged.passes(program, "f", CHECK, seconds=1.5)
    assert ran.ok == (told is None) and len(ran.text) <= judged.TEXT and "\n" not in ran.text
    assert re.search(told or r"\A\Z", ran.text), ran.text


@boxed
def test_every_plain_value_goes_there_and_back():
    values = [
        0,
        -1,
        2**200,
        1.5,
        True,
        None,
        "é\n\x00'",
        b"\xff",
        [1, [2]],
        (1,),
        (),
        {1: "a"},
        {1, 2},
        set(),
        {},
        1j,
    ]
    check = f"def check(candidate):\n    for value in {values!r}:\n        said = candidate(value)\n"
    check += "        assert said == value and type(said) is type(value), repr(value)\n"
    assert judged.passes("def f(x): return x", "f", check).text == ""


@boxed
def test_what_checks_and_programs_print_is_no_verdict():
    noisy = f"import sys\nprint('x')\nsys.stderr.write('y')\n{CHECK}"
    printing = RIGHT + "import sys\nprint('x')\nsys.stderr.write('y')\n"
    assert judged.passes(printing, "f", noisy).text == ""


# Harm


def harmed(name: str, folder: Path) -> None:
    """Run a harmful program as it is defined, in the box of the program; what it prints is asked for by the judge."""
    with Watched(folder) as watched:
        words = "said = []\ndef print(*words): said.append(repr(words)[:10**4])\n"
        program = f"{words}{watched.aimed(harmful.PROGRAMS[name])}\ndef f(x): return said\n"
        check = f"def check(candidate):\n    said = repr(candidate(0))\n    assert {watched.word!r} not in said, 'LEAKED'\n"
        began = time.perf_counter()
        ran = judged.passes(program, "f", check, seconds=1.0)
        assert time.perf_counter() - began < 2.0
        assert "LEAKED" not in ran.text and watched.word not in ran.text
        assert watched.processes() == set() and watched.untouched()
        assert judged.passes(RIGHT, "f", CHECK).ok


@boxed
@pytest.mark.parametrize("name", QUICK)
def test_a_harmful_program_harms_nothing(name, tmp_path):
    harmed(name, tmp_path)


@boxed
@pytest.mark.soak
@pytest.mark.parametrize("name", harmful.PROGRAMS)
def test_no_harmful_program_harms_anything(name, tmp_path):
    harmed(name, tmp_path)


@boxed
def test_boxes_die_with_a_host_that_is_killed():
    program = "import ctypes\nctypes.CDLL(None).prctl(1, 0)\nwhile True: pass"
    host = f"from nanoschool.envs import judged; judged.passes({program!r}, 'f', 'def check(c): c(1)', 60.0)"
    with Watched() as watched:
        running = subprocess.Popen([sys.executable, "-c", host])
        until = time.monotonic() + 10
        while len(watched.processes()) < 5 and time.monotonic() < until:
            time.sleep(0.02)
        assert len(watched.processes()) == 5  # the host, and two of bwrap and python
        running.kill()
        running.wait()
        assert watched.gone()


# HumanEval


@benchmark
@boxed
def test_some_canonical_solutions_pass_and_no_cheat_does():
    for row in rows()[::33]:
        check = f"{row['prompt']}{row['canonical_solution']}\n{row['test']}"
        for name, reply in right_and_cheats(row).items():
            ran = judged.passes(row["prompt"] + reply, row["entry_point"], check)
            assert ran.ok == (name == "canonical"), (row["task_id"], name, ran.text)


@benchmark
@boxed
@pytest.mark.soak
def test_all_164_canonical_solutions_pass_and_no_cheat_does():
    passed = dict.fromkeys(("canonical", "os._exit", "sys.exit", "exit at once", "assert patched"), 0)
    for row in rows():
        check = f"{row['prompt']}{row['canonical_solution']}\n{row['test']}"
        for name, reply in right_and_cheats(row).items():
            passed[name] += judged.passes(row["prompt"] + reply, row["entry_point"], check).ok
    assert passed == {"canonical": 164, "os._exit": 0, "sys.exit": 0, "exit at once": 0, "assert patched": 0}


@benchmark
@boxed
def test_replies_are_bodies_or_whole_functions_fenced_or_not():
    world = load(f"humaneval:{DATA}")
    task = next(task for task in world.tasks("test", 164) if task.problem == "HumanEval/2")
    body = task.data["canonical_solution"]
    whole = f"def {task.data['entry_point']}(number):\n{body}"
    for reply in (body, whole, f"```python\n{whole}```", f"So:\n```\n{whole}\n```\nThere.", f"```\n{body}"):
        assert score(world, task, reply) == 1.0, reply
    for reply in ("", "```", f"```\n```\n{body}", whole.replace("number", "n", 1), "\ud800", "a" * 100_000):
        assert score(world, task, reply) == 0.0, reply
    shown = world.demonstration(task)
    assert score(world, task, shown[1].content) == 1.0 and shown[0].content == next(world.play(task)).text
    for after in ("\nprint(1 / 0)", "\ndef g(): !", "\nclass"):
        asks, outcome = perform(world.complete(task, "continued"), [body + after])
        assert outcome.rewards == (1.0,) and asks[0].role == "text" and after[:4] in " ".join(asks[0].stop)


@benchmark
def test_the_file_is_164_test_problems():
    world = humaneval.HumanEval(str(DATA))
    tasks = world.tasks("test", 164)
    assert len({task.problem for task in tasks}) == 164 and tasks == world.tasks("test", 164) != world.tasks(
        "test", 164, 1
    )
    assert world.tasks("test", 5) == tasks[:5]
    with pytest.raises(UserError, match="has 164 problems"):
        world.tasks("test", 165)
    with pytest.raises(UserError, match="no train split"):
        world.tasks("train", 1)


def test_a_file_that_is_no_benchmark_is_named(tmp_path):
    word = secrets.token_hex(4)
    for name, content, complaint in (
        ("none", None, "there is no file"),
        ("a.jsonl.gz", b"no gzip", "is no UTF-8 JSONL"),
        ("b.jsonl", b"\xff", "is no UTF-8 JSONL"),
        ("c.jsonl", b'{"task_id": "x"}\n', r"c\.jsonl:1 is no problem"),
        ("d.jsonl", b"[]\n", r"d\.jsonl:1 is no problem"),
        ("e.jsonl", b"{\n", r"e\.jsonl:1 is no problem"),
    ):
        path = tmp_path / f"{word}{name}"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=f"world humaneval: .*{complaint}"):
            load(f"humaneval:{path}").tasks("test", 1)
    with pytest.raises(UserError, match="needs the benchmark's file"):
        load("humaneval:")
