"""The engine: what it samples is what the trainer scores, whatever the batch; draws, stops, forks, and their price."""

import gc
import weakref
from math import prod
from random import Random

import numpy as np
import pytest
import torch
from tiny import scored, tiny, tokenizer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nanoschool.core.batch import Batch
from nanoschool.core.draw import uniform
from nanoschool.core.engine import Session
from nanoschool.core.linear import FEW
from nanoschool.core.policy import Policy
from nanoschool.core.row import Row
from nanoschool.core.sampling import Sampling
from nanoschool.types import Trajectory, UserError

CLOSE = 1e-4


def prompt(length: int, seed: int = 0) -> list[int]:
    rng = Random(f"{length}/{seed}")
    return [tokenizer().bos] + [rng.randrange(256) for _ in range(length - 1)]


def trajectory(row: Row) -> Trajectory:
    return Trajectory(row.tokens, row.mask, row.logprobs, weights=[0.0] * len(row.tokens))


def said(row: Row) -> list[int]:
    return row.tokens[row.turn :]


def agree(policy: Policy, seed: int, one: Row, other: Row) -> None:
    """The same draws and, to 1e-4, the same numbers.

    Rounding differs with the size of a batch. So where a draw lies within 1e-5 of the border between two tokens they
    may part there, one in some ten thousand draws; up to there they must agree.
    """
    length = next((i for i, (a, b) in enumerate(zip(one.tokens, other.tokens, strict=False)) if a != b), None)
    if length is None:
        assert one.tokens == other.tokens and one.stop_reason == other.stop_reason
    else:
        logits_V = policy.model.logits(policy.model(torch.tensor([one.tokens[:length]])))[0, -1]
        u = uniform(seed, np.array([one.key], dtype=np.uint64), np.array([length - 1]))[0]
        assert (logits_V.detach().double().softmax(-1).cumsum(-1) - u).abs().min() < 1e-5
    for a, b in ((one.logprobs, other.logprobs), (one.entropies, other.entropies)):
        assert a[:length] == pytest.approx(b[:length], abs=CLOSE)


def finish(session: Session) -> None:
    while any(row.running for row in session.rows):
        session.step()


def mixed(policy: Policy, seed: int = 5, temperature: float = 1.0) -> list[Row]:
    """Prompts of many lengths, groups, forks inside a reply, tool turns, rows closed, paused and taken up again."""
    session, turns = policy.open(seed, temperature), {}
    rows = [
        session.start(prompt(n), key=i, max_tokens=5 + 3 * i, stop=("e", "1"))
        for i, n in enumerate((3, 17, 40, 1, 9, 30))
    ]
    rows += [session.fork(rows[2], key=100 + i) for i in range(3)]
    rows += [session.fork(rows[0], key=200 + i) for i in range(2)]
    paused, closed_while_running = [], 0
    for step in range(70):
        for row in session.step():
            turns[row] = turns.get(row, 0) + 1
            if row.key % 3 == 0 and turns[row] < 4:
                session.extend(row, prompt(2 + turns[row], row.key), max_tokens=6)
            elif row.key % 3 == 1:
                session.close(row)
                closed_while_running += any(r.running for r in session.rows)
            else:
                paused.append(row)
        if step in (2, 5):
            running = [row for row in session.rows if row.running]
            rows += [session.fork(row, key=300 + 10 * step + i) for i, row in enumerate(running[:3])]
        if step in (8, 16):
            for row in paused:
                session.extend(row, prompt(4, step), max_tokens=4)
            paused.clear()
            rows.append(session.start(prompt(11, step), key=400 + step, max_tokens=9))
    finish(session)
    assert closed_while_running >= 3 and max(turns.values()) >= 3 and len(rows) >= 15
    return rows


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_sampler_gives_the_trainers_log_probability_for_every_token(temperature, tied):
    policy = tiny(depth=2, tied=tied)
    rows = mixed(policy, temperature=temperature)
    batch = Batch.of([trajectory(row) for row in rows])
    assert int(batch.mask.sum()) > 150
    off = (scored(policy, [trajectory(row) for row in rows], temperature) - batch.logprobs).abs()
    assert off.max() < CLOSE


