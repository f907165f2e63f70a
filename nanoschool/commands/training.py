"""training: `nanoschool train`, one method in one world or on a file, from a start."""

from collections.abc import Sequence

from nanoschool import methods
from nanoschool.commands.runs import carried_out
from nanoschool.places import writable
from nanoschool.types import UserError

USAGE = "nanoschool train METHOD --env ENV|--data FILE --from RUN[:STAGE]|FOLDER --budget UNIT=NUMBER"


def train(args: Sequence[str]) -> int:
    """train METHOD  teach a model by one method: --env ENV|--data FILE --from RUN[:STAGE]|FOLDER --budget flops=…"""
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: {USAGE}\n\nFlags of a method: nanoschool train METHOD --help\n\nMethods:")
        print("\n".join(f"  {line}" for line in methods.describe().values()))
        return 0
    method, flags = _method(list(args))
    from nanoschool.training import training

    settings = training(method, flags)
    writable(settings.runs_dir)
    return carried_out(settings)


def _method(args: list[str]) -> tuple[str, list[str]]:
    """(METHOD, the flags): a method's name comes first; a file of yours may come as `--method ./mine.py`, too."""
    words = [
        word for item in args for word in (item.split("=", 1) if item.startswith("--method=") else [item])
    ]
    if not words[0].startswith("-"):
        return words[0], words[1:]
    if "--method" not in words[:-1]:
        raise UserError(f"nanoschool train: which method? {USAGE}; all methods: nanoschool train --help")
    at = words.index("--method")
    return words[at + 1], words[:at] + words[at + 2 :]
