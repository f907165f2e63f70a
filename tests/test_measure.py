"""Measuring: numbers known beforehand, from models made by hand and from a model that knows nothing."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from tiny import SHORT, Calculator, tiny, tokenizer, trajectories

from nanoschool.core.batch import Batch
from nanoschool.core.model import GPT
from nanoschool.core.policy import Policy
from nanoschool.envs.rules import Rules
from nanoschool.evals.exam import Exam, best_way, gain
from nanoschool.evals.measure import (
    accuracy,
    answers,
    bits_per_byte,
    pass_at,
    read_rows,
    reading_gate,
    rewards,
    sampled,
    transcript,
    validation,
    ways,
)
from nanoschool.evals.stats import mean_interval, wilson
from nanoschool.types import Ask, Episode, Outcome, Task, Trajectory, UserError


def ignorant(context: int = 64) -> Policy:
    """A policy for which all tokens are alike."""
    policy = tiny(context=context)
    with torch.no_grad():
        policy.model.model.norm.weight.zero_()
    return policy


class ByHand(GPT):
    """A model that is sure of what a function of the tokens so far says comes next: of its row, be it one of many."""

    guess: Callable[[list[int]], int]

    def forward(self, tokens_BS, positions_BS=None, attend=None):
        positions = (torch.arange(tokens_BS.shape[1]) if positions_BS is None else positions_BS).expand_as(
            tokens_BS
        )
        rows = [
            [self.guess(row[i - at : i + 1]) for i, at in enumerate(places)]
            for row, places in zip(tokens_BS.tolist(), positions.tolist(), strict=True)
        ]
        return torch.tensor(rows)[..., None]

    def logits(self, x):
        return 30.0 * torch.nn.functional.one_hot(x[..., 0], self.config.vocab).float()


def by_hand(guess: Callable[[list[int]], int]) -> Policy:
    policy = tiny(context=96)
    policy.model = ByHand(policy.model.config)
    policy.model.guess = guess
    return policy


# -- bits per byte ---------------------------------------------------------------------------------------------------

TEXT = "tam: a k, b m, c no, d q\ntam: c no, a k\nSo b=7. " * 12


@pytest.mark.parametrize("stride", [None, 1, 7, 63])
@pytest.mark.parametrize("size", [2, 40, 64, 65, 200])
def test_bits_per_byte_of_one_who_knows_nothing(size, stride):
    """Each token but the first costs log2 V bits, once, whatever the windows."""
    tok = tokenizer()
    tokens = [tok.bos, *tok.encode(TEXT)][:size]
    assert len(tokens) == size
    expected = math.log2(tok.vocab_size) * (size - 1) / tok.bytes_of(tokens)
    assert bits_per_byte(ignorant(), tokens, stride) == pytest.approx(expected, rel=1e-6)


def test_bits_per_byte_gives_every_token_what_stands_before_it():
    policy, tok = tiny(depth=2, context=32), tokenizer()
    tokens = [tok.bos, *tok.encode(TEXT)][:90]
    nats = 0.0
    for at in range(1, 90):
        # Windows end at 32, 48, 64, 80 and 90 and score what is new in them: at least half a context is seen.
        end = next(end for end in (32, 48, 64, 80, 90) if at < end)
        start = max(0, end - 32)
        row = Trajectory(
            tokens[start : at + 1],
            [False] * (at - start) + [True],
            [0.0] * (at - start + 1),
            [0.0] * (at - start + 1),
        )
        nats -= float(policy.logprobs(Batch.of([row])).sum())
    got = bits_per_byte(policy, tokens)
    assert got == pytest.approx(nats / math.log(2) / tok.bytes_of(tokens), rel=1e-5)


def test_a_window_must_show_something_before_what_it_scores():
    tokens = [tokenizer().bos, *tokenizer().encode(TEXT)]
    with pytest.raises(ValueError, match="nothing stands before it"):
        bits_per_byte(ignorant(), tokens, stride=64)


def test_validation_counts_learned_tokens_and_their_bytes():
    policy, tok = ignorant(), tokenizer()
    text = tok.encode("tam: a k\n")
    tokens, mask = (
        [tok.bos, *text, tok.bos, *text],
        [False] + [True] * len(text) + [False] + [True] * len(text),
    )
    row = Trajectory(tokens, mask, [0.0] * len(mask), [1.0 * m for m in mask])
    got = validation(policy, [row, row])
    assert got["loss"] == pytest.approx(math.log(tok.vocab_size))
    assert got["bits_per_byte"] == pytest.approx(math.log2(tok.vocab_size) * 2 * len(text) / 18)
    assert 0 <= got["token_accuracy"] <= 1
    assert got["tokens"] == 4 * len(text) and got["bytes"] == 36


def test_reading_rows_in_parts_is_reading_them_at_once():
    policy = tiny(depth=2)
    rows = [(row.tokens, row.mask) for row in trajectories(policy, [5, 40, 12, 30, 9])]
    at_once, in_parts = read_rows(policy, rows), read_rows(policy, rows, rows_a_pass=2)
    assert in_parts == pytest.approx(at_once, rel=1e-6)
    known = {tuple(tokens[:at]): tokens[at] for tokens, _ in rows for at in range(len(tokens))}
    right = by_hand(lambda seen: known.get(tuple(seen), 0))
    share, nats, count = read_rows(right, rows)
    assert share == 1.0 and nats == pytest.approx(0, abs=1e-4) and count == sum(sum(mask) for _, mask in rows)


# -- the reading gate ------------------------------------------------------------------------------------------------


def entries(seen: list[int]) -> dict[int, int]:
    """The book in a row's first line, as tokens: what each key gives."""
    newline, colon = tokenizer().encode("\n")[0], tokenizer().encode(":")[0]
    line = seen[: seen.index(newline)] if newline in seen else seen
    book = line[line.index(colon) + 1 :] if colon in line else []
    return dict(zip(book[0::3], book[1::3], strict=False))


