"""An answer that the model goes on with: its ids behind the prompt.

A prompt ends where the answer begins, or behind an open <think>. So the thoughts come first, with the tags that the
model would have written itself, and the text after them. Text never becomes a tag: only the tags of this module are
special tokens, where the vocabulary has such tokens.
"""

from __future__ import annotations

from itertools import groupby

from qianwen.chat.messages import Message
from qianwen.chat.render import ChatFormat
from qianwen.chat.thoughts import CLOSE, OPEN
from qianwen.tokenizer.tokenizer import Tokenizer


def begun_ids(answer: Message, tokenizer: Tokenizer, *, is_thinking: bool) -> list[int]:
    """The ids of the thoughts and the text of `answer`. `is_thinking`: the prompt has the opening tag already.

    Thoughts of another model are left out if this one does not think.
    """
    parts: list[tuple[str, bool]] = []  # text, and whether it is a tag
    if ChatFormat(tokenizer).has_thoughts and (answer.reasoning_content or is_thinking):
        parts = [] if is_thinking else [(OPEN, True), ("\n", False)]
        parts.append((answer.reasoning_content, False))
        if answer.text:
            parts += [("\n", False), (CLOSE, True), ("\n\n", False)]
    special = tokenizer.special_tokens
    ids: list[int] = []
    for is_token, group in groupby([*parts, (answer.text, False)], key=lambda part: part[1] and part[0] in special):
        texts = [text for text, _ in group]
        ids += [special[text] for text in texts] if is_token else tokenizer.encode("".join(texts))
    return ids
