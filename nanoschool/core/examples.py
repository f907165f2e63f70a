"""Examples: the user's own comparisons, judged replies and conversations, read strictly from a .jsonl file.

A row is one of {"prompt", "chosen", "rejected"}, {"prompt", "completion", "label"} and {"messages": [{"role", "content"}]}.
What is none of them is refused with its file and line, for a half-read file trains a model that looks like any other.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoschool.types import Message, UserError

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Comparison:
    """Two replies to one prompt; `place` says where it is from, for an error."""

    prompt: str
    chosen: str
    rejected: str
    place: str = ""


@dataclass(frozen=True)
class Judged:
    """A reply that was found good or bad by itself."""

    prompt: str
    completion: str
    label: bool
    place: str = ""


@dataclass(frozen=True)
class Conversation:
    """What an assistant is to say, among what others say."""

    messages: tuple[Message, ...]
    place: str = ""


Example = Comparison | Judged | Conversation
LOOKS: dict[type, str] = {
    Comparison: '{"prompt": "…", "chosen": "…", "rejected": "…"}',
    Judged: '{"prompt": "…", "completion": "…", "label": true}',
    Conversation: '{"messages": [{"role": "user", "content": "…"}, …]}',
}


def read_examples(path: str | Path, wanted: tuple[type, ...] = tuple(LOOKS)) -> list[Example]:
    """The rows of a file, each of a `wanted` kind. Raises UserError with file and line for a row that is not."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a .jsonl of rows like {_either(wanted)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a .jsonl file") from None
    examples = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        example = _example(_row(line, place), place)
        if not isinstance(example, wanted):
            raise UserError(
                f"{place}: is a row like {LOOKS[type(example)]}; here they must be {_either(wanted)}"
            )
        examples.append(example)
    if not examples:
        raise UserError(f"{path}: holds no row; write lines like {_either(wanted)}")
    return examples


def _either(wanted: tuple[type, ...]) -> str:
    return " or ".join(LOOKS[kind] for kind in wanted)


def _row(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{place}: is not UTF-8 text at byte {error.start} of the line; convert it to UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: is not JSON ({error}); is the line cut off?") from None
    if not isinstance(row, dict):
        raise UserError(f"{place}: is {type(row).__name__}, must be an object like {_either(tuple(LOOKS))}")
    return row


def _example(row: dict[str, Any], place: str) -> Example:
    if "messages" in row:
        return _conversation(row["messages"], place)
    if "chosen" in row or "rejected" in row:
        prompt, chosen, rejected = (_text(row, key, place) for key in ("prompt", "chosen", "rejected"))
        if chosen == rejected:
            raise UserError(f"{place}: chosen and rejected are the same; take the row out")
        return Comparison(prompt, chosen, rejected, place)
    if "completion" in row:
        prompt, completion, label = (
            _text(row, "prompt", place),
            _text(row, "completion", place),
            row.get("label"),
        )
        if not isinstance(label, bool):
            raise UserError(f"{place}: label is {label!r}, must be true or false")
        return Judged(prompt, completion, label, place)
    raise UserError(f"{place}: has keys {', '.join(sorted(row)) or 'none'}; write {_either(tuple(LOOKS))}")


def _conversation(said: Any, place: str) -> Conversation:
    if not isinstance(said, list) or not said:
        raise UserError(f"{place}: messages must be a list of at least one; write {LOOKS[Conversation]}")
    messages = []
    for i, message in enumerate(said):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise UserError(f"{place}: messages[{i}] has no role of {', '.join(ROLES)}")
        messages.append(
            Message(message["role"], _text(message, "content", f"{place}: messages[{i}]", empty=True))
        )
    if not any(m.role == "assistant" and m.content for m in messages):
        raise UserError(
            f"{place}: the assistant says nothing in it, so there is nothing to learn; take the row out"
        )
    return Conversation(tuple(messages), place)


def _text(row: dict[str, Any], key: str, place: str, empty: bool = False) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise UserError(
            f"{place}: {key} is {'not there' if key not in row else repr(value)[:40]}, must be a string"
        )
    if not value.strip() and not empty:
        raise UserError(f"{place}: {key} is empty; fill it in, or take the row out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{place}: {key} holds half a surrogate pair at character {error.start}") from None
    return value
