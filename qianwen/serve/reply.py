"""Turn deltas and engine outputs into the choices of an OpenAI answer.

A streamed answer sends each piece; an unstreamed answer folds the same pieces into one object. So both have the same
text, tool calls, log-probabilities and finish reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from qianwen.chat.messages import ToolCall
from qianwen.chat.model import Delta
from qianwen.engine.chat_run import DeltaReader
from qianwen.engine.llm_engine import Output
from qianwen.engine.sampling import TokenLogprob
from qianwen.tokenizer.tokenizer import Tokenizer

Piece = dict[str, Any]  # one entry of `choices`, as a stream sends it


class ChatChoice:
    """One choice of a chat completion, built piece by piece.

    `legacy` writes a call in the form of the older `functions`; `one_call` drops all calls except the first.
    """

    def __init__(self, index: int, tokenizer: Tokenizer, reader: DeltaReader, *, legacy: bool, one_call: bool):
        self.index, self.legacy, self.one_call = index, legacy, one_call
        self._tokenizer, self._reader = tokenizer, reader
        self._num_calls = 0

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

    def __init__(self, index: int, tokenizer: Tokenizer, echo: Sequence[int] | None, num_top: int | None) -> None:
        self.index, self.num_top = index, num_top
        self._tokenizer, self._echo = tokenizer, echo
        self._send_at_end = echo is not None and num_top is not None
        self._text = "" if echo is None else tokenizer.decode(echo)
        self._entries: list[TokenLogprob] = []
        self._offset = 0

    def feed(self, output: Output, refusal: str | None = None) -> list[Piece]:
        """At most one piece. The text format has no field for `refusal`, so it is ignored."""
        self._text += output.text
        self._entries += output.logprobs
        if not output.finish_reason and (self._send_at_end or not (self._text or self._entries)):
            return []
        logprobs = None
        if self.num_top is not None:
            logprobs = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
            if self._echo is not None:
                self._append(logprobs, self._echo[0], None)
                self._entries[:0] = output.prompt_logprobs
            for entry in self._entries:
                self._append(logprobs, entry.token, entry)
        piece = {"index": self.index, "text": self._text, "logprobs": logprobs, "finish_reason": output.finish_reason}
        self._text, self._entries, self._echo = "", [], None
        return [piece]

    def _append(self, logprobs: dict[str, list], token: int, entry: TokenLogprob | None) -> None:
        text = self._token_text(token)
        logprobs["tokens"].append(text)
        logprobs["token_logprobs"].append(entry.logprob if entry else None)
        top = entry.top[: self.num_top] if entry else ()
        logprobs["top_logprobs"].append({self._token_text(t): logprob for t, logprob in top} if entry else None)
        logprobs["text_offset"].append(self._offset)
        self._offset += len(text)

    def _token_text(self, token: int) -> str:
        return self._tokenizer.token_bytes(token).decode("utf-8", "replace")


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
