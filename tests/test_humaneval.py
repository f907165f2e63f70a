"""HumanEval under bubblewrap: its canonical solutions pass, and none of the cheats does."""

import gzip
import json
import secrets
from pathlib import Path

import pytest
from scripted import perform, score
from watched import boxed

from nanoschool.envs import judged, load
from nanoschool.envs.adapters import humaneval
from nanoschool.types import UserError

DATA = Path(__file__).parents[2] / "shared/data/benchmarks/HumanEval.jsonl.gz"
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
