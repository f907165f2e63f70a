"""xray: `nanoschool xray`, every method's credit for the steps of the same attempts, held against what they were worth."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from nanoschool import envs, methods
from nanoschool.options import parse
from nanoschool.places import writable
from nanoschool.types import Environment, UserError

if TYPE_CHECKING:
    from nanoschool.core.policy import Policy

USAGE = "nanoschool xray"
LEAST = {"problems": 3, "samples": 2, "forks": 2, "max_tokens": 1, "critic_steps": 0, "seed": 0}


@dataclass(frozen=True)
class XRay:
    """One lucky attempt under every method, token by token, beside the true advantage; and each method's marks over many."""

    # whose attempts: RUN, RUN:STAGE, or a folder of Qwen3 or Llama weights
    start: Annotated[str, arg(name="from")] = ""
    env: str = "steps"  # a world whose replies have steps
    methods: tuple[str, ...] = ()  # all that learn from attempts, unless given
    teacher: str = ""  # as --from, for methods that need one
    problems: int = 16  # attempted, of the train split
    samples: int = 8  # attempts at each: the group
    forks: int = 200  # rollouts from the start of every step: what the truth's error comes from
    least: float = 0.05  # a step whose advantage is within ± this made no difference
    temperature: float = 1.0  # of the attempts
    max_tokens: int = 96  # of a reply
    critic_steps: int = 10  # that a critic is fitted for beforehand
    seed: int = 1  # of the problems, the attempts and the forks
    runs_dir: Path = Path("runs")  # where run folders are
    out: Path | None = None  # the folder to write to: RUNS_DIR/xray-ENV, unless given


def look(args: Sequence[str]) -> int:
    """Write xray.json and xray.html, print the marks; returns the exit status. The same again goes on after a kill."""
    options = parse(XRay(), args, USAGE)
    for name, least in LEAST.items():
        if getattr(options, name) < least:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{USAGE}: {flag} is {getattr(options, name)}, must be at least {least}")
    if not 0 < options.temperature < float("inf") or not 0 <= options.least < float("inf"):
        raise UserError(f"{USAGE}: --temperature must be above 0, and --least 0 or more")
    for name in options.methods:
        methods.load(name)
    if not options.start:
        raise UserError(f"{USAGE}: whose attempts? Say --from RUN, RUN:STAGE or FOLDER")
    env = envs.load(options.env)
    from nanoschool.core.files import write_atomic
    from nanoschool.lab.credited import Sizes
    from nanoschool.lab.xray import Plan, check, xray
    from nanoschool.report.xray import lines, read, write

    check(env)
    policy, world = opened(options.start, options.runs_dir, options.env)
    check(world)
    teacher = opened(options.teacher, options.runs_dir, options.env)[0] if options.teacher else None
    out = options.out or options.runs_dir / f"xray-{Path(options.env).stem}"
    writable(out)
    writable(out, "--out")
    plan = Plan(
        Sizes(
            options.problems, options.samples, options.temperature, options.max_tokens, options.critic_steps
        ),
        options.forks,
        options.least,
        options.seed,
    )
    names = options.methods or tuple(methods.describe())
    found = xray(policy, world, names, plan, out / "values.jsonl", say, teacher)
    target = out / "xray.json"
    write_atomic(target, json.dumps({"from": options.start, **found}, indent=1).encode())
    print("\n".join([*lines(read(target)), str(write(target))]))
    return 0


def opened(start: str, runs_dir: Path, env: str) -> "tuple[Policy, Environment]":
    """The policy that `start` names, and the world with the settings that its run has for it."""
    from nanoschool.core.device import choose
    from nanoschool.ledger import Ledger
    from nanoschool.start import find_start, open_weights

    origin = find_start(start, runs_dir)
    there = origin.settings.worlds if origin.settings else {}
    policy = open_weights(Path(origin.start.path), origin.model.context, Ledger(), choose().device, say)
    return policy, there.get(env) or envs.load(env)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
