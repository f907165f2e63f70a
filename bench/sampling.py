"""sampling: decode, rollouts, one row and tool turns, beside transformers' `generate` on the same weights.

Nothing that either samples ends a reply: lengths are given, so that both do the same useful work. Ours records each token's
log-probability and entropy besides; `generate` records neither.
"""

import copy
from collections.abc import Iterator
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from bench import subjects
from bench.duel import Duel
from nanoschool.core.endings import Endings
from nanoschool.core.engine import Session
from nanoschool.core.policy import Policy
from nanoschool.core.sampling import Sampling

DEPTH, VOCAB, CONTEXT = 3, 1024, 192  # the preset laptop's
TURNS, SAID, TOLD = 5, 12, 16  # tool turns of an episode, tokens of a reply, of a tool's answer
LONG = 768  # context of those


def duels() -> Iterator[Duel]:
    ours = subjects.policy(DEPTH, VOCAB, CONTEXT)
    theirs = subjects.exported(ours)
    narrow = copy.deepcopy(theirs).to(torch.bfloat16)
    for kind in (Sampling(), Sampling("bfloat16")):
        asked = ours.snapshot()
        asked.sampling = kind
        rival = theirs if kind.dtype == "float32" else narrow
        yield decode(asked, rival)
        yield ragged(asked, rival)
        if rival is theirs:  # nobody's lone row gains by bfloat16
            yield streaming(asked, rival)
    yield from turns(subjects.policy(DEPTH, VOCAB, LONG))


def decode(ours: Policy, theirs: PreTrainedModel, rows: int = 256, new: int = 64) -> Duel:
    """Rows of equal lengths, each with a prompt of its own."""
    prompts = [random_prompt(ours, 16, i) for i in range(rows)]
    tokens = torch.tensor(prompts)

    def mine() -> int:
        session = endless(ours)
        for key, prompt in enumerate(prompts):
            session.start(prompt, key=key, max_tokens=new)
        return finish(session)

    def others() -> int:
        return generate(theirs, tokens, torch.ones_like(tokens), new)

    about = f"{rows} rows, prompts of 16, {new} new tokens; {subjects.size(ours)}"
    return Duel("decode", about, mine, others, "transformers generate", 4)


def ragged(ours: Policy, theirs: PreTrainedModel, prompts: int = 16, samples: int = 16) -> Duel:
    """As reinforcement learning samples: prompts of unequal length, a group each, replies that stop anywhere up to 128."""
    rng = Random(0)
    read = [random_prompt(ours, rng.randrange(8, 57), i) for i in range(prompts)]
    # log-uniform: half of the replies end within 22 tokens, some run to the limit
    limits = [[min(128, int(4 * 32 ** rng.random())) for _ in range(samples)] for _ in read]
    useful, width = sum(map(sum, limits)), max(map(len, read))
    tokens = torch.tensor([[0] * (width - len(p)) + p for p in read])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in read])
    stop = StoppingCriteriaList([AtLengths(torch.tensor(limits).flatten() + width)])

    def mine() -> int:
        session = endless(ours)
        groups = [session.hold(p, max_tokens=128) for p in read]
        for i, prompt in enumerate(groups):
            for j, limit in enumerate(limits[i]):
                row = session.fork(prompt, key=samples * i + j)
                row.end = row.turn + limit
        if finish(session, close=True) != useful:
            raise ValueError("a reply ended elsewhere than it should")
        return useful

    def others() -> int:
        generate(theirs, tokens, mask, 128, num_return_sequences=samples, stopping_criteria=stop)
        return useful

    about = f"{prompts} prompts of 8 to 56 x {samples}, replies of 4 to 128, mean {useful / prompts / samples:.0f}"
    return Duel("rollouts", f"{about}; {subjects.size(ours)}", mine, others, "transformers generate", 8)


