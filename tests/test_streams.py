"""What a run trains on, all of it, holds no problem that it is measured on.

Every row that reaches an optimizer and every prompt that is practised on is written down while a run runs, turned back
into text, and read by parsers that know nothing of how the worlds made it (those of test_splits.py).
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from test_splits import PARSERS, split

from nanoschool.cli import main
from nanoschool.core.batch import Batch
from nanoschool.core.policy import Policy
from nanoschool.core.reward_model import RewardModel
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.methods.practice import Practice
from nanoschool.plan import Settings
from nanoschool.settings import load_run
from nanoschool.types import HasCompletions, Trajectory

SHORT = {  # of the widest school: every source and every stage, a few steps each
    "model": {"depth": "1"},
    "pretrain": {"budget": "tokens=60e3", "check": "50", "save": "50"},
    "sft": {"budget": "tokens=25e3", "check": "50", "save": "50"},
    "rl": {"budget": "rollouts=576", "check": "50", "save": "50"},
    "reward": {"budget": "tokens=6e3", "check": "50", "save": "50"},
    "rlhf": {"budget": "rollouts=512", "check": "50", "save": "50"},
    "evaluation": {
        "problems": "100",
        "look": "4",
        "attempts": "2",
        "pass_problems": "2",
        "gate_books": "100",
    },
}
RUNS = {"nano": [], "laptop": [w for s, t in SHORT.items() for k, v in t.items() for w in (f"--{s}.{k}", v)]}


class Stream:
    """What was trained on: rows by the number of the step, and the prompts of practice."""

    def __init__(self) -> None:
        self.fitted: list[list[int]] = []
        self.practised: list[list[int]] = []


@pytest.fixture(scope="module", params=RUNS)
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stream, Settings, Tokenizer]]:
    """A run that really ran, and all that went into its weights."""
    stream, runs = Stream(), tmp_path_factory.mktemp("runs")
    fit, collect = Policy.fit, Practice.collect

    def fit_and_tell(policy: Policy, data: Sequence[Trajectory], *args, **kwargs):
        stream.fitted += [prompt(t) if any(t.logprobs) else t.tokens for t in data]
        return fit(policy, data, *args, **kwargs)

    judge = RewardModel.fit

    def judge_and_tell(model: RewardModel, member: int, batch: Batch, *args, **kwargs):
        rows = zip(batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
        stream.fitted += [row[:length] for row, length in rows]
        return judge(model, member, batch, *args, **kwargs)

    def collect_and_tell(method: Practice, learner) -> list[Trajectory]:
        attempts = collect(method, learner)
        stream.practised += [prompt(t) for t in attempts]
        return attempts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Policy, "fit", fit_and_tell)
        patch.setattr(RewardModel, "fit", judge_and_tell)
        patch.setattr(Practice, "collect", collect_and_tell)
        assert main(["run", request.param, "--runs-dir", str(runs), *RUNS[request.param]]) == 0
    run = Path(runs / request.param)
    yield stream, load_run(run), Tokenizer.load(run / "tokenizer")


def prompt(attempt: Trajectory) -> list[int]:
    """What the world said; what the model answered is its own."""
    return attempt.tokens[: attempt.mask.index(True)]


def documents(rows: Sequence[list[int]], tokenizer: Tokenizer) -> Iterator[tuple[str, bool]]:
    """The texts in rows, and whether each is whole: the reading's documents, and what conversations ask.

    Not what is answered there: the work on 47+38 has the step 7+8, and digits are for everyone to know.
    """
    roles = {tokenizer.role_id(role) for role in ("system", "user", "assistant", "tool")}
    answering = (tokenizer.assistant, tokenizer.role_id("tool"))
    for row in rows:
        start, reading = 0, not roles & set(row)
        for at in [
            *(i for i, token in enumerate(row) if token in roles | {tokenizer.bos, tokenizer.end}),
            len(row),
        ]:
            if row[start:at] and row[start - 1] not in answering:
                text = tokenizer.decode(row[start:at])
                yield text, not reading or at < len(row)
            start = at + 1


def world_of(text: str) -> str:
    """Which world a text is of, by its looks."""
    looks = {
        "chain": r"[a-z]=\d+; ",
        "calc": r"Calculate ",
        "sums": r"(?:So )?\d+[-+]\d+=",
        "rules": r"[a-z]{3,5}: .*(?:\n|\? )|[a-z]{3,5}\? |said |note ",
        "look": r"What is the \w+ of \w+ \w+\? You may look",
        "taste": r"write \d+ words about ",
        "facts": r"(?:Q: )?[a-z].*\b(?:in|eat|a|the|by|is|as|eats|wants|wears|paints) .*|Q: What|What is the",
        "stories": r"[A-Z]\w+ .* the \w+|It was|The |Snow|There|A \w+ \w+ lay",
    }
    return next((name for name, look in looks.items() if re.match(look, text)), "")


def problems(texts: Iterator[tuple[str, bool]]) -> Iterator[tuple[str, str, str]]:
    """(world, problem, text) of all that is asked or told; of a text that is cut off, what stands before the cut."""
    asks = {"chain": "=?", "calc": ". ", "sums": "=", "facts": "?", "stories": " Q: ", "taste": "\n"}
    for text, whole in texts:
        world = world_of(text)
        assert world or not whole, text
        if not whole:
            if world == "rules" and re.match(r"[a-z]{3,5}: .*\n", text):
                text = text.partition("\n")[0]  # the book
            elif asks.get(world, "\0") not in text:
                continue
        for problem in PARSERS[world](text):
            yield world, problem, text


def measured(settings: Settings) -> dict[str, set[str]]:
    """The canonical problems that the run was measured on, by kind of world: the exams' and the looks'."""
    plan, found = settings.evaluation, {}
    for name, world in settings.worlds.items():
        count = plan.gate_books if hasattr(world, "gate_rows") else plan.problems
        tasks = list(world.tasks("test", count) if name in plan.worlds else []) + list(
            world.tasks("dev", plan.look)
        )
        kind = found.setdefault(world.name, set())
        kind |= {task.data.get("person", task.problem) for task in tasks}
    return found


def test_no_problem_of_another_split_is_trained_on(trained: tuple[Stream, Settings, Tokenizer]) -> None:
    stream, settings, tokenizer = trained
    asked, seen = measured(settings), {}
    for world, problem, text in problems(documents(stream.fitted + stream.practised, tokenizer)):
        assert split(problem) == "train", (problem, text)
        assert problem not in asked.get(world, set()), (problem, text)
        seen.setdefault(world, set()).add(problem)
    assert set(seen) == {settings.worlds[name].name for name, share in settings.mix.items() if share}
    assert all(len(found) >= 2 for found in seen.values()), {name: len(found) for name, found in seen.items()}


def test_the_texts_are_understood(trained: tuple[Stream, Settings, Tokenizer]) -> None:
    """Silence above means innocence only if nearly every whole text gives up its problem."""
    stream, _, tokenizer = trained
    whole = [text for text, whole in documents(stream.fitted + stream.practised, tokenizer) if whole]
    silent = [text for text in whole if not list(problems(iter([(text, True)])))]
    assert len(whole) > 500
    assert not [text for text in silent if "?" in text]  # a biography of the town that asks nothing
    assert len(silent) < len(whole) / 10


def test_what_is_practised_is_what_the_train_split_holds(trained: tuple[Stream, Settings, Tokenizer]) -> None:
    stream, settings, tokenizer = trained
    stage = settings.stages["rl"]
    found = list(problems(documents(stream.practised, tokenizer)))
    assert len(found) == len(stream.practised) >= stage.method.problems * stage.method.samples
    practised = {s.env for s in settings.stages.values() if isinstance(s.method, Practice)}
    assert {world for world, _, _ in found} == {settings.worlds[env].name for env in practised}


def test_no_measured_question_stands_in_the_stream(trained: tuple[Stream, Settings, Tokenizer]) -> None:
    """The same, letter by letter: the very texts that the exams put."""
    stream, settings, tokenizer = trained
    whole = "\n".join(text for text, _ in documents(stream.fitted + stream.practised, tokenizer))
    for name in settings.evaluation.worlds:
        world = settings.worlds[name]
        for task in world.tasks("test", settings.evaluation.problems):
            forms = world.formats if isinstance(world, HasCompletions) else ()
            for episode in (world.play(task), *(world.complete(task, form) for form in forms)):
                text = next(episode).text
                if text in whole:  # 8+1=? is not asked in 88+1=?
                    assert not re.search(r"(?<![0-9A-Za-z])" + re.escape(text), whole), text
