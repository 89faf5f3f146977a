"""The request bodies of OpenAI's API, validated before anything else.

Every accepted field has an effect, except a few that mean nothing for a local model (`user`, `metadata`, `store`,
`service_tier`, …); these are accepted only with values that need no action.

The depth of the JSON needs no check here: pydantic's parser stops at 200 levels. Not here: the cost of a request and
the limits (`admission.py`), and the answers (`chat_routes.py`).
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from qianwen.chat.model import TOOL_CHOICES
from qianwen.model.long_context import Extension, LongContext
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.body_errors import body_error
from qianwen.serve.wire import (
    MAX_MESSAGES,
    MAX_STOPS,
    MAX_TOOLS,
    Bias,
    DefaultFalse,
    DefaultTrue,
    FunctionDefinition,
    FunctionName,
    Label,
    Message,
    NamedTool,
    NullMeans,
    Penalty,
    ResponseFormat,
    Rope,
    Stop,
    StreamOptions,
    TokenId,
    TokenKey,
    ToolDefinition,
    Unsupported,
    Wire,
    max_entries,
)

MAX_CHOICES = 16
MAX_TOP_LOGPROBS = 20
MAX_LOGIT_BIAS = 1024
MAX_TEMPLATE_VARIABLES = 32
MAX_PROMPTS = 256  # prompts in one request
MAX_INPUTS = 2048  # texts to embed in one request

Request = TypeVar("Request", bound=BaseModel)
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class Sampling(Wire):
    """The sampling fields of chat and text completions; the last six are not in OpenAI's API."""

    model: str = Field(min_length=1, max_length=256)
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES), NullMeans(1)] = 1
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | Annotated[list[Stop], Field(fail_fast=True, max_length=MAX_STOPS)] | None = None
    logit_bias: (
        Annotated[dict[TokenKey, Bias], Field(max_length=MAX_LOGIT_BIAS), max_entries(MAX_LOGIT_BIAS)] | None
    ) = None
    stream: DefaultFalse = False
    stream_options: StreamOptions | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16), max_entries(16)] | None = None
    service_tier: Literal["auto", "default"] | None = None  # other tiers promise a speed that is sold elsewhere
    prompt_cache_retention: Literal["in-memory", "in_memory"] | None = None  # the prefix cache is in memory
    top_k: int | None = Field(None, ge=0, lt=2**31)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    ignore_eos: DefaultFalse = False
    stop_token_ids: Annotated[list[TokenId], Field(fail_fast=True, max_length=MAX_STOPS)] | None = None
    rope: Extension | Rope | None = None

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    def extension(self, default: LongContext) -> LongContext:
        """How this request extends the trained length; `default` is that of the server."""
        rope = Rope(method=self.rope) if isinstance(self.rope, str) else self.rope
        return default if rope is None else rope.extension(default)

    @model_validator(mode="after")
    def _check_stream_options(self) -> Sampling:
        if self.stream_options is not None and not self.stream:
            raise ValueError(tr("stream_options is only allowed with stream: true"))
        return self


