"""notes_bits: notes against reinforcement on a hidden 24-bit rule, then sleep. Each arm and seed is made once.
`python experiments/notes_bits.py --start runs/laptop:sft --out runs/notes_bits --seeds 5`
"""

from pathlib import Path

import tyro

from nanoschool.envs.adapters.reward import Rewarded
from nanoschool.envs.hidden import Hidden
from nanoschool.lab.bandwidth import Arm, Study
from nanoschool.methods import load
from nanoschool.start import open_start

GROUPS = {"problems": 16, "samples": 16, "max_tokens": 32}
ARMS = {
    "own notes": Arm(load("notes")(problems=1, max_tokens=32), 64),
    "oracle notes": Arm(load("notes_oracle")(problems=1, max_tokens=32), 64),
    "exact match": Arm(load("rloo")(**GROUPS), 15_360),
    "fraction": Arm(load("rloo")(**GROUPS), 15_360, lambda world: Rewarded(world, fraction, "fraction")),
    "per token": Arm(load("process_grpo")(**GROUPS, discount=0.0), 15_360),
    "imitation": Arm(load("review_imitation")(problems=8, samples=2, max_tokens=32, lr=1e-3), 15_360),
}
NIGHTS = {
    name: load("sleep")(replay=rows, max_tokens=32) for name, rows in (("replay", 16), ("no replay", 0))
}


def fraction(task, reply: str) -> float:
    """Of the entries asked or said, whichever are more: what pays for hits alone teaches never to stop."""
    paid = Hidden().step_rewards(task, [reply])
    return sum(paid) / max(len(paid), len(task.data["asked"]))


def main(start: str = "runs/laptop:sft", out: Path = Path("runs/notes_bits"), seeds: int = 5) -> None:
    print(Study(out, open_start(start), ARMS, NIGHTS).page(range(1, seeds + 1)))


if __name__ == "__main__":
    tyro.cli(main)
