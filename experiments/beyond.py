"""beyond: does practice on longer and longer rule-books lead beyond what the base can do? Each arm and seed is made once.
`python experiments/beyond.py --run runs/laptop --out runs/beyond --seeds 5`
"""

from pathlib import Path

import tyro

from nanoschool.envs.rules import Rules
from nanoschool.finished import load_policy
from nanoschool.lab.growing import Arm, Exam, Study
from nanoschool.methods import load

SIZES = (10, 12, 14, 16, 18, 20)  # keys of a rule-book; the model has read and been shown those of 8
PRACTICE = {"problems": 16, "samples": 16, "max_tokens": 96, "lr": 3e-4}
ROLLOUTS = 15_360
ARMS = {
    "rloo, longer each round": Arm(load("rloo")(**PRACTICE, replay=16), SIZES, ROLLOUTS),
    "rloo, the longest only": Arm(load("rloo")(**PRACTICE, replay=16), SIZES[-1:], ROLLOUTS),
    "expert iteration, longer each round": Arm(
        load("expert_iteration")(**PRACTICE, replay=16), SIZES, ROLLOUTS
    ),
    "random reward, longer each round": Arm(load("random_reward")(**PRACTICE, replay=16), SIZES, ROLLOUTS),
}


def main(run: Path = Path("runs/laptop"), out: Path = Path("runs/beyond"), seeds: int = 5) -> None:
    found = {"base": load_policy(run, "pretrain"), "start (SFT)": load_policy(run, "sft")}
    study = Study(
        out,
        found,
        lambda size: Rules(size=size, outputs=size, name=f"rules of {size}"),
        ARMS,
        Exam((SIZES[-1], SIZES[-3], 8)),
        {"rules": Rules()},
    )
    print(study.page(range(1, seeds + 1)))


if __name__ == "__main__":
    tyro.cli(main)
