"""critique: what a review says of an attempt, made once and billed, and the uses that learning can make of it.

The review is one text an attempt, `Trajectory.feedback`: the world's own words, or the model's where it is asked to review
itself. Worlds of rules name one wrong place and what is right there, `wrong: d k, right: d q`; a text that says it in other
words is still a context for `self_distill` and a note for `notes`, but no step reward, pair or lesson to imitate.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import log
from random import Random

from nanoschool import bits
from nanoschool.core.batch import Batch
from nanoschool.core.chat import render
from nanoschool.core.policy import Policy
from nanoschool.core.row import Row
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.ledger import Ledger
from nanoschool.methods.base import Learner, Method, require
from nanoschool.methods.stepped import characters, turns
from nanoschool.rollout import alone, stable_hash
from nanoschool.types import Ask, Environment, HasGuesses, Message, Reply, Task, Trajectory

NAMED = re.compile(r"wrong: (.*?), right: (.*)")
ABSENT = "nothing"  # stands where a reply lacks something, or has too much
LOOKED_AT, LONGEST = 8, 16  # train tasks, and replies to each, that a world's feedback is looked for in


@dataclass(frozen=True)
class Reviewed(Method):
    """A method that learns from reviews."""

    own_reviews: float = (
        0.0  # of the attempts, which the model reviews itself; of the others the world speaks
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        fine = 0 <= self.own_reviews <= 1
        require(fine, self, f"own_reviews={self.own_reviews} must be from 0 to 1, of the attempts")

    def collect(self, learner: Learner) -> list[Trajectory]:
        return reviewed(learner, super().collect(learner), self.own_reviews)


def require_feedback(method: Reviewed, env: Environment) -> list[str]:
    """What a world says of attempts that fail, where the world reviews. Raises UserError where that is nothing."""
    told = [] if method.own_reviews > 0 else complaints(env)
    lacks = f"world {env.name!r} gives no feedback on what fails, which it learns from; practise in another"
    require(method.own_reviews > 0 or any(told), method, lacks)
    return told


def require_place(method: Reviewed, env: Environment) -> None:
    """Raise UserError where no feedback of a world says what is wrong in an attempt and what is right there."""
    told = require_feedback(method, env)
    lacks = (
        f'world {env.name!r} names no wrong place and what is right there ("wrong: …, right: …"), which it learns '
        f"from; it says {next(filter(None, told), '')!r}; practise in another"
    )
    require(method.own_reviews > 0 or any(map(NAMED.search, told)), method, lacks)


def complaints(env: Environment) -> list[str]:
    """What a world says of a few attempts that say nothing, and of some by chance where it knows what that is."""
    told = []
    for number, task in enumerate(env.tasks("train", LOOKED_AT)):
        told.append(_said_of(env, task, lambda replies: ""))
        if isinstance(env, HasGuesses):
            told.append(_said_of(env, task, partial(env.guess, task, rng=Random(number))))
    return told


def _said_of(env: Environment, task: Task, speak: Callable[[list[str]], str]) -> str:
    """The feedback of one attempt; "" where it does not come to an end."""
    episode, replies = alone(env, env.play)(task), list[str]()
    try:
        next(episode)
        for _ in range(LONGEST):
            replies.append(speak(replies))
            episode.send(Reply(replies[-1]))
    except StopIteration as end:
        return end.value.feedback
    return ""


def reviewed(learner: Learner, attempts: list[Trajectory], share: float) -> list[Trajectory]:
    """The attempts, a share of them with the model's own review in place of the world's feedback; billed as `review`."""
    rng = learner.random("reviews")
    own = [t for t in attempts if rng.random() < share]
    if own:
        assert learner.env is not None, "the stage names a world"
        asks = [Ask("\n".join([*told(learner.env, t.task, t.replies), "review"])) for t in own if t.task]
        with learner.policy.ledger.account("review"):
            written = write(learner.policy, asks, learner.draw_seed("reviews"))
        for t, text in zip(own, written, strict=True):
            t.feedback = text.strip()
    heard = [t for t in attempts if not any(t is mine for mine in own)]
    with learner.policy.ledger.account("review"):
        learner.policy.ledger.charge(bits=offered(learner.policy, heard))
    return attempts


def offered(policy: Policy, reviewed: Sequence[Trajectory]) -> float:
    """Bits of what the world says of some attempts: of which ones it says anything, and −log2 p of its words.

    p is the policy's, behind the attempt itself; words that the context has no room for are not counted. The pass is the
    meter's own: who learns from the words has no need of it, so it is not billed.
    """
    silence = len(reviewed) * bits.entropy([not t.feedback for t in reviewed])
    meter = Policy(policy.model, policy.tokenizer, Ledger(), policy.micro_tokens)
    rows = []
    for t in reviewed:
        words = policy.tokenizer.encode(f"\n{t.feedback}") if t.feedback else []
        tokens = [*t.tokens, *words][: policy.model.config.context]
        mask = [i >= len(t.tokens) for i in range(len(tokens))]
        if any(mask):
            rows.append(Trajectory(tokens, mask, [0.0] * len(tokens), [0.0] * len(tokens)))
    return silence - (float(meter.logprobs(Batch.of(rows)).sum()) / log(2) if rows else 0.0)


def told(env: Environment, task: Task, replies: Sequence[str]) -> list[str]:
    """An attempt in words: what was asked, and `said` what the policy replied, in turn."""
    episode, lines = alone(env, env.play)(task), []
    ask = next(episode)
    for reply in replies:
        lines += [ask.text, f"said {reply}"]
        try:
            ask = episode.send(Reply(reply))
        except StopIteration:
            break
    return lines


def write(policy: Policy, asks: Sequence[Ask], seed: int, temperature: float = 0.0) -> list[str]:
    """What the model says to each ask, its notes out of sight; "" where the context has no room to ask."""
    session = policy.open(seed, temperature)
    rows: list[Row | None] = []
    for number, ask in enumerate(asks):
        tokens, _ = render(policy.tokenizer, [Message(ask.role, ask.text)], generate=True)
        key, limit = stable_hash(f"{number}/{ask.text}"), ask.max_tokens or 48
        room = len(tokens) < policy.model.config.context
        rows.append(session.start(tokens, key=key, max_tokens=limit, stop=ask.stop) if room else None)
    while any(row is not None and row.running for row in rows):
        session.step()
    return [row.reply if row is not None else "" for row in rows]


@dataclass(frozen=True)
class Blame:
    """The wrong place that a review names in an attempt, and what it says should stand there."""

    turn: int  # number of the reply
    at: int  # characters into it
    wrong: str
    right: str  # "" where the review does not say, or nothing should stand there


def blame(t: Trajectory) -> Blame | None:
    """None where the attempt's review names no place in it: it found nothing wrong, or says it in other words."""
    found = NAMED.search(t.feedback)
    if not found:
        return None
    wrong, right = found[1], "" if found[2] == ABSENT else found[2]
    if wrong == ABSENT:
        return Blame(len(t.replies) - 1, len(t.replies[-1]), "", right)
    for turn, reply in enumerate(t.replies):
        if place := re.search(rf"(?<!\w){re.escape(wrong)}(?!\w)", reply):
            return Blame(turn, place.start(), wrong, right)
    return None


