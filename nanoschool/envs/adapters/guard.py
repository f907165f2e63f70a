"""guard: which of a model's replies may be handed to a scorer that evaluates or trusts them, and for how long.

`eval(reply)` and `sympy.parse_expr(reply)`, which calls it, run whatever the reply says. What passes here can
neither call a function of Python's nor loop, and its numbers cannot grow beyond some million digits.
"""

import ast
import re
import signal
import threading
from types import FrameType

PLAIN = re.compile(r"[A-Za-z0-9_ \n,.-]*+")
SUM = re.compile(r"(?!.*\*\*)[0-9+*/().-]{0,200}+")
NUMBERS = re.compile(r"[0-9.+()ij-]{0,200}+")
FUNCTION = "sin|cos|tan|sec|csc|cot|asin|acos|atan|exp|log|sqrt|pi|Integral"
POWER = r"\*\*(?:-?[0-9]{1,2}+|\(-?[0-9]{1,2}(?:/[0-9]{1,2})?\))(?!\*\*)"  # x**9**9**9 is out
FORMULA = re.compile(
    rf"(?:{POWER}|(?:{FUNCTION})(?![A-Za-z])|(?<![A-Za-z])[A-Za-z](?![A-Za-z])"
    r"|[0-9]{1,12}+|\.[0-9]{1,12}+|\*(?!\*)|[+/(),-]){0,300}+"
)


def is_literal(reply: str) -> bool:
    """Words and numbers, or a literal of Python's, such as a list of lists."""
    if PLAIN.fullmatch(reply):
        return True
    try:
        ast.literal_eval(reply)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return True


def is_sum(reply: str) -> bool:
    """Numbers, brackets and + - * /."""
    return SUM.fullmatch(_compact(reply)) is not None


def is_formula(reply: str) -> bool:
    """A formula of one-letter variables and the functions of school; powers are literals, and not of powers of powers."""
    text = _compact(reply)
    return text.count(")**") <= 2 and FORMULA.fullmatch(text) is not None


def is_finite(reply: str) -> bool:
    """A number without letters but the imaginary unit's: no nan, no inf, no 1e309."""
    return NUMBERS.fullmatch(_compact(reply)) is not None


class Limit:
    """Raises TimeoutError in what runs inside after some seconds of this process's CPU: a busy machine costs no reward.

    In the main thread: no other can be interrupted.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds if threading.current_thread() is threading.main_thread() else 0.0

    def __enter__(self) -> None:
        if self.seconds:
            self.before = signal.signal(signal.SIGPROF, self._stop)
            signal.setitimer(signal.ITIMER_PROF, self.seconds)

    def __exit__(self, *_: object) -> None:
        if self.seconds:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, self.before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        raise TimeoutError


def _compact(reply: str) -> str:
    return "".join(reply[:2000].split()) if len(reply) < 2000 else "…"