def reader(seen: list[int]) -> int:
    newline = tokenizer().encode("\n")[0]
    return entries(seen).get(seen[-1], 0) if newline in seen else 0


def test_one_who_reads_passes_the_gate_and_falls_to_chance_when_the_book_lies():
    gate = reading_gate(by_hand(reader), Rules(), books=1000)
    assert (
        gate["accuracy"] == 1.0 and gate["passed"] and gate["split_symbols"] == [] and gate["books"] == 1000
    )
    assert gate["shuffled"] == gate["chance"] and 0.1 < gate["chance"] < 0.4
    assert gate["tokens"] == 8000
    low, high = wilson(1000, 1000)
    assert gate["estimates"]["accuracy"] == {"mean": 1.0, "low": low, "high": high, "n": 1000}


def test_one_who_guesses_among_the_outputs_is_at_chance():
    """The cheat that a low loss hides: it knows which outputs the book has, and not where they stand."""

    def cheat(seen: list[int]) -> int:
        outputs = list(entries(seen).values())
        return max(set(outputs), key=outputs.count) if outputs else 0

    gate = reading_gate(by_hand(cheat), Rules(), books=60)
    assert gate["accuracy"] == gate["shuffled"] < 0.5 and not gate["passed"]


def test_one_who_remembers_other_books_and_one_who_knows_nothing_fail():
    by_letter = reading_gate(by_hand(lambda seen: seen[-1]), Rules(), books=60)
    assert by_letter["accuracy"] < 0.3 and not by_letter["passed"]
    new = reading_gate(tiny(), Rules(), books=60)
    assert new["accuracy"] < 0.2 and abs(new["accuracy"] - new["shuffled"]) < 0.1 and not new["passed"]


def test_few_books_do_not_pass():
    assert not reading_gate(by_hand(reader), Rules(), books=20)["passed"]


# -- answers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coin(Calculator):
    """Right where the reply's length is odd: about every second attempt of anybody."""

    def play(self, task: Task) -> Episode:
        reply = yield Ask(f"{task.problem}=?", max_tokens=6)
        return Outcome((float(len(reply.text) % 2),), info={"length": len(task.problem)})


