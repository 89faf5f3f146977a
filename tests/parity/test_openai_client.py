"""OpenAI's own client against our server: sixty calls, whole, streamed, asynchronous and wrong (R40)."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from qianwen.engine.llm_engine import EngineConfig

from ..serve.conftest import model, start, tokenizer

openai = pytest.importorskip("openai", reason="the official client is not installed")
__all__ = ["model", "start", "tokenizer"]

WEATHER = {
    "name": "weather",
    "description": "the weather of a city",
    "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 6}}, "required": ["city"],
        "additionalProperties": False,
    },
}  # fmt: skip
TOOLS = [{"type": "function", "function": WEATHER}]
NAMED = {"type": "function", "function": {"name": "weather"}}
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
JSON = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
HELLO = [{"role": "user", "content": "hello"}]
ASKED = [
    *HELLO,
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
]  # fmt: skip


class Answer(BaseModel):
    ok: bool


class Calls:
    """One method for each call; what it returns must be true."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def chat(self, **fields: Any) -> Any:
        body = {"model": "tiny", "messages": HELLO, "max_tokens": 5, "temperature": 0} | fields
        return self.client.chat.completions.create(**body)

    def text(self, **fields: Any) -> Any:
        return self.client.completions.create(**{"model": "tiny", "prompt": "ab", "max_tokens": 5} | fields)

    def embed(self, **fields: Any) -> Any:
        return self.client.embeddings.create(**{"model": "tiny", "input": "ab"} | fields)

    def content(self, **fields: Any) -> str:
        return self.chat(**fields).choices[0].message.content

    def streamed(self, **fields: Any) -> list[Any]:
        return list(self.chat(stream=True, **fields))

    def first_piece(self) -> Any:
        with self.chat(stream=True) as pieces:
            return next(iter(pieces))

    def told(self, **fields: Any) -> str:
        return "".join(c.choices[0].delta.content or "" for c in self.streamed(**fields) if c.choices)

    def called(self, **fields: Any) -> Any:
        return self.chat(**{"tools": TOOLS, "max_tokens": 200} | fields).choices[0]

    def call_streamed(self, **fields: Any) -> tuple[str, str]:
        name = arguments = ""
        for chunk in self.streamed(**{"tools": TOOLS, "tool_choice": "required", "max_tokens": 200} | fields):
            for call in chunk.choices[0].delta.tool_calls or ():
                name += call.function.name or ""
                arguments += call.function.arguments or ""
        return name, arguments

    def async_content(self, **fields: Any) -> str:
        async def ask() -> str:
            body = {"model": "tiny", "messages": HELLO, "max_tokens": 5, "temperature": 0} | fields
            http = httpx.AsyncClient(trust_env=False)
            async with openai.AsyncOpenAI(base_url=self.client.base_url, api_key="none", http_client=http) as client:
                answer = await client.chat.completions.create(**body)
                if not fields.get("stream"):
                    return answer.choices[0].message.content
                return "".join([chunk.choices[0].delta.content or "" async for chunk in answer])

        return asyncio.run(ask())

    def helper(self, **fields: Any) -> Any:
        """The client's own way to follow a stream."""
        body = {"model": "tiny", "messages": HELLO, "max_tokens": 5, "temperature": 0} | fields
        with self.client.chat.completions.stream(**body) as stream:
            for _ in stream:
                pass
            return stream.get_final_completion().choices[0]

    def refused(self, kind: str, call: Callable[[], Any]) -> bool:
        with pytest.raises(getattr(openai, kind)) as error:
            call()
        return bool(error.value.body["message"])


def is_call(choice: Any) -> bool:
    [call] = choice.message.tool_calls
    return (
        choice.finish_reason == "tool_calls" and call.function.name == "weather" and "city" in call.function.arguments
    )


