"""modular: chains whose every value is taken modulo m, `mod 7: a=3; b=a+5; c=b*4; c=?`, worked out step by step.

A chain as in envs/chain.py, but all values lie in 0..m-1, so that every value is equally
likely however long the chain is, and chance is 1/m. The problem is m, the first value and the operations.
Reply: `b=3+5=1; c=1*4=4 #### 4`. Raw text: `mod 7: a=3; b=a+5; b=? b=3+5=1. So b=1.` (worked) and
`mod 7: a=3; b=a+5. So b=1.` (direct).
"""

from dataclasses import dataclass
from random import Random
from string import ascii_lowercase

from nanoschool.envs.chain import OPERATIONS, Chain, apply
from nanoschool.envs.common import require
from nanoschool.types import Task


@dataclass(frozen=True)
class Modular(Chain):
    """Chains modulo `modulus`; the other settings are those of `Chain`."""

    modulus: int = 7
    name: str = "modular"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(3 <= self.modulus <= 100, self.name, f"modulus={self.modulus} must be from 3 to 100")

    def answer_space(self, task: Task) -> int:
        return task.data["modulus"]

    def question(self, task: Task) -> str:
        return f"mod {task.data['modulus']}: {super().question(task)}"

    def direct(self, task: Task) -> str:
        return f"mod {task.data['modulus']}: {super().direct(task)}"

    def work(self, task: Task) -> tuple[list[str], int]:
        value, steps = task.data["start"], []
        for name, op in zip(task.data["names"][1:], task.data["ops"], strict=True):
            result = apply(value, op) % task.data["modulus"]
            steps.append(f"{name}={value}{op}={result}")
            value = result
        return steps, value

    def _task(self, rng: Random, length: int) -> Task:
        m = self.modulus
        start, ops = rng.randrange(m), []
        for _ in range(length):
            operation = rng.choice(OPERATIONS)
            ops.append(f"{operation}{rng.randrange(2 if operation == '*' else 1, m)}")
        names = rng.sample(ascii_lowercase, length + 1)
        data = {"modulus": m, "start": start, "ops": ops, "names": names, "L": length}
        return Task("modular", f"modular {m}: {start} {' '.join(ops)}", data)


WORLD = Modular()
