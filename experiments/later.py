"""later: on-policy distillation (2306.13649) from the same model after practice: a method of one's own, as an arm."""

from dataclasses import dataclass

from nanoschool.methods.distill import Distill


@dataclass(frozen=True)
class Later(Distill):
    teacher: str = "runs/laptop:rl"


METHOD = Later
