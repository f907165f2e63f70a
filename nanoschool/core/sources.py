"""Sources: the user's own text, read strictly, and the documents of it that are held out.

What is no text is refused with its place, for a model trained on half of a broken file looks just like one
trained on a whole file.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanoschool.core.tables import dataset_texts, parquet_texts
from nanoschool.types import SPLITS, UserError

SUFFIXES = (".txt", ".md", ".jsonl", ".jsonl.gz", ".parquet")
HUB = "hf:"  # before the name of a Hugging Face data set
HELD_OUT = 0.08  # of the bytes, in dev and in test each, where whole documents are held out
AT_MOST = 0.12  # what one split may grow to, lest one long document take half of the text


@dataclass(frozen=True)
class Source:
    """One document: a text file (`name` is its path), or one row of a .jsonl or .parquet (`name` is path:number)."""

    name: str
    text: str
    record: bool = False  # a row of a file of many


def read_text(path: str | Path, minimum: int = 1) -> list[Source]:
    """The documents of a file, or of a folder and those in it, by path; hidden and empty files left out.

    `hf:OWNER/NAME` is a data set's train split. Raises UserError on a missing path, a folder without text, what is not
    UTF-8 text (with the byte's offset), a bad row (with its number), and on less than `minimum` bytes of text in all.
    """
    if str(path).startswith(HUB):
        rows = dataset_texts(str(path).removeprefix(HUB))
        sources = [Source(name, text, record=True) for name, text in rows if text]
    else:
        sources = [source for file in _files(Path(path)) for source in _read(file) if source.text]
    total = sum(len(s.text.encode()) for s in sources)
    if total < minimum:
        raise UserError(
            f"{path}: holds {total} bytes of text, but at least {minimum} are needed; add more text"
        )
    return sources


def split_sources(sources: Sequence[Source]) -> dict[str, list[Source]]:
    """train, dev, test: whole documents are held out, in the order of their crc32; duplicates are dropped.

    Files and rows are split apart from each other, about 8 % of the bytes to dev and to test each.
    Fewer than three of a kind cannot be split whole: each is cut by position, 80/10/10 between paragraphs.
    """
    splits: dict[str, list[Source]] = {name: [] for name in SPLITS}
    unique = list({s.text: s for s in reversed(sources)}.values())[::-1]
    for record in (False, True):
        kind = [s for s in unique if s.record is record]
        parts = _hold_out(kind) if len(kind) >= 3 else [part for s in kind for part in _cut(s)]
        for split, source in parts:
            splits[split].append(source)
    return splits


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and _is_text(p) and not _hidden(p, path))
        if not files:
            raise UserError(f"{path}: holds no {', '.join(SUFFIXES)} file; name a folder or a file that does")
        return files
    if not path.exists():
        raise UserError(
            f"{path}: no such file or folder; name a {', '.join(SUFFIXES)} file or a folder of them"
        )
    if not _is_text(path):
        raise UserError(f"{path}: is not a {', '.join(SUFFIXES)} file; rename or convert it")
    return [path]


def _is_text(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _read(path: Path) -> Iterator[Source]:
    if path.name.lower().endswith(".parquet"):
        yield from (Source(name, text, record=True) for name, text in parquet_texts(path))
        return
    try:
        data = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            data = gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: is a damaged or truncated gzip file ({error}); fetch it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not UTF-8 text at byte offset {error.start}; convert it to UTF-8"
        ) from None
    if "\0" in text:
        raise UserError(
            f"{path}: is binary (a zero byte at byte offset {data.index(0)}); only text can be read"
        )
    if path.name.lower().endswith((".txt", ".md")):
        yield Source(str(path), text)
        return
    for number, line in enumerate(
        text.split("\n"), 1
    ):  # not splitlines: U+2028 may stand inside a JSON string
        if line.strip():
            yield Source(f"{path}:{number}", _record(f"{path}:{number}", line), record=True)


def _record(place: str, line: str) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f'{place}: is not JSON ({error}); each line must be {{"text": "…"}}') from None
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise UserError(f'{place}: has no "text" that is a string; each line must be {{"text": "…"}}')
    try:
        record["text"].encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{place}: its text holds half a surrogate pair at character {error.start}") from None
    return record["text"]


def _hold_out(sources: Sequence[Source]) -> list[tuple[str, Source]]:
    """Whole documents to test and dev, at least one each, until each has its share; the rest, never none, to train."""
    sizes = {s.text: len(s.text.encode()) for s in sources}
    total, held, split_of = sum(sizes.values()), {"test": 0, "dev": 0}, {}
    for text in sorted(sizes, key=lambda t: (zlib.crc32(t.encode()), t)):
        split = min(held, key=held.__getitem__)
        if held[split] < HELD_OUT * total and held[split] + sizes[text] <= AT_MOST * total:
            held[split] += sizes[text]
            split_of[text] = split
    for split in [name for name, size in held.items() if not size]:  # the documents are longer than a share
        split_of[min(sizes.keys() - split_of.keys(), key=lambda t: (sizes[t], t))] = split
    return [(split_of.get(s.text, "train"), s) for s in sources]


def _cut(source: Source) -> list[tuple[str, Source]]:
    """One document by position, 80/10/10, cut after the next paragraph, else line, word, or anywhere."""
    text, slack = source.text, len(source.text) // 20
    cuts = [0]
    for at in (len(text) * 8 // 10, len(text) * 9 // 10):
        found = ((text.find(mark, at, at + slack), len(mark)) for mark in ("\n\n", "\n", " "))
        cuts.append(next((start + length for start, length in found if start >= 0), at))
    pieces = zip(SPLITS, [*cuts], [*cuts[1:], len(text)], strict=True)
    parts = [(split, Source(f"{source.name}[{a}:{b}]", text[a:b], source.record)) for split, a, b in pieces]
    return [(split, part) for split, part in parts if part.text]