def test_pass_at_k_counts_attempts_by_problem():
    policy, env = tiny(), Coin()
    tasks = env.tasks("test", 12)
    problems = sampled(policy, env, tasks, "chat", attempts=4, seed=3)
    tries = rewards(answers(policy, env, tasks, samples=4, temperature=1.0, seed=3))
    assert problems == [tries[4 * i : 4 * i + 4] for i in range(12)]
    got = pass_at(problems)
    assert set(got) == {"pass@1", "pass@4"} and got["pass@1"]["n"] == 12
    assert got["pass@1"]["mean"] == pytest.approx(sum(tries) / 48)
    assert got["pass@4"]["mean"] == pytest.approx(sum(any(p) for p in problems) / 12)
    assert got["pass@1"]["low"] < got["pass@1"]["mean"] < got["pass@1"]["high"]


def attempt(reward: float | None, stop_reason: str = "end", **info) -> Trajectory:
    return Trajectory([1], [False], [0.0], [0.0], rewards=reward, stop_reason=stop_reason, info=info)


def test_accuracy_by_what_the_world_counts():
    told = [attempt(1.0, wellformed=True, length=1), attempt(0.0, wellformed=True, length=1)]
    told += [attempt(0.0, wellformed=False, length=2), attempt(1.0, "length", wellformed=True, length=2)]
    told += [attempt(1.0, wellformed=True, length=2)]
    got = accuracy(told)
    low, high = wilson(3, 5)
    assert {key: got[key] for key in ("mean", "low", "high", "n")} == {
        "mean": 0.6,
        "low": low,
        "high": high,
        "n": 5,
    }
    assert got["format_rate"] == 0.6, "a reply that was cut off is not well-formed"
    assert list(got["by_length"]) == ["1", "2"] and "by_kind" not in got
    low, high = wilson(2, 3)
    assert got["by_length"]["2"] == {"mean": 2 / 3, "low": low, "high": high, "n": 3}
    assert got["by_length"]["1"]["mean"] == 0.5 and got["by_length"]["1"]["n"] == 2


def test_accuracy_of_rewards_between_nothing_and_all():
    got = accuracy([attempt(r, kind=kind) for r, kind in ((0.25, "open"), (0.75, "closed"), (0.5, "open"))])
    expected = mean_interval([0.25, 0.75, 0.5])
    assert (got["mean"], got["low"], got["high"]) == (0.5, expected.low, expected.high)
    assert got["by_kind"]["open"]["mean"] == 0.375
    assert "format_rate" not in got, "this world does not say what is well-formed"
    assert accuracy([attempt(None), attempt(1.0)])["mean"] == 0.5


def test_no_interval_is_a_point():
    games = [attempt(1.0 if i < 30 else -1.0, kind="first" if i < 20 else "second") for i in range(40)]
    got = accuracy(games)
    low, high = wilson(30, 40)
    assert (got["low"], got["high"]) == pytest.approx((2 * low - 1, 2 * high - 1))
    first = got["by_kind"]["first"]  # all won, and could have been lost
    assert first["mean"] == first["high"] == 1.0 and first["low"] == pytest.approx(1 - 2 * wilson(0, 20)[1])
    priced = accuracy([attempt(r) for r in (0.3, 1.0, 0.3, 1.0)])
    low, high = wilson(2, 4)
    assert (priced["low"], priced["high"]) == pytest.approx((0.3 + 0.7 * low, 0.3 + 0.7 * high))
    never = accuracy([attempt(0.0)] * 10)
    assert never["low"] == 0.0 and never["high"] == pytest.approx(wilson(0, 10)[1])
    assert accuracy([attempt(0.3)] * 10) == {"mean": 0.3, "n": 10}, (
        "nothing tells what else it could have been"
    )


def test_a_world_is_put_in_each_of_its_ways():
    assert ways(SHORT) == ["chat", "worked", "direct"] and ways(Calculator()) == ["chat"]
    policy, tasks = tiny(), SHORT.tasks("test", 3)
    for way in ways(SHORT):
        before = policy.ledger.total().rollouts
        got = answers(policy, SHORT, tasks, way)
        asked = policy.tokenizer.decode(got[0].tokens[: got[0].mask.index(True)])
        assert asked == (SHORT.direct(tasks[0]) if way == "direct" else SHORT.question(tasks[0]))
        assert (policy.tokenizer.user in got[0].tokens[: got[0].mask.index(True)]) == (way == "chat")
        assert policy.ledger.total().rollouts == before + 3
    with pytest.raises(
        UserError, match="world 'chain' cannot be asked as 'sung', only as chat, worked, direct"
    ):
        answers(policy, SHORT, tasks, "sung")
    with pytest.raises(UserError, match="only as chat"):
        answers(policy, Calculator(), tasks, "worked")