def test_entropies_are_those_of_the_distribution_sampled_from():
    policy = tiny(depth=2)
    rows = mixed(policy)
    batch = Batch.of([trajectory(row) for row in rows])
    logprobs_BTV, _ = policy.distribution(batch, top_k=policy.model.config.vocab)
    entropy_BT = -(logprobs_BTV.exp() * logprobs_BTV).sum(-1)
    for row, entropy_T in zip(rows, entropy_BT, strict=True):
        for at, sampled in enumerate(row.mask):
            assert abs(row.entropies[at] - (float(entropy_T[at]) if sampled else 0.0)) < CLOSE


def test_the_same_schedule_is_bitwise_the_same():
    one, two = mixed(tiny(depth=2)), mixed(tiny(depth=2))
    for a, b in zip(one, two, strict=True):
        assert (a.tokens, a.mask, a.logprobs, a.entropies) == (b.tokens, b.mask, b.logprobs, b.entropies)
    assert [row.tokens for row in mixed(tiny(depth=2), seed=6)] != [row.tokens for row in one]


def converse(policy: Policy, keys: list[int]) -> dict[int, Row]:
    """Two turns each, the second after a tool's answer."""
    session = policy.open(seed=3)
    rows = {key: session.start(prompt(4 + 5 * key), key=key, max_tokens=5 + key) for key in keys}
    finish(session)
    for key, row in rows.items():
        session.extend(row, prompt(3 + key), max_tokens=8)
    finish(session)
    return rows


def test_a_row_alone_and_in_a_batch_agree():
    policy = tiny(depth=2)
    together = converse(policy, list(range(6)))
    for key, row in together.items():
        agree(policy, 3, row, converse(policy, [key])[key])


@pytest.mark.parametrize("rows", [FEW + 1, 2 * FEW - 1, 2 * FEW])
def test_what_products_are_rounded_up_by_changes_no_row(rows):
    policy = tiny(depth=2)

    def say(keys: range) -> list[Row]:
        session = policy.open(seed=3)
        said = [session.start(prompt(4, seed=key), key=key, max_tokens=2 + key % 5) for key in keys]
        finish(session)
        return said

    for row in say(range(rows)):
        agree(policy, 3, row, say(range(row.key, row.key + 1))[0])


def test_a_forked_group_says_what_rows_read_one_by_one_say():
    policy = tiny(depth=2)
    session = policy.open(seed=1)
    first = session.start(prompt(20), key=0, max_tokens=10)
    group = [first] + [session.fork(first, key=key) for key in range(1, 5)]
    finish(session)
    assert len({tuple(row.tokens) for row in group}) == 5
    for row in group:
        session = policy.open(seed=1)
        alone = session.start(prompt(20), key=row.key, max_tokens=10)
        finish(session)
        agree(policy, 1, row, alone)


def test_a_fork_inside_a_reply_goes_on_from_the_same_state():
    policy = tiny(depth=2)
    session = policy.open(seed=1)
    row = session.start(prompt(12), key=7, max_tokens=20)
    for _ in range(6):
        session.step()
    same, other = session.fork(row, key=7), session.fork(row, key=8)
    begun = policy.open(seed=1)
    again = begun.start(prompt(12), key=7, max_tokens=20, begun=said(row))
    finish(session)
    finish(begun)
    agree(policy, 1, row, same)
    assert other.tokens[:18] == row.tokens[:18] and other.tokens != row.tokens
    assert same.reply == row.reply and len(said(row)) == len(said(again)) == 20
    assert again.reply == row.reply
    assert again.mask[:18] == [False] * 18 and row.mask[:18] == [False] * 12 + [True] * 6
    again.logprobs[:18], again.entropies[:18] = row.logprobs[:18], row.entropies[:18]  # given, not sampled
    agree(policy, 1, row, again)


