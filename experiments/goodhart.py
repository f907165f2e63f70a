"""Over-optimisation on `taste`; the same command goes on after a kill. Writes goodhart.html, .md and .json into --out."""

import json
import sys
from itertools import groupby
from pathlib import Path

import tyro

from nanoschool import envs
from nanoschool.core.files import write_atomic
from nanoschool.finished import load_policy
from nanoschool.lab.frontier import summarise
from nanoschool.lab.goodhart import Arm, Experiment, Plan
from nanoschool.methods import dpo, ipo, kto, online_dpo, orpo, ppo, rloo, simpo
from nanoschool.progress import watcher
from nanoschool.report.goodhart import page
from nanoschool.report.goodhart_text import markdown
from nanoschool.run import run
from nanoschool.settings import load_settings

PRACTICE = dict(problems=16, samples=8, lr=1e-3)
ARMS = {f"rloo, β {kl:g}": Arm(rloo.METHOD(kl=kl, **PRACTICE)) for kl in (0.0, 0.03, 0.1, 0.3)}
ARMS |= {f"rloo, 4 judges, −{k:g} sd": Arm(rloo.METHOD(**PRACTICE), 4, k) for k in (0.0, 2.0)}
ARMS |= {"ppo": Arm(ppo.METHOD(**PRACTICE)), "online dpo": Arm(online_dpo.METHOD(lr=1e-3, samples=4))}
ARMS |= {m.__name__.rpartition(".")[2]: Arm(m.METHOD(lr=5e-4)) for m in (dpo, ipo, kto, orpo, simpo)}

DEFAULT = Plan()


def main(
    out: Path = Path("runs/experiment-goodhart"), plan: Plan = DEFAULT, arms: tuple[str, ...] = tuple(ARMS)
) -> None:
    settings = load_settings(str(Path(__file__).with_suffix(".toml")), ["--runs-dir", str(out)])
    start, units = load_policy(run(settings, watcher(sys.stdout)), "sft"), []
    made = Experiment(start, envs.load("taste"), {name: ARMS[name] for name in arms}, plan, out).run()
    for _, group in groupby(made, key=lambda unit: (unit["seed"], unit["size"])):
        for unit in group:
            units.append(unit)
            print(unit["arm"], unit["size"], unit["seed"], flush=True)
        told = summarise(units)
        write_atomic(out / "goodhart.json", json.dumps(told, indent=1).encode())
        write_atomic(out / "goodhart.html", page(told).encode())
        write_atomic(out / "goodhart.md", markdown(told).encode())


tyro.cli(main, description=__doc__)
