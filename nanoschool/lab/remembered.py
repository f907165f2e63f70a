"""remembered: the parts of a long piece of work, each written as it is done, so that what was killed goes on."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nanoschool.core.files import write_atomic
from nanoschool.types import UserError


def remembered(path: Path, about: Mapping[str, Any], parts: int, work: Callable[[int], Any]) -> list[Any]:
    """work(0), …, work(parts − 1), plain JSON each; those that the file has are not done again.

    `about` is all that they depend on. Raises UserError where the file is of something else, or cannot be read.
    """
    head = json.dumps(about, sort_keys=True)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else [head]
    if lines[:1] != [head]:
        raise UserError(f"{path}: is of another policy, world or plan; name another --out, or delete it")
    try:
        done = [json.loads(line) for line in lines[1:]]
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: is no longer as it was written ({error.msg}); delete it") from None
    for part in range(len(done), parts):
        done.append(work(part))
        lines.append(json.dumps(done[-1]))
        write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
    return done
