"""Playing worlds with scripted replies, for the tests of them."""

from nanoschool.types import Ask, Document, Environment, Episode, Outcome, Reply, Task


def perform(episode: Episode, replies: list[str]) -> tuple[list[Ask], Outcome]:
    """Play scripted replies; the last is repeated for as long as the world asks."""
    asks = [next(episode)]
    try:
        for turn in range(1000):
            asks.append(episode.send(Reply(replies[min(turn, len(replies) - 1)])))
    except StopIteration as end:
        return asks, end.value
    raise AssertionError("the episode does not end")


def score(world: Environment, task: Task, *replies: str) -> float:
    rewards = perform(world.play(task), list(replies))[1].rewards
    assert rewards is not None
    return rewards[0]


def text_of(document: Document) -> str:
    return "".join(text for text, _ in document)
