"""Boxes of full CPython, where bubblewrap works: only right values pass, and harm stays inside."""

import os
import platform
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import harmful
import pytest
from watched import Watched, boxed

from nanoschool.envs import bubblewrap, judged
from nanoschool.types import UserError

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