def test_a_transcript_shows_each_token_with_its_probability():
    policy = tiny()
    (attempt,) = answers(policy, Coin(), Coin().tasks("test", 1), temperature=1.0)
    shown = transcript(policy, attempt)
    assert shown["prompt"] == "1+1=?" and shown["reply"] == attempt.replies[0]
    assert shown["reward"] == attempt.rewards and len(shown["tokens"]) == len(shown["probabilities"]) == sum(
        attempt.mask
    )
    said = [logprob for logprob, sampled in zip(attempt.logprobs, attempt.mask, strict=True) if sampled]
    assert shown["probabilities"] == pytest.approx([math.exp(x) for x in said], abs=1e-4)


# -- the exam --------------------------------------------------------------------------------------------------------


def test_an_exam_is_of_the_test_split_and_can_be_sat_twice():
    policy = tiny(context=96)
    exam = Exam(
        {"chain": SHORT, "rules": Rules()},
        problems=6,
        attempts=2,
        pass_problems=3,
        practised=["chain"],
        converses=True,
        gate_books=5,
    )
    results, samples = exam.sit(policy)
    assert exam.sit(policy) == (results, samples)
    assert list(results["worlds"]["chain"]) == ["chat", "worked", "direct"]
    assert all(len(scores) == 6 for ways in results["rewards"].values() for scores in ways.values())
    assert set(results["passk"]) == {"chain"} and results["passk_format"] == {"chain": "chat"}
    assert results["gate"]["books"] == 5 and not results["gate"]["passed"]
    asked = {sample["prompt"] for sample in samples if sample["world"] == "chain"}
    assert asked == {SHORT.question(task) for task in SHORT.tasks("test", 6)[:3]}


def score(mean: float) -> dict:
    return {"mean": mean}


def exam(chat: list[float], worked: list[float]) -> dict:
    rewards = {"chat": chat, "worked": worked}
    return {
        "rewards": {"w": rewards},
        "worlds": {"w": {way: score(sum(r) / len(r)) for way, r in rewards.items()}},
    }


def test_a_gain_over_the_best_an_earlier_stage_could_do_is_more_than_elicitation():
    nothing, half, all_ = [0.0] * 40, [0.0, 1.0] * 20, [1.0] * 40
    exams = {"pretrain": exam(nothing, half), "sft": exam(nothing, nothing), "rl": exam(all_, nothing)}
    beyond = gain(exams, "sft", "rl", "w")
    assert (
        beyond["before"] == 0
        and beyond["after"] == 1
        and beyond["difference"]["mean"] == 1
        and beyond["n"] == 40
    )
    assert beyond["best_before"] == {"stage": "pretrain", "format": "worked", "mean": 0.5}
    assert beyond["beyond"]["mean"] == 0.5 and beyond["verdict"] == "beyond the base"
    exams["rl"] = exam(half, nothing)
    brought_out = gain(exams, "sft", "rl", "w")
    assert brought_out["difference"]["mean"] == 0.5 and brought_out["verdict"] == "elicitation"
    exams["rl"] = exam(nothing, nothing)
    assert gain(exams, "sft", "rl", "w")["verdict"] == "no gain shown", (
        "nothing was added: nothing was brought out"
    )
    exams["sft"] = exam(half, nothing)
    assert gain(exams, "sft", "rl", "w")["verdict"] == "worse"
    exams["rl"] = exam([*half[:-2], 1.0, 1.0], nothing)
    assert gain(exams, "sft", "rl", "w")["verdict"] == "no gain shown", "one problem of 40 is chance"
    assert best_way(exams["pretrain"]["worlds"]["w"]) == "worked"
