"""Dataset: a file of the user's to learn from: a tenth of its prompts is kept back for dev and a tenth for test.

Rows with the same prompt stay together, so what is measured was never asked in training. The file must stay as the stage
found it. A row is read strictly (`core/examples`), and one that the context has no room for is named with its line.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from random import Random

from nanoschool.core.chat import render
from nanoschool.core.examples import Conversation, Example, read_examples
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.methods.base import Learner
from nanoschool.types import SPLITS, Message, UserError

KEPT_BACK = 10  # one prompt in so many is dev, one is test
MEASURED = 400  # rows kept back that a look or an exam is of, at most


@lru_cache(maxsize=4)
def read_file(path: Path, wanted: tuple[type, ...]) -> Sequence[Example]:
    """All rows of a file. Raises UserError with the line of one that cannot be learned from."""
    return tuple(read_examples(path, wanted))


@lru_cache(maxsize=16)
def read_split(path: Path, wanted: tuple[type, ...], split: str) -> Sequence[Example]:
    """The rows of a split. UserError where a file has fewer than three prompts, one for each split."""
    rows = read_file(path, wanted)
    prompts = sorted({prompt_of(row) for row in rows}, key=lambda p: sha256(p.encode()).digest())
    if len(prompts) < len(SPLITS):
        raise UserError(
            f"{path}: asks {len(prompts)} different things, must ask {len(SPLITS)}: to learn from, for dev and for test"
        )
    held = max(1, len(prompts) // KEPT_BACK)
    parts = {"dev": prompts[:held], "test": prompts[held : 2 * held], "train": prompts[2 * held :]}
    chosen = set(parts[split])
    return tuple(row for row in rows if prompt_of(row) in chosen)


def prompt_of(row: Example) -> str:
    """What a row asks: of a conversation, all that is said before the assistant first speaks."""
    if not isinstance(row, Conversation):
        return row.prompt
    first = next(i for i, message in enumerate(row.messages) if message.role == "assistant")
    return "\n".join(f"{message.role}: {message.content}" for message in row.messages[:first])


def unchanged(learner: Learner, path: Path) -> None:
    """Raise UserError where a stage's file is no longer what the stage began with."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; restore it, or name another")
    digest = sha256(path.read_bytes()).hexdigest()
    if learner.state.setdefault("data", digest) != digest:
        raise UserError(
            f"{path}: has changed since the stage began; restore it, or give the run another --name"
        )


def fitting(
    tokenizer: Tokenizer, messages: Sequence[Message], context: int, place: str
) -> tuple[list[int], list[bool]]:
    """(tokens, mask) of a conversation. UserError names the place of one that the context has no room for."""
    tokens, mask = render(tokenizer, messages)
    if len(tokens) > context:
        raise UserError(
            f"{place}: has {len(tokens)} tokens, the context {context}; shorten it, or widen the context"
        )
    return tokens, mask


def epochs(size: int, count: int, learner: Learner, purpose: str) -> list[int]:
    """The indices that a step takes of `size`: all in a random order, then all in another, and so on."""
    taken, orders = [], {}
    for position in range(learner.step * count, (learner.step + 1) * count):
        epoch, at = divmod(position, size)
        if epoch not in orders:
            orders[epoch] = list(range(size))
            Random(f"{learner.seed}/{learner.stage}/{purpose}/{epoch}").shuffle(orders[epoch])
        taken.append(orders[epoch][at])
    return taken
