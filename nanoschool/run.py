"""run: the main job. Text to a model you can talk to: tokenizer, then each stage of the settings, measured, resumable.

The same name again continues a run: it takes up at the newest whole checkpoint, on the machine settings it was made with.
"""

import time
from pathlib import Path
from typing import Any

from nanoschool import train
from nanoschool.core import checkpoint, device
from nanoschool.core.files import write_atomic
from nanoschool.core.model import GPT, ModelConfig
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.evals.exam import Exam, gain
from nanoschool.evals.measure import accuracy, answers
from nanoschool.folder import Folder
from nanoschool.ledger import Budget, Ledger
from nanoschool.methods.base import Learner
from nanoschool.plan import Settings
from nanoschool.reading import Reading, prepare
from nanoschool.settings import differences, load_run, to_toml
from nanoschool.types import UserError


class Interrupted(Exception):
    """Ctrl-C; the text is the command that goes on."""


def run(settings: Settings, show: train.Show, allow_inexact: bool = False) -> Path:
    """Take a model through the stages of `settings`; returns the run's folder.

    Raises UserError where the folder is another run's (saying what differs, changing nothing), and Interrupted.
    """
    path = settings.runs_dir / settings.name
    if (path / "config.toml").exists():
        same_run(load_run(path), settings, path)
    folder = Folder(path)
    try:
        School(settings, folder, show, allow_inexact).teach()
    except (train.Interrupted, KeyboardInterrupt):
        raise Interrupted(f"nanoschool run {path / 'config.toml'} --runs-dir {settings.runs_dir}") from None
    return path


def same_run(old: Settings, new: Settings, path: Path) -> None:
    changed = differences(old, new)
    if changed:
        raise UserError(
            f"{path}: is a run with other settings ({'; '.join(changed)}); give this one another --name"
        )


