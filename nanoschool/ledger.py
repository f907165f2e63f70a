"""The one meter. Sampling, scoring, fitting and playing charge one Ledger; schedules read a Budget, never the clock."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What was spent. FLOPs are an analytic count (matmuls plus attention over the live causal length)."""

    flops: float = 0.0
    tokens: int = 0  # every token that passed through a model, once a pass
    sampled: int = 0  # of which drawn from a policy
    trained: int = 0  # of which fitted
    rollouts: int = 0
    bits: float = 0.0  # offered by the teaching signal

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)})

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(**{f.name: getattr(self, f.name) - getattr(other, f.name) for f in fields(Cost)})


class Ledger:
    """Costs by account, e.g. {"pretrain/fit": Cost(...)}; charges land in the account that is open."""

    def __init__(self) -> None:
        self.accounts: dict[str, Cost] = {}
        self._open: list[str] = []

    def charge(
        self,
        *,
        flops: float = 0.0,
        tokens: int = 0,
        sampled: int = 0,
        trained: int = 0,
        rollouts: int = 0,
        bits: float = 0.0,
    ) -> None:
        name = "/".join(self._open) or "unnamed"
        cost = Cost(flops, tokens, sampled, trained, rollouts, bits)
        self.accounts[name] = self.accounts.get(name, Cost()) + cost

    @contextmanager
    def account(self, name: str) -> Generator[None]:
        """Open an account for the charges made inside; accounts nest: "rl" then "sample" is "rl/sample"."""
        self._open.append(name)
        try:
            yield
        finally:
            self._open.pop()

    def total(self, prefix: str = "") -> Cost:
        """The sum over the accounts at or below `prefix`."""
        inside = (
            c for n, c in self.accounts.items() if not prefix or n == prefix or n.startswith(prefix + "/")
        )
        return sum(inside, Cost())

    def to_json(self) -> dict[str, dict[str, float]]:
        return {name: asdict(cost) for name, cost in sorted(self.accounts.items())}

    @classmethod
    def from_json(cls, data: dict[str, dict[str, Any]]) -> "Ledger":
        ledger = cls()
        ledger.accounts = {name: Cost(**cost) for name, cost in data.items()}
        return ledger


OVER = 1.1  # times a budget that may be spent without a word


@dataclass(frozen=True)
class Budget:
    """How much may be spent, in one unit. `unit` is a field of Cost; `limit` is in that unit."""

    unit: str
    limit: float

    @classmethod
    def parse(cls, text: str, flops_per_second: float | None = None) -> "Budget":
        """Read "flops=2e12", "tokens=2e6", "rollouts=16e3", "bits=100" or "seconds=60".

        Seconds are turned into FLOPs here, once, by the measured rate: a run must not depend on the clock.
        Raises ValueError in the user's words.
        """
        unit, _, number = text.partition("=")
        unit, units = unit.strip(), [f.name for f in fields(Cost)] + ["seconds"]
        if unit not in units:
            raise ValueError(
                f"budget {text!r}: unknown unit {unit!r}; write one of {', '.join(u + '=…' for u in units)}"
            )
        try:
            limit = float(number.replace("_", ""))
        except ValueError:
            raise ValueError(f"budget {text!r}: {number!r} is not a number") from None
        if not 0 < limit < float("inf"):
            raise ValueError(f"budget {text!r}: must be above 0 and finite")
        if unit == "seconds":
            if flops_per_second is None:
                raise ValueError(
                    f"budget {text!r}: seconds need a measured rate; write flops=… or tokens=… here"
                )
            return cls("flops", limit * flops_per_second)
        return cls(unit, limit)

    def left(self, spent: Cost) -> float:
        """The fraction still to spend, 1.0 at the start, 0.0 or less at the end."""
        return 1.0 - getattr(spent, self.unit) / self.limit
