"""`/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/tokenize`: from a checked request to an answer.

Every generation has the same steps: prepare (prompt ids, sampling parameters, choices), admit, run, and stream the
pieces or fold them into one object. Long prompts are encoded in a worker thread, not on the event loop.
"""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from qianwen.chat.infill import infill_prompt
from qianwen.chat.messages import FunctionSpec, Message, from_openai
from qianwen.chat.model import Usage
from qianwen.chat.render import FUNCTION_STYLE
from qianwen.engine.chat_run import ChatRun
from qianwen.engine.llm import defaults_for
from qianwen.engine.llm_engine import Output
from qianwen.engine.request import Context, Pooling
from qianwen.engine.request import Request as EngineRequest
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.long_context import LongContext
from qianwen.runtime.errors import QianwenError
from qianwen.serve import protocol
from qianwen.serve.exchange import EventStream, read_body, run_until_disconnect
from qianwen.serve.guard import GuardedText, check_prompt
from qianwen.serve.openapi import request_body
from qianwen.serve.reply import ChatChoice, Piece, TextChoice, fold_chat, fold_text
from qianwen.serve.service import Served, Service
from qianwen.serve.wire import Wire

Choice = ChatChoice | TextChoice


@dataclass
class Job:
    """A generation that is ready to run: one engine request per prompt, and the choices that hold the answers."""

    served: Served
    prompts: list[list[int]]
    params: list[SamplingParams]
    choices: list[Choice]  # params.n for each prompt, one prompt after another
    extension: LongContext
    score_from: int | None = None
    prefix: str = ""  # start of the answer, at the end of the prompt
    usages: dict[int, Usage] = field(default_factory=dict)  # of each choice, up to its latest output

    @property
    def num_tokens(self) -> int:
        """Tokens of all prompts and of their longest possible answers."""
        pairs = zip(self.prompts, self.params, strict=True)
        return sum(len(prompt) + params.n * (params.max_tokens or 0) for prompt, params in pairs)

    def usage(self) -> dict[str, Any]:
        """All tokens of the job so far. A prompt with several answers counts once."""
        firsts = [self.usages.get(index) for index in range(0, len(self.choices), self.params[0].n)]
        prompt = sum(map(len, self.prompts))
        completion = sum(usage.completion_tokens for usage in self.usages.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in firsts if usage)},
            "completion_tokens_details": {"reasoning_tokens": sum(choice.reasoning_tokens for choice in self.choices)},
        }


def sampling_params(request: protocol.Sampling, served: Served, max_tokens: int, **fields: Any) -> SamplingParams:
    """The model's own generation config, overridden by the fields of the request."""
    overrides = {
        name: value
        for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
        if (value := getattr(request, name)) is not None
    }
    return replace(
        served.defaults,
        n=request.n,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        logit_bias={int(token): bias for token, bias in (request.logit_bias or {}).items()},
        stop_token_ids=tuple(request.stop_token_ids or ()),
        ignore_eos=request.ignore_eos,
        max_tokens=max_tokens,
        **overrides,
        **fields,
    )


def prepare_chat(request: protocol.ChatCompletionRequest, served: Served, begun: Message | None = None) -> Job:
    """Render the conversation, and add the grammar that the answer must follow, if any, to the sampling parameters.

    `begun` is the start of the answer, if it has one.
    """
    chat = ChatRun(
        served.tokenizer,
        [from_openai(message.model_dump()) for message in request.messages],
        [FunctionSpec.from_openai(definition.sent) for definition in request.definitions],
        tool_choice=request.choice,
        response_format=request.format,
        stop=request.stops,
        thinking=request.thinking,
        template_variables=_template_variables(request, served),
    )
    if begun is not None:
        chat.begin_with(begun)
    served = replace(served, defaults=defaults_for(request.thinking, served.defaults, served.recommended))
    extension = request.extension(served.extension)
    max_tokens = served.answer_limit(len(chat.prompt_ids), request.limit, extension)
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    params = chat.params(sampling_params(request, served, max_tokens, logprobs=logprobs))
    legacy, one_call = request.functions is not None, not request.parallel_tool_calls
    choices: list[Choice] = [
        ChatChoice(index, served.tokenizer, chat.reader(), legacy=legacy, one_call=one_call)
        for index in range(request.n)
    ]
    prefix = begun.text if begun else ""
    return _checked(Job(served, [chat.prompt_ids], [params], choices, extension, prefix=prefix))


def _template_variables(request: protocol.ChatCompletionRequest, served: Served) -> dict[str, Any]:
    """The variables of a request, with the server's style of functions where the request has functions but no style."""
    is_styled = request.definitions and served.function_style is not None
    default = {FUNCTION_STYLE: served.function_style} if is_styled else {}
    return default | (request.chat_template_kwargs or {})


def _checked(job: Job) -> Job:
    """The job, after the engine's own checks: an error must be raised before the status 200 of a stream is sent."""
    for prompt, params in zip(job.prompts, job.params, strict=True):
        job.served.bridge.engine.check_request(EngineRequest(tuple(prompt), params, extension=job.extension))
    return job