def test_marks_in_what_is_begun_are_no_text():
    tok, session = tokenizer(), tiny().open(seed=1)
    row = session.start(prompt(4), key=1, max_tokens=5, begun=[*tok.encode("a="), tok.user, *tok.encode("3")])
    finish(session)
    assert row.reply.startswith("a=3") and row.reply == tok.decode(said(row)) and len(said(row)) == 5


# -- draws -----------------------------------------------------------------------------------------------------------


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """In standard deviations above its mean."""
    free = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - free) / (2 * free) ** 0.5)


def test_draws_are_a_pure_function_of_seed_key_and_position():
    keys, positions = np.array([0, 1, 2**63 - 1], dtype=np.uint64), np.array([0, 7, 500])
    together = uniform(9, keys, positions)
    assert together.tolist() == [uniform(9, keys[i : i + 1], positions[i : i + 1])[0] for i in range(3)]
    assert (together >= 0).all() and (together < 1).all()
    assert uniform(10, keys, positions).tolist() != together.tolist()


@pytest.mark.parametrize("seed", [0, 1, 2**62 + 12345])
def test_draws_are_uniform_and_independent(seed):
    keys, positions = np.meshgrid(np.arange(256, dtype=np.uint64), np.arange(256))
    u = uniform(seed, keys.ravel(), positions.ravel()).reshape(256, 256)
    counts = np.histogram(u, bins=128, range=(0, 1))[0]
    assert chi_square(counts, np.full(128, u.size / 128)) < 4
    other = uniform(seed + 1, keys.ravel(), positions.ravel()).reshape(256, 256)
    for neighbour in (
        u[1:, :],
        u[:, 1:],
        u.T[1:, :],
        other[1:, :],
    ):  # next position, key, key for position, seed
        here = u[:-1, :] if neighbour.shape[0] == 255 else u[:, :-1]
        pairs = np.histogram2d(here.ravel(), neighbour.ravel(), bins=12, range=((0, 1), (0, 1)))[0]
        assert chi_square(pairs, np.full(pairs.shape, here.size / 144)) < 4
        assert abs(np.corrcoef(here.ravel(), neighbour.ravel())[0, 1]) < 4 / here.size**0.5


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_come_as_often_as_the_model_says(temperature):
    policy, count = tiny(), 4000
    session = policy.open(seed=2, temperature=temperature)
    rows = [session.start(prompt(1), key=key, max_tokens=1) for key in range(count)]
    session.step()
    counts = np.bincount([row.tokens[1] for row in rows], minlength=policy.model.config.vocab)
    logits_V = policy.model.logits(policy.model(torch.tensor([prompt(1)])))[0, 0]
    expected = count * (logits_V.detach() / temperature).softmax(-1).numpy()
    often = expected > 5
    rest = [counts[~often].sum()], [expected[~often].sum()]
    assert often.sum() > 20
    assert chi_square(np.append(counts[often], rest[0]), np.append(expected[often], rest[1])) < 4


def test_greedy_takes_the_likeliest_and_reports_the_plain_log_probability():
    policy = tiny(depth=2)
    session = policy.open(seed=1, temperature=0.0)
    rows = [session.start(prompt(n), key=n, max_tokens=15) for n in (2, 9, 23)]
    finish(session)
    batch = Batch.of([trajectory(row) for row in rows])
    logprobs_BT1, tokens_BT1 = policy.distribution(batch, top_k=1)
    assert (tokens_BT1[..., 0] == batch.tokens)[batch.mask].all()
    assert (logprobs_BT1[..., 0] - batch.logprobs)[batch.mask].abs().max() < CLOSE


# -- where a reply ends ----------------------------------------------------------------------------------------------


def replies(policy: Policy, count: int, **how) -> list[Row]:
    session = policy.open(seed=4)
    rows = [session.start(prompt(5), key=key, max_tokens=20, **how) for key in range(count)]
    finish(session)
    return rows


