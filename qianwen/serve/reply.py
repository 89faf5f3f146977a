"""Turn deltas and engine outputs into the choices of an OpenAI answer.

A streamed answer sends each piece; an unstreamed answer folds the same pieces into one object. So both have the same
text, tool calls, log-probabilities and finish reason.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import Any

from qianwen.chat.messages import ToolCall
from qianwen.chat.model import Delta
from qianwen.engine.chat_run import DeltaReader
from qianwen.engine.llm_engine import Output
from qianwen.engine.sampling import TokenLogprob
from qianwen.tokenizer.tokenizer import Tokenizer

Piece = dict[str, Any]  # one entry of `choices`, as a stream sends it
Row = tuple[int, TokenLogprob | None, int]  # a token, its log-probability (None: the first), its place in the text


class ChatChoice:
    """One choice of a chat completion, built piece by piece.

    `legacy` writes a call in the form of the older `functions`; `one_call` drops all calls except the first.
    """

    def __init__(self, index: int, tokenizer: Tokenizer, reader: DeltaReader, *, legacy: bool, one_call: bool):
        self.index, self.legacy, self.one_call = index, legacy, one_call
        self._tokenizer, self._reader = tokenizer, reader
        self._num_calls = 0

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of thoughts so far."""
        return self._reader.reasoning_tokens

    def opening(self) -> Piece:
        return self._piece({"role": "assistant", "content": ""})

    def feed(self, output: Output, refusal: str | None = None) -> list[Piece]:
        """Pieces for a stream. The last one has the finish reason, and `refusal` if the guard refused the answer."""
        deltas = self._reader.feed(output)
        last = deltas.pop() if output.finish_reason else None
        pieces = [piece for delta in deltas for piece in self._content(delta)]
        if output.logprobs:
            if not pieces:
                pieces.append(self._piece({}))
            entries = [chat_logprob(entry, self._tokenizer) for entry in output.logprobs]
            pieces[0]["logprobs"] = {"content": entries, "refusal": None}
        if last is not None:
            is_legacy_call = self.legacy and last.finish_reason == "tool_calls"
            reason = "function_call" if is_legacy_call else last.finish_reason
            pieces.append(self._piece({} if refusal is None else {"refusal": refusal}, reason))
        return pieces

    def _content(self, delta: Delta) -> list[Piece]:
        pieces = [self._piece({"reasoning_content": delta.reasoning})] if delta.reasoning else []
        pieces += [self._piece({"content": delta.text})] if delta.text else []
        for call in delta.tool_calls:
            if self._num_calls and (self.one_call or self.legacy):
                break
            pieces.append(self._piece(self._call(call)))
            self._num_calls += 1
        return pieces

    def _call(self, call: ToolCall) -> dict[str, Any]:
        function = {"name": call.name, "arguments": call.arguments}
        if self.legacy:
            return {"function_call": function}
        entry = {"index": self._num_calls, "id": call.id, "type": "function", "function": function}
        return {"tool_calls": [entry]}

    def _piece(self, delta: dict[str, Any], reason: str | None = None) -> Piece:
        return {"index": self.index, "delta": delta, "logprobs": None, "finish_reason": reason}


def fold_chat(pieces: Iterable[Piece]) -> list[dict[str, Any]]:
    """Join the pieces of a chat stream into its choices, in order of index."""
    choices: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        message = {"role": "assistant", "content": None, "refusal": None}
        empty = {"index": piece["index"], "message": message, "logprobs": None, "finish_reason": None}
        choice = choices.setdefault(piece["index"], empty)
        message, delta = choice["message"], piece["delta"]
        if delta.get("content"):
            message["content"] = (message["content"] or "") + delta["content"]
        if delta.get("reasoning_content"):
            message["reasoning_content"] = message.get("reasoning_content", "") + delta["reasoning_content"]
        if "refusal" in delta:
            message["refusal"] = delta["refusal"]
        if "function_call" in delta:
            message["function_call"] = delta["function_call"]
        for call in delta.get("tool_calls", ()):
            message.setdefault("tool_calls", []).append({key: call[key] for key in ("id", "type", "function")})
        if piece["logprobs"]:
            logprobs = choice["logprobs"] = choice["logprobs"] or {"content": [], "refusal": None}
            logprobs["content"] += piece["logprobs"]["content"]
        choice["finish_reason"] = piece["finish_reason"] or choice["finish_reason"]
    for choice in choices.values():
        message = choice["message"]
        if message["content"] is None and not message.keys() & {"tool_calls", "function_call"}:
            message["content"] = ""
    return [choices[index] for index in sorted(choices)]


def chat_logprob(entry: TokenLogprob, tokenizer: Tokenizer) -> dict[str, Any]:
    """The log-probabilities of one token in the form of OpenAI's chat API."""

    def token_entry(token: int, logprob: float) -> dict[str, Any]:
        data = tokenizer.token_bytes(token)
        return {"token": data.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(data)}

    top = [token_entry(token, logprob) for token, logprob in entry.top]
    return {**token_entry(entry.token, entry.logprob), "top_logprobs": top}


