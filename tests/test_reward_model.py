"""Reward model: what it scores, where it is saved, what it costs, and that it learns what the judge prefers."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_preference import learner_of, mean
from tiny import same, tiny, weights

from nanoschool import methods
from nanoschool.core import checkpoint
from nanoschool.core.batch import Batch
from nanoschool.core.policy import Policy
from nanoschool.core.reward_model import RewardModel
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.envs.taste import Taste
from nanoschool.ledger import Cost, Ledger
from nanoschool.methods.base import pay
from nanoschool.methods.comparisons import both, world_pairs
from nanoschool.methods.reward_model import margins, reward_model_of, sides_of
from nanoschool.types import UserError

SURE = Taste(lengths=(6, 7), noise=0.0)


def model_of(members: int = 1, **settings) -> tuple[RewardModel, list]:
    policy = tiny(context=128)
    model = RewardModel(policy.model, policy.tokenizer, policy.ledger, members=members, **settings)
    rows = world_pairs(SURE, "train", 6, 0)
    return model, [side for pair, row in enumerate(rows) for side in both(policy, row, pair)]


def test_the_score_is_of_the_last_token_whatever_the_padding():
    model, rows = model_of()
    together = model.score(rows)
    alone = [model.score([row])[0] for row in rows]
    assert together == pytest.approx(alone, abs=1e-5) and len(set(together)) == len(rows)
    member = model.members[0]
    x_BTD = member.trunk[0](torch.tensor([rows[0].tokens]))
    assert together[0] == pytest.approx((x_BTD[0, -1] @ member.score.weight[0]).item(), abs=1e-5)


def test_members_differ_by_their_heads_and_pessimism_takes_off_their_spread():
    model, rows = model_of(members=3)
    scores_MB = model.scores(Batch.of(rows))
    assert scores_MB.shape == (3, 12) and (scores_MB.std(0) > 0).all()
    assert model.score(rows) == pytest.approx(scores_MB.mean(0).tolist(), abs=1e-6)
    careful = scores_MB.mean(0) - 2 * scores_MB.std(0, correction=0)
    model.pessimism = 2.0
    assert model.score(rows) == pytest.approx(careful.tolist(), abs=1e-6)


def test_standardised_scores_have_mean_0_and_deviation_1_for_each_member():
    model, rows = model_of(members=2)
    for _ in range(2):  # the second time changes nothing
        model.standardise(rows)
        scores_MB = model.scores(Batch.of(rows))
        assert scores_MB.mean(1).abs().max() < 1e-4
        assert scores_MB.std(1).tolist() == pytest.approx([1, 1], abs=1e-3)


def test_it_is_loaded_as_it_was_saved(tmp_path):
    model, rows = model_of(members=2)
    model.standardise(rows[:4])
    path = model.save(tmp_path, "judge")
    loaded = RewardModel.load(path, Ledger())
    assert torch.equal(loaded.scores(Batch.of(rows)), model.scores(Batch.of(rows)))
    assert same(loaded.state(), model.state())
    saved = checkpoint.read(path)
    assert saved.config["architectures"] == ["Qwen3ForSequenceClassification"]
    assert "score.weight" in saved.weights and "mean" not in saved.weights


def test_a_checkpoint_without_one_is_refused(tmp_path):
    policy = tiny()
    path = checkpoint.write(
        tmp_path,
        "sft",
        config=policy.model.config.to_hf(),
        weights=policy.model.state_dict(),
        tokenizer=policy.tokenizer,
        training={},
        state={},
    )
    with pytest.raises(UserError, match="sft: has no reward model in it"):
        RewardModel.load(path, Ledger())
    with pytest.raises(UserError, match="name a checkpoint with a reward model"):
        RewardModel.load(tmp_path / "none", Ledger())


def test_a_pass_is_billed_without_logits_and_a_step_as_three():
    model, rows = model_of(members=2)
    model.score(rows[:1])
    n, config = len(rows[0].tokens), model.config
    one = config.flops(n, n * (n + 1) // 2, 0) + 2 * config.width
    assert model.ledger.total() == Cost(flops=2 * one, tokens=2 * n)
    model.fit(0, Batch.of([replace(rows[0], pair=None)]), lambda scores, batch, count: scores.sum())
    assert model.ledger.total().flops == pytest.approx(5 * one)
    assert model.ledger.total().trained == sum(rows[0].mask)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.identities
def test_one_micro_batch_of_eight_equals_eight_of_one(members):
    told = []
    for micro_tokens in (10**6, 1):
        method = methods.load("reward_model")(pairs=8, members=members)
        learner = learner_of(method)
        model = reward_model_of(learner)
        model.micro_tokens = micro_tokens
        metrics = method.step(learner)
        told.append((metrics["loss"], metrics["gradient_norm"]))
    assert told[0] == pytest.approx(told[1], rel=1e-4)


def test_the_level_is_drawn_to_0():
    """Scores that were far off come back, and the comparisons alone would leave them there."""
    levels = []
    for centre in (0.0, 0.5):
        method = methods.load("reward_model")(centre=centre, lr=2e-3, pairs=4)
        learner = learner_of(method)
        reward_model_of(learner).members[0].mean -= 3.0
        for learner.step in range(12):
            learner.progress = learner.step / 12
            metrics = method.step(learner)
        levels.append(abs(metrics["level"]))
    assert levels[1] < 2.0 < 2.4 < levels[0]


def test_it_learns_what_the_judge_prefers_and_leaves_the_policy_alone():
    """200 comparisons held out; at half ± 3.5 points a guess, a standard error, would be."""
    method = methods.load("reward_model")(lr=2e-3, members=2)
    learner, held = learner_of(method), world_pairs(SURE, "dev", 200, 0)
    before, untaught = weights(learner.policy), margins(reward_model_of(learner), learner.policy, held)
    with learner.policy.ledger.account("stage"):
        for learner.step in range(60):
            learner.progress = learner.step / 60
            metrics = method.step(learner)
    taught = margins(reward_model_of(learner), learner.policy, held)
    assert mean([m > 0 for m in taught]) > 0.5 + 2 * 0.035 and mean(taught) > mean(untaught)
    assert same(before, weights(learner.policy)) and math.isfinite(metrics["loss"])
    assert learner.policy.ledger.total("stage/fit").trained > 0


def judge_in(folder: Path, policy: Policy, members: int = 1) -> Path:
    """A checkpoint as a stage of reward_model leaves it."""
    trained = learner_of(methods.load("reward_model")(pairs=4, members=members))
    trained.policy.model.load_state_dict(policy.model.state_dict())
    methods.load("reward_model")(pairs=4, members=members).step(trained)
    return checkpoint.write(
        folder,
        "reward",
        config=policy.model.config.to_hf(),
        weights=policy.model.state_dict(),
        tokenizer=policy.tokenizer,
        training=trained.policy.optimizer.state(),
        state={},
    )


JUDGED = [name for name in methods.describe() if methods.load(name).judged]


@pytest.mark.parametrize("name", JUDGED)
def test_a_judge_pays_in_the_worlds_place(name, tmp_path):
    """Every method that learns from rewards alone is RLHF with a judge: it learns from its scores, which are billed, and
    still tells what the world thought."""
    kind = methods.load(name)
    sizes = {"problems": 3, "samples": 2, "max_tokens": 12, "replay": 0, "threshold": -9.0}
    method = kind(**{key: value for key, value in sizes.items() if key in kind.__dataclass_fields__})
    learner = learner_of(method)
    learner.judge = RewardModel.judging(judge_in(tmp_path, learner.policy), learner.policy)
    attempts = method.collect(learner)
    before = weights(learner.policy)
    scores, world = learner.judge.score(attempts), [t.rewards for t in attempts]
    metrics = method.step(learner)
    assert metrics["paid"] == pytest.approx(mean(scores), abs=1e-5)
    assert metrics["reward"] == pytest.approx(mean(world)) and metrics["reward"] != metrics["paid"]
    assert learner.policy.ledger.total("judge").flops > 0 and not same(before, weights(learner.policy))


def test_online_the_better_scored_attempt_is_the_chosen_one(tmp_path):
    method = methods.load("online_dpo")(problems=3, samples=2, max_tokens=12)
    learner = learner_of(method)
    learner.judge = RewardModel.judging(judge_in(tmp_path, learner.policy), learner.policy)
    attempts = method.collect(learner)
    pay(learner, attempts)
    metrics = method.credit(learner, attempts)
    scores = learner.judge.score(attempts)
    for attempt, score, other in zip(attempts, scores, [scores[i ^ 1] for i in range(6)], strict=True):
        assert max(attempt.weights) == (1.0 if score > other else 0.0)
    assert metrics["compared"] == 1.0


def test_rloos_reward_is_less_the_log_ratio_to_the_reference():
    """R = r − β (log π − log π_ref) of the whole attempt; on the reference itself it costs nothing."""
    plain, held = (methods.load("rloo")(problems=3, samples=4, max_tokens=12, kl=kl) for kl in (0.0, 0.5))
    assert held.needs_reference and not plain.needs_reference
    learner = learner_of(held)
    attempts = held.collect(learner)
    assert held.credit(learner, attempts)["kl"] == pytest.approx(0, abs=1e-4)
    learner.reference = tiny(context=128, seed=9).snapshot()
    attempts = held.collect(learner)
    metrics = held.credit(learner, attempts)
    ratios = (Batch.of(attempts).logprobs - learner.reference.logprobs(Batch.of(attempts))).sum(1)
    assert metrics["kl"] == pytest.approx(float(ratios.mean()), abs=1e-4) and metrics["kl"] > 1
    worth = [t.rewards - 0.5 * float(ratio) for t, ratio in zip(attempts, ratios, strict=True)]
    first = [max(t.weights, key=abs) for t in attempts[:4]]
    assert first[0] == pytest.approx(worth[0] - mean(worth[1:4]), abs=1e-4)
    assert learner.policy.ledger.total("reference").flops > 0


def test_a_judge_of_other_tokens_is_refused(tmp_path):
    policy = tiny(context=128)
    path = judge_in(tmp_path, policy)
    other = Policy(policy.model, Tokenizer.train(["abc " * 50], 300), policy.ledger)
    with pytest.raises(UserError, match="its tokenizer is not the policy's"):
        RewardModel.judging(path, other)


def test_at_the_end_what_it_learned_from_has_mean_0_and_deviation_1():
    method = methods.load("reward_model")(pairs=4, known=20, members=2)
    learner = learner_of(method)
    method.step(learner)
    method.conclude(learner)
    rows = sides_of(learner.policy, method.examples(learner))
    scores_MB = reward_model_of(learner).scores(Batch.of(rows))
    assert scores_MB.mean(1).abs().max() < 1e-4 and scores_MB.std(1).tolist() == pytest.approx(
        [1, 1], abs=1e-3
    )
    assert learner.policy.ledger.total("standardise").flops > 0