def _ids(prompt: protocol.Prompt, served: Served) -> list[int]:
    ids = served.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
    return ids or [served.tokenizer.eod_id]  # an empty prompt means the start of a document


def prepare_completion(request: protocol.CompletionRequest, served: Served) -> Job:
    """Encode the prompts. `echo` with `logprobs` also computes the log-probabilities of the prompt tokens.

    With a `suffix` the answer is the text between prompt and suffix.
    """
    if request.suffix:
        infills = [infill_prompt(served.tokenizer, prompt, request.suffix) for prompt in request.prompts]
        prompts = [infill.ids for infill in infills]
        stop_ids = [*(request.stop_token_ids or ()), *infills[0].stop_ids]
        request = request.model_copy(update={"stop_token_ids": stop_ids})
    else:
        prompts = [_ids(prompt, served) for prompt in request.prompts]
    extension = request.extension(served.extension)
    params = [
        sampling_params(
            request,
            served,
            0 if request.max_tokens == 0 else served.answer_limit(len(prompt), request.max_tokens, extension),
            stop=tuple(request.stops),
            logprobs=request.logprobs,
        )
        for prompt in prompts
    ]
    choices: list[Choice] = [
        TextChoice(index, served.tokenizer, prompt if request.echo else None, request.logprobs)
        for index, prompt in enumerate(prompt for prompt in prompts for _ in range(request.n))
    ]
    score_from = 1 if request.echo and request.logprobs is not None else None
    return _checked(Job(served, prompts, params, choices, extension, score_from))


async def run(job: Job, service: Service, salt: str) -> AsyncGenerator[Piece, None]:
    """The pieces of all choices in the order of the engine's outputs, filtered by the guard if there is one."""
    merged: asyncio.Queue[tuple[int, Output] | Exception] = asyncio.Queue()
    n = job.params[0].n

    async def follow(position: int) -> None:
        context = Context(adapter=job.served.adapter, salt=salt)
        prompt, params = tuple(job.prompts[position]), job.params[position]
        request = EngineRequest(prompt, params, context, job.score_from, extension=job.extension)
        try:
            async for output in job.served.bridge.generate(request):
                merged.put_nowait((position * n + output.index, output))
        except Exception as error:
            merged.put_nowait(error)

    tasks = [asyncio.ensure_future(follow(position)) for position in range(len(job.prompts))]
    guards = [GuardedText(service.guard, job.prefix) for _ in job.choices] if service.guard else []
    num_open, started = len(job.choices), time.monotonic()
    try:
        while num_open:
            item = await merged.get()
            if isinstance(item, Exception):
                raise item
            index, output = item
            if index not in job.usages:
                service.metrics.observe("time_to_first_token_seconds", time.monotonic() - started)
            job.usages[index] = output.usage
            num_open -= output.finish_reason is not None
            refusal = None
            if guards:
                output = await guards[index].feed(output)
                refusal = guards[index].reason
            for piece in job.choices[index].feed(output, refusal):
                yield piece
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Answer:
    """The JSON objects and the events of one kind of completion."""

    def __init__(
        self, kind: str, request: protocol.Sampling, job: Job, fold: Callable[[Sequence[Piece]], list[dict[str, Any]]]
    ) -> None:
        self.fold = fold
        self.include_usage = request.stream_options is not None and request.stream_options.include_usage
        self.object = "chat.completion" if kind == "chat" else "text_completion"
        self.chunk_object = "chat.completion.chunk" if kind == "chat" else "text_completion"
        prefix = "chatcmpl-" if kind == "chat" else "cmpl-"
        self.head = {"id": prefix + uuid.uuid4().hex, "created": int(time.time()), "model": job.served.name}

    def completion(self, pieces: Sequence[Piece], usage: dict[str, Any]) -> dict[str, Any]:
        return {**self.head, "object": self.object, "choices": self.fold(pieces), "usage": usage}

    def chunk(self, choices: Sequence[Piece], **usage: dict[str, Any] | None) -> dict[str, Any]:
        return {**self.head, "object": self.chunk_object, "choices": list(choices), **usage}

    async def events(self, job: Job, pieces: AsyncGenerator[Piece, None]) -> AsyncIterator[bytes]:
        """The stream: one chunk for each piece."""
        unknown = {"usage": None} if self.include_usage else {}  # in OpenAI's API every chunk before the last has null
        try:
            for choice in job.choices:
                if isinstance(choice, ChatChoice):
                    yield protocol.event(self.chunk([choice.opening()], **unknown))
            async for piece in pieces:
                yield protocol.event(self.chunk([piece], **unknown))
            if self.include_usage:
                yield protocol.event(self.chunk([], usage=job.usage()))
        except QianwenError as error:
            yield protocol.event(protocol.error_body(str(error), code=getattr(error, "code", None)))
        finally:
            await pieces.aclose()
        yield protocol.event("[DONE]")


