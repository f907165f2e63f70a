"""transformers opens our folders as they are: our logits, our tokens, our chat."""

import random
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.peers
transformers = pytest.importorskip("transformers", reason="transformers is absent; `make peers` installs it")

from nanoschool.core import checkpoint  # noqa: E402
from nanoschool.core.chat import render  # noqa: E402
from nanoschool.core.config import ModelConfig  # noqa: E402
from nanoschool.core.model import GPT  # noqa: E402
from nanoschool.core.tokenizer import Tokenizer  # noqa: E402
from nanoschool.envs.steps import WORLD as STEPS  # noqa: E402
from nanoschool.envs.stories import WORLD as STORIES  # noqa: E402
from nanoschool.types import Message  # noqa: E402

ROOT = Path(__file__).parents[2]
BOOKS = ROOT.parent / "shared" / "data" / "text"


def generated(count: int) -> list[str]:
    rng = random.Random(7)
    return [
        "".join(text for text, _ in world.document(rng)) for world in (STEPS, STORIES) for _ in range(count)
    ]


TOKENIZER = Tokenizer.train(generated(200), 600)


def folder(root: Path, **shape: Any) -> tuple[Path, GPT]:
    sizes = {"width": 48, "layers": 3, "heads": 4, "kv_heads": 2, "head_width": 16, "hidden": 96} | shape
    model = GPT(ModelConfig(vocab=TOKENIZER.vocab_size, context=128, **sizes), seed=1)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():  # no gain at its starting value, lest a norm be left out unseen
            p.add_(torch.randn(p.shape, generator=random) * 0.05)
    path = checkpoint.write(
        root,
        "pretrain-000001",
        config=model.config.to_hf(),
        weights=model.state_dict(),
        tokenizer=TOKENIZER,
        training={},
        state={},
    )
    return path, model


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("rope_theta", [1000.0, 1_000_000.0])
def test_qwen3_gives_our_logits(tied: bool, kv_heads: int, rope_theta: float, tmp_path: Path) -> None:
    path, model = folder(tmp_path, tied=tied, kv_heads=kv_heads, rope_theta=rope_theta)
    theirs, report = transformers.Qwen3ForCausalLM.from_pretrained(
        path, dtype=torch.float32, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in model.parameters())
    tokens = torch.randint(0, TOKENIZER.vocab_size, (3, 128), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ours = model.logits(model(tokens))
        assert ours.std() > 0.1
        torch.testing.assert_close(theirs(tokens).logits, ours, atol=1e-5, rtol=0)


def test_generation_stops_where_ours_does(tmp_path: Path) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder(tmp_path)[0])
    assert theirs.generation_config.eos_token_id == [TOKENIZER.end, TOKENIZER.bos]
    assert theirs.config.tie_word_embeddings is True


@pytest.fixture
def theirs(tmp_path: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder(tmp_path)[0])


CODE = "def f(x: int) -> str:\n\treturn f'{x:>3}'  # ok\n\n\nclass A:\r\n    pass\n"
ODD = [
    *("", " ", "\n", "   \n\n  x", "a  b   c    ", "\t\ttabs\n \n", "1234 + 5678 = 6912", "x²+½ ٣٤ Ⅻ 一二三"),
    *(
        "Il était une fois… naïve façade",
        "日本語のテキスト、です。",
        "🙂👩‍👩‍👧‍👦🏳️‍🌈",
        "e\u0301 \u00a0\u3000\u200b\u2028x\x85y\x1cz",
        "\x00\x01\x7f",
    ),
    *("don't can't I'll", "<|bos", "a=3; b=a+4; c=b*2; c=?", "\ufeffmark", "עברית العربية हिन्दी ไทย", CODE),
]


def test_autotokenizer_gives_our_tokens_and_text(theirs: Any) -> None:
    rng = random.Random(11)
    noise = [
        "".join(chr(rng.choice([rng.randrange(32, 127), rng.randrange(0xD800)])) for _ in range(60))
        for _ in range(500)
    ]
    for text in ODD + generated(300) + noise:
        tokens = TOKENIZER.encode(text)
        assert theirs(text, add_special_tokens=True)["input_ids"] == tokens, repr(text)
        assert theirs.decode(tokens) == text
    special = {theirs.convert_tokens_to_ids(name): name for name in TOKENIZER.special}
    assert special == {id: name for name, id in TOKENIZER.special.items()}
    assert len(theirs) == TOKENIZER.vocab_size


def test_real_text_gives_our_tokens(theirs: Any) -> None:
    """Python's own handbook, which is there with every Python, this project's pages, and books where there are some."""
    pages = {name: text for name, text in topics.items() if len(text) > 1000}
    pages |= {page.name: page.read_text(encoding="utf-8") for page in sorted(ROOT.glob("*.md"))}
    pages |= {book.name: book.read_text(encoding="utf-8")[:200_000] for book in sorted(BOOKS.glob("*.txt"))}
    assert sum(map(len, pages.values())) > 400_000
    for name, text in pages.items():
        text = text.replace("<|", "< |")  # a role's name in a text is text to us, and a token to them
        assert theirs(text)["input_ids"] == TOKENIZER.encode(text), name


CONVERSATIONS = [
    [("user", "a=3; b=a+4; b=?")],
    [("system", "Be brief."), ("user", "hi\n"), ("assistant", " 7 \n"), ("user", "  and\t8? ")],
    [("user", "3+4?"), ("assistant", "<calc>3+4</calc>"), ("tool", "7"), ("assistant", "It is 7.")],
    [("user", "日本🙂"), ("assistant", ""), ("tool", ""), ("assistant", "x"), ("tool", "{'a': 1}")],
    [("text", "Once upon a time")],
]


@pytest.mark.parametrize("turns", CONVERSATIONS, ids=range(len(CONVERSATIONS)))
@pytest.mark.parametrize("generate", [True, False], ids=["generate", "whole"])
def test_the_chat_template_gives_our_tokens(
    turns: list[tuple[str, str]], generate: bool, theirs: Any
) -> None:
    if turns[-1][0] == "text" and generate:
        generate = False  # raw text is continued as it is, so nobody asks for a mark
    ours, _ = render(TOKENIZER, [Message(role, content) for role, content in turns], generate=generate)
    messages = [{"role": role, "content": content} for role, content in turns]
    tokens = theirs.apply_chat_template(messages, add_generation_prompt=generate, tokenize=True)
    assert tokens["input_ids"] == ours


def test_an_unknown_role_is_refused_there_too(theirs: Any) -> None:
    with pytest.raises(Exception, match="unknown role boss"):
        theirs.apply_chat_template([{"role": "boss", "content": "x"}])
