"""finished: what a run has left behind: its policy as any stage left it, and what it can do."""

from pathlib import Path

from nanoschool import envs
from nanoschool.core import checkpoint, device
from nanoschool.core.config import ModelConfig
from nanoschool.core.lora import build
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.evals.exam import Exam
from nanoschool.evals.measure import pass_at, sampled, ways
from nanoschool.evals.stats import mean_interval
from nanoschool.lab.scripted import tasks_of
from nanoschool.ledger import Ledger
from nanoschool.saving import named, restore
from nanoschool.settings import load_run
from nanoschool.types import Environment, UserError


def load_policy(path: Path, stage: str | None) -> Policy:
    """The policy of a run's stage (its best weights on dev), or of its newest checkpoint."""
    root = path / "checkpoints"
    saved = named(root, stage) if stage else checkpoint.newest(root, print)
    if saved is None:
        raise UserError(f"{path}: has no checkpoint yet; run it first")
    machine = device.choose()
    model = build(ModelConfig.from_hf(saved.config)).to(machine.device)
    policy = Policy(model, Tokenizer.load(saved.path), Ledger())
    restore(policy, saved)
    return policy


def evaluate_run(path: Path, stage: str | None, worlds: list[str], n: int) -> dict:
    """Greedy accuracy of a run's stage on `n` test tasks of each world, or all that it has, in every way it can be put."""
    policy, found = load_policy(path, stage), {}
    for name, env in _worlds(path, worlds).items():
        there = len(tasks_of(env, "test", n))
        found |= Exam({name: env}, there, 1, 1, practised=(), converses=False).sit(policy)[0]["worlds"]
    return found


def sample_run(
    path: Path, stage: str | None, worlds: list[str], n: int, samples: int, temperature: float
) -> dict:
    """The same of `samples` attempts at each task: their mean reward, pass@1 and pass@samples, with intervals over tasks."""
    policy, found = load_policy(path, stage), {}
    for name, env in _worlds(path, worlds).items():
        tasks = tasks_of(env, "test", n)
        for way in ways(env):
            groups = sampled(policy, env, tasks, way, samples, temperature=temperature)
            means = [sum(group) / len(group) for group in groups]
            found.setdefault(name, {})[way] = mean_interval(means).to_json() | pass_at(groups)
    return found


def _worlds(path: Path, names: list[str]) -> dict[str, Environment]:
    settled = load_run(path).worlds
    return {name: settled.get(name) or envs.load(name) for name in names}
