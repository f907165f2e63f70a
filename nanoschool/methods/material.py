"""Material: what a learner reads and imitates, drawn from its worlds' train splits as a pure function of the step."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import repeat
from random import Random

from nanoschool.core.chat import render
from nanoschool.core.corpus import encode_document, pack
from nanoschool.methods.base import Learner
from nanoschool.probe import knows
from nanoschool.types import (
    Environment,
    HasDemonstrations,
    HasDocuments,
    HasUnknowns,
    Message,
    Task,
    TooFew,
    Trajectory,
    UserError,
)

WIDER = 8  # so many tasks are looked at for one that is shown, where a share is to be of those that are known


def reading(learner: Learner, rows: int, weight: float = 1.0) -> list[Trajectory]:
    """Full-context rows of text, each from one world (or the user's own text) drawn by its share.

    Loss falls on the learned spans at `weight`.
    """
    rng = learner.random("reading")
    length = learner.policy.model.config.context
    out = []
    for name in _drawn(learner.read, rows, rng):
        if name == "text":
            assert learner.text is not None, "a share of text without a text"
            tokens = learner.text.row(rng, length)
            mask = [False] + [True] * (len(tokens) - 1)
        else:
            tokens, mask = _documents(learner, name, rng, length)
        out.append(trained(tokens, mask, weight))
    return out


def demonstrations(learner: Learner, rows: int, weight: float = 1.0) -> list[Trajectory]:
    """Worked conversations, each from a world drawn by its share of `learner.taught`; loss on what the assistant says."""
    out = []
    for name, count in drawn(learner.taught, rows, learner.random("demonstrations")).items():
        for task, shown in _examples(learner, name, count):
            tokens, mask = render(learner.policy.tokenizer, shown)
            if len(tokens) > learner.policy.model.config.context:
                limit = learner.policy.model.config.context
                raise UserError(
                    f"a demonstration of {name!r} has {len(tokens)} tokens, the context {limit}; widen it"
                )
            out.append(replace(trained(tokens, mask, weight), task=task))
    return out


def _examples(learner: Learner, name: str, count: int) -> list[tuple[Task, list[Message]]]:
    """Tasks of a world with a demonstration each.

    Where a world has some for those who know and others for those who do not, each gets the right one. Of the latter
    there is a share of the world's `confidence`, as far as a draw has them: answering wrongly costs that much, being
    helped in vain 1 less it, so that of two acts the one that is shown more often is the one that earns more.
    What the learner knows is found out once, before it is taught: later it says less than it knows, to the same question.
    """
    world, seed = learner.worlds[name], learner.draw_seed(f"demonstrations/{name}")
    if not isinstance(world, HasUnknowns):
        tasks = world.tasks("train", count, seed)
        if not isinstance(world, HasDemonstrations):
            raise UserError(f"world {name!r} has no demonstrations to imitate; take it out of the shares")
        return [(task, world.demonstration(task)) for task in tasks]
    known = learner.policy.knows
    if name not in known:
        known[name] = knows(learner.policy, world, world.probes(), learner.draw_seed(f"probes/{name}"))
    parted: tuple[list, list] = [], []
    try:
        tasks = world.tasks("train", WIDER * count, seed)
    except TooFew as few:
        tasks = world.tasks("train", max(few.found, count), seed)
    for task in tasks:
        p = known[name].get(world.knowledge(task), 0.0)  # of what no probe asks nothing is known
        alone = world.alone(task, p)
        parted[alone].append((task, world.shown(task, alone)))
    helped = int(count * world.confidence + learner.random(f"helped/{name}").random())
    first = parted[0][: max(helped, count - len(parted[1]))]
    return first + parted[1][: count - len(first)]


def trained(tokens: list[int], mask: list[bool], weight: float) -> Trajectory:
    """Tokens to imitate at `weight`: nobody sampled them, so their log-probability at sampling is 0."""
    weights = [weight if learned else 0.0 for learned in mask]
    return Trajectory(tokens, mask, logprobs=[0.0] * len(tokens), weights=weights)


def drawn(shares: Mapping[str, float], count: int, rng: Random) -> dict[str, int]:
    """How many of `count` each source gets, in the order of their names."""
    names = _drawn(shares, count, rng)
    return {name: names.count(name) for name in sorted(set(names))}


def _drawn(shares: Mapping[str, float], count: int, rng: Random) -> list[str]:
    names = sorted(shares)
    return rng.choices(names, [shares[name] for name in names], k=count)


def _documents(learner: Learner, name: str, rng: Random, length: int) -> tuple[list[int], list[bool]]:
    """A row of one world's documents."""
    world: Environment = learner.worlds[name]
    if not isinstance(world, HasDocuments):
        raise UserError(f"world {name!r} has no documents to read; take it out of the shares")
    tokenizer = learner.policy.tokenizer
    endless = (encode_document(tokenizer, world.document(rng)) for _ in repeat(None))
    return pack(endless, length, tokenizer.bos)
