"""Preference: golden numbers, identities, files of pairs, and that each method comes to prefer what a judge prefers."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import Recorder, tiny, tokenizer
from torch import tensor

from nanoschool import methods, preference
from nanoschool.core.batch import Batch
from nanoschool.core.examples import Comparison, Conversation, Judged, read_examples
from nanoschool.envs.chain import Chain
from nanoschool.envs.taste import Taste
from nanoschool.ledger import Cost
from nanoschool.methods.base import Learner, Method
from nanoschool.methods.comparisons import both, replied, world_pairs
from nanoschool.methods.dataset import epochs
from nanoschool.methods.pairwise import Replies, replies, sides
from nanoschool.types import Message, UserError

U, V = tensor(1.0), tensor(-1.0)  # summed log-ratios of chosen and rejected: -12 + 13, -15 + 14
PAIRWISE = ("dpo", "cdpo", "ipo", "orpo", "simpo")
ALL = (*PAIRWISE, "kto")
SURE = Taste(lengths=(6, 7), noise=0.0)


def learner_of(method: Method, env=SURE, seed: int = 0, context: int = 128) -> Learner:
    policy = tiny(context=context, seed=seed)
    learner = Learner(policy, env, {}, {}, {}, seed, "stage")
    if method.needs_reference:
        learner.reference = policy.snapshot()
    method.begin(learner)
    return learner


# Golden numbers (methods.md 2.12): sum lp_w = -12, lp_l = -15, lr_w = -13, lr_l = -14; 6 and 5 tokens


@pytest.mark.parametrize(
    "loss, golden",
    [
        (preference.dpo(U, V, 0.1), 0.598139),
        (preference.cdpo(U, V, 0.1, 0.1), 0.618139),
        (preference.ipo(U, V, 0.1), 9.0),
        (preference.ipo(U / 6, V / 5, 0.1), 21.467777),  # as TRL and we average
        (preference.log_odds(tensor(-2.0)) - preference.log_odds(tensor(-3.0)), 1.094344),
        (preference.orpo(tensor(-2.0), tensor(-3.0), 0.1), 2.028875),
        (preference.simpo(tensor(-2.0), tensor(-3.0), 2.0, 1.0), 0.313262),
        (preference.kto(U, tensor(True), 0.3, 0.1), 0.482507),
        (preference.kto(V, tensor(False), 0.3, 0.1), 0.467546),
        (preference.bradley_terry(tensor(1.2), tensor(0.5)), 0.403186),
        (preference.bradley_terry(tensor(1.2), tensor(0.5), margin=0.3), 0.513015),
        (preference.off_centre(tensor(1.2), tensor(0.5)), 2.89),
    ],
)
def test_golden(loss, golden):
    assert loss.item() == pytest.approx(golden, abs=6e-7 * max(1, golden))


def test_golden_through_the_methods():
    chosen = Replies(tensor([-12.0]), tensor([-13.0]), tensor([6.0]))
    rejected = Replies(tensor([-15.0]), tensor([-14.0]), tensor([5.0]))
    golden = {"dpo": 0.598139, "cdpo": 0.618139, "ipo": 21.467777, "orpo": 2.028875, "simpo": 0.313262}
    for name, value in golden.items():
        method = methods.load(name)()
        assert method.objective(chosen, rejected).item() == pytest.approx(value, rel=1e-6), name
        assert method.reward(chosen) > method.reward(rejected)


# Identities


@pytest.mark.identities
def test_at_its_reference_dpo_is_ln_2_and_its_margin_0():
    method = methods.load("dpo")(pairs=6)
    learner = learner_of(method)
    metrics = method.step(learner)
    assert metrics["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert abs(metrics["margin"]) < 1e-5 and metrics["chosen"] < 0 and metrics["rejected"] < 0
    assert preference.dpo(U, U, 0.3).item() == pytest.approx(math.log(2))
    assert preference.cdpo(U, U, 0.3, 0.2).item() == pytest.approx(math.log(2))
    assert preference.kto(U, tensor(True), 1.0, 0.1).item() == 0.5
    assert preference.ipo(U, U, 0.5).item() == 1.0


@pytest.mark.identities
def test_cdpo_without_flips_is_dpo_and_stops_where_it_is_as_sure_as_the_labels():
    assert torch.equal(preference.cdpo(U, V, 0.1, 0.0), preference.dpo(U, V, 0.1))
    margin = tensor(math.log(0.9 / 0.1) / 0.1, requires_grad=True)
    preference.cdpo(margin, tensor(0.0), 0.1, 0.1).backward()
    assert abs(margin.grad) < 1e-7


def test_ipo_has_its_least_at_its_target():
    margin = tensor(5.0, requires_grad=True)  # 1 / (2 tau)
    preference.ipo(margin, tensor(0.0), 0.1).backward()
    assert margin.grad == 0


def test_log_odds_do_not_overflow():
    values = tensor([-1e-9, 0.0, -1e4, -50.0], requires_grad=True)
    odds = preference.log_odds(values)
    odds.sum().backward()
    assert torch.isfinite(odds).all() and torch.isfinite(values.grad).all()
    assert preference.log_odds(tensor(math.log(0.5))).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", PAIRWISE)
def test_gradients_raise_the_chosen_and_lower_the_rejected(name):
    method = methods.load(name)()
    logprobs = tensor([-12.0, -13.0], requires_grad=True)
    said = Replies(logprobs, tensor([-12.5, -12.5]), tensor([6.0, 5.0]))
    method.objective(said.rows(tensor([0])), said.rows(tensor([1]))).sum().backward()
    assert logprobs.grad[0] < 0 < logprobs.grad[1]


def test_kto_raises_the_desirable_and_lowers_the_undesirable():
    ratios = tensor([0.3, 0.3], requires_grad=True)
    preference.kto(ratios, tensor([True, False]), 0.1, 0.1).sum().backward()
    assert ratios.grad[0] < 0 < ratios.grad[1]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.identities
def test_one_micro_batch_of_eight_equals_eight_of_one(name):
    """With replies of unequal lengths, away from the reference."""
    told = []
    for micro_tokens in (10**6, 1):
        method = methods.load(name)(pairs=8, data=None)
        learner = learner_of(method, Taste())
        if method.needs_reference:
            learner.reference = tiny(context=128, seed=7).snapshot()
        learner.policy.micro_tokens = micro_tokens
        learner.policy.optimizer = recorder = Recorder(learner.policy.model)
        metrics = method.step(learner)
        told.append((metrics["loss"], recorder.gradients[0]))
    (loss, gradient), (same_loss, same_gradient) = told
    assert loss == pytest.approx(same_loss, rel=1e-5)
    for key, value in gradient.items():
        scale = value.abs().max()
        assert scale > 0 and (value - same_gradient[key]).abs().max() < 1e-4 * scale, key


# Pairs in a batch


def test_the_sides_of_a_pair_are_never_parted():
    policy = tiny(context=128)
    rows = world_pairs(Taste(), "train", 12, 0)
    batch = Batch.of([side for pair, row in enumerate(rows) for side in both(policy, row, pair)])
    for limit in (1, 100, 400, 10**6):
        parts = batch.micro(limit)
        assert sorted(p for part in parts for p in part.pairs.tolist()) == sorted([*range(12)] * 2)
        for part in parts:
            won, lost = sides(part)
            assert len(won) == len(lost) == len(part) / 2
            assert limit == 1 or len(part) == 2 or part.lengths.sum() <= limit
    assert all(len(part) == 2 for part in batch.micro(1))
    with pytest.raises(ValueError, match="1 of 2 trajectories have a pair"):
        Batch.of([both(policy, rows[0], 0)[0], replied(policy, "a", "b", 1.0, "x")])


def test_log_probabilities_are_summed_over_the_reply_with_its_end():
    policy = tiny(context=128)
    chosen, rejected = both(policy, Comparison("write", "rain sea", "sea"), 0)
    for side, text in ((chosen, "rain sea"), (rejected, "sea")):
        learned = [token for token, m in zip(side.tokens, side.mask, strict=True) if m]
        assert learned == [*tokenizer().encode(text), tokenizer().end]
    batch = Batch.of([chosen, rejected])
    logprobs = policy.logprobs(batch)
    said = replies(logprobs, batch)
    assert said.tokens.tolist() == [sum(chosen.mask), sum(rejected.mask)]
    assert said.logprobs[0].item() == pytest.approx(logprobs[0][batch.mask[0]].sum().item())
    assert torch.equal(said.ratios, said.logprobs)  # without a reference it is 0


def test_every_comparison_is_read_once_before_any_is_read_again():
    learner = SimpleNamespace(seed=1, stage="s", step=0)
    taken = []
    for learner.step in range(6):
        taken += epochs(8, 4, learner, "x")
    first, second, third = taken[:8], taken[8:16], taken[16:]
    assert sorted(first) == sorted(second) == sorted(third) == list(range(8)) and first != second != third
    learner.step = 3
    assert epochs(8, 4, learner, "x") == taken[12:16], "whatever was drawn before"
    assert len(epochs(3, 8, learner, "x")) == 8


def test_pairs_are_of_the_train_split_and_a_runs_own():
    rows = world_pairs(Taste(), "train", 60, 1)
    train = {row.prompt for row in rows}
    held = {row.prompt for split in ("dev", "test") for row in world_pairs(Taste(), split, 60, 1)}
    assert not train & held and rows != world_pairs(Taste(), "train", 60, 2)


# Learning


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("name", ALL)
def test_a_policy_comes_to_prefer_what_the_judge_prefers(name):
    """On comparisons held out, whose labels are without noise; chance is a half."""
    method = methods.load(name)(lr=2e-3)
    learner, held = learner_of(method), world_pairs(SURE, "dev", 200, 0)
    before = method.margins(learner.policy, learner.reference, held)
    with learner.policy.ledger.account("stage"):
        for learner.step in range(80):
            learner.progress = learner.step / 80
            metrics = method.step(learner)
    after = method.margins(learner.policy, learner.reference, held)
    gain = [m - b for m, b in zip(after, before, strict=True)]
    error = (mean([(g - mean(gain)) ** 2 for g in gain]) / len(gain)) ** 0.5
    assert mean(gain) > 2 * error
    assert mean([m > 0 for m in after]) > max(0.55, mean([m > 0 for m in before]))
    assert all(math.isfinite(value) for value in metrics.values())
    ledger = learner.policy.ledger
    assert (ledger.total("stage/fit/reference") == Cost()) is not method.needs_reference
    assert (ledger.total("stage/fit/baseline").flops > 0) is (name == "kto")
    assert ledger.total("stage/collect") == ledger.total("stage/credit") == Cost()


def test_ktos_baseline_is_of_replies_to_other_prompts():
    method = methods.load("kto")(pairs=4)
    learner = learner_of(method)
    rows = method.collect(learner)
    assert [row.weights[-1] for row in rows].count(0.0) == 0
    assert method.baseline(learner, rows) == 0.0, "at the reference nothing is gained"
    learner.reference = tiny(context=128, seed=3).snapshot()
    others = []
    for i, row in enumerate(rows):
        other = next(
            o
            for o in rows[i:] + rows[:i]
            if o.tokens[: o.mask.index(True)] != row.tokens[: row.mask.index(True)]
        )
        tokens = row.tokens[: row.mask.index(True)] + other.tokens[other.mask.index(True) :]
        mask = [False] * row.mask.index(True) + [True] * sum(other.mask)
        others.append(
            replace(row, tokens=tokens, mask=mask, weights=[0.0] * len(tokens), logprobs=[0.0] * len(tokens))
        )
    batch = Batch.of(others)
    ratio = (learner.policy.logprobs(batch) - learner.reference.logprobs(batch)).sum(1).mean().item()
    assert method.baseline(learner, rows) == pytest.approx(max(0.0, ratio), abs=1e-4)
    assert method.baseline(learner, [rows[0], rows[0]]) == 0.0, "one prompt alone has no others"


def test_online_dpo_compares_the_best_attempt_with_the_worst():
    method = methods.load("online_dpo")(problems=6, samples=4, max_tokens=12, lr=2e-3)
    learner = learner_of(method)
    learner.policy.optimizer = recorder = Recorder(learner.policy.model)
    attempts = method.collect(learner)
    for i, attempt in enumerate(attempts):
        attempt.rewards = [0.5, 0.1, 0.9, 0.4][i % 4] if i < 20 else 0.3
    metrics = method.credit(learner, attempts)
    assert metrics["compared"] == pytest.approx(5 / 6)
    for i, attempt in enumerate(attempts):
        best, worst = i < 20 and i % 4 == 2, i < 20 and i % 4 == 1
        assert (attempt.pair is not None) is (best or worst)
        assert set(attempt.weights) == ({0.0, 1.0} if best else {0.0, -1.0} if worst else {0.0})
    metrics = method.fit(learner, attempts)
    assert metrics["loss"] == pytest.approx(math.log(2), abs=1e-5) and metrics["skipped"] == 0.0
    assert len(recorder.gradients) == 1
    for attempt in attempts:
        attempt.rewards, attempt.pair = 0.3, None
    method.credit(learner, attempts)
    assert method.fit(learner, attempts) == {"skipped": 1.0} and len(recorder.gradients) == 1


# Files


def file_of(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8"
    )
    return path


GOOD = {"prompt": "p", "chosen": "a", "rejected": "b"}
LABELLED = {"prompt": "p", "completion": "a", "label": True}
SAID = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}


def test_rows_are_read_with_their_places(tmp_path):
    path = file_of(tmp_path, GOOD, "", LABELLED, SAID)
    assert read_examples(path) == [
        Comparison("p", "a", "b", f"{path}:1"),
        Judged("p", "a", True, f"{path}:3"),
        Conversation((Message("user", "hi"), Message("assistant", "ho")), f"{path}:4"),
    ]


@pytest.mark.parametrize(
    "row, told",
    [
        ('{"prompt": "p", "chosen', "is not JSON"),
        ("[1]", "is list, must be an object"),
        ({"text": "x"}, "has keys text; write"),
        ({}, "has keys none; write"),
        ({"prompt": "p", "chosen": "a"}, "rejected is not there, must be a string"),
        ({**GOOD, "rejected": 3}, "rejected is 3, must be a string"),
        ({**GOOD, "chosen": " "}, "chosen is empty"),
        ({**GOOD, "rejected": "a"}, "chosen and rejected are the same"),
        ({**LABELLED, "label": "yes"}, "label is 'yes', must be true or false"),
        ({**LABELLED, "completion": ""}, "completion is empty"),
        ({"messages": []}, "messages must be a list of at least one"),
        ({"messages": [{"role": "robot", "content": "x"}]}, r"messages\[0\] has no role"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\]: content is not there"),
        ({"messages": [{"role": "user", "content": "x"}]}, "the assistant says nothing"),
        ('{"prompt": "p", "chosen": "\\ud800", "rejected": "b"}', "half a surrogate pair at character 0"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path, row, told):
    path = file_of(tmp_path, GOOD, row)
    with pytest.raises(UserError, match=rf"pairs\.jsonl:2: .*{told}") as error:
        read_examples(path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_none_is_told(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl: no such file"):
        read_examples(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="holds no row"):
        read_examples(file_of(tmp_path, "", ""))
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(UserError, match=r"latin\.jsonl:1: is not UTF-8 text at byte 12"):
        read_examples(path)
    with pytest.raises(UserError, match=rf"{tmp_path}: cannot be read"):
        read_examples(tmp_path)


@pytest.mark.parametrize("name", [*ALL, "reward_model"])
def test_a_file_takes_the_place_of_a_world(tmp_path, name):
    rows = [{**GOOD, "prompt": f"p{i}"} for i in range(3)] + ([LABELLED] if name == "kto" else [])
    method = methods.load(name)(data=file_of(tmp_path, *rows), pairs=2)
    method.check_alone()
    learner = learner_of(method, env=None)
    assert math.isfinite(method.step(learner)["loss"])
    file_of(tmp_path, *rows[:2])
    with pytest.raises(UserError, match=r"pairs\.jsonl: has changed since the stage began"):
        method.collect(learner)


@pytest.mark.parametrize("name", [*ALL, "reward_model"])
def test_what_it_cannot_learn_from_is_refused_before_anything_is_spent(tmp_path, name):
    kind = methods.load(name)
    with pytest.raises(UserError, match="has no comparisons to learn from: name a world"):
        kind().check_alone()
    with pytest.raises(UserError, match="world 'chain' has no pairs"):
        kind().check(Chain())
    kind().check(Taste())
    with pytest.raises(UserError, match=r"pairs\.jsonl:1: is a row like .*messages.*; here they must be"):
        kind(data=file_of(tmp_path, SAID)).check(Taste())
    with pytest.raises(UserError, match="pairs=0 must be at least 1"):
        kind(pairs=0)


def test_a_row_too_long_for_the_context_is_named(tmp_path):
    rows = [{**GOOD, "prompt": f"p{i}"} for i in range(3)]
    method = methods.load("dpo")(data=file_of(tmp_path, *rows, {**GOOD, "chosen": "rain " * 90}), pairs=1)
    method.check_rows(tokenizer(), 512)
    with pytest.raises(UserError, match=r"pairs\.jsonl:4: has \d+ tokens, the context 128"):
        method.check_rows(tokenizer(), 128)


def test_settings_that_cannot_work_are_refused():
    for name, wrong in [
        ("dpo", {"beta": 0.0}), ("cdpo", {"flipped": 0.5}), ("ipo", {"tau": -1.0}), ("kto", {"desirable": -1.0}),
        ("orpo", {"weight": -0.1}), ("simpo", {"gamma": -1.0}), ("online_dpo", {"samples": 1}), ("dpo", {"lr": 0.0}),
        ("online_dpo", {"temperature": 0.0}), ("reward_model", {"members": 0}), ("reward_model", {"centre": -1.0}),
    ]:  # fmt: skip
        setting, value = next(iter(wrong.items()))
        with pytest.raises(UserError, match=f": {setting}={value} must be"):
            methods.load(name)(**wrong)
