"""The user's text: every kind of bad file has its one line; held-out documents are whole; rows are exact windows."""

import gzip
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoschool.core.corpus import (
    Source,
    TokenText,
    compressors,
    encode_document,
    pack,
    read_text,
    split_sources,
)
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.types import UserError

TOKENIZER = Tokenizer.train(["the cat sat on the mat, a=3\n"] * 30, 300)
REAL = Path(__file__).parents[2] / "shared" / "data" / "text"


def line(text: object) -> bytes:
    return json.dumps({"text": text}).encode() + b"\n"


def test_a_folder_is_read_by_path_with_each_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "z.TXT").write_bytes(b"\xef\xbb\xbfupper\r\n")  # a byte order mark is not text
    (tmp_path / "sub" / "b.md").write_text("été", encoding="utf-8")
    (tmp_path / "sub" / "a.jsonl").write_bytes(line("one\u2028two") + b"\n  \n" + line("") + line("three"))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(line("packed")))
    (tmp_path / "empty.txt").touch()
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\xff")
    (tmp_path / "._b.txt").write_bytes(b"\0\xff")
    (tmp_path / ".hidden" / "x.txt").write_bytes(b"\xff")
    found = [(Path(s.name).relative_to(tmp_path).as_posix(), s.text, s.record) for s in read_text(tmp_path)]
    assert found == [
        ("c.jsonl.gz:1", "packed", True),
        ("sub/a.jsonl:1", "one\u2028two", True),
        ("sub/a.jsonl:5", "three", True),
        ("sub/b.md", "été", False),
        ("z.TXT", "upper\r\n", False),
    ]
    assert [s.text for s in read_text(tmp_path / "sub" / "b.md")] == ["été"]


BAD: dict[str, tuple[str, bytes, str]] = {
    "not UTF-8": ("a.txt", b"good text \xff\xfe", r"a\.txt: is not UTF-8 text at byte offset 10"),
    "cut inside a character": ("a.txt", "né".encode()[:-1], r"a\.txt: is not UTF-8 text at byte offset 1"),
    "UTF-16": ("a.txt", "hello".encode("utf-16"), r"a\.txt: is not UTF-8 text at byte offset 0"),
    "binary": ("a.md", b"\x7fELF\x02\x00\x00", r"a\.md: is binary \(a zero byte at byte offset 5\)"),
    "a non-UTF-8 line": (
        "a.jsonl",
        line("a") + b'{"text": "\xe9"}',
        r"a\.jsonl: is not UTF-8 text at byte offset 24",
    ),
    "no JSON": ("a.jsonl", line("a") + b"\n{'text': 1}\n", r"a\.jsonl:3: is not JSON"),
    "half a line": ("a.jsonl", line("a") + b'{"text": "b', r"a\.jsonl:2: is not JSON"),
    "no text": ("a.jsonl", b'{"content": "a"}\n', r'a\.jsonl:1: has no "text" that is a string'),
    "a text of another type": ("a.jsonl", line(3), r'a\.jsonl:1: has no "text" that is a string'),
    "a list": ("a.jsonl", b'["text"]\n', r'a\.jsonl:1: has no "text" that is a string'),
    "too deep": ("a.jsonl", b"[" * 100_000, r"a\.jsonl:1: is not JSON"),
    "half a surrogate pair": (
        "a.jsonl",
        b'{"text": "ab\\ud800"}',
        r"a\.jsonl:1: .*surrogate pair at character 2",
    ),
    "a truncated gzip": (
        "a.jsonl.gz",
        gzip.compress(line("a" * 999))[:-9],
        r"a\.jsonl\.gz: is a damaged or truncated",
    ),
    "no gzip": ("a.jsonl.gz", line("a"), r"a\.jsonl\.gz: is a damaged or truncated gzip"),
    "a damaged gzip": (
        "a.jsonl.gz",
        gzip.compress(line("a"))[:12] + b"\xff" * 20,
        "is a damaged or truncated gzip",
    ),
    "a bad line in a gzip": ("a.jsonl.gz", gzip.compress(b"\nx\n"), r"a\.jsonl\.gz:2: is not JSON"),
    "another kind": ("a.pdf", b"text", r"a\.pdf: is not a \.txt, \.md, \.jsonl, \.jsonl\.gz, \.parquet file"),
    "nothing": ("a.txt", b"", r"a\.txt: holds 0 bytes of text, but at least 1 are needed"),
}


@pytest.mark.parametrize("kind", BAD)
def test_each_bad_file_has_its_one_line(kind: str, tmp_path: Path) -> None:
    name, data, words = BAD[kind]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words) as error:
        read_text(tmp_path / name)
    assert "\n" not in str(error.value)


def test_missing_and_empty_paths_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: no such file or folder"):
        read_text(tmp_path / "absent")
    with pytest.raises(UserError, match=r"holds no \.txt"):
        read_text(tmp_path)
    (tmp_path / "a.txt").write_text("short")
    with pytest.raises(UserError, match="holds 5 bytes of text, but at least 512 are needed"):
        read_text(tmp_path, minimum=512)
    assert read_text(tmp_path, minimum=5)


