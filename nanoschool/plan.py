"""plan: what a run is to do, as frozen dataclasses; `settings` reads them from preset files and flags."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanoschool.core.fitting import Fitting
from nanoschool.core.sampling import EXACT, Sampling
from nanoschool.ledger import Budget
from nanoschool.options import flat, plain
from nanoschool.types import Environment, UserError

LEAST = {  # by the end of a key's name
    "model.depth": 1,
    "model.context": 16,
    "model.vocab": 264,
    "threads": 0,
    "seed": 0,
    "check": 1,
    "save": 1,
    "lora.rank": 1,
    "evaluation.problems": 1,
    "evaluation.look": 1,
    "evaluation.attempts": 1,
    "evaluation.pass_problems": 1,
    "evaluation.max_tokens": 1,
    "evaluation.gate_books": 1,
    "pessimism": 0,
}


MOST = {  # beyond which a command would seem to hang
    "model.depth": 64,
    "model.context": 65_536,
    "model.vocab": 1_000_000,
    "lora.rank": 10_000,
    "method.rows": 100_000,
    "method.problems": 100_000,
    "method.samples": 10_000,
    "method.replay": 100_000,
    "evaluation.problems": 100_000,
    "evaluation.look": 100_000,
    "evaluation.attempts": 10_000,
    "evaluation.pass_problems": 100_000,
    "evaluation.gate_books": 1_000_000,
    "seed": 2**63 - 1,  # torch's generators take no more
    "threads": 1024,
    "pessimism": 1000,
}
START = "start"  # what the weights that a run begins with are called among its stages
LONGEST_NAME = 200  # bytes: file systems take 255, and a temporary file's name is longer


@dataclass(frozen=True)
class Model:
    """The size of the student; the rest of its shape follows from `depth`."""

    depth: int = 3  # layers; sets width, heads and learning rates
    context: int = 192  # tokens it can see at once
    vocab: int = 1024  # tokens of its tokenizer, special ones included


@dataclass(frozen=True)
class Stage:
    """One stage of the school: a method with a budget."""

    use: str  # the method: methods/USE.py
    budget: str  # flops=… | tokens=… | rollouts=… | seconds=…
    method: Any  # that method, with its settings
    env: str = ""  # the world it happens in, where the method needs one
    reward: str = ""  # FILE.py:FUNCTION that pays while practising, in place of the world; dev and test stay the world's
    check: int = 50  # steps between looks at the dev split
    save: int = 50  # steps between checkpoints
    judge: str = ""  # whose reward model pays while practising: an earlier stage's, or that of a checkpoint, by its path
    pessimism: float = 0.0  # of an ensemble: its members' mean, less so many of their standard deviations


@dataclass(frozen=True)
class Evaluation:
    """How much is measured before and after each stage: n is what an interval's width comes from."""

    worlds: tuple[str, ...] = ()  # measured on their test split
    problems: int = 400  # test problems a world, answered greedily
    look: int = 64  # dev problems a world at each look during a stage
    attempts: int = 16  # samples a problem for pass@k, k up to this
    pass_problems: int = 100  # problems for pass@k
    max_tokens: int = 96  # of a reply
    gate_books: int = 1000  # unseen rule-books of the reading gate, which fewer than 1,000 cannot pass


@dataclass(frozen=True)
class Start:
    """Whose weights the first stage begins with, where the run makes none of its own."""

    path: str = ""  # a folder of weights: a checkpoint of a run, or somebody else's Qwen3 or Llama
    converses: bool = True  # it answers in the chat format; else it has only read


@dataclass(frozen=True)
class Lora:
    """Adapters that are trained in place of the start's weights."""

    rank: int = 0  # 0: there are none
    alpha: float = 32.0  # what they add is scaled by alpha / rank
    matrices: tuple[str, ...] = (  # of every layer
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )


@dataclass(frozen=True)
class Settings:
    """Everything that a run follows from, apart from the code and the text it reads."""

    preset: str = ""  # where it came from
    name: str = ""  # of its folder in `runs_dir`; the preset's name unless given
    runs_dir: Path = Path("runs")  # where run folders are
    seed: int = 1  # of everything that is drawn: weights, text, tasks, replies
    # to read in place of our stories: a file or folder of .txt, .md, .jsonl, .jsonl.gz, .parquet, or hf:OWNER/NAME
    text: Path | None = None
    text_share: float = 0.5  # of the reading, where there is a text; the worlds share the rest
    device: str = "auto"  # auto, cpu, cuda or mps
    threads: int = 0  # 0: as many as OMP_NUM_THREADS says, else as the machine has
    allow_inexact: bool = False  # go on with a run of another machine, though not to the same bits
    # are passes of training compiled by torch.compile? auto: on a GPU, where the budgets are long enough to repay it
    fitting: Fitting = "auto"

    sampling: Sampling = EXACT
    start: Start = Start()
    lora: Lora = Lora()
    stages: dict[str, Stage] = field(default_factory=dict)  # in order
    model: Model = Model()
    mix: dict[str, float] = field(default_factory=dict)  # shares of the pretraining text by world
    taught: dict[str, float] = field(default_factory=dict)  # shares of the demonstrations by world
    worlds: dict[str, Environment] = field(default_factory=dict)  # every world named here, with its settings
    evaluation: Evaluation = Evaluation()

    @property
    def course(self) -> list[str]:
        """All that is examined, in order: START, where somebody else's weights are, and the stages."""
        return [*([START] if self.start.path else []), *self.stages]

    def converses(self, stage: str) -> bool:
        """Does what comes out of a part of the course answer in the chat format, or has it only read?"""
        return self.start.converses if stage == START else self.stages[stage].method.converses


