"""tokenizer.json: the byte-level BPE file of Hugging Face, written from byte pieces and read back to them."""

import itertools
from typing import Any

from nanoschool.types import UserError

PATTERN = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MARK = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
SPECIAL = ("<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")


def _byte_letters() -> dict[int, str]:
    """GPT-2's printable letter for each byte, in which tokenizer.json spells its pieces."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


LETTER = _byte_letters()
BYTE = {letter: byte for byte, letter in LETTER.items()}


def spec_of(pieces: list[bytes]) -> dict[str, Any]:
    """The tokenizer.json of byte pieces given in the order they were learned."""
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    spell = {piece: "".join(LETTER[b] for b in piece) for piece in pieces}
    merges = [[spell[p] for p in _parents(piece, ranks)] for piece in pieces if len(piece) > 1]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    model: dict[str, Any] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
    }
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": len(pieces) + i, "content": name, **MARK} for i, name in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": None,
        "decoder": level,
        "model": model | {"vocab": {spell[p]: rank for p, rank in ranks.items()}, "merges": merges},
    }


def _parents(piece: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two pieces that were merged into `piece`: BPE on its bytes, with the merges learned before it."""
    parts, limit = [bytes([b]) for b in piece], ranks[piece]
    while len(parts) > 2:
        pairs = [a + b for a, b in itertools.pairwise(parts)]
        first = min(pairs, key=lambda pair: ranks.get(pair, limit))
        if ranks.get(first, limit) >= limit:
            raise AssertionError(f"{piece!r} is not the merge of two earlier pieces, but of {parts}")
        merged: list[bytes] = []
        i = 0
        while i < len(parts):
            width = 2 if i < len(pairs) and pairs[i] == first else 1
            merged.append(b"".join(parts[i : i + width]))
            i += width
        parts = merged
    return parts


def ranks_of(spec: dict[str, Any], source: str) -> dict[bytes, int]:
    """Bytes of each piece to its id. tiktoken merges in the order of ids, so the merges must be in it too."""
    model = spec.get("model") or {}
    if model.get("type") != "BPE":
        raise UserError(
            f"{source}: model type {model.get('type')!r} is not supported; it must be byte-level BPE"
        )
    vocab, added = model["vocab"], {t["content"] for t in spec.get("added_tokens") or []}
    try:
        ranks = {bytes(BYTE[c] for c in piece): id for piece, id in vocab.items() if piece not in added}
    except KeyError as error:
        raise UserError(f"{source}: the vocabulary is not byte-level (it holds the letter {error})") from None
    if missing := [b for b in range(256) if bytes([b]) not in ranks]:
        raise UserError(f"{source}: the vocabulary lacks {len(missing)} of the 256 bytes, first {missing[0]}")
    # Each merge is "left right" in old files and [left, right] in new ones.
    pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    made = [vocab.get(left + right, -1) for left, right in pairs]
    if any(a > b for a, b in itertools.pairwise(made)) or len(set(made)) != len(ranks) - 256:
        raise UserError(
            f"{source}: merges and ids are in different orders, which tiktoken cannot run; convert it first"
        )
    return ranks


def pattern_of(spec: dict[str, Any], source: str) -> str:
    """The pre-tokenisation pattern, from Split + ByteLevel or from GPT-2's ByteLevel alone."""
    pre = spec.get("pre_tokenizer") or {}
    match pre.get("pretokenizers", [pre]):
        case [{"type": "ByteLevel", "add_prefix_space": False} as level] if level.get("use_regex", True):
            return GPT2_PATTERN
        case [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
        ]:
            return pattern
    raise UserError(
        f"{source}: its pre_tokenizer is not supported; it must be one Split by regex, then ByteLevel"
    )


def normal_form_of(spec: dict[str, Any], source: str) -> Any:
    """None, or the Unicode normal form that text is brought to first (Qwen3's is NFC)."""
    kind = (spec.get("normalizer") or {"type": None})["type"]
    if kind not in (None, "NFC", "NFD", "NFKC", "NFKD"):
        raise UserError(
            f"{source}: normalizer {kind!r} is not supported; it must be a Unicode normal form or none"
        )
    return kind
