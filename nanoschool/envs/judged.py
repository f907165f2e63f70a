"""judged: does a function that a model wrote pass a benchmark's checks? Run in two boxes, at no moment trusted.

The verdict is a secret of this call that only the judge's box was given (envs/boxed.py); see there why.
"""

import os
import secrets
import subprocess
from contextlib import ExitStack

from nanoschool.envs import bubblewrap
from nanoschool.envs.sandbox import Ran

SOURCE = 20_000  # characters of a program
TEXT = 400  # characters of what the model gets to read


def passes(program: str, entry_point: str, check: str, seconds: float = 5.0) -> Ran:
    """Call `check(candidate)`, defined by `check`, with the function `entry_point` that `program` defines.

    Ends within `seconds` and one more, whatever the program does; `text` says what went wrong, "" where nothing did.
    Raises UserError where bubblewrap is missing or does not work.
    """
    if len(program) > SOURCE:
        return Ran(f"SyntaxError: the program is longer than {SOURCE} characters", False)
    bubblewrap.prove()
    secret, limit = secrets.token_hex(16), str(seconds)
    calls_out, calls_in = os.pipe()
    answers_out, answers_in = os.pipe()
    with ExitStack() as boxes:
        try:
            programs = bubblewrap.start(
                "program",
                [entry_point, limit],
                {"program.py": program},
                calls_out,
                answers_in,
                subprocess.DEVNULL,
            )
            boxes.callback(programs.end)
            judges = bubblewrap.start(
                "judge",
                [secret, limit],
                {"check.py": check},
                answers_out,
                calls_in,
                subprocess.PIPE,
            )
            boxes.callback(judges.end)
        finally:
            for descriptor in (calls_out, calls_in, answers_out, answers_in):
                os.close(descriptor)
        try:
            verdict = judges.process.communicate(timeout=seconds)[1].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            return Ran(f"TimeoutError: the program ran for more than {seconds} s", False)
    if verdict == secret:
        return Ran("", True)
    return Ran(verdict[:TEXT] or "the checks ended early", False)
