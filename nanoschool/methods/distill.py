"""distill: on-policy distillation (2306.13649): on what the student samples, its distribution is drawn to a teacher's.

Generalised JSD (Eq. 1) over the whole vocabulary at every token that the student sampled; β = 1 is the reverse KL(S‖T),
which Thinking Machines' on-policy distillation estimates from the sampled token. The teacher is another run's stage,
larger or later, `--STAGE.method.teacher runs/big:rl`, or a policy that a program hands over as `learner.teacher`; it
reads the student's very tokens, so the two must have one tokenizer. No reward is used. Its passes are billed as `teacher`.
What we changed from the paper: the student samples everything (λ = 1), at the temperature that the loss is taken at.
"""

from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from nanoschool.core import checkpoint
from nanoschool.core.checkpoint import Broken
from nanoschool.core.config import ModelConfig
from nanoschool.core.lora import build
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.methods.base import Learner, require
from nanoschool.methods.lesson import teach
from nanoschool.methods.practice import Practice, measures
from nanoschool.stepwise import generalised_jsd, kl
from nanoschool.types import Environment, Trajectory


@dataclass(frozen=True)
class Distill(Practice):
    judged: ClassVar[bool] = False  # it learns from the teacher
    needs_teacher: ClassVar[bool] = True

    teacher: str = ""  # FOLDER:STAGE of the run that it is to be
    beta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.beta <= 1, self, f"beta={self.beta} must be from 0 (forward KL) to 1 (reverse KL)")

    def check(self, env: Environment) -> None:
        super().check(env)
        folder, _, stage = self.teacher.rpartition(":")
        there = bool(folder) and (Path(folder) / "checkpoints" / stage).exists()
        complaint = (
            f"teacher={self.teacher!r} must be FOLDER:STAGE of a run with that stage, such as runs/big:rl; an arm of "
            "a comparison names it in a file of its own, as experiments/later.py does"
        )
        require(there, self, complaint)

    def begin(self, learner: Learner) -> None:
        super().begin(learner)
        if learner.teacher is None:
            assert learner.env is not None, "the stage names a world"
            self.check(learner.env)
            learner.teacher = self._load(learner.policy)
        learner.teacher.ledger = learner.policy.ledger  # one meter
        one = learner.teacher.tokenizer.spec == learner.policy.tokenizer.spec
        require(
            one, self, f"teacher={self.teacher!r} has another tokenizer: it must read the student's tokens"
        )
        context = learner.teacher.model.config.context
        short = f"teacher={self.teacher!r} has a context of {context}, must be at least the student's"
        require(context >= learner.policy.model.config.context, self, short)

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        for trajectory in trajectories:
            trajectory.weights = [float(sampled) for sampled in trajectory.mask]
        return measures(trajectories)

    def offered(self, learner: Learner, trajectories: list[Trajectory]) -> float:
        """What the teacher says is billed as it is taught."""
        return 0.0

    def update(
        self, learner: Learner, useful: list[Trajectory], kept: list[Trajectory], scale: float
    ) -> dict[str, float]:
        assert learner.teacher is not None, "begin() sets it"
        ledger = learner.policy.ledger

        def told(student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
            """KL(T‖S) is the most that the student can take up."""
            ledger.charge(bits=float(kl(teacher_NV, student_NV.detach()).sum()) / log(2))
            return self.divergence(student_NV, teacher_NV)

        return teach(learner.policy, learner.teacher, useful, useful, kept, told, scale)

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        return generalised_jsd(student_NV, teacher_NV, self.beta)

    def _load(self, student: Policy) -> Policy:
        folder, _, stage = self.teacher.rpartition(":")
        try:
            saved = checkpoint.read(Path(folder) / "checkpoints" / stage)
        except Broken as reason:
            require(False, self, f"teacher={self.teacher!r} must be whole: {reason}")
            raise
        model = build(ModelConfig.from_hf(saved.config)).to(student.device).requires_grad_(False)
        model.load_state_dict(saved.weights, strict=not model.config.tied)
        return Policy(model, Tokenizer.load(saved.path), student.ledger, student.micro_tokens)


METHOD = Distill