class AnyAnswer(Protocol):
    """What `respond` needs of an answer: one object, or a stream of events."""

    def completion(self, pieces: Sequence[Piece], usage: dict[str, Any]) -> dict[str, Any]: ...

    def events(self, job: Job, pieces: AsyncGenerator[Piece, None]) -> AsyncIterator[bytes]: ...


async def respond(http: Request, job: Job, answer: AnyAnswer, service: Service, *, stream: bool) -> Response:
    """Admit the job and answer it, streamed or as one object. Its usage is recorded even if it fails."""
    key = http.scope["key"]
    stack = ExitStack()
    stack.enter_context(service.admission.admit(key, job.num_tokens))
    stack.callback(lambda: service.record_usage(key, job.usage(), job.served.name))
    pieces = run(job, service, key.name)
    if stream:
        return EventStream(answer.events(job, pieces), stack)
    with stack:
        collected = await run_until_disconnect(http, _collect(pieces))
        return JSONResponse(answer.completion(collected, job.usage()))


async def _collect(pieces: AsyncIterator[Piece]) -> list[Piece]:
    return [piece async for piece in pieces]


def chat_routes(service: Service) -> APIRouter:
    """The routes that OpenAI's clients call."""
    router = APIRouter()

    async def parsed(http: Request, kind: type[protocol.Request]) -> protocol.Request:
        return protocol.parse(await read_body(http, service.admission.limits), kind)

    async def chat_completions(http: Request) -> Response:
        request = await parsed(http, protocol.ChatCompletionRequest)
        served = service.model(request.model)
        await check_prompt(service.guard, "\n".join(message.text for message in request.messages))
        job = await asyncio.to_thread(prepare_chat, request, served)
        answer = Answer("chat", request, job, fold_chat)
        return await respond(http, job, answer, service, stream=request.stream)

    async def completions(http: Request) -> Response:
        request = await parsed(http, protocol.CompletionRequest)
        served = service.model(request.model)
        job = await asyncio.to_thread(prepare_completion, request, served)
        if service.guard is not None:
            await check_prompt(service.guard, "\n".join(map(served.tokenizer.decode, job.prompts)))
        answer = Answer("text", request, job, fold_text)
        return await respond(http, job, answer, service, stream=request.stream)

    async def embeddings(http: Request) -> Response:
        request = await parsed(http, protocol.EmbeddingRequest)
        served = service.model(request.model)
        prompts = await asyncio.to_thread(lambda: [_ids(prompt, served) for prompt in request.inputs])
        for prompt in prompts:
            served.answer_limit(len(prompt), 0, served.extension)
            request_of_prompt = EngineRequest(tuple(prompt), SamplingParams(max_tokens=0), extension=served.extension)
            served.bridge.engine.check_request(request_of_prompt)
        with service.admission.admit(http.scope["key"], sum(map(len, prompts))):
            vectors = await run_until_disconnect(http, _embed(served, prompts, request.pooling, http.scope["key"].name))
        num_tokens = sum(map(len, prompts))
        usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
        service.record_usage(http.scope["key"], {**usage, "completion_tokens": 0}, served.name)
        data = [
            {"object": "embedding", "index": index, "embedding": _encode_vector(vector, request.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        return JSONResponse({"object": "list", "data": data, "model": served.name, "usage": usage})

    async def tokenize(http: Request) -> Response:
        request = await parsed(http, protocol.TokenizeRequest)
        served = service.model(request.model)
        if request.messages is not None:
            messages = [from_openai(message.model_dump()) for message in request.messages]
            ids = await asyncio.to_thread(lambda: ChatRun(served.tokenizer, messages).prompt_ids)
        else:
            ids = await asyncio.to_thread(served.tokenizer.encode, request.text or "")
        return JSONResponse({"count": len(ids), "max_model_len": served.context, "tokens": ids})

    routes: list[tuple[str, Callable[[Request], Awaitable[Response]], type[Wire]]] = [
        ("/v1/chat/completions", chat_completions, protocol.ChatCompletionRequest),
        ("/v1/completions", completions, protocol.CompletionRequest),
        ("/v1/embeddings", embeddings, protocol.EmbeddingRequest),
        ("/tokenize", tokenize, protocol.TokenizeRequest),
    ]
    for path, endpoint, body in routes:
        router.add_api_route(path, endpoint, methods=["POST"], openapi_extra=request_body(body))
    return router


async def _embed(served: Served, prompts: list[list[int]], pooling: Pooling, salt: str) -> list[np.ndarray]:
    """Embed each prompt as an engine request, so that it shares the steps of the engine with other requests."""
    params, context = SamplingParams(max_tokens=0), Context(adapter=served.adapter, salt=salt)

    async def embed(ids: list[int]) -> np.ndarray:
        request = EngineRequest(tuple(ids), params, context, pooling=pooling, extension=served.extension)
        [output] = [output async for output in served.bridge.generate(request)]
        assert output.embedding is not None
        return output.embedding

    return await asyncio.gather(*map(embed, prompts))


def _encode_vector(vector: np.ndarray, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()
