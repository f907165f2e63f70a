"""notes_oracle: a control: the notes are written by a program that knows the truth (after the reflector of 2510.04618).

Of each attempt that fails it notes as much as the world's feedback tells, and never in error: what notes could do for this
reader if it were a perfect writer. Writing costs nothing, so only episodes can be compared with `notes`, not FLOPs.
"""

from dataclasses import dataclass
from typing import ClassVar

from nanoschool.methods.base import Learner
from nanoschool.methods.notes import Notes
from nanoschool.types import HasLessons, Trajectory


@dataclass(frozen=True)
class NotesOracle(Notes):
    learns_from: ClassVar[tuple[type, ...]] = (HasLessons,)

    def notes(self, learner: Learner, attempts: list[Trajectory]) -> list[str]:
        assert isinstance(learner.env, HasLessons), "check() asks for it"
        out = []
        for t in attempts:
            assert t.task is not None, "an attempt at a task"
            out.append(learner.env.lesson(t.task, t.replies))
        return out


METHOD = NotesOracle
