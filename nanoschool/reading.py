"""reading: what a run reads: its tokenizer, the user's text, the shares of each source, and rows kept to validate on.

Everything here is made once, written into the run's folder, and read back from there by a resume.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from nanoschool.core.corpus import Source, TokenText, compressors, read_text, split_sources
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.evals.measure import bits_per_byte, validation
from nanoschool.methods.base import Learner
from nanoschool.methods.material import reading
from nanoschool.plan import Settings
from nanoschool.types import Environment, HasDocuments, UserError

SAMPLE = 600_000  # characters that the tokenizer is trained on
COMPRESSED = 1_000_000  # bytes of the user's held-out text that are measured, at most
VALIDATION_ROWS = 24


@dataclass
class Reading:
    tokenizer: Tokenizer
    shares: dict[str, float]  # of the rows, by world; "text" is the user's own
    worlds: dict[str, Environment]
    train: TokenText | None
    dev: TokenText | None
    held_out: bytes  # of the user's text, test split

    def validate(self, policy: Policy) -> dict[str, float]:
        """Loss and bits per byte on fixed rows that training does not draw: the worlds' and the user's dev split."""
        learner = Learner(
            policy, None, self.worlds, self.shares, {}, seed=0, stage="validation", text=self.dev
        )
        return validation(policy, reading(learner, VALIDATION_ROWS))

    def compression(self, policy: Policy) -> dict[str, Any] | None:
        """Bits per byte of the user's held-out text beside general compressors on the same bytes."""
        if not self.held_out:
            return None
        tokens = [policy.tokenizer.bos, *policy.tokenizer.encode(self.held_out.decode("utf-8"))]
        return {
            "bytes": len(self.held_out),
            "model": bits_per_byte(policy, tokens),
            **compressors(self.held_out),
        }


def prepare(settings: Settings, folder: Path, say: Callable[[str], None]) -> Reading:
    """The reading of a run. Raises UserError on a text that cannot be read, or is too short."""
    splits: dict[str, list[Source]] = {}
    if settings.text is not None:
        splits = split_sources(read_text(settings.text, minimum=1000))
    shares = _shares(settings)
    tokenizer = _tokenizer(settings, folder, shares, splits, say)
    _one_token_each(settings, tokenizer)
    texts: dict[str, TokenText] = {}
    for name in ("train", "dev"):
        path = folder / f"text-{name}.npy"
        if splits and not path.exists():
            TokenText.write(path, tokenizer, (source.text for source in splits[name]))
        if splits:
            texts[name] = TokenText(path)
            if len(texts[name]) < settings.model.context:
                raise UserError(
                    f"{settings.text}: its {name} part has {len(texts[name])} tokens, shorter than one context of "
                    f"{settings.model.context}; give more text"
                )
    held_out = b"\n".join(source.text.encode() for source in splits.get("test", []))
    return Reading(
        tokenizer, shares, settings.worlds, texts.get("train"), texts.get("dev"), _cut(held_out, COMPRESSED)
    )


def _shares(settings: Settings) -> dict[str, float]:
    """The mix; with a text of the user's, the prose of `stories` goes and the text takes `text_share` of the rows."""
    shares = {name: share for name, share in settings.mix.items() if share > 0}
    if settings.text is None:
        return shares
    worlds = {name: share for name, share in shares.items() if name != "stories"}
    scale = (1 - settings.text_share) / sum(worlds.values()) if worlds else 1.0
    return {name: share * scale for name, share in worlds.items()} | {
        "text": settings.text_share if worlds else 1.0
    }


def _tokenizer(
    settings: Settings,
    folder: Path,
    shares: dict[str, float],
    splits: dict[str, list[Source]],
    say: Callable[[str], None],
) -> Tokenizer:
    path = folder / "tokenizer"
    if (path / "tokenizer.json").exists():
        return Tokenizer.load(path)
    say(f"training a tokenizer of {settings.model.vocab} tokens")
    rng, sample = Random(f"{settings.seed}/tokenizer"), []
    for name, share in sorted(shares.items()):
        sample += _sample(settings, name, int(SAMPLE * share / sum(shares.values())), splits, rng)
    tokenizer = Tokenizer.train(sample, settings.model.vocab)
    tokenizer.save(path)
    return tokenizer


def _sample(
    settings: Settings, name: str, size: int, splits: dict[str, list[Source]], rng: Random
) -> list[str]:
    """About `size` characters of one source: passages of the user's training text, or a world's documents."""
    out: list[str] = []
    while sum(map(len, out)) < size:
        if name == "text":
            source = rng.choice(splits["train"])
            start = rng.randrange(max(1, len(source.text) - 2000))
            out.append(source.text[start : start + 2000])
            continue
        world = settings.worlds[name]
        if not isinstance(world, HasDocuments):
            raise UserError(f"world {name!r} has no documents to read; take it out of mix")
        for _ in range(100):
            out.append("".join(text for text, _ in world.document(rng)))
    return out


def _one_token_each(settings: Settings, tokenizer: Tokenizer) -> None:
    """A world that is about symbols says which; a symbol in two pieces would make its gate mean something else."""
    for name in settings.mix:
        symbols = getattr(settings.worlds[name], "symbols", list)()
        split = [symbol for symbol in symbols if len(tokenizer.encode(symbol)) != 1]
        if split:
            raise UserError(
                f"world {name!r}: {len(split)} of its symbols ({split[:5]}) are no single tokens of this tokenizer; "
                "raise model.vocab or the world's share of mix"
            )


def _cut(data: bytes, size: int) -> bytes:
    """At most `size` bytes, not inside a character."""
    return data[:size].decode("utf-8", errors="ignore").encode()
