"""`LLM`: a model and its tokenizer, for batch generation and streaming, from any number of threads.

>>> llm = LLM(model, tokenizer)
>>> llm.generate(["法国的首都是"], SamplingParams(temperature=0, max_tokens=8))[0].text
>>> for delta in llm.chat([Message("user", "你好")]):
...     print(delta.text, end="")

It implements `ChatModel`. There is no background thread: of the threads that wait for an output, one runs the steps of
the engine, which serve all requests (`engine/shared_engine.py`). Leaving a stream early cancels its request.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qianwen.chat.functions import FunctionFormat
from qianwen.chat.messages import FunctionSpec, Message
from qianwen.chat.model import Delta, FinishReason, ResponseFormat, ToolChoice, Usage, check_sampling_names
from qianwen.chat.render import FUNCTION_STYLE
from qianwen.checkpoints.adapter_folder import is_adapter
from qianwen.checkpoints.load import Bits, find_model, load_model
from qianwen.checkpoints.recommended_sampling import Recommended
from qianwen.engine.chat_run import ChatRun
from qianwen.engine.llm_engine import EngineConfig, LLMEngine, Output
from qianwen.engine.request import DEFAULT_CONTEXT, Context, Pooling, Request
from qianwen.engine.sampling import TokenLogprob
from qianwen.engine.sampling_params import SamplingParams
from qianwen.engine.shared_engine import SharedEngine
from qianwen.model.long_context import AS_CONFIGURED, LongContext, layer_windows
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError, RequestError
from qianwen.runtime.log import notices
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer


@dataclass
class CompletionOutput:
    """One finished answer."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None


@dataclass
class RequestOutput:
    """All answers to one prompt."""

    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    usage: Usage
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    embedding: np.ndarray | None = None

    @property
    def text(self) -> str:
        """Text of the first answer."""
        return self.outputs[0].text

    def add(self, output: Output) -> None:
        """Add the output of one step."""
        answer = self.outputs[output.index]
        answer.text += output.text
        answer.token_ids += output.token_ids
        answer.logprobs += output.logprobs
        answer.finish_reason = output.finish_reason
        self.prompt_logprobs += output.prompt_logprobs
        self.embedding = output.embedding if self.embedding is None else self.embedding
        completion = sum(len(each.token_ids) for each in self.outputs)
        self.usage = Usage(output.usage.prompt_tokens, completion, output.usage.cached_tokens)