def test_stop_strings_inside_a_token_and_across_tokens():
    known = b"\n".join(tokenizer().token_bytes(t) for t in range(tokenizer().bos)).decode("utf-8", "replace")
    pairs = [a + b for a in "ieaonrst" for b in "wxyz0123456789=;: "]
    stops = ("th", "am", *(pair for pair in pairs if pair not in known))
    policy = tiny()
    counts = {"inside": 0, "across": 0, "none": 0}
    for row in replies(policy, 500, stop=stops):
        pieces = [tokenizer().token_bytes(t) if t < tokenizer().bos else b"" for t in said(row)]
        text, before = b"".join(pieces), b"".join(pieces[:-1])
        assert not any(stop.encode() in before for stop in stops), (
            "it ends with the token that completes a stop"
        )
        ends = [text.index(stop.encode()) + len(stop) for stop in stops if stop.encode() in text]
        if row.stop_reason == "stop":
            assert row.reply == text[: min(ends)].decode("utf-8", "replace")
            inside = any(stop.encode() in pieces[-1] for stop in stops)
            counts["inside" if inside else "across"] += 1
        else:
            assert not ends and row.reply == text.decode("utf-8", "replace")
            counts["none"] += 1
    assert min(counts.values()) >= 5, counts


def test_of_two_stop_strings_the_one_said_first_ends_the_reply():
    policy, piece = (
        tiny(),
        next(t for t in range(300, tokenizer().bos) if len(tokenizer().token_bytes(t)) >= 4),
    )
    text = tokenizer().token_bytes(piece).decode()
    session = policy.open(seed=0)
    rows = [session.start(prompt(5), key=key, max_tokens=9, stop=(text[2], text[:2])) for key in range(400)]
    finish(session)
    both = [row for row in rows if row.tokens[-1] == piece]
    assert both and all(row.reply.endswith(text[:2]) for row in both)


def test_end_tokens_end_a_reply_and_marks_are_not_text():
    tok, rows = tokenizer(), replies(tiny(gain=0.2), 400)
    ended = [row for row in rows if row.stop_reason == "end"]
    cut = [row for row in rows if row.stop_reason == "length"]
    assert len(ended) + len(cut) == 400
    assert {row.tokens[-1] for row in ended} == {tok.end, tok.bos}
    assert all(not {tok.end, tok.bos} & set(said(row)[:-1]) and row.mask[-1] for row in ended)
    assert all(len(said(row)) == 20 and not {tok.end, tok.bos} & set(said(row)) for row in cut)
    marked = [row for row in rows if set(said(row)) & {tok.user, tok.tool, tok.assistant, tok.system}]
    assert marked and all("<|" not in row.reply for row in marked)
    assert all(row.reply == tok.decode(said(row)) for row in rows)


def test_the_context_is_the_end():
    policy = tiny(context=16, depth=2)
    session = policy.open(seed=0)
    rows = [session.start(prompt(n), key=n, max_tokens=64) for n in (2, 10, 15)]
    finish(session)
    assert all(len(row.tokens) <= 16 for row in rows)
    assert [len(row.tokens) for row in rows if row.stop_reason == "length"] == [16] * 3
    batch = Batch.of([trajectory(row) for row in rows])
    assert (scored(policy, [trajectory(row) for row in rows]) - batch.logprobs).abs().max() < CLOSE
    with pytest.raises(UserError, match="conversation too long: 16 tokens leave no room"):
        session.start(prompt(16), key=1, max_tokens=1)
    with pytest.raises(UserError, match="conversation too long"):
        session.extend(rows[0], prompt(1), max_tokens=1)
    assert len(session.rows) == 3


def test_a_row_that_waits_is_left_alone():
    policy = tiny()
    session = policy.open(seed=0)
    short = session.start(prompt(6), key=1, max_tokens=2)
    long = session.start(prompt(9), key=2, max_tokens=30)
    while short.running:
        session.step()
    before = list(short.tokens), list(short.logprobs), short.cached, short.reply
    for _ in range(10):
        assert short not in session.step()
    assert (short.tokens, short.logprobs, short.cached, short.reply) == before and long.running
    assert policy.open().step() == []