def book(name: str, size: int) -> Source:
    rng = random.Random(name)
    return Source(name, "".join(rng.choices("abcdefgh \n", k=size)))


def texts(splits: dict[str, list[Source]]) -> dict[str, set[str]]:
    return {name: {s.text for s in sources} for name, sources in splits.items()}


@pytest.mark.parametrize(
    "sizes", [[10, 10, 10], [1000, 10, 10], [10, 1000, 1000, 5], [7] * 50, [5000, *[10] * 20]]
)
def test_whole_documents_are_held_out(sizes: list[int]) -> None:
    sources = [book(f"{i}.txt", size) for i, size in enumerate(sizes)]
    splits = split_sources(sources)
    assert sorted(s.name for part in splits.values() for s in part) == sorted(s.name for s in sources)
    assert all(splits[name] for name in ("train", "dev", "test"))
    shuffled = random.Random(1).sample(sources, len(sources))
    assert texts(split_sources(shuffled)) == texts(splits)  # by content, whatever the order


def test_the_shares_are_near_a_twelfth_among_files_and_lines_apart() -> None:
    files = [book(f"{i}.txt", 1000) for i in range(40)]
    lines = [Source(f"x.jsonl:{i}", book(str(i), 100).text, record=True) for i in range(500)]
    splits = split_sources(files + lines)
    for record, total in ((False, 40_000), (True, 50_000)):
        for name in ("dev", "test"):
            share = sum(len(s.text) for s in splits[name] if s.record is record) / total
            assert 0.08 <= share <= 0.12


def test_a_duplicate_is_on_one_side_only() -> None:
    sources = [book(f"{i}.txt", 100) for i in range(10)]
    again = [Source("copy of " + s.name, s.text) for s in sources]
    splits = split_sources(sources + again)
    assert sorted(s.name for part in splits.values() for s in part) == sorted(s.name for s in sources)


@given(st.text(min_size=1, max_size=400))
@settings(deadline=None)
def test_one_document_is_cut_and_nothing_is_lost(text: str) -> None:
    splits = split_sources([Source("a.txt", text)])
    assert "".join(s.text for name in ("train", "dev", "test") for s in splits[name]) == text


def test_one_document_is_cut_between_paragraphs() -> None:
    text = "".join(f"Paragraph {i} has a few words.\nAnd a second line.\n\n" for i in range(200))
    splits = split_sources([Source("a.txt", text)])
    parts = [splits[name][0].text for name in ("train", "dev", "test")]
    assert all(p.startswith("Paragraph") and p.endswith("\n\n") for p in parts)
    assert [round(len(p) / len(text), 1) for p in parts] == [0.8, 0.1, 0.1]


def test_rows_are_windows_of_the_saved_tokens(tmp_path: Path) -> None:
    documents = ["the cat sat", "on the mat", "a=3"]
    text = TokenText.write(tmp_path / "new" / "train.npy", TOKENIZER, documents)
    whole = [t for d in documents for t in (TOKENIZER.bos, *TOKENIZER.encode(d))]
    assert text.tokens.tolist() == whole and text.tokens.dtype == np.uint16 and len(text) == len(whole)
    opened, rng = TokenText(tmp_path / "new" / "train.npy"), random.Random(5)
    rows = [opened.row(rng, 6) for _ in range(300)]
    assert {tuple(r) for r in rows} == {
        tuple(whole[i : i + 6]) for i in range(len(whole) - 5)
    }  # each offset comes
    assert rows[:9] == [text.row(again, 6) for again in [random.Random(5)] for _ in range(9)]
    assert opened.row(rng, len(whole)) == whole and all(type(t) is int for t in rows[0])
    with pytest.raises(
        UserError, match=rf"train\.npy: the text has {len(whole)} tokens, but one row needs 99"
    ):
        opened.row(rng, 99)


def test_a_wide_vocabulary_is_saved_wide(tmp_path: Path) -> None:
    spec = json.loads(json.dumps(TOKENIZER.spec))
    for token in spec["added_tokens"]:
        token["id"] += 1 << 16
    wide = Tokenizer(spec)
    text = TokenText.write(tmp_path / "a.npy", wide, ["x"])
    assert text.tokens.dtype == np.uint32 and text.row(random.Random(0), 2) == [wide.bos, 120]


def test_a_damaged_token_file_is_named(tmp_path: Path) -> None:
    TokenText.write(tmp_path / "a.npy", TOKENIZER, ["the cat sat on the mat"])
    data = (tmp_path / "a.npy").read_bytes()
    for damaged in (data[:-2], data[:20], b"", b"text"):
        (tmp_path / "a.npy").write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.npy: is no token file"):
            TokenText(tmp_path / "a.npy")


