"""What the pages written in Markdown share: tables, and a mean with its interval."""

from collections.abc import Mapping, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def interval(told: Mapping[str, float], sign: str = "", digits: int = 3) -> str:
    return (
        f"{told['mean']:{sign}.{digits}f} [{told['low']:{sign}.{digits}f}, {told['high']:{sign}.{digits}f}]"
    )
