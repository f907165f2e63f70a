"""The tokenizer: exact on every text, special tokens only by id, the same after a save, deterministic."""

import itertools
import json
import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoschool.core.tokenizer import Tokenizer
from nanoschool.core.tokenizer_json import LETTER, PATTERN, SPECIAL, ranks_of, spec_of
from nanoschool.types import UserError

TEXT = [
    "The cat sat on the mat. a=3; b=a+4; c=b*2; c=?\n",
    "Il était une fois… 12 + 30 = 42\n\n\tdef f(x):\n",
] * 40


TRAINED = Tokenizer.train(TEXT, 400)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return TRAINED


@given(text=st.text())
@settings(deadline=None)
def test_every_text_comes_back(text: str) -> None:
    tokens = TRAINED.encode(text)
    assert TRAINED.decode(tokens) == text
    assert TRAINED.bytes_of(tokens) == len(text.encode())
    assert not {TRAINED.bos, TRAINED.end, TRAINED.user} & set(tokens)
    assert TRAINED.encode_batch([text, text]) == [tokens, tokens]


def test_ids_are_bytes_then_merges_then_marks(tokenizer: Tokenizer) -> None:
    marks = [
        tokenizer.bos,
        tokenizer.end,
        tokenizer.system,
        tokenizer.user,
        tokenizer.assistant,
        tokenizer.tool,
    ]
    assert marks == list(range(tokenizer.vocab_size - 6, tokenizer.vocab_size))
    assert [tokenizer.token_bytes(b) for b in range(256)] == [bytes([b]) for b in range(256)]
    assert 256 + 6 < tokenizer.vocab_size <= 400
    assert [tokenizer.role_id(r) for r in ("system", "user", "assistant", "tool")] == marks[2:]


def test_a_text_that_spells_a_mark_stays_text(tokenizer: Tokenizer) -> None:
    for name in SPECIAL:
        tokens = tokenizer.encode(f"say {name} now")
        assert max(tokens) < tokenizer.bos
        assert tokenizer.decode(tokens) == f"say {name} now"


def test_digits_are_single_tokens() -> None:
    tokenizer = Tokenizer.train(["year 1234 1234 1234 " * 100], 400)
    assert [tokenizer.show(t) for t in tokenizer.encode(" 1234")] == [" ", "1", "2", "3", "4"]


def test_show_is_one_printable_line(tokenizer: Tokenizer) -> None:
    shown = [tokenizer.show(t) for t in range(tokenizer.vocab_size)]
    assert all(s and s.isprintable() for s in shown)
    assert (
        shown[tokenizer.end] == "<|end|>" and tokenizer.show(10) == "\\n" and tokenizer.show(0xC3) == "\\xc3"
    )


