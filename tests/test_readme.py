"""The README keeps its word: every command in it is one that there is, with flags that there are, and its Python runs."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from nanoschool.cli import COMMANDS, main
from nanoschool.papers import page
from nanoschool.settings import load_settings
from nanoschool.types import SPLITS, Reply, Trajectory

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CONTRIBUTING.md")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def blocks(page: str, language: str) -> list[str]:
    return [
        body for kind, body in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")) if kind == language
    ]


def commands(program: str) -> list[list[str]]:
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line and line[0] == program]


def test_there_is_something_to_test():
    assert len(commands("nanoschool")) >= 4
    assert len(commands("make")) >= 4
    assert {line[1] for line in commands("nanoschool")} >= set(COMMANDS)


@pytest.mark.parametrize("line", commands("nanoschool"), ids=shlex.join)
def test_a_nanoschool_command_is_understood(line, capsys):
    """Its help runs and lists every flag that the line uses; a run's flags have values that fit."""
    if line[1] == "run":
        load_settings(line[2], line[3:])
    try:
        assert main([*line[1:], "--help"]) == 0
    except SystemExit as stop:
        assert not stop.code
    said = capsys.readouterr().out
    assert f"usage: nanoschool {line[1]}" in said
    for flag in (word.partition("=")[0] for word in line if word.startswith("-")):
        assert re.search(rf"(^|[ ,]){flag}[ ,]", said, re.M), f"{flag} is no flag of nanoschool {line[1]}"


@pytest.mark.parametrize("line", commands("make"), ids=shlex.join)
def test_a_make_target_is_there(line):
    for target in line[1:]:
        if "=" not in target:
            subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_first_come_the_two_commands():
    first = blocks("README.md", "sh")[0].split()
    assert first[:2] == ["make", "school"] and "test" in first


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_links_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in target or (ROOT / target).exists(), f"{page} links to {target}"


def test_the_list_of_papers_is_the_methods():
    said = (ROOT / "PAPERS.md").read_text(encoding="utf-8")
    assert said == page(), "write it anew: python -m nanoschool.papers > PAPERS.md"


def test_the_method_of_contributing_is_one():
    method = {}
    exec(blocks("CONTRIBUTING.md", "python")[0], method)
    attempts = [
        Trajectory([], [], [], [], rewards=reward, group=group)
        for group, reward in ((0, 1), (0, 0), (1, 0), (1, 0))
    ]
    assert method["METHOD"]().advantages(attempts) == [1.0, -1.0, 0.0, 0.0]


def test_the_reward_of_contributing_is_one_of_its_world():
    module = {}
    for block in blocks("CONTRIBUTING.md", "python")[1:3]:
        exec(block, module)
    for task in module["WORLD"].tasks("test", 20):
        right = module["WORLD"].demonstration(task)[-1].content
        assert (module["score"](task, f" {right}\n"), module["score"](task, "")) == (1.0, 0.0)


def test_the_world_of_contributing_is_one():
    module = {}
    exec(blocks("CONTRIBUTING.md", "python")[1], module)
    world = module["WORLD"]
    splits = {split: {task.problem for task in world.tasks(split, 200)} for split in SPLITS}
    assert all(len(problems) == 200 for problems in splits.values())
    assert not splits["train"] & splits["test"] and not splits["dev"] & splits["test"]
    for task in world.tasks("test", 20):
        for said, reward in ((world.demonstration(task)[-1].content, 1.0), ("neither", 0.0)):
            episode = world.play(task)
            assert next(episode).text == world.demonstration(task)[0].content
            with pytest.raises(StopIteration) as end:
                episode.send(Reply(said))
            assert end.value.value.rewards == (reward,)


def test_the_python_of_the_readme_runs(nano, tmp_path, monkeypatch, capsys):
    """With a smaller model, in a world that fits its context, and a budget that is soon spent."""
    shutil.copytree(nano, tmp_path / "runs" / "laptop", symlinks=True)
    monkeypatch.chdir(tmp_path)
    train, loop = (block.replace('"chain"', '"sums"') for block in blocks("README.md", "python"))
    exec(train.replace("flops=1e12", "rollouts=64"), {})
    assert (tmp_path / "runs" / "rloo-sums" / "summary.json").exists()
    capsys.readouterr()
    exec(loop, {})
    assert capsys.readouterr().out.count("'reward'") == 3
