"""The parts of OpenAI's JSON format: the common base model, messages, tools and response formats.

Objects are pydantic models in strict mode: a string is not accepted as a number, an unknown field is an error with its
name, and every number, text and list has a range. Validation stops at the first error, so a body with a million errors
costs no more than a body with one. Where OpenAI's API accepts null for the default, it is accepted here too.
`protocol.py` builds the request bodies from these parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    StringConstraints,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from qianwen.model.long_context import Extension, LongContext, OnGrowth
from qianwen.runtime.translation import tr

MAX_STOPS = 16
MAX_TOOLS = 128
MAX_MESSAGES = 2048

Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenKey = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,10}$")]
Label = Annotated[str, StringConstraints(max_length=512)]


@dataclass(frozen=True)
class NullMeans:
    """Annotation: null in the JSON means `default`."""

    default: object

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        nullable = core_schema.nullable_schema(handler(source))
        return core_schema.no_info_after_validator_function(
            lambda value: self.default if value is None else value, nullable
        )


def max_entries(limit: int) -> BeforeValidator:
    """Refuse an object with more than `limit` entries before its entries are validated."""

    def count(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > limit:
            raise ValueError(tr("at most {limit} entries are allowed; got {count}", limit=limit, count=len(value)))
        return value

    return BeforeValidator(count)


def _refuse(value: Any) -> None:
    if value is not None:
        raise ValueError(tr("this server does not support it; leave it out or send null"))


Unsupported = Annotated[None, BeforeValidator(_refuse)]
DefaultTrue = Annotated[bool, NullMeans(True)]
DefaultFalse = Annotated[bool, NullMeans(False)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2), NullMeans(0.0)]


class Wire(BaseModel):
    """A JSON object with no other fields than those declared."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, value: Any) -> Any:
        """Stop at the first unknown field, else a body with 100,000 unknown fields would give as many errors."""
        if isinstance(value, dict):
            known = {field.alias or name for name, field in cls.model_fields.items()}
            if (unknown := next((name for name in value if name not in known), None)) is not None:
                raise ValueError(tr("unknown field '{name}'", name=unknown[:80]))
        return value


# ---- messages -------------------------------------------------------------------------------------------------------


class TextPart(Wire):
    type: Literal["text"]
    text: str


class FunctionCall(Wire):
    name: Name
    arguments: str


class ToolCall(Wire):
    id: str = Field(max_length=128)
    type: Annotated[Literal["function"], NullMeans("function")] = "function"
    function: FunctionCall


class Message(Wire):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[TextPart], Field(fail_fast=True, max_length=MAX_MESSAGES)] | None = None
    name: Name | None = None
    refusal: str | None = None  # of an answer that the guard stopped, sent again as history
    audio: Unsupported = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=MAX_TOOLS)] | None = None
    tool_call_id: str | None = Field(None, max_length=128)
    function_call: FunctionCall | None = None
    reasoning_content: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _text_only(cls, value: Any) -> Any:
        """Give one clear error for an image or audio part, instead of a list of schema errors."""
        parts = value.get("content") if isinstance(value, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and isinstance(part.get("type"), str) and part["type"] != "text":
                raise ValueError(
                    tr("this model reads text only; content of type '{kind}' is not supported", kind=part["type"])
                )
        return value

    @model_validator(mode="after")
    def _check_content(self) -> Message:
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError(tr("a tool message needs tool_call_id, the id of its tool call"))
        if self.role == "function" and not self.name:
            raise ValueError(tr("a function message needs name, the name of its function"))
        if self.role == "assistant":
            if self.content is None and self.refusal:
                self.content = self.refusal
            if self.content is None and not self.tool_calls and self.function_call is None:
                raise ValueError(tr("an assistant message needs content or tool_calls"))
        elif self.content is None:
            raise ValueError(tr("a {role} message needs content", role=self.role))
        return self

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


# ---- tools and formats ----------------------------------------------------------------------------------------------


class FunctionDefinition(Wire):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    _sent: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Remember the fields in the order in which they were sent: the prompt has them in that order."""
        definition = handler(value)
        definition._sent = dict(value) if isinstance(value, dict) else definition.model_dump(exclude_unset=True)
        return definition

    @property
    def sent(self) -> dict[str, Any]:
        return self._sent


class FunctionTool(Wire):
    """What tools of both APIs have in common: they are functions, which the caller runs."""

    type: Literal["function"]

    @model_validator(mode="before")
    @classmethod
    def _functions_only(cls, value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind != "function":
            raise ValueError(tr("tools of type '{kind}' are not supported; offer functions", kind=kind[:80]))
        return value


class ToolDefinition(FunctionTool):
    function: FunctionDefinition


class FunctionName(Wire):
    name: Name


class NamedTool(Wire):
    type: Literal["function"]
    function: FunctionName


class JsonSchema(Wire):
    name: Name
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_present(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError(tr("type 'json_schema' needs the field json_schema, and no other type allows it"))
        return self


class Rope(Wire):
    """How a request extends the trained length; a field that is missing or null is as the server was started."""

    method: Extension | None = None
    factor: float | None = Field(None, ge=1)
    logn: bool | None = None
    on_growth: OnGrowth | None = None

    def extension(self, default: LongContext) -> LongContext:
        """`default` with the fields of this object."""
        return LongContext(
            rope=self.method or default.rope,
            factor=self.factor or default.factor,
            logn=default.logn if self.logn is None else self.logn,
            on_growth=self.on_growth or default.on_growth,
        )

    @model_validator(mode="after")
    def _check_factor(self) -> Rope:
        if self.factor is not None and self.method not in ("yarn", "linear"):
            raise ValueError(tr("factor is only allowed with method yarn or linear"))
        return self


class StreamOptions(Wire):
    include_usage: DefaultFalse = False
    include_obfuscation: Literal[False] | None = None
