"""Corpus: text and documents as rows of tokens, by a loader without state.

A row is a function of the random stream that is handed in, so a resume has nothing to restore.
"""

import gzip
import io
import lzma
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from nanoschool.core.files import write_atomic
from nanoschool.core.sources import Source, read_text, split_sources
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.types import Document, UserError

__all__ = [
    "Source",
    "Spans",
    "TokenText",
    "compressors",
    "encode_document",
    "pack",
    "read_text",
    "split_sources",
]

Spans = Sequence[tuple[Sequence[int], bool]]  # a document as (tokens, are they learned?)


class TokenText:
    """Documents as one array of tokens, each after its `<|bos|>`, memory-mapped from a .npy file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.tokens = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"{path}: is no token file ({error}); restore it, or give the run another --name"
            ) from None

    @classmethod
    def write(cls, path: str | Path, tokenizer: Tokenizer, texts: Iterable[str]) -> "TokenText":
        """Encode `texts` and save them: uint16 where the vocabulary fits, else uint32."""
        dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
        parts = [np.array([tokenizer.bos, *tokens], dtype) for tokens in tokenizer.encode_batch(list(texts))]
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate(parts) if parts else np.zeros(0, dtype), allow_pickle=False)
        write_atomic(path, buffer.getvalue())
        return cls(path)

    def __len__(self) -> int:
        return len(self.tokens)

    def row(self, rng: random.Random, length: int) -> list[int]:
        """`length` tokens from a random offset; every offset is as likely."""
        if len(self) < length:
            raise UserError(
                f"{self.path}: the text has {len(self)} tokens, but one row needs {length}; add more text"
            )
        start = rng.randrange(len(self) - length + 1)
        return self.tokens[start : start + length].tolist()


def encode_document(tokenizer: Tokenizer, document: Document) -> Spans:
    """A world's document in tokens. Spans are encoded apart, as a question and its answer are when asked."""
    return [(tokenizer.encode(text), learned) for text, learned in document]


def pack(documents: Iterable[Spans], length: int, bos: int) -> tuple[list[int], list[bool]]:
    """A row of documents, each after its `<|bos|>`, and which tokens are learned; cut at `length`.

    No more are drawn than fit. A `<|bos|>` that ends a document is learned where the document's last
    span is (so a model that only read can end its text); the first of the row never is.
    """
    tokens, mask, learned = [], [], False
    for document in documents:
        tokens.append(bos)
        mask.append(learned)
        for span, learned in document:
            tokens.extend(span)
            mask.extend([learned] * len(span))
        if len(tokens) >= length:
            break
    return tokens[:length], mask[:length]


def compressors(data: bytes) -> dict[str, float]:
    """Bits per byte of general compressors on `data`, for comparison with a model's."""
    if not data:
        raise ValueError("no data to compress")
    sizes = {
        "xz -9e": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
        "gzip -9": len(gzip.compress(data, 9)),
    }
    return {name: 8 * size / len(data) for name, size in sizes.items()}