def test_a_row_packs_documents_and_draws_no_more_than_fit() -> None:
    drawn = []

    def documents(limit: int) -> object:
        for i in range(limit):
            drawn.append(i)
            yield [([1, 2], False), ([3], i != 1)]

    bos = 99
    tokens, mask = pack(documents(100), 10, bos)
    assert tokens == [bos, 1, 2, 3, bos, 1, 2, 3, bos, 1]
    assert mask == [False, False, False, True, True, False, False, False, False, False]
    assert len(drawn) == 3
    assert pack(documents(2), 100, bos)[0] == tokens[:8] and pack([], 5, bos) == ([], [])
    assert len(pack(documents(1), 4, bos)[0]) == 4 and pack(iter([[]]), 4, bos) == ([bos], [False])


def test_a_document_is_encoded_span_by_span() -> None:
    spans = encode_document(TOKENIZER, [("the c", False), ("at", True)])
    assert spans == [(TOKENIZER.encode("the c"), False), (TOKENIZER.encode("at"), True)]


def test_compressors_are_those_of_the_command_line(tmp_path: Path) -> None:
    data = b"".join(b"line %d of a text that repeats itself\n" % i for i in range(3000))
    measured = compressors(data)
    assert 0 < measured["xz -9e"] < measured["gzip -9"] < 8
    for command in measured:
        if shutil.which(command.split()[0]):
            size = len(
                subprocess.run(
                    [*command.split(), "-c"], input=data, stdout=subprocess.PIPE, check=True
                ).stdout
            )
            assert abs(size - measured[command] * len(data) / 8) <= 16
    with pytest.raises(ValueError, match="no data"):
        compressors(b"")


@pytest.fixture
def real() -> Callable[[], list[Source]]:
    if not REAL.is_dir():
        pytest.skip("the real text, ../shared/data/text, is not here")
    return lambda: read_text(REAL)


def test_real_books_and_lines_are_split_by_whole_documents(real: Callable[[], list[Source]]) -> None:
    sources = real()
    splits = split_sources(sources)
    names = {name: {s.name for s in part} for name, part in splits.items()}
    assert not names["train"] & (names["dev"] | names["test"]) and not names["dev"] & names["test"]
    for record in (False, True):
        total = sum(len(s.text.encode()) for s in sources if s.record is record)
        for name in ("dev", "test"):
            held = sum(len(s.text.encode()) for s in splits[name] if s.record is record)
            assert 0.04 < held / total < 0.13
    assert sum(len(part) for part in splits.values()) == len({s.text for s in sources})


def test_real_text_comes_back_from_its_tokens(real: Callable[[], list[Source]], tmp_path: Path) -> None:
    held = [s.text for s in split_sources(real())["test"]]
    tokenizer = Tokenizer.train(held[:2], 1024)
    text = TokenText.write(tmp_path / "a.npy", tokenizer, held)
    assert tokenizer.decode(text.tokens.tolist()) == "".join(held)
    assert tokenizer.bytes_of(text.tokens.tolist()) == len("".join(held).encode())


# Parquet, and data sets


@pytest.mark.peers
def test_parquet_rows_are_documents(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is absent; `make peers` installs it")
    table = pytest.importorskip("pyarrow").table
    parquet.write_table(table({"text": ["one", "", "three\u2028"], "n": [1, 2, 3]}), tmp_path / "a.parquet")
    (tmp_path / "b.txt").write_text("four")
    found = [(Path(s.name).name, s.text, s.record) for s in read_text(tmp_path)]
    rows = [("a.parquet:1", "one", True), ("a.parquet:3", "three\u2028", True)]
    assert found == [*rows, ("b.txt", "four", False)]
    for columns, complaint in (
        ({"body": ["x"]}, r'a\.parquet: has no column "text", only body'),
        ({"text": ["x", None]}, r'a\.parquet:2: its "text" is None'),
        ({"text": [3]}, r'a\.parquet:1: its "text" is 3'),
    ):
        parquet.write_table(table(columns), tmp_path / "a.parquet")
        with pytest.raises(UserError, match=complaint):
            read_text(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(UserError, match=r"a\.parquet: is no Parquet file") as error:
        read_text(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.peers
def test_a_data_set_here_is_read_like_one_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets", reason="datasets is absent; `make peers` installs it")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_bytes(line("one") + line("") + line("three"))
    found = [(s.text, s.record) for s in read_text(f"hf:{tmp_path / 'set'}")]
    assert found == [("one", True), ("three", True)]
    (tmp_path / "set" / "train.jsonl").write_bytes(b'{"body": "x"}\n')
    with pytest.raises(UserError, match='has no column "text", only body'):
        read_text(f"hf:{tmp_path / 'set'}")
    with pytest.raises(UserError, match="hf:/nowhere") as error:
        read_text(Path("hf:/nowhere/at/all"))
    assert "\n" not in str(error.value)


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pyarrow", "pyarrow.parquet", "datasets"):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"pip install 'nanoschool\[parquet\]'"):
        read_text(tmp_path)
    with pytest.raises(UserError, match=r"pip install 'nanoschool\[datasets\]'"):
        read_text("hf:owner/name")
