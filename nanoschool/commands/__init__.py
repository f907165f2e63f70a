"""commands: what `nanoschool COMMAND` does; a command takes its words and returns the exit status.

Imported by the help as well, so a command imports what it runs inside itself.
"""

import sys
from collections.abc import Sequence
from typing import Any

from nanoschool.options import parse
from nanoschool.types import UserError


def say_fewer(world: str, split: str, there: int, asked: int) -> None:
    """One line on stderr where a world has fewer problems than were to be taken."""
    if there < asked:
        print(
            f"nanoschool: {world} has {there} {split} problems, not {asked}: all are taken", file=sys.stderr
        )


def target(command: str, args: Sequence[str], default: Any, what: str) -> tuple[str, Any]:
    """(name, flags) of a command that is about one thing: `what`, a run or a world."""
    usage = f"nanoschool {command} {what.upper()}"
    if args and args[0] in ("-h", "--help"):
        return "", parse(default, ["--help"], usage)
    if not args or args[0].startswith("-"):
        raise UserError(f"{usage}: which {what}? Its name comes first; flags: nanoschool {command} --help")
    return args[0], parse(default, args[1:], usage)
