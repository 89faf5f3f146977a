"""One chat request: conversation → prompt ids and sampling parameters; outputs of the engine → deltas.

    messages, functions ── ChatRun ──> prompt_ids, params ── engine ──> Output ── DeltaReader ──> Delta

`LLM.chat` and the server's `/v1/chat/completions` both use it, so the same request has the same prompt, the same
grammar, the same tool calls and the same finish reason in both. The format of a response is in `serve/reply.py`, and
requests to a model on another machine are in `chat/client.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from qianwen.chat.begun_answer import begun_ids
from qianwen.chat.functions import CallReader, call_reader, function_stop
from qianwen.chat.messages import FunctionSpec, Message
from qianwen.chat.model import (
    Delta,
    ResponseFormat,
    ToolChoice,
    check_response_format,
    finish_reason_after,
    forced_functions,
)
from qianwen.chat.render import FUNCTION_STYLE, ChatFormat, render
from qianwen.chat.thoughts import ThoughtReader
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
        thinking: bool | None = None,
        template_variables: Mapping[str, Any] | None = None,
    ) -> None:
        check_response_format(response_format)
        self._forced = forced_functions(functions, tool_choice)
        self._functions = () if tool_choice == "none" else tuple(functions)
        self._tokenizer, self._messages, self._response_format = tokenizer, messages, response_format
        self._stop = (stop,) if isinstance(stop, str) else tuple(stop)
        self._format = ChatFormat(tokenizer)
        self._style = self._format.functions(chosen=_chosen_style(template_variables, functions))
        prompt = render(
            messages,
            tokenizer,
            functions=self._functions,
            add_generation_prompt=True,
            thinking=thinking,
            variables=template_variables,
        )
        self.prompt_ids, self._is_thinking, self._is_begun = prompt.ids, prompt.is_thinking, False

    def begin_with(self, answer: Message) -> None:
        """Let the model go on with the start of its answer: thoughts, text or both."""
        self.prompt_ids = self.prompt_ids + begun_ids(answer, self._tokenizer, is_thinking=self._is_thinking)
        self._is_thinking, self._is_begun = self._format.has_thoughts and not answer.text, True

    def params(self, sampling: SamplingParams) -> SamplingParams:
        """`sampling` with the stop strings and the grammar of this request. RequestError if there are two grammars."""
        grammar = self._grammar()
        if grammar is not None and sampling.grammar is not None:
            message = "a grammar cannot be combined with response_format or a forced tool call"
            raise RequestError(tr(message), param="grammar")
        format_stop = function_stop(self._style) if self._functions else ()
        return replace(
            sampling,
            stop=(*(self._stop or sampling.stop), *format_stop),
            stop_token_ids=(*sampling.stop_token_ids, *(() if sampling.ignore_eos else self._format.end_ids)),
            grammar=grammar or sampling.grammar,
        )

    def reader(self) -> DeltaReader:
        """A reader for one answer to this request."""
        is_free = not self._forced and self._response_format is None  # a grammar leaves no room for thoughts
        thoughts = None
        if self._format.has_thoughts and is_free:
            thoughts = ThoughtReader(self._is_thinking, is_begun=self._is_begun)
        calls = call_reader(self._style, self._messages, self._functions) if self._functions else None
        return DeltaReader(calls, thoughts)

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


def _chosen_style(variables: Mapping[str, Any] | None, functions: Sequence[FunctionSpec]) -> object:
    """The style of functions that a request chose, if it did."""
    chosen = (variables or {}).get(FUNCTION_STYLE)
    if chosen is not None and not functions:
        message = "function_style is the format of functions, and this request has none; add functions or leave it out"
        raise RequestError(tr(message), param=FUNCTION_STYLE)
    return chosen


class DeltaReader:
    """Turns the outputs of one answer into deltas: thoughts, text, tool calls. The last has finish reason and usage."""

    def __init__(self, calls: CallReader | None, thoughts: ThoughtReader | None = None) -> None:
        """`calls` parses tool calls, `thoughts` the thoughts before an answer. Without either all text is content."""
        self._calls, self._thoughts = calls, thoughts
        self._has_calls = False
        self.reasoning_tokens = 0  # tokens of thoughts and of their tags so far

    def feed(self, output: Output) -> list[Delta]:
        """The deltas that this output completes; text that may belong to a tool call is held back."""
        is_last = output.finish_reason is not None
        deltas = [Delta(text=output.text)] if output.text else []
        if self._thoughts is not None:
            deltas = self._think(self._thoughts, output) + (self._thoughts.finish() if is_last else [])
        if self._calls is not None:
            calls = self._calls
            deltas = [new for delta in deltas for new in ([delta] if delta.reasoning else calls.feed(delta.text))]
            deltas += calls.finish() if is_last else []
        self._has_calls = self._has_calls or any(delta.tool_calls for delta in deltas)
        if output.finish_reason is not None:
            reason = finish_reason_after(output.finish_reason, self._has_calls)
            usage = replace(output.usage, reasoning_tokens=self.reasoning_tokens)
            deltas.append(Delta(finish_reason=reason, usage=usage))
        return deltas

    def _think(self, thoughts: ThoughtReader, output: Output) -> list[Delta]:
        """Split the text of an output, and count its tokens if the answer has not begun before it."""
        was_answering = thoughts.is_answering
        deltas = thoughts.feed(output.text)
        if not was_answering:
            self.reasoning_tokens += len(output.token_ids)
            if thoughts.is_answering and not thoughts.has_thoughts:
                self.reasoning_tokens = 0  # it began with the answer, which looked like the tag so far
        return deltas
