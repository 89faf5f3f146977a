"""`LLM`: a model and a tokenizer that answer, offline or streaming, from any number of threads.

>>> llm = LLM(model, tokenizer)
>>> llm.generate(["法国的首都是"], SamplingParams(temperature=0, max_tokens=8))[0].text
>>> for delta in llm.chat([Message("user", "你好")]):
...     print(delta.text, end="")

It implements `ChatModel`. Whoever waits for the next piece of an answer runs the engine's next step, for everyone; the
others find their pieces in their queues. Leaving a stream early cancels its request.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qianwen.chat.messages import FunctionSpec, Message
from qianwen.chat.model import Delta, FinishReason, ResponseFormat, ToolChoice, Usage, check_sampling_names
from qianwen.checkpoints.adapter_folder import is_adapter
from qianwen.checkpoints.load import Bits, find_model, load_model
from qianwen.engine.chat_run import ChatRun
from qianwen.engine.llm_engine import EngineConfig, LLMEngine, Output
from qianwen.engine.sampling import TokenLogprob
from qianwen.engine.sampling_params import SamplingParams
from qianwen.engine.sequence import Pooling
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError, RequestError
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
        """The first answer's text."""
        return self.outputs[0].text

    def add(self, output: Output) -> None:
        """Take in what a step brought."""
        answer = self.outputs[output.index]
        answer.text += output.text
        answer.token_ids += output.token_ids
        answer.logprobs += output.logprobs
        answer.finish_reason = output.finish_reason
        self.prompt_logprobs += output.prompt_logprobs
        self.embedding = output.embedding if self.embedding is None else self.embedding
        completion = sum(len(other.token_ids) for other in self.outputs)
        self.usage = Usage(output.usage.prompt_tokens, completion, output.usage.cached_tokens)


class LLM:
    """`generate`, `stream`, `chat`.

    `defaults` are the sampling parameters of whoever names none; `end_ids` end an answer besides ChatML's own tokens.
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
    ) -> None:
        self.tokenizer, self.name = tokenizer, name
        self.defaults = defaults or SamplingParams()
        self.engine = LLMEngine(model, tokenizer, config, draft_model, end_ids)
        self._lock = threading.Lock()
        self._queues: dict[str, deque[Output]] = {}

    @classmethod
    def load(cls, name: str, *, bits: Bits = "stored", config: EngineConfig | None = None) -> LLM:
        """Load a folder, GGUF file, run or hub id, with the sampling its author recommends.

        `bits` as for `quantize.load.load_model`: by default as many as the weights have on disk.
        """
        loaded = load_model(name, bits=bits)
        return cls(
            loaded.model,
            loaded.tokenizer,
            config,
            defaults=_recommended(loaded.generation),
            end_ids=loaded.generation["eos_token_id"],
            name=loaded.name,
        )

    def add_adapter(self, name: str, folder: str) -> None:
        """Let requests name the adapter that `folder` (a folder, a run, a hub id) holds, over this model."""
        path = find_model(folder)
        if not is_adapter(path):
            raise ConfigError(tr("{path} is no adapter: it has no adapter_config.json", path=path))
        self.engine.add_adapter(name, path)

    def generate(
        self,
        prompts: Sequence[str] | Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        salt: str = "",
        adapter: str = "",
    ) -> list[RequestOutput]:
        """Answer all prompts together, texts or token ids, in their order; `params` for all or one for each."""
        each = [params or self.defaults] * len(prompts) if not isinstance(params, Sequence) else params
        streams = [
            self.stream(prompt, one, salt=salt, adapter=adapter) for prompt, one in zip(prompts, each, strict=True)
        ]
        return [stream.result() for stream in streams]

    def stream(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams | None = None,
        *,
        salt: str = "",
        score_from: int | None = None,
        adapter: str = "",
        pooling: Pooling | None = None,
    ) -> Stream:
        """Start a request at once; iterate over its pieces, or ask for its `result`."""
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        params = params or self.defaults
        with self._lock:
            request_id = self.engine.add_request(
                ids, params, salt=salt, score_from=score_from, adapter=adapter, pooling=pooling
            )
            self._queues[request_id] = deque()
        return Stream(self, request_id, ids, params.n)

    def chat(
        self,
        messages: Sequence[Message],
        functions: Sequence[FunctionSpec] = (),
        *,
        tool_choice: ToolChoice = "auto",
        response_format: ResponseFormat = None,
        stop: Sequence[str] = (),
        **sampling: Any,
    ) -> Iterator[Delta]:
        """Stream the assistant's reply; `sampling` are fields of `SamplingParams` that replace the defaults."""
        run = ChatRun(
            self.tokenizer, messages, functions, tool_choice=tool_choice, response_format=response_format, stop=stop
        )
        params = run.params(self.params(**sampling))
        if params.n != 1:
            raise RequestError(tr("chat streams one answer; n = {n} needs `generate`", n=params.n), param="n")
        return run.deltas(self.stream(run.prompt_ids, params))

    def params(self, **sampling: Any) -> SamplingParams:
        """The defaults with some fields replaced; RequestError for a name that does not exist."""
        check_sampling_names(sampling, [field.name for field in dataclasses.fields(SamplingParams)])
        return dataclasses.replace(self.defaults, **sampling)

    def forget(self) -> None:
        """Drop all cached prompts, as after a change of the weights."""
        with self._lock:
            self.engine.reset()

    def _next(self, request_id: str) -> Output:
        """The next piece of a request, run by this thread unless another has brought it."""
        queue = self._queues[request_id]
        while not queue:
            with self._lock:
                for output in [] if queue else self.engine.step():
                    if output.request_id in self._queues:
                        self._queues[output.request_id].append(output)
        return queue.popleft()

    def _close(self, request_id: str) -> None:
        with self._lock:
            self.engine.abort(request_id)
            self._queues.pop(request_id, None)


class Stream:
    """The pieces of one request as they come. Closing, or losing, it cancels what is left."""

    def __init__(self, llm: LLM, request_id: str, prompt_ids: list[int], num_answers: int) -> None:
        self._llm, self.request_id, self.prompt_ids = llm, request_id, prompt_ids
        self._num_answers = self._num_open = num_answers

    def __iter__(self) -> Iterator[Output]:
        try:
            while self._num_open:
                output = self._llm._next(self.request_id)
                self._num_open -= output.finish_reason is not None
                yield output
        finally:
            self.close()

    def result(self) -> RequestOutput:
        """Wait for the end; all that came."""
        answers = [CompletionOutput(index) for index in range(self._num_answers)]
        result = RequestOutput(self.prompt_ids, answers, Usage(len(self.prompt_ids), 0))
        for output in self:
            result.add(output)
        return result

    def close(self) -> None:
        """Cancel what is left and free its blocks."""
        self._num_open = 0
        self._llm._close(self.request_id)

    def __del__(self) -> None:
        self.close()


def _recommended(generation: Mapping[str, Any]) -> SamplingParams:
    """The sampling of a `generation_config.json`; without any, that of the released chat models."""
    if generation.get("do_sample") is False:
        generation = {**generation, "temperature": 0.0}
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    named = {name: generation[name] for name in names if generation.get(name) is not None}
    return SamplingParams(**(named or {"top_p": 0.8}))