def blamed_token(tokenizer: Tokenizer, t: Trajectory) -> int:
    """The token that writes the first wrong character, by the review; past the end if it blames none."""
    found = blame(t)
    if found is None:
        return len(t.tokens)
    first, past = turns(t.mask)[found.turn]
    written = characters(tokenizer, t.tokens[first:past])
    return first + next((i for i, n in enumerate(written) if n > found.at), past - first - 1)


def corrected(tokenizer: Tokenizer, t: Trajectory) -> tuple[Trajectory, Trajectory] | None:
    """The attempt as the review corrects it, and as it was, both up to the end of the reply that is blamed; None where the
    review does not say what stands in a wrong place's stead.

    Of the corrected one, `extra["known"]` is 1 up to the correction's end and 0 behind it, where nothing was said.
    """
    found = blame(t)
    if found is None or not (found.wrong and found.right):
        return None
    first, past = turns(t.mask)[found.turn]
    reply = t.replies[found.turn]
    known = reply[: found.at] + found.right
    head = tokenizer.encode(known)
    said = [*tokenizer.encode(known + reply[found.at + len(found.wrong) :]), tokenizer.end]
    sure = next((i for i, (a, b) in enumerate(zip(head, said, strict=False)) if a != b), len(head))
    before = [False] * first
    chosen = replace(
        t,
        tokens=[*t.tokens[:first], *said],
        mask=before + [True] * len(said),
        logprobs=[0.0] * (first + len(said)),
        weights=[0.0] * first + [1.0] * len(said),
        extra={"known": [0.0] * first + [float(i < sure) for i in range(len(said))]},
    )
    rejected = replace(
        t,
        tokens=t.tokens[:past],
        mask=before + t.mask[first:past],
        logprobs=t.logprobs[:past],
        weights=[0.0] * first + [-1.0] * (past - first),
        extra={},
    )
    return chosen, rejected
