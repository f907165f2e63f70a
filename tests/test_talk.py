"""Talk: what streams is what was said, the cache is kept, a full context is said in one line, and leaving is clean."""

import io
import sys

import pytest
import torch

from nanoschool.core.chat import render
from nanoschool.core.config import ModelConfig
from nanoschool.core.model import GPT
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.ledger import Ledger
from nanoschool.talk import Chat, Conversation, talk
from nanoschool.types import Message, UserError


@pytest.fixture(scope="module")
def policy() -> Policy:
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(["a=3; b=a+4; b=?", "é ü 漢字"], 280)
    model = GPT(ModelConfig.from_depth(1, vocab=tokenizer.vocab_size, context=64), seed=3)
    return Policy(model, tokenizer, Ledger())


def ask_all(conversation: Conversation, text: str) -> str:
    return "".join(conversation.ask(text))


@pytest.mark.parametrize("seed", range(8))
def test_the_stream_is_the_reply_also_where_tokens_split_characters(policy, seed):
    """An untrained model speaks in random bytes: nothing may be lost, doubled or shown differently."""
    conversation = Conversation(policy, Chat(temperature=1.0, seed=seed, max_tokens=40), raw=False)
    said = ask_all(conversation, "hé?")
    assert conversation.row is not None
    assert said == conversation.row.reply


def test_the_second_turn_is_what_a_fresh_reading_of_all_tokens_gives(policy):
    options = Chat(max_tokens=8)
    conversation = Conversation(policy, options, raw=False)
    ask_all(conversation, "a=3")
    row = conversation.row
    before = row.cached
    second = ask_all(conversation, "b=?")
    assert row.cached > before and conversation.row is row
    fresh = policy.open(options.seed, options.temperature)
    twin = fresh.start(row.tokens[: row.turn], key=0, max_tokens=8)
    while twin.running:
        fresh.step()
    assert twin.reply == second
    assert twin.tokens == row.tokens


def test_chat_asks_with_chat_marks_and_reading_with_none(policy):
    chat, raw = (Conversation(policy, Chat(max_tokens=1), raw=raw) for raw in (False, True))
    ask_all(chat, "a=3")
    ask_all(raw, "a=3")
    tokenizer = policy.tokenizer
    assert chat.row.tokens[:-1] == render(tokenizer, [Message("user", "a=3")], generate=True)[0]
    assert raw.row.tokens[:-1] == [tokenizer.bos, *tokenizer.encode("a=3")]


def test_one_shot_prints_the_answer_alone(policy, capsys):
    talk(policy, Chat(prompt="a=3", max_tokens=5), raw=False)
    out, err = capsys.readouterr()
    alone = Conversation(policy, Chat(max_tokens=5), raw=False)
    assert out == ask_all(alone, "a=3") + "\n"
    assert err == ""


def test_a_base_model_is_said_to_be_one_on_stderr(policy, capsys):
    talk(policy, Chat(prompt="a=3", max_tokens=5), raw=True)
    assert "only read" in capsys.readouterr().err


def test_one_shot_that_is_too_long_is_the_users_mistake(policy):
    with pytest.raises(UserError, match="too long"):
        talk(policy, Chat(prompt="x" * 500), raw=False)


def test_a_temperature_below_0_is_the_users_mistake(policy):
    with pytest.raises(UserError, match=r"--temperature -1\.0: must be 0"):
        talk(policy, Chat(prompt="a=3", temperature=-1.0), raw=False)


def converse(policy: Policy, monkeypatch, capsys, typed: str, **options) -> tuple[str, list[str]]:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    talk(policy, Chat(**options), raw=False)
    out, err = capsys.readouterr()
    return out, err.splitlines()


@pytest.mark.parametrize("end", ["/quit\n", ""])
def test_a_conversation_ends_at_quit_and_at_the_end_of_input(policy, monkeypatch, capsys, end):
    out, err = converse(policy, monkeypatch, capsys, f"a=3\n\n{end}", max_tokens=3)
    assert out == ask_all(Conversation(policy, Chat(max_tokens=3), raw=False), "a=3") + "\n"
    assert err == ["(a context of 64 tokens; each line starts anew, --remember keeps them; /quit ends)"]


def test_a_full_context_is_said_in_one_line_and_the_talk_goes_on(policy, monkeypatch, capsys):
    typed = "".join(f"{'ab ' * 5}{i}\n" for i in range(6)) + "q" * 400 + "\na\n"
    out, err = converse(policy, monkeypatch, capsys, typed, max_tokens=12, remember=True)
    assert any("forgotten" in line for line in err)
    assert any("ask something shorter" in line for line in err)
    assert len(out.splitlines()) >= 7  # every question that fits was answered


def test_each_line_starts_anew_unless_it_is_to_remember(policy, monkeypatch, capsys):
    def context(typed: str, **options: bool) -> list[str]:
        met = []
        monkeypatch.setattr(
            Conversation, "ask", lambda self, text: met.append((self.row, text)) or iter(["ok"])
        )
        monkeypatch.setattr(Conversation, "forget", lambda self: met.append("forgets"))
        converse(policy, monkeypatch, capsys, typed, **options)
        return met

    assert context("a\nb\n") == ["forgets", (None, "a"), "forgets", (None, "b")]
    assert context("a\nb\n/new\nc\n", remember=True) == [(None, "a"), (None, "b"), "forgets", (None, "c")]
