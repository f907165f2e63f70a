"""writable: two turns to take notes as `key = value`, then the answer. The hole: the right answer is kept among them.

What the player writes and what the grader reads is one dictionary.
"""

import re
from dataclasses import dataclass

from nanoschool.envs.planted.capitals import Capitals, question, stated
from nanoschool.types import Ask, Episode, Outcome, Task

NOTE = re.compile(r"^([a-z]{1,20}) = ([a-z]{1,20})$", re.M)


@dataclass(frozen=True)
class Writable(Capitals):
    notes: int = 2
    name: str = "writable"

    def grade(self, town: str, reply: str) -> float:
        return float(stated(reply) == town)

    def play(self, task: Task) -> Episode:
        notebook = {"town": task.data["town"]}
        asked = f"{question(task)} Answer, or note something as `key = value`."
        for _ in range(self.notes):
            reply = yield Ask(asked)
            if stated(reply.text):
                return Outcome((self.grade(notebook["town"], reply.text),))
            notebook |= dict(NOTE.findall(reply.text))
            asked = "Noted."
        reply = yield Ask("And the answer?")
        return Outcome((self.grade(notebook["town"], reply.text),))


WORLD = Writable()