class ChatCompletionRequest(Sampling):
    messages: Annotated[list[Message], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: int | None = Field(None, ge=1, lt=2**31)
    max_completion_tokens: int | None = Field(None, ge=1, lt=2**31)
    logprobs: DefaultFalse = False
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    tools: Annotated[list[ToolDefinition], Field(fail_fast=True, max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: DefaultTrue = True
    functions: Annotated[list[FunctionDefinition], Field(fail_fast=True, max_length=MAX_TOOLS)] | None = None
    function_call: Literal["none", "auto"] | FunctionName | None = None
    response_format: ResponseFormat | None = None
    store: Literal[False] | None = None
    modalities: Annotated[list[Literal["text"]], Field(fail_fast=True, min_length=1, max_length=8)] | None = None
    verbosity: Literal["medium"] | None = None  # the other values change the prompt of OpenAI's own models
    audio: Unsupported = None
    moderation: Unsupported = None
    prediction: Unsupported = None
    prompt_cache_options: Unsupported = None
    web_search_options: Unsupported = None
    reasoning_effort: ReasoningEffort | None = None
    chat_template_kwargs: (
        Annotated[dict[str, Any], Field(max_length=MAX_TEMPLATE_VARIABLES), max_entries(MAX_TEMPLATE_VARIABLES)] | None
    ) = None  # not in OpenAI's API: variables of the model's chat template

    @model_validator(mode="after")
    def _check_combinations(self) -> ChatCompletionRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError(tr("top_logprobs is only allowed with logprobs: true"))
        if self.tools and self.functions:
            raise ValueError(tr("tools and functions cannot be used together; use tools"))
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError(tr("max_tokens and max_completion_tokens have different values; set only one"))
        names = [f.name for f in self.definitions]
        if len(set(names)) != len(names):
            raise ValueError(tr("two tools have the same name; each needs its own name"))
        if self.forced_name is not None and self.forced_name not in names:
            raise ValueError(
                tr("tool_choice names the function '{name}', which is not in tools", name=self.forced_name)
            )
        if self.tool_choice == "required" and not self.tools:
            raise ValueError(tr("tool_choice 'required' needs at least one function in tools"))
        if self.forced_name in TOOL_CHOICES:
            raise ValueError(
                tr("tool_choice cannot name a function called '{name}'; rename the function", name=self.forced_name)
            )
        if "none" in self._choices and (self.forced_name or "required" in self._choices):
            raise ValueError(tr("tool_choice and function_call contradict each other; set only tool_choice"))
        return self

    @property
    def thinking(self) -> bool | None:
        """Whether the model writes thoughts before its answer; None leaves it to the model's chat template."""
        return None if self.reasoning_effort is None else self.reasoning_effort not in ("none", "minimal")

    @property
    def definitions(self) -> list[FunctionDefinition]:
        return [tool.function for tool in self.tools or ()] + list(self.functions or ())

    @property
    def forced_name(self) -> str | None:
        """The function that must be called, if the request names one."""
        if isinstance(self.tool_choice, NamedTool):
            return self.tool_choice.function.name
        return self.function_call.name if isinstance(self.function_call, FunctionName) else None

    @property
    def _choices(self) -> tuple[object, object]:
        return self.tool_choice, self.function_call

    @property
    def choice(self) -> str:
        """`tool_choice`, or the older `function_call`, as the argument of `ChatModel.chat`."""
        return self.forced_name or next((word for word in ("none", "required") if word in self._choices), "auto")

    @property
    def format(self) -> Literal["json_object"] | dict[str, Any] | None:
        """`response_format` as the argument of `ChatModel.chat`."""
        if self.response_format is None or self.response_format.type == "text":
            return None
        schema = self.response_format.json_schema
        return "json_object" if schema is None else schema.schema_

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


Ids = Annotated[list[TokenId], Field(fail_fast=True, min_length=1)]
Prompt = str | list[TokenId]
Prompts = (
    str
    | Ids
    | Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)]
    | Annotated[list[Ids], Field(fail_fast=True, min_length=1, max_length=MAX_PROMPTS)]
)
Texts = (
    str
    | Ids
    | Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=MAX_INPUTS)]
    | Annotated[list[Ids], Field(fail_fast=True, min_length=1, max_length=MAX_INPUTS)]
)


class CompletionRequest(Sampling):
    prompt: Prompts
    max_tokens: Annotated[int, Field(ge=0, lt=2**31), NullMeans(16)] = 16
    echo: DefaultFalse = False
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    suffix: str | None = None  # the text behind the answer; empty: none

    @model_validator(mode="after")
    def _check_max_tokens(self) -> CompletionRequest:
        if self.max_tokens == 0 and not self.echo:
            raise ValueError(tr("max_tokens must be at least 1 unless echo is true"))
        if self.suffix and self.echo:
            raise ValueError(tr("echo cannot be combined with suffix"))
        return self

    @property
    def prompts(self) -> list[Prompt]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if isinstance(self.prompt[0], int) else list(self.prompt)  # type: ignore[list-item]


class EmbeddingRequest(Wire):
    model: str = Field(min_length=1, max_length=256)
    input: Texts
    encoding_format: Annotated[Literal["float", "base64"], NullMeans("float")] = "float"
    pooling: Annotated[Literal["last", "mean"], NullMeans("last")] = "last"
    dimensions: Unsupported = None
    user: Label | None = None

    @property
    def inputs(self) -> list[Prompt]:
        if isinstance(self.input, str):
            return [self.input]
        return [self.input] if isinstance(self.input[0], int) else list(self.input)  # type: ignore[list-item]


class TokenizeRequest(Wire):
    model: str | None = Field(None, max_length=256)
    text: str | None = None
    messages: Annotated[list[Message], Field(fail_fast=True, min_length=1, max_length=MAX_MESSAGES)] | None = None

    @model_validator(mode="after")
    def _check_input(self) -> TokenizeRequest:
        if (self.text is None) == (self.messages is None):
            raise ValueError(tr("set either text or messages, not both"))
        return self


BODIES: tuple[type[Wire], ...] = (ChatCompletionRequest, CompletionRequest, EmbeddingRequest, TokenizeRequest)

# ---- parsing and errors ---------------------------------------------------------------------------------------------


def parse(body: bytes, request: type[Request]) -> Request:
    """The request in `body`. Raises `RequestError` (400) with the name of the first invalid field."""
    try:
        return request.model_validate_json(body)
    except ValidationError as error:
        raise body_error(error, body) from None
    except (ValueError, RecursionError) as error:  # such as lone surrogates
        raise RequestError(tr("the request body is not valid JSON: {reason}", reason=str(error)[:200])) from None


def error_body(
    message: str, *, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def event(data: dict | str) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode("utf-8", "replace")
