"""memo: what costly calls gave, one line of JSON each, so that an indivisible step that was killed is run again cheaply.

It ends in the same bits: a call that was made before is not made again, but its cost is charged as it was.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from nanoschool.core.files import explained
from nanoschool.ledger import Ledger


class Memo:
    """`path` None: nothing is kept. A half line at the file's end, left by a kill, is cut off."""

    def __init__(self, path: Path | None, ledger: Ledger) -> None:
        self.path, self.ledger = path, ledger
        self.known: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            with explained(path):
                whole = path.read_bytes().rpartition(b"\n")[0]
                path.write_bytes(whole + b"\n" if whole else b"")
            for line in whole.splitlines():
                kept = json.loads(line)
                self.known[kept["key"]] = kept

    def call(self, account: str, about: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, plain JSON, in the ledger's `account`; `about`, plain JSON too, is all that it depends on."""
        key = sha256(json.dumps([account, about], sort_keys=True).encode()).hexdigest()
        with self.ledger.account(account):
            if key in self.known:
                self.ledger.charge(**self.known[key]["cost"])
                return self.known[key]["result"]
            before = self.ledger.total()
            result = make()
        kept = {"key": key, "result": result, "cost": asdict(self.ledger.total() - before)}
        self.known[key] = kept
        if self.path is not None:
            with explained(self.path), self.path.open("ab") as file:
                file.write(json.dumps(kept).encode() + b"\n")
        return json.loads(json.dumps(result))
