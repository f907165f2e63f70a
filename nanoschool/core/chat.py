"""Chat: one renderer of messages to (tokens, mask), for training and sampling alike.

A conversation is `<|bos|>` and then messages, each `<|role|>content<|end|>`; generation starts after
`<|assistant|>`. Content is encoded as plain text, so nothing a user writes can forge a mark. Sampled tokens
are never decoded and encoded again: a live conversation grows by `follow`, to the tokens that `render` gives.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nanoschool.types import Message

if TYPE_CHECKING:  # a tokenizer's folder holds the template below, so it imports us
    from nanoschool.core.tokenizer import Tokenizer

# The same tokens through transformers' apply_chat_template, for messages whose content spells no mark
# (transformers reads marks out of content; we do not).
CHAT_TEMPLATE = (
    "{{- '<|bos|>' -}}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'text' -%}{{- message['content'] -}}"
    "{%- elif message['role'] in ['system', 'user', 'assistant', 'tool'] -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- else -%}{{- raise_exception('unknown role ' + message['role']) -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def render(
    tokenizer: "Tokenizer", messages: Sequence[Message], *, generate: bool = False
) -> tuple[list[int], list[bool]]:
    """The tokens of a conversation, and which of them the assistant says (loss falls on those).

    The mask is True on an assistant's content and on its `<|end|>`, except before a tool's message: there a
    stop string ended the reply, and the `<|end|>` was put by us. A message of role "text" is its tokens, mask
    False. `generate` opens the assistant's next message, unless raw text is last: that is just continued.
    """
    tokens, mask = [tokenizer.bos], [False]

    def put(new: list[int], learned: bool) -> None:
        tokens.extend(new)
        mask.extend([learned] * len(new))

    for i, message in enumerate(messages):
        content = tokenizer.encode(message.content)
        if message.role == "text":
            put(content, False)
            continue
        put([tokenizer.role_id(message.role)], False)
        spoken = message.role == "assistant"
        put(content, spoken)
        forced = i + 1 < len(messages) and messages[i + 1].role == "tool"
        put([tokenizer.end], spoken and not forced)
    if generate and not (messages and messages[-1].role == "text"):
        put([tokenizer.assistant], False)
    return tokens, mask


def follow(tokenizer: "Tokenizer", stop_reason: str, ask_role: str, ask_text: str) -> list[int]:
    """The tokens between a reply that ended by `stop_reason` ("end", "stop", "length") and the next reply.

    "end" means that the row already holds the sampled `<|end|>`; otherwise one is forced here. Role "text"
    adds the text's tokens and nothing else: raw text has no turns.
    """
    content = tokenizer.encode(ask_text)
    if ask_role == "text":
        return content
    closing = [] if stop_reason == "end" else [tokenizer.end]
    return [*closing, tokenizer.role_id(ask_role), *content, tokenizer.end, tokenizer.assistant]