def test_decode_leaves_marks_out_and_survives_half_a_character(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([tokenizer.bos, 65, tokenizer.end, 0xC3]) == "A\ufffd"
    assert tokenizer.bytes_of([tokenizer.bos, 65, tokenizer.end]) == 1
    with pytest.raises(ValueError, match="not in the vocabulary"):
        tokenizer.decode([tokenizer.vocab_size])


def test_loaded_equals_trained(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "new" / "folder")
    for extra in ("tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        (tmp_path / "new" / "folder" / extra).unlink()  # only tokenizer.json is read
    loaded = Tokenizer.load(tmp_path / "new" / "folder")
    assert loaded.files() == tokenizer.files()
    assert [loaded.encode(t) for t in TEXT] == [tokenizer.encode(t) for t in TEXT]


def test_files_name_the_tokens_that_end_a_reply(tokenizer: Tokenizer) -> None:
    generation = json.loads(tokenizer.files()["generation_config.json"])
    assert generation["eos_token_id"] == [tokenizer.end, tokenizer.bos]
    assert json.loads(tokenizer.files()["tokenizer_config.json"])["eos_token"] == "<|end|>"


def test_training_depends_on_nothing_but_the_texts() -> None:
    program = (
        "import hashlib, random; from nanoschool.core.tokenizer import Tokenizer;"
        "r = random.Random(1); texts = [''.join(r.choices('ab cd12\\n', k=300)) for _ in range(50)];"
        "print(hashlib.sha256(Tokenizer.train(texts, 600).files()['tokenizer.json']).hexdigest())"
    )
    surroundings = [{"RAYON_NUM_THREADS": str(n), "PYTHONHASHSEED": str(n)} for n in (1, 4)]
    outputs = [
        subprocess.check_output([sys.executable, "-c", program], env=os.environ | s, text=True)
        for s in surroundings
    ]
    assert len(set(outputs)) == 1


def test_the_saved_merges_alone_give_the_same_tokens(tokenizer: Tokenizer) -> None:
    """BPE by the merges of tokenizer.json, in their order, is what tiktoken computes from ranks."""
    order = {tuple(pair): i for i, pair in enumerate(tokenizer.spec["model"]["merges"])}
    vocab = tokenizer.spec["model"]["vocab"]
    rng = random.Random(2)
    for word in [
        "the",
        "était",
        *("".join(rng.choices("thecatsonmé", k=rng.randint(1, 12))) for _ in range(500)),
    ]:
        parts = [LETTER[b] for b in word.encode()]
        while found := [p for p in itertools.pairwise(parts) if p in order]:
            first = min(found, key=order.__getitem__)
            i = list(itertools.pairwise(parts)).index(first)
            parts[i : i + 2] = ["".join(first)]
        assert tokenizer.encode(word) == [vocab[p] for p in parts]


def test_a_vocabulary_too_small_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"vocab_size 261 is too small.*262"):
        Tokenizer.train(TEXT, 261)
    assert Tokenizer.train(TEXT, 262).vocab_size == 262


def test_half_a_surrogate_pair_is_replaced_and_does_not_panic(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\udc80b")) == "a\ufffdb"
    assert tokenizer.encode_batch(["a\udc80b"]) == [tokenizer.encode("a\udc80b")]


def test_no_text_leaves_bytes() -> None:
    tokenizer = Tokenizer.train([], 1000)
    assert tokenizer.vocab_size == 262 and tokenizer.decode(tokenizer.encode("héllo")) == "héllo"


@pytest.mark.parametrize("unit", [" ", "\n", "a"])
def test_a_million_of_one_character_neither_panic_nor_hang(unit: str) -> None:
    text = "word" + (unit * 1_000_000)[:1_000_000] + "word"
    tokenizer = Tokenizer.train([text], 300)
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text and tokenizer.encode_batch(["", text]) == [[], tokens]


def foreign(**changes: object) -> dict:
    """A tokenizer.json as Qwen3's: other byte order, merges as strings, its own marks, NFC."""
    letters = sorted(LETTER.values())
    vocab = {letter: i for i, letter in enumerate(letters)} | {"he": 256, "ll": 257, "hell": 258}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    spec = spec_of([bytes([b]) for b in range(256)])
    spec["model"] |= {"vocab": vocab, "merges": ["h e", "l l", "he ll"]}
    spec["added_tokens"] = [
        {"id": 259, "content": "<|im_end|>", "special": True, **flags},
        {"id": 260, "content": "<think>", "special": False, **flags},
    ]
    return spec | {"normalizer": {"type": "NFC"}} | changes


def test_other_peoples_byte_level_tokenizers_load(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(foreign()), encoding="utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    tokens = tokenizer.encode("hello<|im_end|>")
    assert tokens[:2] == [258, tokenizer.spec["model"]["vocab"]["o"]] and 259 not in tokens
    assert tokenizer.decode([258, 259, 260]) == "hell<think>"  # a mark that is not special is text
    assert tokenizer.decode(tokenizer.encode("e\u0301")) == unicodedata.normalize("NFC", "e\u0301")
    assert tokenizer.vocab_size == 261
    with pytest.raises(UserError, match=r"tokenizer\.json: has no token <\|end\|>"):
        _ = tokenizer.end
    with pytest.raises(UserError, match=r"<\|user\|>"):
        tokenizer.role_id("user")
    assert set(tokenizer.files()) == {"tokenizer.json", "tokenizer_config.json"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"type": "Unigram", "vocab": [], "merges": []}}, "Unigram"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer"),
        ({"pre_tokenizer": None}, "pre_tokenizer"),
        ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
        ({"model": {"type": "BPE", "vocab": {"▁the": 0}, "merges": []}}, "byte-level"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, "lacks 255 of the 256 bytes"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Tokenizer(foreign(**changes))


def test_merges_in_another_order_than_ids_are_refused() -> None:
    spec = foreign()
    spec["model"]["merges"] = ["l l", "h e", "he ll"]
    with pytest.raises(UserError, match="different orders"):
        ranks_of(spec, "x")


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json: no such file"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        Tokenizer.load(tmp_path)


def test_the_pattern_is_the_one_that_is_saved(tokenizer: Tokenizer) -> None:
    assert tokenizer.pattern == PATTERN
    gpt2 = foreign(pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "use_regex": True})
    assert "'(?:[sdmt]" in Tokenizer(gpt2).pattern