class LLM:
    """A model that answers prompts and chats: `generate`, `stream`, `chat`.

    `defaults` are the sampling parameters of requests that set none. An answer ends at a token of `end_ids` or at a
    control token of ChatML. `is_chat`: whether the model was trained to answer, not only pretrained.
    """

    def __init__(
        self,
        model: Qwen,
        tokenizer: Tokenizer,
        config: EngineConfig | None = None,
        *,
        defaults: SamplingParams | None = None,
        draft_model: Qwen | None = None,
        end_ids: Iterable[int] = (),
        name: str = "qianwen",
        is_chat: bool = True,
    ) -> None:
        self.tokenizer, self.name, self.is_chat = tokenizer, name, is_chat
        self.defaults = defaults or SamplingParams()
        self.recommended = Recommended()
        self.engine = LLMEngine(model, tokenizer, config, draft_model, end_ids)
        self.shared = SharedEngine(self.engine)

    @classmethod
    def load(
        cls, name: str, *, bits: Bits = "stored", windows: Sequence[int] = (), config: EngineConfig | None = None
    ) -> LLM:
        """Load a folder, GGUF file, run or hub id, with the sampling parameters that its author recommends.

        `bits` is the argument of `load_model`; by default the weights have as many bits as on disk. `windows` replaces
        the model's attention windows, in tokens from low to high layers, 0: all tokens; see `layer_windows`.
        """
        loaded = load_model(name, bits=bits)
        if windows:
            each = layer_windows(loaded.config.num_hidden_layers, list(windows))
            loaded.model.config = dataclasses.replace(loaded.config, layer_windows=each)
        llm = cls(
            loaded.model,
            loaded.tokenizer,
            config,
            defaults=SamplingParams(**loaded.sampling.sampling),
            end_ids=loaded.generation["eos_token_id"],
            name=loaded.name,
            is_chat=loaded.chat,
        )
        llm.recommended = loaded.sampling
        if llm.engine.context_note:
            notices.print(llm.engine.context_note, style="yellow", markup=False)
        return llm

    def add_adapter(self, name: str, folder: str) -> None:
        """Load the adapter in `folder` (a folder, a run or a hub id), so that requests can use it under `name`."""
        path = find_model(folder)
        if not is_adapter(path):
            raise ConfigError(tr("{path} is not an adapter folder: it has no adapter_config.json", path=path))
        self.engine.add_adapter(name, path)

    def generate(
        self,
        prompts: Sequence[str] | Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        context: Context = DEFAULT_CONTEXT,
        extension: LongContext | None = None,
    ) -> list[RequestOutput]:
        """Answer all prompts (texts or token ids) together; returns the results in order. `params`: one, or a list.

        `extension`: how prompts beyond the trained length are read; None: as the engine is configured.
        """
        params_list = [params or self.defaults] * len(prompts) if not isinstance(params, Sequence) else params
        streams = [
            self.stream(prompt, each, context=context, extension=extension)
            for prompt, each in zip(prompts, params_list, strict=True)
        ]
        return [stream.result() for stream in streams]

    def stream(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams | None = None,
        *,
        context: Context = DEFAULT_CONTEXT,
        extension: LongContext | None = None,
        score_from: int | None = None,
        pooling: Pooling | None = None,
    ) -> Stream:
        """Queue a request now. Iterate over the stream, or call its `result`. The arguments are those of `Request`."""
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        if extension is None:  # a context with a rotation leaves nothing to choose
            extension = AS_CONFIGURED if context.rope else self.engine.config.extension
        request = Request(tuple(ids), params or self.defaults, context, score_from, pooling, extension)
        return Stream(self.shared, self.shared.add(request), ids, request.params.n)

    def chat(
        self,
        messages: Sequence[Message],
        functions: Sequence[FunctionSpec] = (),
        *,
        tool_choice: ToolChoice = "auto",
        response_format: ResponseFormat = None,
        stop: Sequence[str] = (),
        thinking: bool | None = None,
        extension: LongContext | None = None,
        function_style: FunctionFormat | None = None,
        **sampling: Any,
    ) -> Iterator[Delta]:
        """Stream the assistant's reply; `sampling` are fields of `SamplingParams` that replace the defaults.

        `thinking` turns the thoughts of a model on and off; None leaves it to the model's chat template. `extension` is
        the argument of `generate`. `function_style` chooses how functions and calls are written; None leaves it to the
        vocabulary and the chat template.
        """
        run = ChatRun(
            self.tokenizer,
            messages,
            functions,
            tool_choice=tool_choice,
            response_format=response_format,
            stop=stop,
            thinking=thinking,
            template_variables={} if function_style is None else {FUNCTION_STYLE: function_style},
        )
        params = run.params(self.params(thinking, **sampling))
        if params.n != 1:
            message = "n = {n} is not possible: chat streams one answer; use `generate` for several"
            raise RequestError(tr(message, n=params.n), param="n")
        return run.deltas(self.stream(run.prompt_ids, params, extension=extension))

    def params(self, thinking: bool | None = None, /, **sampling: Any) -> SamplingParams:
        """The default parameters with these fields replaced. RequestError for an unknown field."""
        check_sampling_names(sampling, [field.name for field in dataclasses.fields(SamplingParams)])
        return dataclasses.replace(defaults_for(thinking, self.defaults, self.recommended), **sampling)

    def clear_cache(self) -> None:
        """Drop all cached prompts, as after a change of the weights."""
        self.shared.reset()

    def cancel_all(self) -> None:
        """Cancel all requests. Threads that wait for one get a RequestError."""
        self.shared.close_all()


class Stream:
    """Iterates over the outputs of one request. Closing or deleting the stream cancels the rest of the request."""

    def __init__(self, shared: SharedEngine, request_id: str, prompt_ids: list[int], num_answers: int) -> None:
        self._shared, self.request_id, self.prompt_ids = shared, request_id, prompt_ids
        self._num_answers = self._num_open = num_answers

    def __iter__(self) -> Iterator[Output]:
        try:
            while self._num_open:
                output = self._shared.next(self.request_id)
                self._num_open -= output.finish_reason is not None
                yield output
        finally:
            self.close()

    def result(self) -> RequestOutput:
        """Wait for the end of the request and return all its outputs together."""
        answers = [CompletionOutput(index) for index in range(self._num_answers)]
        result = RequestOutput(self.prompt_ids, answers, Usage(len(self.prompt_ids), 0))
        for output in self:
            result.add(output)
        return result

    def close(self) -> None:
        """Cancel the rest of the request and free its blocks."""
        self._num_open = 0
        self._shared.close(self.request_id)

    def __del__(self) -> None:
        self.close()


def defaults_for(thinking: bool | None, defaults: SamplingParams, recommended: Recommended) -> SamplingParams:
    """`defaults`; if thinking is off, with the values recommended then, except where the user chose another value."""
    if thinking is not False:
        return defaults
    usual = SamplingParams(**recommended.sampling)
    values = recommended.without_thinking.items()
    changed = {name: value for name, value in values if getattr(defaults, name) == getattr(usual, name)}
    return dataclasses.replace(defaults, **changed)
