"""compare: `nanoschool compare`, methods side by side at equal cost, as a page and a JSON."""

import sys
from collections.abc import Sequence
from itertools import takewhile

from nanoschool.commands.runs import INTERRUPTED
from nanoschool.options import parse
from nanoschool.types import UserError

USAGE = "nanoschool compare"


def compare(args: Sequence[str]) -> int:
    """compare METHOD…  set methods against each other: --env ENV --from RUN[:STAGE]|FOLDER --budget flops=… --seeds 5"""
    from nanoschool.lab.comparison import Asked

    methods = list(takewhile(lambda word: not word.startswith("-"), args))
    asked = parse(Asked(), args[len(methods) :], USAGE)
    if asked.processes < 1:
        raise UserError(f"{USAGE}: --processes is {asked.processes}, must be at least 1")
    from nanoschool.lab.compare import compare as carry_out
    from nanoschool.progress import watcher

    show = watcher(sys.stdout)
    try:
        outcome = carry_out(asked.comparison(methods), asked.folder, asked.processes, show)
    except KeyboardInterrupt:
        show.close()
        print("nanoschool: interrupted; the same command goes on where it was", file=sys.stderr)
        return INTERRUPTED
    finally:
        show.close()
    from nanoschool.report.compared import lines, write

    page = write(asked.folder)
    print("\n".join([*lines(outcome), str(page)]))
    return 0
