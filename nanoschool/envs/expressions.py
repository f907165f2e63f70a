"""expressions: the value of a written expression such as `47*(38-2)`, by recursive descent (Lucas 1961); never `eval`.

Whole numbers, + - * /, a leading minus, and brackets. What a model writes may be anything, so all is bounded: the
length of the text, which bounds the depth of brackets too, and the size of every number on the way.
"""

import re

LONGEST = 64  # characters
HIGHEST = 10**12  # of every number on the way, either sign

_TOKEN = re.compile(r" *([0-9]{1,13}|[-+*/()]) *")


def evaluate(text: str) -> int | None:
    """The value; None for what is no expression, too long or too big, or has a quotient that is not whole."""
    tokens = _tokens(text)
    if tokens is None:
        return None
    try:
        value = _sum(tokens)
    except _Refused:
        return None
    return value if not tokens else None


class _Refused(Exception):
    """The expression has no value here."""


def _tokens(text: str) -> list[str] | None:
    """The tokens in reverse, so that the next one is popped; None where the text has something else in it."""
    if len(text) > LONGEST:
        return None
    tokens, at = [], 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            return None
        tokens.append(found[1])
        at = found.end()
    return tokens[::-1]


def _sum(tokens: list[str]) -> int:
    value = _product(tokens)
    while tokens and tokens[-1] in "+-":
        sign = 1 if tokens.pop() == "+" else -1
        value = _bounded(value + sign * _product(tokens))
    return value


def _product(tokens: list[str]) -> int:
    value = _factor(tokens)
    while tokens and tokens[-1] in "*/":
        if tokens.pop() == "*":
            value = _bounded(value * _factor(tokens))
        else:
            divisor = _factor(tokens)
            if divisor == 0 or value % divisor:
                raise _Refused
            value //= divisor
    return value


def _factor(tokens: list[str]) -> int:
    token = tokens.pop() if tokens else ""
    if token == "-":
        return -_factor(tokens)
    if token == "(":
        value = _sum(tokens)
        if not tokens or tokens.pop() != ")":
            raise _Refused
        return value
    if not token.isdecimal():
        raise _Refused
    return _bounded(int(token))


def _bounded(value: int) -> int:
    if abs(value) > HIGHEST:
        raise _Refused
    return value
