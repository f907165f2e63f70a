"""cli: `nanoschool COMMAND TARGET [flags]`. Says what was wrong in one line; exit status 2 for a user's mistake.

Parsed in two stages: `--help` here reads first docstring lines and imports neither torch nor a flag parser; a command
imports what it runs.
"""

import io
import os
import sys
from collections.abc import Callable, Sequence

import nanoschool
from nanoschool import envs, methods
from nanoschool.commands import bench, compare, runs, training, worlds
from nanoschool.commands.runs import INTERRUPTED, first_comment
from nanoschool.options import nearest
from nanoschool.types import UserError
from nanoschool.userfile import complaint

USER_MISTAKE, BROKEN_PIPE = 2, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # what a terminal or a pipe cannot say in its encoding stops nothing
            stream.reconfigure(errors="replace")
    try:
        if not args or args[0] in ("-h", "--help"):
            print(_help(), flush=True)
            return 0
        if args[0] == "--version":
            print(nanoschool.__version__, flush=True)
            return 0
        if "" in args:  # a shell variable that was never set: as a path it would mean this folder
            before = args[args.index("") - 1] if args.index("") else "the command"
            raise UserError(f"an argument is empty, after {before!r}; give it a value")
        if args[0] not in COMMANDS:
            raise UserError(f"no command {args[0]!r}: {nearest(args[0], COMMANDS)} All: nanoschool --help")
        return COMMANDS[args[0]](args[1:])
    except UserError as error:
        told = str(error)
        print(told if told.startswith("nanoschool ") else f"nanoschool: {told}", file=sys.stderr)
        return USER_MISTAKE
    except KeyboardInterrupt:
        print("nanoschool: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough; what is still buffered must not raise again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:  # ours keep their traceback
        if (its_own := complaint(error)) is None:
            raise
        print(f"nanoschool: {its_own}; mend that line", file=sys.stderr)
        return USER_MISTAKE


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "run": runs.run,
    "train": training.train,
    "compare": compare.compare,
    "chat": runs.chat,
    "eval": runs.evaluate,
    "report": runs.report,
    "envs": worlds.catalogue,
    "play": worlds.play,
    "audit": worlds.audit,
    "xray": worlds.xray,
    "bench": bench.bench,
}


def _help() -> str:
    from nanoschool.settings import presets

    lines = [nanoschool.__doc__ or "", "", "Commands (flags of each: nanoschool COMMAND --help):"]
    lines += [f"  {command.__doc__}" for command in COMMANDS.values()]
    lines += ["", "Presets:"] + [f"  {name:<9} {first_comment(path)}" for name, path in presets().items()]
    for title, known in (("Methods", methods.describe()), ("Worlds", envs.describe())):
        lines += ["", f"{title}:"] + [f"  {line}" for line in known.values()]
    return "\n".join(lines)
