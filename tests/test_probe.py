"""A model is asked what it knows, and taught to say what it does not; what it then does is held against what pays."""

from copy import deepcopy
from dataclasses import replace

import pytest
from tiny import tiny

from nanoschool import envs
from nanoschool.core import checkpoint
from nanoschool.core.optim import adamw
from nanoschool.core.policy import Policy
from nanoschool.envs.closedbook import IDK
from nanoschool.evals.choices import by_knowledge, choices, did, right_alone
from nanoschool.evals.measure import answers
from nanoschool.methods.base import Learner
from nanoschool.methods.material import demonstrations, trained
from nanoschool.methods.pretrain import Pretrain
from nanoschool.methods.sft import SFT
from nanoschool.probe import knows
from nanoschool.saving import Progress, restore, write
from nanoschool.types import Task

RECALL, LOOK, CALC = (envs.load(name) for name in ("recall", "look", "calc"))


@pytest.fixture(scope="module")
def read() -> tuple[Policy, list[Task]]:
    """A policy that has read the answers to six questions about the town, and these questions."""
    policy, tasks = tiny(depth=2, context=96), RECALL.probes()[:30:5]
    policy.optimizer = adamw(policy.model, 3e-3, betas=(0.9, 0.95))
    rows = []
    for task in tasks:
        asked = [policy.tokenizer.bos, *policy.tokenizer.encode(next(RECALL.probe(task)).text)]
        said = policy.tokenizer.encode(f" {task.data['answer']}.")
        rows.append(trained(asked + said, [False] * len(asked) + [True] * len(said), 1.0))
    for _ in range(60):
        policy.fit(rows)
    return policy, tasks


def learner_of(policy: Policy, world) -> Learner:
    policy.knows = {}  # it has not been asked yet
    worlds = {"sums": envs.load("sums"), world.name: world}
    return Learner(policy, None, worlds, {"sums": 1.0}, {world.name: 1.0}, seed=1, stage="sft")


def test_a_probe_finds_what_was_read_and_nothing_else(read):
    policy, tasks = read
    p = knows(policy, RECALL, RECALL.probes(), seed=1)
    told = {task.problem for task in tasks}
    assert p.keys() == {task.problem for task in RECALL.probes()}
    assert all(p[problem] > 0.7 for problem in told)
    others = [p[problem] for problem in p.keys() - told]
    assert sum(others) / len(others) < 0.3  # some are right by chance, or by a neighbour's answer


@pytest.mark.parametrize("world", [RECALL, LOOK, CALC], ids=lambda world: world.name)
def test_what_is_shown_follows_from_what_the_learner_knows(read, world):
    policy, _ = read
    learner = learner_of(policy, world)
    rows = demonstrations(learner, 40)
    p = learner.policy.knows[world.name]
    assert p == knows(policy, world, world.probes(), learner.draw_seed(f"probes/{world.name}"))
    for row in rows:
        assert row.task is not None
        alone = world.alone(row.task, p.get(world.knowledge(row.task), 0.0))
        said = policy.tokenizer.decode(row.tokens)
        assert (IDK in said or "</" in said) == (not alone)
    helped = sum(not world.alone(r.task, p.get(world.knowledge(r.task), 0.0)) for r in rows)
    assert helped > 20, "a model that has read next to nothing needs help"


def test_the_probe_is_made_once_billed_and_kept_with_the_weights(read, tmp_path):
    policy, _ = read
    learner = learner_of(policy, CALC)
    before = policy.ledger.total().rollouts
    demonstrations(learner, 4)
    asked = policy.ledger.total().rollouts - before
    assert asked == 4 * len(CALC.probes())
    demonstrations(learner, 4)
    assert policy.ledger.total().rollouts - before == asked
    assert set(learner.policy.knows["calc"]) == {f"level {level}" for level in CALC.levels}
    write(policy, tmp_path, Progress("sft"))
    again = tiny(depth=2, context=96)
    restore(again, checkpoint.read(tmp_path / "sft-000000"))
    assert again.knows == policy.knows == again.snapshot().knows
    learner = learner_of(policy, CALC)
    learner.policy = again
    Pretrain().begin(learner)
    assert again.knows == {}, "who reads on has to be asked anew"


def test_of_the_known_as_many_are_shown_as_mistakes_about_them_cost(read):
    learner = learner_of(read[0], RECALL)
    problems = [task.problem for task in RECALL.probes()]
    for known, answered in ((len(problems), 28), (len(problems) // 2, 28), (0, 0)):
        learner.policy.knows = {"recall": dict.fromkeys(problems[:known], 1.0)}
        rows = demonstrations(learner, 40)
        assert len(rows) == len({row.task.problem for row in rows if row.task}) == 40
        assert sum(IDK not in learner.policy.tokenizer.decode(row.tokens) for row in rows) == answered


def test_taught_to_abstain_it_abstains_and_regrets_less(read):
    policy = deepcopy(read[0])
    world = replace(RECALL, kinds=("stranger",))
    learner = learner_of(policy, world)
    method = SFT(rows=16, replay=0, lr=3e-3)
    tasks = world.tasks("test", 40)

    def measured() -> dict:
        return choices(world, tasks, answers(policy, world, tasks), right_alone(policy, world, tasks, seed=0))

    before = measured()
    method.begin(learner)
    for learner.step in range(25):
        learner.progress = learner.step / 40
        method.step(learner)
    after = measured()
    acts = after["acts_by_kind"]["stranger"]
    assert acts["abstain"]["mean"] > 0.9 and acts["abstain"]["n"] == 40
    assert sum(share["mean"] for share in acts.values()) == pytest.approx(1.0)
    assert after["regret"]["mean"] < 0.1 < before["regret"]["mean"]


def test_acts_are_sorted_by_what_the_world_says_and_by_what_was_known(read):
    policy, tasks = read
    attempts = answers(policy, RECALL, tasks, way="worked")
    acts = did(attempts)
    assert set(acts) <= {"right", "wrong", "abstain", "nonsense"} and acts.count("right") > 3
    p = right_alone(policy, RECALL, tasks, seed=0)
    found = choices(RECALL, tasks, attempts, p)
    exposures = [str(task.data["exposure"]) for task in tasks]
    assert set(found["acts_by_exposure"]) == set(exposures)
    for exposure, shares in found["acts_by_exposure"].items():
        assert shares["right"]["n"] == exposures.count(exposure)
    known = by_knowledge(acts, [1.0] * 3 + [0.5] * (len(tasks) - 3))
    assert known["known"]["right"]["mean"] == acts[:3].count("right") / 3
    assert known["unknown"]["right"]["n"] == len(tasks) - 3
