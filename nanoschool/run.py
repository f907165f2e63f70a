"""run: the main job. Text to a model you can talk to: tokenizer, then each stage of the settings, measured, resumable.

The same name again continues a run: it takes up at the newest whole checkpoint, on the machine settings it was made with.
"""

import shlex
from dataclasses import replace
from pathlib import Path

from nanoschool import envs, train
from nanoschool.core import checkpoint, fitting, passes
from nanoschool.core.config import Lora, ModelConfig
from nanoschool.core.lora import adapted, build
from nanoschool.core.model import GPT
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.envs.adapters.reward import Rewarded, rewarded
from nanoschool.examiner import Examiner
from nanoschool.exposure import exposure
from nanoschool.folder import Folder
from nanoschool.interrupt import Interrupted, terminable
from nanoschool.judging import found, judge_of
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
        settings.sampling.parts(self.machine.device)  # what cannot be compiled is told of before all else
        if self.machine.device == "cpu":
            passes.check()
        if settings.fitting == "compiled":
            fitting.check(self.machine.device)
        if folder.begun:
            self.reading = reopen(settings, folder.path)
        else:  # a run that was refused has not begun, and may be asked for in another way
            for stage in settings.stages.values():  # a reward that is none is told of before all else
                practice = practised(settings, stage)
                if isinstance(practice, Rewarded):
                    practice.try_out()
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
        self.examiner = Examiner(settings, self.reading, folder, self.ledger, show)

    def teach(self) -> None:
        """Each stage in turn, from where the newest checkpoint left it."""
        names, saved = self.settings.course, self.saved
        compiled, why = self._compiled(self.policy.model)
        self.show.say(f"training is {'' if compiled else 'not '}compiled: {why}")
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
                self._adapt()
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
        next(iter(self.settings.stages.values())).method.check_start(policy)
        write(policy, self.folder.checkpoints, Progress(START))
        return policy.tokenizer

    def _start(self) -> None:
        """What the start can do, before anything is changed."""
        first, prompt = next(iter(self.settings.stages)), self.policy.prompt
        learner = self._learner(first, resumed=False)
        self.settings.stages[first].method.begin(
            learner
        )  # what it measures of itself needs all that it learns with
        self.policy.prompt = prompt  # sleep begins by putting the notes away
        self.examiner.exam(START, learner)
        self.policy.optimizer = None
        self.at.done, self.at.spent, self.at.lengths = True, self.ledger.to_json(), self.folder.lengths()
        train.graduate(self.folder, write(self.policy, self.folder.checkpoints, self.at), START)

    def _stage(self, name: str, resume: checkpoint.Checkpoint | None) -> None:
        plan = self.settings.stages[name]
        rate = flops_per_second(self.policy, self.folder) if plan.budget.startswith("seconds") else None
        learner = self._learner(name, resumed=resume is not None)
        stage = train.Stage(
            name,
            plan.method,
            Budget.parse(plan.budget, rate),
            look=lambda policy: self.examiner.look(learner),
            exam=lambda policy: self.examiner.exam(name, learner),
            due=train.every(plan.check),
            save=plan.save,
        )
        self.at = train.train(stage, learner, self.folder, self.show, resume, self.at.seconds)

    def _learner(self, name: str, resumed: bool) -> Learner:
        """Who learns in a stage, and from what; a reference is the policy as the stage found it."""
        plan = self.settings.stages[name]
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
            learner.reference = self._as_found(name) if resumed else self.policy.snapshot()
        return learner

    def _adapt(self) -> None:
        """Give the start its adapters, where the settings ask for some and it has none yet."""
        model, spec = self.policy.model, self.settings.lora
        if spec.rank and model.config.lora is None:
            self.policy.model = adapted(model, Lora(**vars(spec)), self.settings.seed)

    def _as_found(self, name: str) -> Policy:
        """The policy as this stage found it: the best of the stage before."""
        names = self.settings.course
        before = names[names.index(name) - 1] if names.index(name) else None
        if before is None:  # no run with a start comes here
            model = GPT(self.policy.model.config, self.settings.seed).to(self.machine.device)
            return self._policy_of(model).snapshot()
        return self._of(named(self.folder.checkpoints, before)).snapshot()

    def _policy(self) -> Policy:
        if self.saved:
            return self._of(self.saved)
        plan, vocab = self.settings.model, self.reading.tokenizer.vocab_size
        config = ModelConfig.from_depth(plan.depth, vocab, plan.context)
        return self._policy_of(GPT(config, self.settings.seed).to(self.machine.device))

    def _of(self, saved: checkpoint.Checkpoint) -> Policy:
        """The policy of a checkpoint of this run."""
        model = build(ModelConfig.from_hf(saved.config)).to(self.machine.device)
        policy = self._policy_of(model)
        restore(policy, saved)
        return policy

    def _policy_of(self, model: GPT) -> Policy:
        model.compiled, _ = self._compiled(model)
        return Policy(model, self.reading.tokenizer, self.ledger, sampling=self.settings.sampling)

    def _compiled(self, model: GPT) -> tuple[bool, str]:
        """Are passes of training compiled, and why? The same of every model of this run, with adapters or without."""
        budgets = [stage.budget for stage in self.settings.stages.values()]
        shape = replace(model.config, lora=None)
        return fitting.choose(self.settings.fitting, self.machine.device, budgets, shape)
