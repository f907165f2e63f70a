"""run: the main job. Text to a model you can talk to: tokenizer, then each stage of the settings, measured, resumable.

The same name again continues a run: it takes up at the newest whole checkpoint, on the machine settings it was made with.
"""

import shlex
import time
from pathlib import Path
from typing import Any

from nanoschool import envs, train
from nanoschool.core import checkpoint, device
from nanoschool.core.config import ModelConfig
from nanoschool.core.model import GPT
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.envs.adapters.reward import rewarded
from nanoschool.evals.exam import Exam
from nanoschool.evals.measure import accuracy, answers
from nanoschool.exposure import exposure
from nanoschool.folder import Folder
from nanoschool.interrupt import Interrupted, terminable
from nanoschool.judging import agreement, found, judge_of, watch
from nanoschool.lab.scripted import tasks_of
from nanoschool.ledger import Budget, Ledger
from nanoschool.machine import flops_per_second, settle
from nanoschool.methods.base import Learner
from nanoschool.plan import START, Settings, Stage
from nanoschool.reading import prepare, reopen
from nanoschool.saving import Progress, fits, named, restore, resumable, write
from nanoschool.settings import differences, load_run, to_toml
from nanoschool.start import open_weights
from nanoschool.summary import summarise
from nanoschool.types import Environment, UserError

SAID = 6  # settings that differ, named in an error

__all__ = ["Interrupted", "evaluate_run", "load_policy", "run"]


def run(settings: Settings, show: train.Show) -> Path:
    """Take a model through the stages of `settings`; returns the run's folder. A run that is over is only summed up.

    Raises UserError where the folder is another run's (saying what differs, changing nothing), and Interrupted, whose
    text is the command that goes on.
    """
    path = settings.runs_dir / settings.name
    if (path / "config.toml").exists():
        same_run(load_run(path), settings, path)
    elif any(
        p for p in (path / "checkpoints").glob("[!.]*") if not p.name.startswith(START)
    ):  # a start is there before the run is begun
        raise UserError(f"{path}: has checkpoints but no config.toml; restore it, or use another --name")
    try:
        with terminable(), Folder(path) as folder:
            School(settings, folder, show).teach()
    except (Interrupted, KeyboardInterrupt):
        again = ["nanoschool", "run", str(path / "config.toml")]
        again += [
            "--name",
            settings.name,
            "--runs-dir",
            str(settings.runs_dir),
        ]  # the folder may have been renamed
        begun = (path / "config.toml").exists()
        raise Interrupted(shlex.join(again) if begun else "the same command again") from None
    return path


def same_run(old: Settings, new: Settings, path: Path) -> None:
    changed = differences(old, new)
    if changed:
        more = f"; and {len(changed) - SAID} more" if len(changed) > SAID else ""
        raise UserError(
            f"{path}: is a run with other settings ({'; '.join(changed[:SAID])}{more}); give this one another --name"
        )


def practised(settings: Settings, stage: Stage) -> Environment | None:
    """The world that a stage practises in, under the user's own reward if the stage names one."""
    if not stage.env:
        return None
    world = settings.worlds[stage.env]
    return rewarded(world, stage.reward) if stage.reward else world