class TextChoice:
    """One choice of a text completion, built piece by piece. `echo` is the prompt, to be repeated before the answer.

    The log-probabilities of a prompt are complete only at the end, so an echo with log-probabilities is one piece.
    """

    reasoning_tokens = 0  # a text is not divided into thoughts and answer

    def __init__(self, index: int, tokenizer: Tokenizer, echo: Sequence[int] | None, num_top: int | None) -> None:
        self.index, self.num_top = index, num_top
        self._tokenizer, self._echo = tokenizer, echo
        self._send_at_end = echo is not None and num_top is not None
        self._text = "" if echo is None else tokenizer.decode(echo)
        self._entries: list[TokenLogprob] = []
        self._held: list[Row] = []  # rows whose text is not sent yet: it may be the start of a stop string
        self._offsets = _Offsets(tokenizer, is_answer=echo is None)
        self._num_sent = 0  # characters in the pieces so far

    def feed(self, output: Output, refusal: str | None = None) -> list[Piece]:
        """At most one piece. The text format has no field for `refusal`, so it is ignored."""
        is_last = output.finish_reason is not None
        self._text += output.text
        self._entries += output.logprobs
        if not is_last and (self._send_at_end or not self._text):
            return []
        self._num_sent += len(self._text)
        logprobs = None if self.num_top is None else self._logprobs(output, is_last)
        piece = {"index": self.index, "text": self._text, "logprobs": logprobs, "finish_reason": output.finish_reason}
        self._text = ""
        return [piece]

    def _logprobs(self, output: Output, is_last: bool) -> dict[str, list]:
        """The numbers of the tokens whose text is sent; at the end of all, those of a stop string too."""
        rows, self._held = self._held, []
        if self._echo is not None:
            prompt = [(self._echo[0], None), *((entry.token, entry) for entry in output.prompt_logprobs)]
            rows += [(token, entry, self._offsets.next(token)) for token, entry in prompt]
            self._offsets.start_answer(self._tokenizer.decode(self._echo))
            self._echo = None
        rows += [(entry.token, entry, self._offsets.next(entry.token)) for entry in self._entries]
        self._entries = []
        if not is_last:
            count = next((n for n, (_, _, offset) in enumerate(rows) if offset >= self._num_sent), len(rows))
            rows, self._held = rows[:count], rows[count:]
        return {
            "tokens": [self._token_text(token) for token, _, _ in rows],
            "token_logprobs": [entry.logprob if entry else None for _, entry, _ in rows],
            "top_logprobs": [self._top(entry) if entry else None for _, entry, _ in rows],
            "text_offset": [min(offset, self._num_sent) for _, _, offset in rows],
        }

    def _top(self, entry: TokenLogprob) -> dict[str, float]:
        return {self._token_text(token): logprob for token, logprob in entry.top[: self.num_top]}

    def _token_text(self, token: int) -> str:
        return self._tokenizer.token_bytes(token).decode("utf-8", "replace")


class _Offsets:
    """Where in the text each token begins. Tokens are bytes: several may form one character, or one have no text."""

    def __init__(self, tokenizer: Tokenizer, *, is_answer: bool) -> None:
        self._tokenizer, self._is_answer = tokenizer, is_answer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._num_chars = 0

    def next(self, token: int) -> int:
        """The place of the character that the token begins or continues."""
        if self._is_answer and token in self._tokenizer.control_ids:
            return self._num_chars
        data = self._tokenizer.token_bytes(token)
        start = self._num_chars + self._ends_character(data)
        self._num_chars += len(self._decoder.decode(data))
        return start

    def _ends_character(self, data: bytes) -> bool:
        """Whether the bytes so far are an incomplete character that `data` does not continue; it becomes U+FFFD."""
        pending = self._decoder.getstate()[0]
        if not pending or not data:
            return False
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(pending + data[:1])
        continues = not text or (len(text) == 1 and not decoder.getstate()[0])
        return not continues or text == "\ufffd"

    def start_answer(self, prompt: str) -> None:
        """After the prompt the text goes on with a new character, and control tokens have no text any more."""
        self._decoder.reset()
        self._num_chars, self._is_answer = len(prompt), True


def fold_text(pieces: Iterable[Piece]) -> list[dict[str, Any]]:
    """Join the pieces of a text stream into its choices, in order of index."""
    choices: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        choice = choices.get(piece["index"])
        if choice is None:
            choices[piece["index"]] = dict(piece)
            continue
        choice["text"] += piece["text"]
        choice["finish_reason"] = piece["finish_reason"]
        if piece["logprobs"] is not None:
            choice["logprobs"] = {key: choice["logprobs"][key] + piece["logprobs"][key] for key in piece["logprobs"]}
    return [choices[index] for index in sorted(choices)]
