"""Tiny policies and worlds, for the tests of what samples, scores and trains."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from types import ModuleType
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from nanoschool.core.batch import Batch
from nanoschool.core.config import ModelConfig
from nanoschool.core.model import GPT
from nanoschool.core.optim import Optimizer
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.envs.chain import Chain
from nanoschool.envs.facts import Facts
from nanoschool.envs.rules import Rules
from nanoschool.ledger import Ledger
from nanoschool.types import Ask, Episode, Message, Outcome, Task, Trajectory

SHORT = Chain(lengths=(1, 2), document_lengths=(1, 2), long_lengths=(3,))


@register_flop_formula(torch.ops.mkldnn._linear_pointwise)
def products(a_NI, b_OI, *rest, out_shape, **named) -> int:
    """What torch's counter is to know of core/linear.py."""
    return 2 * a_NI[0] * a_NI[1] * b_OI[0]


@cache
def tokenizer() -> Tokenizer:
    """Of 420 pieces, trained on documents of the worlds; made once a session."""
    rng, worlds = Random(0), (SHORT, Rules(), Facts())
    texts = ["".join(text for text, _ in world.document(rng)) for world in worlds for _ in range(60)]
    return Tokenizer.train(texts, 420)


def tiny(depth: int = 1, context: int = 96, seed: int = 0, tied: bool = True, gain: float = 0.15) -> Policy:
    """A new policy with its own ledger. `gain` over its usual 0.1 makes what it says sharply unlike chance."""
    torch.set_num_threads(1)
    model = GPT(ModelConfig.from_depth(depth, tokenizer().vocab_size, context, tied=tied), seed)
    with torch.no_grad():
        model.model.norm.weight.fill_(gain)
    return Policy(model, tokenizer(), Ledger())


def trajectories(policy: Policy, lengths: Sequence[int], seed: int = 0) -> list[Trajectory]:
    """Random tokens of these lengths with a random mask, and weights of both signs."""
    rng, rows = Random(seed), []
    for length in lengths:
        tokens = [rng.randrange(policy.model.config.vocab) for _ in range(length)]
        mask = [False] + [rng.random() < 0.6 for _ in range(length - 2)] + [True]
        weights = [rng.gauss(0, 1) if learned else 0.0 for learned in mask]
        logprobs = [-6 * rng.random() if learned else 0.0 for learned in mask]
        rows.append(Trajectory(tokens, mask, logprobs, weights, rewards=rng.random()))
    return rows


def scored(policy: Policy, rows: Sequence[Trajectory], temperature: float = 1.0) -> torch.Tensor:
    with torch.no_grad():
        return policy.logprobs(Batch.of([replace(row, temperature=temperature) for row in rows]))


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in policy.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Bitwise equal."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def small(gpu: ModuleType, *steps: str) -> Any:
    """A plan of bench/gpu.py for a CPU."""
    return gpu.Plan("cpu", (2, 1), 420, 96, 2, 4, 20, 4, 2, 2, 6, steps)


class Recorder(Optimizer):
    """Keeps each step's gradients and changes nothing."""

    def __init__(self, model: GPT) -> None:
        super().__init__([torch.optim.SGD(model.parameters(), lr=0.0)], clip=1e9)
        self.model, self.gradients = model, []

    def step(self, scale: float) -> float:
        self.gradients.append({n: p.grad.clone() for n, p in self.model.named_parameters()})
        return super().step(scale)


@dataclass(frozen=True)
class Calculator:
    """A world with a tool: the policy writes `<calc>3+4</calc>`, is told the sum, and says it."""

    name: str = "calculator"
    replayable: bool = True

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        sums = sorted(((a, b) for a in range(1, 25) for b in range(1, 25)), key=lambda sum: (max(sum), sum))
        return [Task(self.name, f"{a}+{b}", {"a": a, "b": b}) for a, b in sums[:count]]

    def play(self, task: Task) -> Episode:
        said = yield Ask(f"{task.problem}=?", stop=("</calc>",), max_tokens=24)
        asked = said.text == f"<calc>{task.problem}</calc>" and said.stop_reason == "stop"
        told = str(task.data["a"] + task.data["b"]) if asked else "no"
        reply = yield Ask(told, role="tool", reward=0.25 * asked, max_tokens=8)
        right = reply.text == str(task.data["a"] + task.data["b"])
        return Outcome((float(right),), feedback="" if right else "ask the tool", info={"wellformed": asked})

    def demonstration(self, task: Task) -> list[Message]:
        total = str(task.data["a"] + task.data["b"])
        return [
            Message("user", f"{task.problem}=?"),
            Message("assistant", f"<calc>{task.problem}</calc>"),
            Message("tool", total),
            Message("assistant", total),
        ]
