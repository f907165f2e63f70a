"""Reward model: what it scores, where it is saved, what it costs, and that it learns what the judge prefers."""

import math
from dataclasses import replace

import pytest
import torch
from test_preference import learner_of, mean
from tiny import same, tiny, weights

from nanoschool import methods
from nanoschool.core import checkpoint
from nanoschool.core.batch import Batch
from nanoschool.core.reward_model import RewardModel
from nanoschool.envs.taste import Taste
from nanoschool.ledger import Cost, Ledger
from nanoschool.methods.comparisons import both, world_pairs
from nanoschool.methods.reward_model import margins, reward_model_of
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
    assert model.score(rows, pessimism=2.0) == pytest.approx(careful.tolist(), abs=1e-6)


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


def test_a_judge_of_an_earlier_stage_judges_online(tmp_path):
    """It is read from the checkpoint that a stage leaves, and billed as `judge`."""
    method = methods.load("reward_model")(pairs=4)
    trained = learner_of(method)
    method.step(trained)
    path = checkpoint.write(
        tmp_path,
        "reward",
        config=trained.policy.model.config.to_hf(),
        weights=trained.policy.model.state_dict(),
        tokenizer=trained.policy.tokenizer,
        training=trained.policy.optimizer.state(),
        state={},
    )
    online = methods.load("online_dpo")(problems=3, samples=2, max_tokens=12, judge=path)
    learner = learner_of(online)
    attempts = online.collect(learner)
    metrics = online.credit(learner, attempts)
    scores = reward_model_of(trained).score(attempts)
    for attempt, score, other in zip(attempts, scores, [scores[i ^ 1] for i in range(6)], strict=True):
        assert max(attempt.weights) == (1.0 if score > other else 0.0)
    assert metrics["compared"] == 1.0 and metrics["judged"] == pytest.approx(mean(scores), abs=1e-5)
    assert learner.policy.ledger.total("judge").flops > 0
