"""The parts of OpenAI's wire format: what every JSON object here has in common, messages, tools and answer formats.

Objects are pydantic models in strict mode: a string is not a number, an unknown field is an error that names it, and
every number, text and list has a range. The first error ends the check, so a body made of a million mistakes costs no
more than one. Where OpenAI takes null for "as you like", so do we. Requests are made of these parts in `protocol.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

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
    """Lets null stand for a field's default."""

    default: object

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        nullable = core_schema.nullable_schema(handler(source))
        return core_schema.no_info_after_validator_function(
            lambda value: self.default if value is None else value, nullable
        )


def few(limit: int) -> BeforeValidator:
    """Refuse an object of more entries before any of them is looked at."""

    def count(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > limit:
            raise ValueError(tr("more than {limit} entries", limit=limit))
        return value

    return BeforeValidator(count)


Yes = Annotated[bool, NullMeans(True)]
No = Annotated[bool, NullMeans(False)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2), NullMeans(0.0)]


class Wire(BaseModel):
    """A JSON object whose fields are exactly those declared."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, value: Any) -> Any:
        """Stop at the first unknown field: a hundred thousand of them would be as many errors to write."""
        if isinstance(value, dict):
            known = {field.alias or name for name, field in cls.model_fields.items()}
            if (stranger := next((name for name in value if name not in known), None)) is not None:
                raise ValueError(tr("there is no field '{name}' here", name=stranger[:80]))
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
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Wire):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[TextPart], Field(fail_fast=True, max_length=MAX_MESSAGES)] | None = None
    name: Name | None = None
    refusal: None = None
    audio: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=MAX_TOOLS)] | None = None
    tool_call_id: str | None = Field(None, max_length=128)
    function_call: FunctionCall | None = None

    @model_validator(mode="before")
    @classmethod
    def _text_only(cls, value: Any) -> Any:
        """Name the reason when a part is an image or audio, instead of a list of schema mismatches."""
        parts = value.get("content") if isinstance(value, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and isinstance(part.get("type"), str) and part["type"] != "text":
                raise ValueError(
                    tr("this model reads text only; content of type '{kind}' is not supported", kind=part["type"])
                )
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Message:
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError(tr("a tool message needs the tool_call_id it answers"))
        if self.role == "function" and not self.name:
            raise ValueError(tr("a function message needs the name of the function it answers"))
        if self.role == "assistant":
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


class ToolDefinition(Wire):
    type: Literal["function"]
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
            raise ValueError(tr("json_schema goes with type 'json_schema' and with no other type"))
        return self


class StreamOptions(Wire):
    include_usage: No = False
    include_obfuscation: Literal[False] | None = None
