"""study: what experiments share: a result that is made once, and a copy of a policy that can be trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanoschool.core.files import write_atomic
from nanoschool.core.policy import Policy
from nanoschool.ledger import Ledger


def once(out: Path, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` returns, kept in a file of `out`: a study that is killed goes on with what it lacks."""
    path = out / f"{name.replace(' ', '_')}.json"
    if not path.exists():
        write_atomic(path, json.dumps(make()).encode())
    return json.loads(path.read_text())


def awake(policy: Policy) -> Policy:
    """A copy that can be trained, with a ledger of its own."""
    twin = policy.snapshot()
    twin.model.requires_grad_(True)
    twin.ledger = Ledger()
    return twin
