"""One chat request: conversation → prompt ids and sampling parameters; outputs of the engine → deltas.

    messages, functions ── ChatRun ──> prompt_ids, params ── engine ──> Output ── DeltaReader ──> Delta

`LLM.chat` and the server's `/v1/chat/completions` both use it, so the same request has the same prompt, the same
grammar, the same tool calls and the same finish reason in both. The format of a response is in `serve/reply.py`, and
requests to a model on another machine are in `chat/client.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from qianwen.chat.chatml import render
from qianwen.chat.functions import ReActCallReader, ToolCallReader, call_reader, function_format, function_stop
from qianwen.chat.messages import FunctionSpec, Message
from qianwen.chat.model import (
    Delta,
    ResponseFormat,
    ToolChoice,
    check_response_format,
    finish_reason_after,
    forced_functions,
)
from qianwen.engine.constrain import Grammar, call_grammar, json_grammar
from qianwen.engine.llm_engine import Output
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer


class ChatRun:
    """A rendered conversation and the required format of its answer. The options are those of `ChatModel.chat`."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        functions: Sequence[FunctionSpec] = (),
        *,
        tool_choice: ToolChoice = "auto",
        response_format: ResponseFormat = None,
        stop: Sequence[str] = (),
    ) -> None:
        check_response_format(response_format)
        self._forced = forced_functions(functions, tool_choice)
        self._functions = () if tool_choice == "none" else tuple(functions)
        self._tokenizer, self._messages, self._response_format = tokenizer, messages, response_format
        self._stop = (stop,) if isinstance(stop, str) else tuple(stop)
        self._style = function_format(tokenizer)
        self.prompt_ids = render(
            messages, tokenizer, functions=self._functions, style=self._style, add_generation_prompt=True
        ).ids

    def params(self, sampling: SamplingParams) -> SamplingParams:
        """`sampling` with the stop strings and the grammar of this request. RequestError if there are two grammars."""
        grammar = self._grammar()
        if grammar is not None and sampling.grammar is not None:
            message = "a grammar cannot be combined with response_format or a forced tool call"
            raise RequestError(tr(message), param="grammar")
        format_stop = function_stop(self._style) if self._functions else ()
        return replace(
            sampling, stop=(*(self._stop or sampling.stop), *format_stop), grammar=grammar or sampling.grammar
        )

    def reader(self) -> DeltaReader:
        """A reader for one answer to this request."""
        return DeltaReader(call_reader(self._style, self._messages) if self._functions else None)

    def deltas(self, outputs: Iterable[Output]) -> Iterator[Delta]:
        """The outputs of one answer as deltas."""
        reader = self.reader()
        for output in outputs:
            yield from reader.feed(output)

    def _grammar(self) -> Grammar | None:
        if self._forced:
            if self._response_format is not None:
                message = "response_format cannot be combined with a forced tool call"
                raise RequestError(tr(message), param="response_format")
            return call_grammar(self._tokenizer, self._forced, self._style)
        if self._response_format is None:
            return None
        if self._functions:
            message = "response_format with tools needs tool_choice 'none'"
            raise RequestError(tr(message), param="response_format")
        schema = None if isinstance(self._response_format, str) else dict(self._response_format)
        return json_grammar(self._tokenizer, schema)


class DeltaReader:
    """Turns the outputs of one answer into deltas and parses tool calls. The last delta has finish reason and usage."""

    def __init__(self, calls: ToolCallReader | ReActCallReader | None) -> None:
        """`calls` parses tool calls. It is None if the request has no functions; then all text is content."""
        self._calls = calls
        self._has_calls = False

    def feed(self, output: Output) -> list[Delta]:
        """The deltas that this output completes; text that may belong to a tool call is held back."""
        if self._calls is None:
            deltas = [Delta(text=output.text)] if output.text else []
        else:
            deltas = self._calls.feed(output.text)
            if output.finish_reason:
                deltas += self._calls.finish()
        self._has_calls = self._has_calls or any(delta.tool_calls for delta in deltas)
        if output.finish_reason:
            reason = finish_reason_after(output.finish_reason, self._has_calls)
            deltas.append(Delta(finish_reason=reason, usage=output.usage))
        return deltas
