"""notes_bits: notes against reinforcement on a hidden 24-bit rule, then sleep. Each arm and seed is made once.

`python experiments/notes_bits.py --start laptop:sft --out runs/notes_bits --seeds 5`
"""

import argparse
from pathlib import Path

from nanoschool.envs.adapters.reward import Rewarded
from nanoschool.envs.hidden import Hidden
from nanoschool.envs.noted import Noted
from nanoschool.envs.rules import Rules
from nanoschool.lab.bandwidth import Arm, Study
from nanoschool.methods.notes import Notes
from nanoschool.methods.notes_oracle import NotesOracle
from nanoschool.methods.process_grpo import ProcessGRPO
from nanoschool.methods.review_imitation import ReviewImitation
from nanoschool.methods.rloo import RLOO
from nanoschool.methods.sleep import Sleep
from nanoschool.run import load_policy

GROUPS = {"problems": 16, "samples": 16, "max_tokens": 32}
ARMS = {
    "own notes": Arm(Notes(problems=1, max_tokens=32), 64),
    "oracle notes": Arm(NotesOracle(problems=1, max_tokens=32), 64),
    "exact match": Arm(RLOO(**GROUPS), 15_360),
    "fraction": Arm(RLOO(**GROUPS), 15_360, lambda world: Rewarded(world, fraction, "fraction")),
    "per token": Arm(ProcessGRPO(**GROUPS, discount=0.0), 15_360),
    "imitation": Arm(ReviewImitation(problems=8, samples=2, max_tokens=32, lr=1e-3), 15_360),
}
NIGHTS = {"replay": Sleep(replay=16, max_tokens=32), "no replay": Sleep(replay=0, max_tokens=32)}


def fraction(task, reply: str) -> float:
    """Of the entries asked or said, whichever are more: what pays for hits alone teaches never to stop."""
    paid = Hidden().step_rewards(task, [reply])
    return sum(paid) / max(len(paid), len(task.data["asked"]))


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--start", default="laptop:sft", help="RUN:STAGE")
    asked.add_argument("--runs-dir", type=Path, default=Path("runs"))
    asked.add_argument("--out", type=Path, default=Path("runs/notes_bits"))
    asked.add_argument("--seeds", type=int, default=5)
    options = asked.parse_args()
    run, _, stage = options.start.partition(":")
    found = load_policy(options.runs_dir / run, stage)
    study = Study(options.out, found, {"noted": Noted(), "rules": Rules()}, ARMS, NIGHTS)
    print(study.page(range(1, options.seeds + 1)))
