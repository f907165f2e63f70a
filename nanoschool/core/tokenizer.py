"""Tokenizer: byte-level BPE (Sennrich et al. 2016, Radford et al. 2019), by rustbpe and tiktoken.

Everything follows from one tokenizer.json, which transformers reads as it is: a trained tokenizer is built
from the same JSON that a loaded one is, so the two cannot differ. Digits are single tokens, because column
addition cannot be learned where "12" and "123" share no piece. Special tokens come last and are written only
by id: a user's text that spells one stays text.
"""

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import rustbpe
import tiktoken

from nanoschool.core.chat import CHAT_TEMPLATE
from nanoschool.core.files import write_atomic
from nanoschool.core.tokenizer_json import (
    MARK,
    PATTERN,
    SPECIAL,
    normal_form_of,
    pattern_of,
    ranks_of,
    spec_of,
)
from nanoschool.types import UserError

ROLES = ("system", "user", "assistant", "tool")
LONGEST_SPACE = 200_000  # characters; the regex engines of rustbpe and tiktoken panic near a million


class Tokenizer:
    """Text to token ids and back. Build one with `Tokenizer.train` or `Tokenizer.load`."""

    def __init__(self, spec: dict[str, Any], source: str = "tokenizer.json") -> None:
        """`spec` is the content of a byte-level BPE tokenizer.json; UserError where it cannot be run."""
        self.spec, self.source = spec, source
        self.pattern = pattern_of(spec, source)
        self.normal_form = normal_form_of(spec, source)
        ranks = ranks_of(spec, source)
        added = spec.get("added_tokens") or []
        self.special: dict[str, int] = {t["content"]: t["id"] for t in added}
        self._hidden = frozenset(t["id"] for t in added if t["special"])
        self._names = {id: name for name, id in self.special.items()}
        self._bytes = {id: piece for piece, id in ranks.items()} | {
            id: n.encode() for n, id in self.special.items()
        }
        self.vocab_size = max(self._bytes) + 1
        self._bpe = tiktoken.Encoding(
            "nanoschool", pat_str=self.pattern, mergeable_ranks=ranks, special_tokens=self.special
        )

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learn merges up to `vocab_size` ids (256 bytes, merges, 6 special), or until no pair is left.

        The same texts give the same tokenizer, whatever their order and the number of threads.
        """
        smallest = 256 + len(SPECIAL)
        if vocab_size < smallest:
            raise UserError(
                f"vocab_size {vocab_size} is too small: 256 bytes and {len(SPECIAL)} marks need {smallest}"
            )
        bpe = rustbpe.Tokenizer()  # ty: ignore[missing-attribute] (compiled, without stubs)
        bpe.train_from_iterator(
            chain.from_iterable(map(_digestible, texts)), vocab_size - len(SPECIAL), pattern=PATTERN
        )
        # Pieces are known by their bytes: where two pairs spell the same ones, the first stays.
        pieces = list(
            dict.fromkeys(bytes(piece) for piece, _ in sorted(bpe.get_mergeable_ranks(), key=lambda r: r[1]))
        )
        return cls(spec_of(pieces))

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Read `folder`/tokenizer.json: ours, or a plain byte-level BPE one such as Qwen3's or Llama 3's."""
        path = Path(folder) / "tokenizer.json"
        try:
            spec = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; a tokenizer folder holds a tokenizer.json") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as JSON ({error})") from None
        return cls(spec, str(path))

    def with_marks(self, names: Sequence[str]) -> tuple["Tokenizer", list[str]]:
        """This tokenizer with those of the special tokens that it lacks, after its last id; and which they were."""
        if gaps := self.vocab_size - len(self._bytes):
            raise UserError(f"{self.source}: {gaps} ids below its last have no token; every id must have one")
        missing = [name for name in names if name not in self.special]
        if not missing:
            return self, []
        marks = [{"id": self.vocab_size + i, "content": n, **MARK} for i, n in enumerate(missing)]
        spec = self.spec | {"added_tokens": [*(self.spec.get("added_tokens") or []), *marks]}
        return Tokenizer(spec, self.source), missing

    def save(self, folder: str | Path) -> None:
        """Write the files of `files()` into `folder`, made if absent."""

        for name, data in self.files().items():
            write_atomic(Path(folder) / name, data)

    def files(self) -> dict[str, bytes]:
        """What a Hugging Face folder holds of a tokenizer, by file name."""
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": 1 << 30,
        }
        files = {"tokenizer.json": self.spec, "tokenizer_config.json": config}
        if all(name in self.special for name in SPECIAL):
            config |= {"bos_token": "<|bos|>", "eos_token": "<|end|>", "pad_token": "<|bos|>"}
            ends = [self.end, self.bos]  # either ends a reply
            files["generation_config.json"] = {
                "bos_token_id": self.bos,
                "eos_token_id": ends,
                "pad_token_id": self.bos,
            }
        written = {
            name: json.dumps(data, ensure_ascii=False, indent=1).encode() for name, data in files.items()
        }
        if "generation_config.json" in files:
            written["chat_template.jinja"] = CHAT_TEMPLATE.encode()
        return written

    def encode(self, text: str) -> list[int]:
        """The tokens of plain text; never a special token, whatever the text spells."""
        pieces = _digestible(self._normal(text))
        return list(chain.from_iterable(self._bpe.encode_ordinary(piece) for piece in pieces))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        pieces = [_digestible(self._normal(text)) for text in texts]
        flat = list(chain.from_iterable(pieces))
        encoded = iter(self._bpe.encode_ordinary_batch(flat, num_threads=os.cpu_count() or 1))
        return [list(chain.from_iterable(islice(encoded, len(p)))) for p in pieces]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens, special tokens left out; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.token_bytes(t) for t in tokens if t not in self._hidden).decode(
            "utf-8", "replace"
        )

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for; of a special token, its name's."""
        if token not in self._bytes:
            raise ValueError(f"token {token} is not in the vocabulary of {self.vocab_size}")
        return self._bytes[token]

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Every token that is text, and its bytes."""
        return ((token, piece) for token, piece in self._bytes.items() if token not in self._names)

    def text_bytes(self, tokens: Iterable[int]) -> bytes:
        """The bytes that tokens hold; special tokens hold none."""
        return b"".join(self.token_bytes(t) for t in tokens if t not in self._names)

    def show(self, token: int) -> str:
        """A token as printable text on one line: newlines and bytes that are no UTF-8 are escaped."""
        if token in self._names:
            return self._names[token]
        text = self.token_bytes(token).decode("utf-8", "backslashreplace")
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

    def bytes_of(self, tokens: Iterable[int]) -> int:
        """How many bytes of text the tokens hold (special tokens hold none): the divisor of bits per byte."""
        return sum(len(self.token_bytes(t)) for t in tokens if t not in self._hidden)

    def role_id(self, role: str) -> int:
        """The token that opens a message of `role`."""
        if role not in ROLES:
            raise UserError(f"message role {role!r} is unknown; write one of {', '.join(ROLES)}, text")
        return self._mark(f"<|{role}|>")

    @cached_property
    def bos(self) -> int:
        return self._mark("<|bos|>")

    @cached_property
    def end(self) -> int:
        return self._mark("<|end|>")

    @cached_property
    def system(self) -> int:
        return self.role_id("system")

    @cached_property
    def user(self) -> int:
        return self.role_id("user")

    @cached_property
    def assistant(self) -> int:
        return self.role_id("assistant")

    @cached_property
    def tool(self) -> int:
        return self.role_id("tool")

    def _mark(self, name: str) -> int:
        if name not in self.special:
            raise UserError(
                f"{self.source}: has no token {name}, which the chat format needs; add it to added_tokens"
            )
        return self.special[name]

    def _normal(self, text: str) -> str:
        return unicodedata.normalize(self.normal_form, text) if self.normal_form else text


def _digestible(text: str) -> list[str]:
    """The text, cut inside runs of white space so long that the pattern's look-ahead overflows its stack."""
    cuts = [0]
    if len(text) > LONGEST_SPACE:
        for run in re.finditer(r"\s+", text):
            cuts.extend(range(run.start() + LONGEST_SPACE, run.end(), LONGEST_SPACE))
    return [text[a:b] for a, b in pairwise([*cuts, len(text)])]
