"""desk: a small computer: a disk and a few pages in memory, chores at a shell, scored on the disk's final state.

Each reply is one command line (envs/shell.py), which a newline ends; its result comes as a tool's answer. The episode
ends at `done` or after the plan's length and `slack` more replies. The reward is 1 where every file and folder is as asked
and nothing else has changed, else 0: words count for nothing, and there is no part of a reward.

    rename every .log file to .txt
    ls                               ash.log elm.log oak.doc
    mv ash.log ash.txt               ok
    mv elm.log elm.txt               ok
    done

Problem: the transcript of the plan, so that nothing that is read shows a held-out one. Raw text: the same with "$ "
before each command.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from nanoschool.envs.chores import KINDS, largest
from nanoschool.envs.common import draw, draw_train, require
from nanoschool.envs.disk import Disk
from nanoschool.envs.plans import difference, distance, nearer
from nanoschool.envs.shell import run
from nanoschool.types import Ask, Document, Episode, Message, Oracle, Outcome, Task

DONE = "done"
PROMPT = "\n$ "  # of raw text, before each command
LINE_TOKENS = 40  # of a reply


@dataclass(frozen=True)
class Desk:
    """Chores of `kinds` with `sizes` things to do, in answers of at most `shown` characters."""

    kinds: tuple[str, ...] = tuple(KINDS)
    sizes: tuple[int, ...] = (1, 2, 3)
    slack: int = 4  # replies beyond the plan's
    shown: int = 120
    name: str = "desk"

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("worked",)

    def __post_init__(self) -> None:
        known = bool(self.kinds) and set(self.kinds) <= set(KINDS)
        require(known, self.name, f"kinds={self.kinds} must be some of {', '.join(KINDS)}")
        most = min(largest(kind) for kind in self.kinds)
        fine = bool(self.sizes) and all(1 <= size <= most for size in self.sizes)
        require(fine, self.name, f"sizes={self.sizes} must be from 1 to {most} for these kinds")
        require(self.slack >= 0, self.name, f"slack={self.slack} must be 0 or more")
        least = 16 * (max(self.sizes) + 3)  # an answer that shows all the files is never cut
        require(self.shown >= least, self.name, f"shown={self.shown} must be {least} or more at these sizes")

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed)

    def play(self, task: Task) -> Episode:
        return self._episode(task, chat)

    def complete(self, task: Task, format: str) -> Episode:
        """The chore in raw text; each reply is the rest of a line after "$ "."""
        assert format in self.formats, format
        return self._episode(task, raw)

    def demonstration(self, task: Task) -> list[Message]:
        """The oracle's transcript; every line ends in the newline that ends a turn before a tool's answer."""
        sitting, messages = self._begin(task), [Message("user", task.data["ask"])]
        while not sitting.over:
            line = self._best(task, sitting)[0]
            messages.append(Message("assistant", f"{line}\n"))
            answer = sitting.hear(line)
            if not sitting.over:
                messages.append(Message("tool", answer))
        return messages

    def document(self, rng: Random) -> Document:
        """A transcript of a train-split chore; its commands are learned."""
        spans: list[tuple[str, bool]] = []
        for message in self.demonstration(draw_train(self._task, rng)):
            said = message.role == "assistant"
            spans.append((message.content, True) if said else (f"{message.content}{PROMPT}", False))
        return spans

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        """The value is that of one who knows the disk: 1 while the goal is within the replies that are left.

        The best replies are of one who knows only what was shown, where there are replies enough left to look first. A
        partial line is lost only where no reply may be wasted and it begins no plain line that comes nearer; elsewhere
        it can be finished as something that the shell refuses.
        """
        said = [*replies, partial] if "\n" in partial else replies
        sitting, goal = self._after(task, said), task.data["goal"]
        files = sitting.disk.files
        if sitting.over or distance(files, goal) > sitting.left:
            return Oracle(float(sitting.over and distance(files, goal) == 0), (), 0.0)
        begun = "" if "\n" in partial else partial
        best = [*self._best(task, sitting), *(nearer(files, goal, ()) if begun else ())]
        lines = [f"{line}\n" for line in dict.fromkeys(best) if line.startswith(begun)]
        if not lines and distance(files, goal) < sitting.left:
            lines = [f"{begun} |\n"]
        # A partial that ends a line is a reply: what is best after it does not begin with it.
        return Oracle(float(bool(lines)), () if "\n" in partial else tuple(lines), 0.0)

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        """One of the short lines over what is on the disk."""
        return f"{rng.choice(_short_lines(self._after(task, replies).disk))}\n"

    def answer_space(self, task: Task) -> int:
        return len(_short_lines(self._begin(task).disk))

    def _begin(self, task: Task) -> "Sitting":
        disk = Disk(dict(task.data["files"]), task.data["pages"])
        return Sitting(disk, task.data["optimal"] + self.slack, self.shown)

    def _after(self, task: Task, replies: Sequence[str]) -> "Sitting":
        sitting = self._begin(task)
        for reply in replies:
            if not sitting.over:
                sitting.hear(reply)
        return sitting

    def _episode(self, task: Task, frame: Callable[[str, str], Ask]) -> Episode:
        sitting = self._begin(task)
        reply = yield frame(task.data["ask"], "user")
        answer = sitting.hear(reply.text)
        while not sitting.over:
            reply = yield frame(answer, "tool")
            answer = sitting.hear(reply.text)
        return _grade(task, sitting)

    def _best(self, task: Task, sitting: "Sitting") -> list[str]:
        """What to do next, without the newline: look where a look is missing and there is time, else act."""
        files, goal = sitting.disk.files, task.data["goal"]
        far = distance(files, goal)
        if far == 0:
            return [DONE]
        looks = task.data["looks"]
        made = [number for number, (_, shown) in enumerate(looks) if all(map(sitting.disk.has_shown, shown))]
        missing = looks[made[-1] + 1 :] if made else looks
        if missing and len(missing) + far <= sitting.left:
            line: str = missing[0][0]
            name, _, page = line.partition(" ")
            lost = name == "follow" and page not in sitting.disk.links()
            return [f"open {page}" if lost else line]
        return nearer(files, goal, task.data["acts"])

    def _task(self, rng: Random) -> Task:
        kind, size = rng.choice(self.kinds), rng.choice(self.sizes)
        chore = KINDS[kind](rng, size)
        optimal = len(chore.looks) + len(chore.acts) + 1
        looks = [list(look) for look in chore.looks]  # plain JSON has no tuples
        data = {**vars(chore), "looks": looks, "kind": kind, "size": size, "optimal": optimal}
        transcript = " ".join(message.content for message in self.demonstration(Task("desk", "", data)))
        return Task("desk", f"desk {' '.join(transcript.split())}", data)


@dataclass
class Sitting:
    """An episode under way, as `play`, the oracle and the demonstration all live it."""

    disk: Disk
    left: int  # replies
    shown: int
    over: bool = False
    used: int = 0

    def hear(self, reply: str) -> str:
        """Do what a reply says on its first line, and answer."""
        line = reply.partition("\n")[0].strip()
        self.used, self.left = self.used + 1, self.left - 1
        self.over = line == DONE or self.left == 0
        return "" if line == DONE else run(self.disk, line, self.shown)


def chat(text: str, role: str) -> Ask:
    return Ask(text, role=role, stop=("\n",), max_tokens=LINE_TOKENS)


def raw(text: str, role: str) -> Ask:
    return Ask(f"{text}{PROMPT}", role="text", stop=("\n",), max_tokens=LINE_TOKENS)


def _grade(task: Task, sitting: Sitting) -> Outcome:
    files, goal = sitting.disk.files, task.data["goal"]
    far, at_first = distance(files, goal), distance(task.data["files"], goal)
    info = {
        "wellformed": sitting.disk.errors == 0,
        "kind": task.data["kind"],
        "length": task.data["size"],
        "fraction": max(0.0, 1 - far / at_first),  # of the way; never paid
        "steps": sitting.used,
        "optimal": task.data["optimal"],
    }
    return Outcome((float(far == 0),), difference(files, goal), info)


def _short_lines(disk: Disk) -> list[str]:
    """Every line of a command and one or two names on the disk: the form of a reply without the sense."""
    paths = sorted(disk.files)
    lines = [DONE, "ls", "wc", *(f"open {page}" for page in sorted(disk.pages))]
    lines += [f"{command} {path}" for command in ("cat", "rm", "sort") for path in paths]
    return lines + [f"{command} {a} {b}" for command in ("cp", "mv") for a in paths for b in paths if a != b]


WORLD = Desk()