class School:
    """One run under way: what every stage shares."""

    def __init__(self, settings: Settings, folder: Folder, show: train.Show, allow_inexact: bool) -> None:
        self.settings, self.folder, self.show = settings, folder, show
        self.machine = self._machine(allow_inexact)
        write_atomic(folder.path / "config.toml", to_toml(settings).encode())
        self.reading = prepare(settings, folder.path, show.say)
        self.saved = checkpoint.newest(folder.checkpoints, show.say)
        if self.saved is None and any(folder.checkpoints.glob("*/")):
            raise UserError(
                f"{folder.checkpoints}: no checkpoint there is whole; restore one, or use another --name"
            )
        at = train.Progress(**self.saved.state) if self.saved else train.Progress("", seconds={})
        folder.cut(at.lengths)
        self.at, self.ledger = at, Ledger.from_json(at.spent)
        self.policy = self._policy()

    def teach(self) -> None:
        """Each stage in turn, from where the newest checkpoint left it."""
        names = list(self.settings.stages)
        first = names.index(self.at.stage) + self.at.done if self.at.stage else 0
        for name in names[first:]:
            resume = self.saved if self.at.stage == name and not self.at.done else None
            self._stage(name, resume)
        self._summarise()

    def _stage(self, name: str, resume: checkpoint.Checkpoint | None) -> None:
        plan = self.settings.stages[name]
        stage = train.Stage(
            name,
            plan.method,
            Budget.parse(
                plan.budget, self._flops_per_second() if plan.budget.startswith("seconds") else None
            ),
            look=lambda policy: self._look(name, policy),
            exam=lambda policy: self._exam(name, policy),
            check=plan.check,
            save=plan.save,
        )
        learner = Learner(
            policy=self.policy,
            env=self.settings.worlds[plan.env] if plan.env else None,
            worlds=self.settings.worlds,
            read=self.reading.shares,
            taught=self.settings.taught,
            seed=self.settings.seed,
            stage=name,
            text=self.reading.train,
        )
        if plan.method.needs_reference:
            learner.reference = self._as_found(name) if resume else self.policy.snapshot()
        self.at = train.train(stage, learner, self.folder, self.show, resume, self.at.seconds)

    def _as_found(self, name: str) -> Policy:
        """The policy as this stage found it: the best of the stage before."""
        names = list(self.settings.stages)
        reference = self.policy.snapshot()
        before = names[names.index(name) - 1] if names.index(name) else None
        if before is None:
            fresh = GPT(reference.model.config, self.settings.seed).to(self.machine.device)
            reference.model.load_state_dict(fresh.state_dict())
        else:
            train.restore(reference, checkpoint.read(self.folder.checkpoints / before))
        return reference

    def _look(self, name: str, policy: Policy) -> tuple[float, dict[str, Any]]:
        """The dev split. Reading is judged by its loss on held-out rows, everything else by greedy answers."""
        plan, look = self.settings.stages[name], self.settings.evaluation.look
        with self.ledger.account("evaluation"), self.ledger.account(f"{name}-dev"):
            measures = self.reading.validate(policy)
            names = [plan.env] if plan.env else list(self.settings.taught) if plan.use != "pretrain" else []
            for world in names:
                env = self.settings.worlds[world]
                measures[world] = accuracy(answers(policy, env, env.tasks("dev", look)))["mean"]
        score = sum(measures[w] for w in names) / len(names) if names else -measures["loss"]
        return score, measures | {"score": score}

    def _exam(self, name: str, policy: Policy) -> None:
        plan = self.settings.evaluation
        exam = Exam(
            {world: self.settings.worlds[world] for world in plan.worlds},
            plan.problems,
            plan.attempts,
            plan.pass_problems,
            practised=[s.env for s in self.settings.stages.values() if s.env],
            chat=self.settings.stages[name].use != "pretrain",
            gate_books=plan.gate_books,
        )
        self.show.say(f"{name}: the test split")
        started = time.monotonic()
        with self.ledger.account("evaluation"), self.ledger.account(f"{name}-test"):
            results, samples = exam.sit(policy)
            results["compression"] = self.reading.compression(policy)
        results["dev_bits_per_byte"] = self.reading.validate(policy)["bits_per_byte"]
        results["seconds"] = time.monotonic() - started
        for sample in samples:
            self.folder.append("samples.jsonl", {"stage": name, **sample})
        self.folder.write_json(f"exam-{name}.json", results)

    def _summarise(self) -> None:
        """summary.json and ledger.json, from the exams and the last checkpoint."""
        at, settings, config = self.at, self.settings, self.policy.model.config
        exams = {name: self.folder.read_json(f"exam-{name}.json") for name in settings.stages}
        sitting = sum(exam["seconds"] for exam in exams.values())
        seconds = at.seconds | {"evaluation": sitting, "total": sum(at.seconds.values()) + sitting}
        hidden = ("rewards", "compression", "seconds")
        last, practised = list(exams)[-1], [n for n, s in settings.stages.items() if s.env]
        names = list(exams)
        gains = [
            gain(exams, names[names.index(n) - 1], n, settings.stages[n].env)
            for n in practised
            if n != names[0]
        ]
        summary = {
            "name": settings.name,
            "preset": settings.preset,
            "seed": settings.seed,
            "parameters": sum(p.numel() for p in self.policy.model.parameters()),
            "vocab": config.vocab,
            "context": config.context,
            **self.machine.to_json(),
            "seconds": seconds,
            "stages": {n: {k: v for k, v in exam.items() if k not in hidden} for n, exam in exams.items()},
            "gain": gains[-1] if gains else None,
            "compression": exams[last]["compression"],
        }
        self.folder.write_json("ledger.json", at.spent)
        self.folder.write_json("summary.json", summary)

    def _policy(self) -> Policy:
        tokenizer, settings = self.reading.tokenizer, self.settings
        config = ModelConfig.from_depth(settings.model.depth, tokenizer.vocab_size, settings.model.context)
        policy = Policy(GPT(config, settings.seed).to(self.machine.device), tokenizer, self.ledger)
        if self.saved:
            train.restore(policy, self.saved)
        return policy

    def _machine(self, allow_inexact: bool) -> device.Machine:
        """The machine as the run began on it; another one cannot repeat its numbers to the bit, and is refused."""
        known = self.folder.read_json("machine.json")
        wanted = known or {"device": self.settings.device, "threads": self.settings.threads}
        machine = device.choose(wanted["device"], wanted["threads"])
        changed = [k for k, v in machine.to_json().items() if known and known[k] != v]
        if changed and not allow_inexact:
            told = "; ".join(f"{k}: {known[k]}, now {machine.to_json()[k]}" for k in changed)
            raise UserError(
                f"{self.folder.path}: was begun on another machine ({told}), so it cannot go on to the bit; "
                "--allow-inexact goes on all the same and writes that down"
            )
        if changed or not known:
            moved = [*known.get("moved", []), {k: known[k] for k in changed}] if known else []
            self.folder.write_json("machine.json", machine.to_json() | {"moved": moved})
        return machine

    def _flops_per_second(self) -> float:
        """Measured once and kept, so that a budget in seconds is the same FLOPs after a resume."""
        known = self.folder.read_json("rate.json")
        if not known:
            known = {"flops_per_second": train.measured_rate(self.policy)}
            self.folder.write_json("rate.json", known)
        return known["flops_per_second"]


def load_policy(path: Path, stage: str | None) -> Policy:
    """The policy of a run's stage (its best weights on dev), or of its newest checkpoint."""
    saved = (
        checkpoint.read(path / "checkpoints" / stage)
        if stage
        else checkpoint.newest(path / "checkpoints", print)
    )
    if saved is None:
        raise UserError(f"{path}: has no checkpoint yet; run it first")
    machine = device.choose()
    model = GPT(ModelConfig.from_hf(saved.config)).to(machine.device)
    policy = Policy(model, Tokenizer.load(saved.path), Ledger())
    train.restore(policy, saved)
    return policy


def evaluate_run(path: Path, stage: str | None, worlds: list[str], n: int) -> dict:
    """Greedy accuracy of a run's stage on the test split of worlds, in every way each can be put."""
    settings, policy = load_run(path), load_policy(path, stage)
    return Exam({w: settings.worlds[w] for w in worlds}, n, 1, 1, practised=(), chat=True).sit(policy)[0][
        "worlds"
    ]
