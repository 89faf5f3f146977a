"""The thoughts of a reply, read while it streams: `<think> … </think>`, then the answer.

However the text is split, the result is the same. Blanks around the tags belong to neither side.
"""

from __future__ import annotations

from qianwen.chat.model import Delta

OPEN, CLOSE = "<think>", "</think>"


class ThoughtReader:
    """Splits a reply into thoughts and answer. Without an opening tag at its start all of it is the answer.

    With `is_open` the prompt has the opening tag already, so the reply begins with thoughts. With `is_begun` it goes on
    with thoughts or an answer that has text already.
    """

    def __init__(self, is_open: bool = False, *, is_begun: bool = False) -> None:
        self._buffer = ""
        self.has_thoughts = is_open
        self._state = "thoughts" if is_open else "answer" if is_begun else "start"
        self._is_blank = not is_begun  # nothing of this part was sent yet

    @property
    def is_answering(self) -> bool:
        """Whether the thoughts have ended, or there were none."""
        return self._state == "answer"

    def feed(self, text: str) -> list[Delta]:
        """What no later text can change."""
        self._buffer += text
        if self._state == "start":
            begin = self._buffer.lstrip()
            if not begin.startswith(OPEN):
                if OPEN.startswith(begin):
                    return []
                self._state, self._is_blank = "answer", False  # a reply without thoughts keeps its first blanks
            else:
                self._state, self._buffer, self.has_thoughts = "thoughts", begin.removeprefix(OPEN), True
        if self._state == "answer":
            return self._answer()
        end = self._buffer.find(CLOSE)
        if end < 0:
            sure = len(self._buffer) - _overlap(self._buffer, CLOSE)
            return self._thoughts(len(self._buffer[:sure].rstrip()))
        deltas = self._thoughts(len(self._buffer[:end].rstrip()))
        self._buffer = self._buffer.lstrip().removeprefix(CLOSE)
        self._state, self._is_blank = "answer", True
        return deltas + self._answer()

    def finish(self) -> list[Delta]:
        """The text that was held back. Thoughts that have no end are thoughts."""
        if self._state == "thoughts":
            return self._thoughts(len(self._buffer.rstrip()))
        if self._state == "start":
            self._state, self._is_blank = "answer", False
        return self._answer()

    def _thoughts(self, length: int) -> list[Delta]:
        text, self._buffer = self._buffer[:length], self._buffer[length:]
        text = text.lstrip() if self._is_blank else text
        self._is_blank = self._is_blank and not text
        return [Delta(reasoning=text)] if text else []

    def _answer(self) -> list[Delta]:
        text = self._buffer.lstrip() if self._is_blank else self._buffer
        self._buffer = ""
        self._is_blank = self._is_blank and not text
        return [Delta(text=text)] if text else []


def _overlap(text: str, tag: str) -> int:
    """Length of the longest suffix of `text` that is a prefix of `tag`."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)
