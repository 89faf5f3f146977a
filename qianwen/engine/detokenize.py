"""Token ids → text of a stream, and the search for stop strings.

Tokens are bytes, and a character may span several tokens. An incomplete character is held back, not sent as U+FFFD.
Text that may be the start of a stop string is held back too, so the concatenated pieces are exactly the final text.
Control tokens (defined in `tokenizer/vocab.py`) have no text. Tags such as <tool_call> have text, also where a
vocabulary has one id for them.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from qianwen.tokenizer.tokenizer import Tokenizer


class StopStrings:
    """The stop strings of a request, prepared once for all its answers."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self.max_len = max(map(len, texts), default=0)
        self._beginnings = {text[:size] for text in texts for size in range(1, len(text))}

    def find(self, text: str, start: int) -> int:
        """Position of the first stop string at or after `start`; -1 if there is none."""
        return min((at for stop in self.texts if (at := text.find(stop, start)) >= 0), default=-1)

    def held_len(self, text: str) -> int:
        """Length of the longest end of `text` that is also the start of a stop string."""
        longest = min(self.max_len - 1, len(text))
        return next((size for size in range(longest, 0, -1) if text[-size:] in self._beginnings), 0)


class Detokenizer:
    """Decodes the tokens of one sequence to pieces of text."""

    def __init__(self, tokenizer: Tokenizer, stop: StopStrings) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.is_stopped = False  # the text contains a stop string; it and all text after it are dropped

    def add(self, token: int) -> str:
        """Decode one token; returns the text that cannot change any more."""
        is_control = token in self._tokenizer.control_ids
        return self._release("" if is_control else self._decoder.decode(self._tokenizer.token_bytes(token)))

    def finish(self) -> str:
        """End of the sequence; returns the text that was held back."""
        text = self._release(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        return text if self.is_stopped else text + held

    def _release(self, text: str) -> str:
        if self.is_stopped:
            return ""
        text = self._held + text
        at = self._stop.find(text, 0) if self._stop.texts else -1
        if at >= 0:
            self.is_stopped, self._held = True, ""
            return text[:at]
        cut = len(text) - self._stop.held_len(text) if self._stop.texts else len(text)
        self._held = text[cut:]
        return text[:cut]