class School:
    """One run under way: what every stage shares."""

    def __init__(self, settings: Settings, folder: Folder, show: train.Show) -> None:
        self.settings, self.folder, self.show = settings, folder, show
        if folder.begun:
            folder.check_begun()
        self.machine = settle(settings, folder)
        if folder.begun:
            self.reading = reopen(settings, folder.path)
        else:  # a run that was refused has not begun, and may be asked for in another way
            for (
                stage
            ) in settings.stages.values():  # a reward that cannot be loaded is told of before all else
                practised(settings, stage)
                found(stage, settings.stages)
            start = self._begin_with() if settings.start.path else None
            self.reading = prepare(settings, folder.path, show.say, start)
            folder.begin(to_toml(settings))
        self.saved = resumable(folder.checkpoints, show.say)
        fits(folder, self.saved, settings.course)
        self.at = Progress(**self.saved.state) if self.saved else Progress("")
        for name in folder.cut(self.at.lengths):
            show.say(
                f"{folder.path / name}: is shorter than when the checkpoint was written; what is gone stays gone"
            )
        self.ledger = Ledger.from_json(self.at.spent)
        self.policy = self._policy()

    def teach(self) -> None:
        """Each stage in turn, from where the newest checkpoint left it."""
        names, saved = self.settings.course, self.saved
        first = 0
        if saved:
            first = names.index(self.at.stage) + self.at.done
            over = first == len(names)
            what = "is finished, nothing is left to train" if over else f"goes on from {saved.path.name}"
            self.show.say(f"{self.folder.path}: {what}")
            if self.at.done:  # it may have been killed between a stage's last checkpoint and the links to it
                train.graduate(self.folder, saved.path.name, self.at.stage)
        for name in names[first:]:
            if name == START:
                self._start()
            else:
                self._stage(name, saved if self.at.stage == name else None)
        about = {
            "parameters": sum(p.numel() for p in self.policy.model.parameters()),
            "vocab": self.policy.model.config.vocab,
            "context": self.policy.model.config.context,
            **self.machine.to_json(),
            "worlds": {w: envs.phrase(self.settings.worlds[w]) for w in self.settings.evaluation.worlds},
            "exposure": self._exposure(),
        }
        summarise(self.settings, self.folder, self.at, about)

    def _exposure(self) -> dict:
        """How often the stages that only read have told each fact; {} where somebody else's weights may have read more."""
        if self.settings.start.path:
            return {}
        read = [name for name, stage in self.settings.stages.items() if not stage.method.converses]
        tokens = sum(self.ledger.total(name).tokens for name in read)
        return exposure(self.reading.shares, self.settings.worlds, self.reading.tokenizer, tokens)

    def _begin_with(self) -> Tokenizer:
        """Copy the start into the run's folder, so that the run goes on whatever becomes of it; returns its tokenizer."""
        start, context = Path(self.settings.start.path), self.settings.model.context
        policy = open_weights(start, context, Ledger(), "cpu", self.show.say)
        write(policy, self.folder.checkpoints, Progress(START))
        return policy.tokenizer

    def _start(self) -> None:
        """What the start can do, before anything is changed."""
        self._exam(START, self.policy)
        self.at.done, self.at.spent, self.at.lengths = True, self.ledger.to_json(), self.folder.lengths()
        train.graduate(self.folder, write(self.policy, self.folder.checkpoints, self.at), START)

    def _stage(self, name: str, resume: checkpoint.Checkpoint | None) -> None:
        plan = self.settings.stages[name]
        rate = flops_per_second(self.policy, self.folder) if plan.budget.startswith("seconds") else None
        learner = Learner(
            policy=self.policy,
            env=practised(self.settings, plan),
            worlds=self.settings.worlds,
            read=self.reading.shares,
            taught=self.settings.taught,
            seed=self.settings.seed,
            stage=name,
            text=self.reading.train,
        )
        learner.judge = judge_of(plan, self.settings.stages, self.folder.checkpoints, self.policy)
        if plan.method.needs_reference or learner.judge:
            learner.reference = self._as_found(name) if resume else self.policy.snapshot()
        stage = train.Stage(
            name,
            plan.method,
            Budget.parse(plan.budget, rate),
            look=lambda policy: self._look(learner),
            exam=(lambda policy: self._exam(name, policy))
            if plan.method.trains_policy
            else (lambda policy: self._agreed(learner)),
            due=train.every(plan.check),
            save=plan.save,
        )
        self.at = train.train(stage, learner, self.folder, self.show, resume, self.at.seconds)

    def _as_found(self, name: str) -> Policy:
        """The policy as this stage found it: the best of the stage before."""
        names = self.settings.course
        reference = self.policy.snapshot()
        before = names[names.index(name) - 1] if names.index(name) else None
        if before is None:  # no run with a start comes here
            fresh = GPT(reference.model.config, self.settings.seed).to(self.machine.device)
            reference.model.load_state_dict(fresh.state_dict())
            reference.prompt = ""
        else:
            restore(reference, named(self.folder.checkpoints, before))
        return reference

    def _look(self, learner: Learner) -> tuple[float, dict[str, Any]]:
        """The dev split. Reading is measured by its loss on held-out rows, a reward model by held-out comparisons,
        everything else by greedy answers."""
        name, policy = learner.stage, learner.policy
        plan, look = self.settings.stages[name], self.settings.evaluation
        names = [plan.env] if plan.env else []
        if not names and plan.method.converses:
            names = [world for world, share in self.settings.taught.items() if share > 0]
        with self.ledger.account("evaluation"), self.ledger.account(f"{name}-dev"):
            if not plan.method.trains_policy:
                if (agreed := agreement(learner, "dev")) is None:  # a file's comparisons: none are held out
                    return 0.0, {"score": 0.0}
                told = {"agreement": agreed["mean"], "score": agreed["mean"], "comparisons": agreed["n"]}
                return agreed["mean"], told
            measures = self.reading.validate(policy)
            if learner.judge:
                numbers, warning = watch(learner, plan, look, self.folder)
                measures |= numbers
                if warning:
                    self.show.say(f"{name} {learner.step}: {warning}")
            for world in names:
                env = self.settings.worlds[world]
                tasks = env.tasks("dev", look.look)
                measures[world] = accuracy(answers(policy, env, tasks, max_tokens=look.max_tokens))["mean"]
                measures["problems"] = min(len(tasks), measures.get("problems", len(tasks)))  # of each world
        score = sum(measures[w] for w in names) / len(names) if names else -measures["loss"]
        return score, measures | {"score": score}

    def _agreed(self, learner: Learner) -> None:
        """The exam of a stage that trains a reward model: the policy can do what it could."""
        started, name = time.monotonic(), learner.stage
        with self.ledger.account("evaluation"), self.ledger.account(f"{name}-test"):
            agreed = agreement(learner, "test")
        seconds = time.monotonic() - started
        self.folder.write_json(f"exam-{name}.json", {"agreement": agreed, "seconds": seconds})

    def _exam(self, name: str, policy: Policy) -> None:
        plan = self.settings.evaluation
        exam = Exam(
            {world: self.settings.worlds[world] for world in plan.worlds},
            plan.problems,
            plan.attempts,
            plan.pass_problems,
            practised=[
                s.env
                for s in self.settings.stages.values()
                if s.env and s.method.trains_policy and not s.judge  # by its own reward
            ],
            converses=self.settings.converses(name),
            max_tokens=plan.max_tokens,
            gate_books=plan.gate_books,
        )
        self.show.say(f"{name}: the test split")
        started = time.monotonic()
        with self.ledger.account("evaluation"), self.ledger.account(f"{name}-test"):
            results, samples = exam.sit(policy)
            results["compression"] = self.reading.compression(policy)
            if read := self.reading.validate(policy):
                results |= {"dev_bits_per_byte": read["bits_per_byte"], "dev_bytes": read["bytes"]}
        results["seconds"] = time.monotonic() - started
        for sample in samples:
            self.folder.append("samples.jsonl", {"stage": name, **sample})
        self.folder.write_json(f"exam-{name}.json", results)

    def _policy(self) -> Policy:
        tokenizer, settings = self.reading.tokenizer, self.settings
        config = (
            ModelConfig.from_hf(self.saved.config)
            if self.saved
            else ModelConfig.from_depth(settings.model.depth, tokenizer.vocab_size, settings.model.context)
        )
        policy = Policy(GPT(config, settings.seed).to(self.machine.device), tokenizer, self.ledger)
        if self.saved:
            restore(policy, self.saved)
        return policy


def load_policy(path: Path, stage: str | None) -> Policy:
    """The policy of a run's stage (its best weights on dev), or of its newest checkpoint."""
    root = path / "checkpoints"
    saved = named(root, stage) if stage else checkpoint.newest(root, print)
    if saved is None:
        raise UserError(f"{path}: has no checkpoint yet; run it first")
    machine = device.choose()
    model = GPT(ModelConfig.from_hf(saved.config)).to(machine.device)
    policy = Policy(model, Tokenizer.load(saved.path), Ledger())
    restore(policy, saved)
    return policy


def evaluate_run(path: Path, stage: str | None, worlds: list[str], n: int) -> dict:
    """Greedy accuracy of a run's stage on `n` test tasks of each world, or all that it has, in every way it can be put."""
    settings, policy = load_run(path), load_policy(path, stage)
    found = {}
    for name, env in {name: settings.worlds.get(name) or envs.load(name) for name in worlds}.items():
        there = len(tasks_of(env, "test", n))
        found |= Exam({name: env}, there, 1, 1, practised=(), converses=False).sit(policy)[0]["worlds"]
    return found
