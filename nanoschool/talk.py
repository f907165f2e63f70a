"""talk: questions to a trained model in the terminal, streamed; a conversation if asked, its cache kept between turns.

Each line is a conversation of its own unless `--remember`: a model that was taught on single exchanges, as the presets
teach, does worse with an earlier one in its context.
"""

import codecs
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from nanoschool.core.chat import follow, render
from nanoschool.core.policy import Policy
from nanoschool.core.row import Row
from nanoschool.core.sampling import EXACT, Sampling
from nanoschool.types import Message, UserError

COLDEST = 0.001  # below it all but the likeliest token has no probability left in float32


@dataclass(frozen=True)
class Chat:
    """Talk to a run's model. /quit, Ctrl-D or Ctrl-C ends it, /new forgets what was said."""

    prompt: Annotated[str | None, arg(aliases=["-p"])] = None  # ask this, print the answer alone, and leave
    stage: str | None = None  # an earlier self: pretrain, sft, rl (the last one there is, unless given)
    temperature: float = 0.0  # 0 is greedy; 1 samples from what the model believes
    remember: bool = False  # keep what was said before each line in the context
    seed: int = 1  # of the samples
    max_tokens: int = 200  # of an answer
    sampling: Sampling = EXACT
    runs_dir: Path = Path("runs")  # where run folders are


class Conversation:
    """One row of an engine session. `raw`: the model has only read, so text is continued and nobody takes turns."""

    def __init__(self, policy: Policy, options: Chat, raw: bool) -> None:
        self.policy, self.options, self.raw = policy, options, raw
        policy.sampling = options.sampling
        self.session = policy.open(options.seed, options.temperature)
        self.row: Row | None = None

    def ask(self, text: str) -> Iterator[str]:
        """The answer, in pieces as it is produced. Raises UserError where the context has no room for it."""
        tokenizer, role = self.policy.tokenizer, "text" if self.raw else "user"
        if self.row is None:
            said = [Message("system", self.policy.prompt)] if self.policy.prompt else []
            tokens, _ = render(tokenizer, [*said, Message(role, text)], generate=True)
            self.row = self.session.start(tokens, key=0, max_tokens=self.options.max_tokens)
        else:
            tokens = follow(tokenizer, self.row.stop_reason, role, text)
            self.session.extend(self.row, tokens, max_tokens=self.options.max_tokens)
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode  # a token may hold half a character
        shown = 0
        while self.row.running:
            self.session.step()
            yield decode(self.row.said[shown:])
            shown = len(self.row.said)
        yield decode(b"", final=True)

    def forget(self) -> None:
        """Start over with an empty context."""
        self.session = self.policy.open(self.options.seed, self.options.temperature)
        self.row = None

    @property
    def full(self) -> bool:
        """The last answer was cut off because the context ended."""
        return self.row is not None and len(self.row.tokens) >= self.policy.model.config.context


def talk(policy: Policy, options: Chat, raw: bool) -> None:
    """Answer `options.prompt` on stdout, or hold a conversation; what is not the model's goes to stderr.

    Raises UserError on a temperature that is neither 0 nor warm enough.
    """
    if options.temperature and not COLDEST <= options.temperature < float("inf"):
        raise UserError(f"--temperature {options.temperature}: must be 0 (greedy), or {COLDEST} and above")
    if raw:
        _note("this self has only read and knows no chat: it continues your text")
    conversation = Conversation(policy, options, raw)
    if options.prompt is not None:
        _stream(conversation, options.prompt)
        return
    kept = (
        "what is said is kept, /new forgets it"
        if options.remember
        else "each line starts anew, --remember keeps them"
    )
    _note(f"a context of {policy.model.config.context} tokens; {kept}; /quit ends")
    try:
        while (line := _read()) not in (None, "/quit"):
            if line == "/new" or not options.remember:
                conversation.forget()
            if line and line != "/new":
                _answer(conversation, line)
    except KeyboardInterrupt:
        print()


def _answer(conversation: Conversation, line: str) -> None:
    if conversation.full:
        _start_over(conversation, "the context is full")
    try:
        _stream(conversation, line)
    except UserError as error:
        if conversation.row is None:  # a first question: too long by itself
            conversation.forget()
            _note(f"{error}; ask something shorter")
            return
        _start_over(conversation, str(error))
        _answer(conversation, line)


def _start_over(conversation: Conversation, why: str) -> None:
    conversation.forget()
    _note(f"{why}: what was said is forgotten")


def _stream(conversation: Conversation, text: str) -> None:
    for piece in conversation.ask(text):
        print(piece, end="", flush=True)
    print()
    if conversation.full:
        _note("the answer was cut off: the context is full")


def _read() -> str | None:
    """A line from the keyboard or from a pipe; None at its end."""
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None


def _note(line: str) -> None:
    print(f"({line})", file=sys.stderr, flush=True)
