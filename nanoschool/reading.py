"""reading: what a run reads: its tokenizer, the user's text, the shares of each source, and rows kept to validate on.

`prepare` makes it all and writes it into the run's folder before anything is spent; a resume is given what lies there,
so a text that changed or went away changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from nanoschool.checks import check
from nanoschool.core.corpus import Source, TokenText, compressors, read_text, split_sources
from nanoschool.core.files import write_atomic
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.evals.measure import bits_per_byte, validation
from nanoschool.methods.base import Learner
from nanoschool.methods.material import reading
from nanoschool.plan import Settings
from nanoschool.types import Environment, HasDocuments, HasGate, UserError

SAMPLE = 600_000  # characters that the tokenizer is trained on, at most
SAMPLE_A_TOKEN = 600  # and for each token of it
SYMBOLS = 0.5  # as much again, of the symbols that must be single tokens, where a text of the user's could crowd them out
COMPRESSED = 1_000_000  # bytes of the user's held-out text that are measured, at most
VALIDATION_ROWS = 24
HELD_OUT = "text-test.txt"


@dataclass
class Reading:
    tokenizer: Tokenizer
    shares: dict[str, float]  # of the rows, by world; "text" is the user's own
    worlds: dict[str, Environment]
    train: TokenText | None
    dev: TokenText | None
    held_out: bytes  # of the user's text, test split

    def validate(self, policy: Policy) -> dict[str, Any]:
        """Loss and bits per byte on fixed rows: fresh documents of the worlds, and the dev split of the user's text; {} of
        a run that reads nothing."""
        if not self.shares:
            return {}
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


def prepare(
    settings: Settings, folder: Path, say: Callable[[str], None], tokenizer: Tokenizer | None = None
) -> Reading:
    """Make the reading of a new run, in the words of a `tokenizer` where its start has one.

    Raises UserError on a text that cannot be read or is too short, and on what would stop the run later.
    """
    shares, splits = _shares(settings), _splits(settings)
    for name in shares.keys() - {"text"}:
        if not isinstance(settings.worlds[name], HasDocuments):
            raise UserError(f"world {name!r} has no documents to read; take it out of [mix]")
    if tokenizer is None:
        say(f"training a tokenizer of {settings.model.vocab} tokens")
        tokenizer = _tokenizer(settings, shares, splits)
        if tokenizer.vocab_size < settings.model.vocab:
            say(f"the text gives {tokenizer.vocab_size} tokens and no more")
    check(settings, tokenizer)
    tokenizer.save(folder / "tokenizer")
    if settings.text is not None:
        for name in ("train", "dev"):
            path = folder / f"text-{name}.npy"
            text = TokenText.write(path, tokenizer, (source.text for source in splits[name]))
            if len(text) < settings.model.context:
                raise UserError(
                    f"{settings.text}: its {name} part has {len(text)} tokens, shorter than one context of "
                    f"{settings.model.context}; give more text"
                )
        held_out = b"\n".join(source.text.encode() for source in splits["test"])
        write_atomic(folder / HELD_OUT, _cut(held_out, COMPRESSED))
    return reopen(settings, folder)


def reopen(settings: Settings, folder: Path) -> Reading:
    """The reading that `prepare` left in a run's folder."""
    texts: dict[str, TokenText] = {}
    held_out = b""
    if settings.text is not None:
        texts = {name: TokenText(folder / f"text-{name}.npy") for name in ("train", "dev")}
        held_out = _bytes(folder / HELD_OUT)
    tokenizer = Tokenizer.load(folder / "tokenizer")
    return Reading(
        tokenizer, _shares(settings), settings.worlds, texts.get("train"), texts.get("dev"), held_out
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


def _splits(settings: Settings) -> dict[str, list[Source]]:
    return split_sources(read_text(settings.text)) if settings.text is not None else {}


def _tokenizer(settings: Settings, shares: dict[str, float], splits: dict[str, list[Source]]) -> Tokenizer:
    """Trained on a sample of the reading."""
    rng, sample = Random(f"{settings.seed}/tokenizer"), []
    size = min(SAMPLE, SAMPLE_A_TOKEN * settings.model.vocab)
    for name, share in sorted(shares.items()):
        sample += _sample(settings, name, int(size * share / sum(shares.values())), splits, rng)
        world = settings.worlds.get(name)
        if splits and isinstance(world, HasGate):
            symbols = "".join(world.symbols())
            sample += [symbols] * int(SYMBOLS * size / len(symbols))
    return Tokenizer.train(sample, settings.model.vocab)


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
        assert isinstance(world, HasDocuments), "`prepare` checks it"
        for _ in range(100):
            out.append("".join(text for text, _ in world.document(rng)))
    return out


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); restore it, or give the run another --name"
        ) from None


def _cut(data: bytes, size: int) -> bytes:
    """At most `size` bytes, not inside a character."""
    return data[:size].decode("utf-8", errors="ignore").encode()