def test_a_cache_goes_with_its_session():
    """At once: gigabytes of a GPU cannot wait for the collector."""
    session = tiny().open()
    row = session.start(prompt(6), key=1, max_tokens=3)
    finish(session)
    session.close(row)
    gone = [weakref.ref(session), weakref.ref(session._scheduler.cache), weakref.ref(session._fused)]
    gc.disable()
    del session
    gc.enable()
    assert [one() for one in gone] == [None] * 3


def test_mistakes_with_rows_are_told():
    policy = tiny()
    session, other = policy.open(), policy.open()
    row = session.start(prompt(3), key=1, max_tokens=4)
    kept = session.start(prompt(4), key=2, max_tokens=4)
    session.close(row)
    for wrong in (lambda: session.close(row), lambda: session.fork(row, key=2), lambda: other.close(kept)):
        with pytest.raises(ValueError, match="closed, or of another session"):
            wrong()
    with pytest.raises(ValueError, match="closed"):
        session.extend(row, prompt(2), max_tokens=3)
    assert session.rows == [kept]
    for tokens, how, complaint in (
        ([], {"max_tokens": 1}, "at least one token"),
        (prompt(2), {"max_tokens": 0}, "room for one"),
        (prompt(2), {"max_tokens": 3, "stop": ("\n", "")}, "empty one"),
        (prompt(2), {"max_tokens": 2, "begun": prompt(3)[1:]}, "room for one"),
        (prompt(2), {"max_tokens": 5, "begun": tokenizer().encode("a\n"), "stop": ("\n",)}, "it has ended"),
        (prompt(2), {"max_tokens": 5, "begun": [tokenizer().end]}, "it has ended"),
    ):
        with pytest.raises(UserError, match=complaint):
            session.start(tokens, key=1, **how)
    assert session.rows == [kept]


# -- what it costs ---------------------------------------------------------------------------------------------------


def test_every_token_is_read_once_and_charged_once():
    policy = tiny(depth=2)
    session, c = policy.open(seed=2), policy.model.config
    first = session.start(prompt(30), key=0, max_tokens=9)
    rows = [first] + [session.fork(first, key=key) for key in range(1, 4)]
    finish(session)
    session.extend(rows[1], prompt(7), max_tokens=5)
    finish(session)
    prefix = 29  # all rows share it; the prompt's last token is read by each, for each draws after it
    flops, tokens, sampled = c.flops(prefix, prefix * (prefix + 1) // 2, 0), prefix, 0
    for row in rows:
        read = len(row.tokens) - 1 - prefix  # nobody reads the last one
        attended = (prefix + read) * (prefix + read + 1) // 2 - prefix * (prefix + 1) // 2
        flops += c.flops(read, attended, sum(row.mask))
        tokens, sampled = tokens + read, sampled + sum(row.mask)
    cost = policy.ledger.total()
    assert cost.flops == pytest.approx(flops, rel=1e-12)
    assert (cost.tokens, cost.sampled) == (tokens, sampled)


def test_sampling_costs_what_torch_counts():
    policy = tiny(depth=2)
    policy.sampling = Sampling(steps="eager")  # of what is in C torch knows nothing
    session = policy.open()
    session.start(
        prompt(33), key=0, max_tokens=20
    )  # 32 are read: a multiple of what products are rounded up to
    products = {torch.ops.mkldnn._linear_pointwise: lambda x, w, *_, **__: 2 * prod(x) * w[0]}
    counter = FlopCounterMode(display=False, custom_mapping=products)
    with counter, sdpa_kernel(SDPBackend.MATH):
        session.step()  # the prefill's attention is counted whole, though half of it is hidden
        read, before = counter.get_total_flops(), policy.ledger.total().flops
        for _ in range(8):
            session.step()
    assert policy.ledger.total().flops - before == counter.get_total_flops() - read
    c, S = policy.model.config, 32
    hidden = c.flops(0, S * S - S * (S + 1) // 2, 0)
    assert before == read - hidden