def checked(settings: Settings, where: str) -> Settings:
    """The same settings; raises UserError on what cannot be meant, before anything is spent."""
    for name, stage in settings.stages.items():
        try:
            Budget.parse(stage.budget, flops_per_second=1.0)
        except ValueError as error:
            raise UserError(f"{where}: {name}: {error}") from None
        if stage.method.needs_env and not stage.env:
            raise UserError(f'{where}: {name}: {stage.use} practises in a world: name one, env = "chain"')
        if stage.env:
            stage.method.check(settings.worlds[stage.env])
        else:
            stage.method.check_alone()
        _check_judge(name, settings.stages, f"{where}: {name}")
        if settings.lora.rank and not (settings.start.path and stage.method.trains_policy):
            raise UserError(
                f"{where}: {name}: lora adapts a start, and {stage.use} must train it; leave lora out"
            )
        if stage.reward and not stage.env:
            raise UserError(f"{where}: {name}: has a reward but no env to earn it in")
        if stage.env and stage.env not in settings.evaluation.worlds:
            raise UserError(f"{where}: {name}: add {stage.env!r}, practised in, to [evaluation] worlds")
        for shares in stage.method.draws_on():
            if not getattr(settings, shares) and not (shares == "mix" and settings.text):
                raise UserError(f"{where}: {name}: {stage.use} draws on [{shares}], which names no world")
    for key, value in flat(tables(settings)).items():
        for end, least in LEAST.items():
            if f".{key}".endswith(f".{end}") and value < least:
                raise UserError(f"{where}: {key} is {value}, must be at least {least}")
        for end, most in MOST.items():
            if f".{key}".endswith(f".{end}") and value > most:
                raise UserError(f"{where}: {key} is {value}, must be at most {most}")
    if settings.lora.rank and not 0 < settings.lora.alpha < float("inf"):
        raise UserError(f"{where}: lora.alpha is {settings.lora.alpha}, must be above 0 and finite")
    if settings.lora.rank and not set(settings.lora.matrices) <= set(Lora.matrices):
        unknown = sorted(set(settings.lora.matrices) - set(Lora.matrices))
        raise UserError(
            f"{where}: lora.matrices has {', '.join(unknown)}; there are {', '.join(Lora.matrices)}"
        )
    if settings.lora.rank and not settings.lora.matrices:
        raise UserError(f"{where}: lora.matrices names none of {', '.join(Lora.matrices)}")
    if not 0 < settings.text_share <= 1:
        raise UserError(f"{where}: text_share is {settings.text_share}, must be above 0 and at most 1")
    if settings.text is None and settings.text_share != Settings.text_share:
        raise UserError(
            f"{where}: text_share is {settings.text_share}, but there is no text; name one by --text"
        )
    for key, shares in (("mix", settings.mix), ("taught", settings.taught)):
        fine = all(0 <= share < float("inf") for share in shares.values())
        if not fine or (shares and not any(shares.values())):
            raise UserError(f"{where}: the shares of {key} must be 0 or more and not all 0")
    require_folder_name(settings.name, where)
    if not settings.stages:
        raise UserError(f'{where}: has no stages: write stages = ["pretrain"] and a table [pretrain]')
    return settings


def require_folder_name(name: str, where: str) -> None:
    if name in ("", ".", "..") or not name.isprintable() or Path(name).name != name:
        raise UserError(f"{where}: name {name!r} is no name of a folder; --runs-dir says where it is")
    if len(name.encode()) > LONGEST_NAME:
        raise UserError(f"{where}: name is longer than {LONGEST_NAME} bytes; give a shorter --name")


def _check_judge(name: str, stages: dict[str, Stage], where: str) -> None:
    stage, before = stages[name], list(stages)[: list(stages).index(name)]
    if not stage.judge:
        return
    if not stage.method.judged:
        raise UserError(
            f"{where}: {stage.use} learns from more than a reward, so no judge can pay it; use rloo or ppo"
        )
    if stage.reward:
        raise UserError(f"{where}: has a reward and a judge, and only one can pay; take one out")
    trained = [earlier for earlier in before if not stages[earlier].method.trains_policy]
    if stage.judge not in trained and (stage.judge in stages or not Path(stage.judge).is_dir()):
        there = ", ".join(trained) or "there is none"
        raise UserError(
            f"{where}: judge {stage.judge!r} is no earlier stage that trains a reward model ({there}), and no checkpoint"
        )


def tables(settings: Settings) -> dict[str, Any]:
    """The tables of a preset file again, without what is about this command and not about the run."""
    whole = {key: value for key, value in plain(settings).items() if key not in ("runs_dir", "allow_inexact")}
    stages, worlds = whole.pop("stages"), whole.pop("worlds")
    for key, there in ((START, settings.start.path), ("lora", settings.lora.rank)):
        if not there:
            del whole[key]
    return {**whole, "stages": list(stages), **stages, "worlds": worlds}
