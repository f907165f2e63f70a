"""row: one conversation in the engine, and the text of the reply under way."""

from dataclasses import dataclass, field


@dataclass(eq=False)
class Row:
    """One conversation. The lists have one entry a token and grow as it is sampled."""

    key: int
    tokens: list[int]
    mask: list[bool]
    logprobs: list[float]
    entropies: list[float]
    slot: int
    cached: int = 0  # tokens whose keys and values are in the cache
    turn: int = 0  # where the current reply starts
    end: int = 0  # the length at which it is cut off
    stop: tuple[bytes, ...] = ()
    said: bytes = field(default=b"", repr=False)  # the current reply's bytes
    running: bool = True
    stop_reason: str = ""

    @property
    def reply(self) -> str:
        """The current reply's text, up to and with its stop string, without end tokens."""
        said = self.said
        if self.stop_reason == "stop":
            ends = [said.find(s) + len(s) for s in self.stop if s in said]
            said = said[: min(ends)]
        return said.decode("utf-8", errors="replace")
