"""Calls without tags: a reply that is nothing but JSON, alone or in a fence, and that calls an offered function.

    {"name": "weather", "arguments": {"city": "Paris"}}          also as a list, and several objects one after another
    ```json
    {"name": "weather", "arguments": {"city": "Paris"}}
    ```

Small models write calls in this way even if they were asked for tags, and for Llama 3 it is the format (with
`parameters`). A call must name a function of the request, and its arguments must satisfy its schema: any other JSON is
an answer. The text is held back only while it may still become such a call.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import regex

from qianwen.chat.json_schema import satisfies
from qianwen.chat.messages import FunctionSpec, ToolCall
from qianwen.chat.model import Delta

FENCE = "```"
KEYS = ("name", "arguments", "parameters", "type", "function", "id")


class BareCallReader:
    """Reads the start of a reply. It passes the text on as soon as it cannot be a call; see `is_passing`."""

    def __init__(self, functions: Sequence[FunctionSpec]) -> None:
        self._schemas = {function.name: function.parameters for function in functions}
        self._start = _start_pattern(self._schemas)
        self._buffer, self._has_started = "", False
        self._scan = _Scan()
        self.is_passing = False

    def feed(self, text: str) -> list[Delta]:
        """The text, once it is certain that this is not a call."""
        if self.is_passing:
            return [Delta(text=text)] if text else []
        self._buffer += text
        if self._may_be_call(text):
            return []
        return self._pass()

    def finish(self) -> list[Delta]:
        """The calls, if the reply is calls and nothing else; else its text."""
        if self.is_passing:
            return []
        calls = self._calls()
        return [Delta(tool_calls=(call,)) for call in calls] if calls else self._pass()

    def _pass(self) -> list[Delta]:
        self.is_passing = True
        text, self._buffer = self._buffer, ""
        return [Delta(text=text)] if text else []

    def _may_be_call(self, text: str) -> bool:
        if not self._scan.feed(text):
            return False
        if not self._has_started:
            match = self._start.fullmatch(self._buffer, partial=True)
            if match is None:
                return False
            self._has_started = not match.partial
        return True

    def _calls(self) -> list[ToolCall]:
        text = _without_fence(self._buffer)
        values, decoder, place = [], json.JSONDecoder(strict=False), 0
        try:
            while place < len(text):
                value, place = decoder.raw_decode(text, place)
                values += value if isinstance(value, list) else [value]
                place += len(text[place:]) - len(text[place:].lstrip())
        except (ValueError, RecursionError):
            return []
        calls = [self._call(value) for value in values]
        return [call for call in calls if call is not None] if None not in calls else []

    def _call(self, value: Any) -> ToolCall | None:
        if isinstance(value, dict) and isinstance(value.get("function"), dict):
            value = value["function"]  # {"type": "function", "function": {"name": …}}
        if not isinstance(value, dict) or not isinstance(value.get("name"), str) or value["name"] not in self._schemas:
            return None
        arguments = value.get("arguments", value.get("parameters", {}))
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments, strict=False)
            except (ValueError, RecursionError):
                return None
        if not isinstance(arguments, dict) or not satisfies(arguments, self._schemas[value["name"]]):
            return None
        return ToolCall(value["name"], json.dumps(arguments, ensure_ascii=False))


def _start_pattern(names: dict[str, Any]) -> regex.Pattern[str]:
    """A reply that may be a call, from its start to the first name; partial matches are those that may become one."""
    offered = "|".join(regex.escape(name) for name in names)
    after = rf'(?:"name"\s*:\s*"(?:{offered})"|"(?:{"|".join(key for key in KEYS if key != "name")})"\s*:)'
    return regex.compile(rf"\s*(?:```\w*\s*)?(?:\[\s*)?\{{\s*{after}.*", regex.DOTALL)


def _without_fence(text: str) -> str:
    text = text.strip()
    if not text.startswith(FENCE):
        return text
    return regex.sub(r"\A```\w*\s*|\s*```\Z", "", text)


class _Scan:
    """Follows brackets and strings, so that text after the JSON is noticed when it comes."""

    def __init__(self) -> None:
        self._depth = 0
        self._has_json = self._in_string = self._is_escaped = False

    def feed(self, text: str) -> bool:
        """Whether what stands after a complete value so far is only blanks, a fence or another value."""
        for char in text:
            if self._in_string:
                self._in_string = self._is_escaped or char != '"'
                self._is_escaped = char == "\\" and not self._is_escaped
            elif char in "{[":
                self._depth, self._has_json = self._depth + 1, True
            elif char in "}]":
                self._depth -= 1
            elif self._depth > 0:
                self._in_string = char == '"'
            elif self._has_json and not (char.isspace() or char == "`"):
                return False
        return True