def streaming(ours: Policy, theirs: PreTrainedModel, new: int = 128) -> Duel:
    """One row, each token's text seen as it comes."""
    prompt = random_prompt(ours, 16, 0)
    tokens = torch.tensor([prompt])

    def mine() -> int:
        session = endless(ours)
        row, shown = session.start(prompt, key=0, max_tokens=new), 0
        while row.running:
            session.step()
            shown = len(row.said)
        return new if shown else 0

    def others() -> int:
        return generate(theirs, tokens, torch.ones_like(tokens), new, streamer=Seen())

    about = f"1 row, {new} new tokens; {subjects.size(ours)}"
    return Duel("one row, streaming", about, mine, others, "transformers generate", 2.5)


def turns(ours: Policy, rows: int = 32, prompt: int = 512) -> Iterator[Duel]:
    """Episodes with a tool: the cache kept across turns, against all that was said read again at each."""
    theirs = subjects.exported(ours)
    prompts = [random_prompt(ours, prompt, i) for i in range(rows)]
    told = [[random_prompt(ours, TOLD, 1000 * i + turn) for turn in range(TURNS)] for i in range(rows)]

    def kept() -> int:
        session = endless(ours)
        said = [session.start(p, key=i, max_tokens=SAID) for i, p in enumerate(prompts)]
        done = finish(session)
        for turn in range(TURNS):
            for row, answers in zip(said, told, strict=True):
                session.extend(row, answers[turn], max_tokens=SAID)
            done += finish(session)
        return done

    def reread() -> int:
        heard, done = prompts, 0
        for turn in range(TURNS + 1):
            session = endless(ours)
            said = [session.start(p, key=i, max_tokens=SAID) for i, p in enumerate(heard)]
            done += finish(session)
            if turn < TURNS:
                heard = [row.tokens + told[i][turn] for i, row in enumerate(said)]
        return done

    def others() -> int:
        heard, done = torch.tensor(prompts), 0
        for turn in range(TURNS + 1):
            whole = continued(theirs, heard, torch.ones_like(heard), SAID)
            done += rows * SAID
            if turn < TURNS:
                heard = torch.cat((whole, torch.tensor([answers[turn] for answers in told])), dim=1)
        return done

    about = f"{rows} episodes, prompts of {prompt}, {TURNS} tool turns, {SAID} said, {TOLD} told; {subjects.size(ours)}"
    yield Duel("tool turns", about, kept, reread, "ours, all read again each turn", 2.5)
    yield Duel("tool turns", about, kept, others, "transformers generate, all read again each turn", 2.5)


# -- ours --------------------------------------------------------------------------------------------------------------


def random_prompt(ours: Policy, length: int, seed: int) -> list[int]:
    rng = Random(seed)
    return [ours.tokenizer.bos] + [rng.randrange(256) for _ in range(length - 1)]


def endless(ours: Policy) -> Session:
    """A session in which no token ends a reply."""
    session = ours.open(seed=1)
    session.endings = Endings(ours.tokenizer, ours.model.config.vocab, ())
    return session


def finish(session: Session, close: bool = False) -> int:
    """Step until nothing runs; tokens sampled."""
    before = session.ledger.total().sampled
    while any(row.running for row in session.rows):
        for row in session.step():
            if close:
                session.close(row)
    return session.ledger.total().sampled - before


# -- theirs ------------------------------------------------------------------------------------------------------------


class AtLengths(StoppingCriteria):
    """Row i is done when it holds `lengths[i]` tokens, padding before its prompt counted."""

    def __init__(self, lengths: Tensor) -> None:
        self.lengths_B = lengths

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        return input_ids.shape[1] >= self.lengths_B


class Seen(BaseStreamer):
    def put(self, value: Tensor) -> None:
        self.last = value

    def end(self) -> None:
        pass


def continued(theirs: PreTrainedModel, tokens: Tensor, mask: Tensor, new: int, **how: object) -> Tensor:
    with torch.inference_mode():
        return theirs.generate(
            tokens,
            attention_mask=mask,
            max_new_tokens=new,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            eos_token_id=None,
            pad_token_id=0,
            **how,
        )


def generate(theirs: PreTrainedModel, tokens: Tensor, mask: Tensor, new: int, **how: object) -> int:
    """Tokens sampled."""
    whole = continued(theirs, tokens, mask, new, **how)
    return whole.shape[0] * (whole.shape[1] - tokens.shape[1])