CALLS: dict[str, Callable[[Calls], Any]] = {
    "models.list": lambda c: [m.id for m in c.client.models.list()] == ["tiny"],
    "models.retrieve": lambda c: c.client.models.retrieve("tiny").id == "tiny",
    "models.retrieve unknown": lambda c: c.refused("NotFoundError", lambda: c.client.models.retrieve("gpt")),
    "chat": lambda c: c.chat().choices[0].finish_reason in ("stop", "length"),
    "chat object": lambda c: c.chat().object == "chat.completion" and c.chat().id.startswith("chatcmpl-"),
    "chat usage": lambda c: (u := c.chat().usage).total_tokens == u.prompt_tokens + u.completion_tokens,
    "chat cached usage": lambda c: c.chat().usage.prompt_tokens_details.cached_tokens >= 0,
    "chat max_tokens": lambda c: c.chat(max_tokens=3, extra_body={"ignore_eos": True}).usage.completion_tokens == 3,
    "chat max_completion_tokens": lambda c: c.chat(max_tokens=None, max_completion_tokens=2)
        .usage.completion_tokens <= 2,
    "chat length": lambda c: c.chat(extra_body={"ignore_eos": True}).choices[0].finish_reason == "length",
    "chat n": lambda c: [x.index for x in c.chat(n=3, temperature=1).choices] == [0, 1, 2],
    "chat seed": lambda c: c.content(seed=5, temperature=1) == c.content(seed=5, temperature=1),
    "chat temperature top_p": lambda c: isinstance(c.content(temperature=1.3, top_p=0.7), str),
    "chat penalties": lambda c: isinstance(c.content(presence_penalty=1, frequency_penalty=-1), str),
    "chat logit_bias": lambda c: set(c.content(logit_bias={"97": 100})) == {"a"},
    "chat stop": lambda c: c.chat(stop="a", logit_bias={"97": 100}).choices[0].finish_reason == "stop",
    "chat stops": lambda c: c.content(stop=["zz", "aaa"], logit_bias={"97": 100}) == "",
    "chat logprobs": lambda c: len(c.chat(logprobs=True).choices[0].logprobs.content) >= 1,
    "chat top_logprobs": lambda c: len(c.chat(logprobs=True, top_logprobs=4)
        .choices[0].logprobs.content[0].top_logprobs) == 4,
    "chat system": lambda c: isinstance(c.content(messages=[{"role": "system", "content": "s"}, *HELLO]), str),
    "chat developer": lambda c: isinstance(c.content(messages=[{"role": "developer", "content": "s"}, *HELLO]), str),
    "chat parts": lambda c: c.content(messages=[{"role": "user", "content": [{"type": "text", "text": "hello"}]}])
        == c.content(),
    "chat name": lambda c: isinstance(c.content(messages=[HELLO[0] | {"name": "ann"}]), str),
    "chat history": lambda c: isinstance(c.content(messages=[*HELLO, c.chat().choices[0].message, *HELLO]), str),
    "chat history dumped": lambda c: isinstance(
        c.content(messages=[*HELLO, c.chat().choices[0].message.model_dump(), *HELLO]), str),
    "chat user metadata": lambda c: isinstance(c.content(user="u", metadata={"a": "b"}, store=False), str),
    "chat extra_body": lambda c: isinstance(c.content(extra_body={"top_k": 3, "min_p": 0.1}), str),
    "chat raw": lambda c: "x-request-id" in c.client.chat.completions.with_raw_response.create(
        model="tiny", messages=HELLO, max_tokens=1).headers,
    "stream": lambda c: c.told() == c.content(),
    "stream role": lambda c: c.streamed()[0].choices[0].delta.role == "assistant",
    "stream finish": lambda c: c.streamed()[-1].choices[0].finish_reason in ("stop", "length"),
    "stream usage": lambda c: c.streamed(stream_options={"include_usage": True})[-1].usage.total_tokens > 0,
    "stream n": lambda c: {x.choices[0].index for x in c.streamed(n=2)} == {0, 1},
    "stream logprobs": lambda c: any(x.choices[0].logprobs for x in c.streamed(logprobs=True)),
    "stream helper": lambda c: c.helper(stop="a", logit_bias={"97": 100}).message.content == "",
    "stream left early": lambda c: c.first_piece().choices[0].delta.role == "assistant",
    "tools required": lambda c: is_call(c.called(tool_choice="required")),
    "tools named": lambda c: is_call(c.called(tool_choice=NAMED)),
    "tools none": lambda c: c.called(tool_choice="none", max_tokens=5).message.tool_calls is None,
    "tools auto": lambda c: isinstance(c.called(tool_choice="auto", max_tokens=5).message.content, str),
    "tools parallel off": lambda c: is_call(c.called(tool_choice="required", parallel_tool_calls=False)),
    "tools streamed": lambda c: c.call_streamed()[0] == "weather",
    "tools streamed as whole": lambda c: c.call_streamed()[1]
        == c.called(tool_choice="required").message.tool_calls[0].function.arguments,
    "tools helper": lambda c: c.helper(tools=TOOLS, tool_choice="required", max_tokens=200)
        .finish_reason == "tool_calls",
    "tools result": lambda c: isinstance(c.content(messages=ASKED, tools=TOOLS), str),
    "functions": lambda c: c.chat(functions=[WEATHER], function_call={"name": "weather"}, max_tokens=200)
        .choices[0].message.function_call.name == "weather",
    "json_object": lambda c: c.content(response_format={"type": "json_object"}, max_tokens=20).startswith("{"),
    "json_schema": lambda c: Answer.model_validate_json(c.content(response_format=JSON, max_tokens=60)),
    "parse": lambda c: isinstance(c.client.chat.completions.parse(
        model="tiny", messages=HELLO, max_tokens=60, response_format=Answer).choices[0].message.parsed, Answer),
    "completions": lambda c: c.text().object == "text_completion",
    "completions echo": lambda c: c.text(echo=True).choices[0].text.startswith("ab"),
    "completions prompts": lambda c: len(c.text(prompt=["a", "b"], n=2).choices) == 4,
    "completions ids": lambda c: c.text(prompt=[97, 98], echo=True).choices[0].text.startswith("ab"),
    "completions logprobs": lambda c: len(c.text(logprobs=2, echo=True).choices[0].logprobs.tokens) > 2,
    "completions stream": lambda c: "".join(x.choices[0].text for x in c.text(stream=True, temperature=0))
        == c.text(temperature=0).choices[0].text,
    "embeddings": lambda c: len(c.embed(input=["a", "b"]).data) == 2,
    "embeddings ids": lambda c: c.embed(input=[97, 98]).data[0].embedding == c.embed().data[0].embedding,
    "async": lambda c: c.async_content() == c.content(),
    "async stream": lambda c: c.async_content(stream=True) == c.content(),
    "wrong": lambda c: c.refused("BadRequestError", lambda: c.chat(temperature=9))
        and c.refused("NotFoundError", lambda: c.chat(model="gpt"))
        and c.refused("BadRequestError", lambda: c.chat(messages=[{"role": "user", "content": "x" * 5000}])),
}  # fmt: skip


@pytest.fixture(scope="module")
def calls(start) -> Iterator[Calls]:
    config = EngineConfig(num_blocks=256, batch_invariant=True)
    with start(config=config) as server, httpx.Client(trust_env=False) as http:
        yield Calls(openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=http))


def test_there_are_sixty() -> None:
    assert len(CALLS) == 60


@pytest.mark.parametrize("name", CALLS)
def test_the_official_client_gets_what_it_expects(calls, name):
    if name.startswith(("tools", "functions", "json", "parse")):
        pytest.importorskip("llguidance", reason="constrained output needs llguidance")
    assert CALLS[name](calls)
