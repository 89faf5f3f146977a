"""OpenAI's own client against `/v1/responses`: whole and streamed, with functions, formats and refusals."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from qianwen.engine.llm_engine import EngineConfig

from ..serve.conftest import model, start, tokenizer

openai = pytest.importorskip("openai", reason="the official client is not installed")
__all__ = ["model", "start", "tokenizer"]
CITY = {"type": "string", "maxLength": 6}
PARAMETERS = {"type": "object", "properties": {"city": CITY}, "required": ["city"], "additionalProperties": False}
TOOL = {"type": "function", "name": "weather", "description": "the weather", "parameters": PARAMETERS, "strict": True}
CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Rome"}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
USER = {"role": "user", "content": "hello"}
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
          "additionalProperties": False}  # fmt: skip


class Answer(BaseModel):
    ok: bool


class Client:
    def __init__(self, client: Any) -> None:
        self.client = client

    def create(self, **fields: Any) -> Any:
        body = {"model": "tiny", "input": "hello", "max_output_tokens": 5, "temperature": 0} | fields
        return self.client.responses.create(**body)

    def text(self, **fields: Any) -> str:
        return self.create(**fields).output_text

    def called(self, **fields: Any) -> Any:
        settings = {"tools": [TOOL], "tool_choice": "required", "max_output_tokens": 200} | fields
        return self.create(**settings)

    def events(self, **fields: Any) -> list[Any]:
        return list(self.create(stream=True, **fields))

    def followed(self, **fields: Any) -> Any:
        """The client's own way to follow a stream: it builds the response from the events."""
        body = {"model": "tiny", "input": "hello", "max_output_tokens": 20, "temperature": 0} | fields
        with self.client.responses.stream(**body) as stream:
            for _ in stream:
                pass
            return stream.get_final_response()

    def chat(self, messages: list[dict], **fields: Any) -> str:
        body = {"model": "tiny", "messages": messages, "max_tokens": 5, "temperature": 0} | fields
        return self.client.chat.completions.create(**body).choices[0].message.content

    def refused(self, word: str, **fields: Any) -> bool:
        with pytest.raises(openai.BadRequestError) as error:
            self.create(**fields)
        return word in error.value.body["message"]


def is_call(response: Any) -> bool:
    [item] = [item for item in response.output if item.type == "function_call"]
    return item.name == "weather" and "city" in json.loads(item.arguments) and item.call_id.startswith("call_")


def deltas(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


CALLS: dict[str, Callable[[Client], Any]] = {
    "object": lambda c: c.create().object == "response" and c.create().id.startswith("resp_"),
    "same as chat": lambda c: c.text() == c.chat([USER]),
    "usage": lambda c: (u := c.create().usage).total_tokens == u.input_tokens + u.output_tokens > 0,
    "cached": lambda c: c.create().usage.input_tokens_details.cached_tokens >= 0,
    "incomplete": lambda c: (r := c.create(max_output_tokens=2)).status == "incomplete"
        and r.incomplete_details.reason == "max_output_tokens" and r.output[0].status == "incomplete",
    "instructions": lambda c: c.text(instructions="Be kind.")
        == c.chat([{"role": "system", "content": "Be kind."}, USER]),
    "instructions are one system message": lambda c: c.text(
        instructions="a", input=[{"role": "developer", "content": "b"}, USER])
        == c.chat([{"role": "system", "content": "a\n\nb"}, USER]),
    "items": lambda c: c.text(input=[USER]) == c.text(),
    "typed items": lambda c: c.text(input=[USER | {"type": "message"}]) == c.text(),
    "parts": lambda c: c.text(input=[{"role": "user", "content": [{"type": "input_text", "text": "hel"},
        {"type": "input_text", "text": "lo"}]}]) == c.text(),
    "history": lambda c: c.text(input=[USER, {"role": "assistant", "content": "a"}, USER])
        == c.chat([USER, {"role": "assistant", "content": "a"}, USER]),
    "output as input": lambda c: isinstance(c.text(input=[USER, *c.create().output, USER]), str),
    "output dumped as input": lambda c: isinstance(
        c.text(input=[USER, *(item.model_dump() for item in c.create().output), USER]), str),
    "reasoning items": lambda c: c.text(input=[USER, {"type": "reasoning", "id": "r", "summary": []}]) == c.text(),
    "settings are repeated": lambda c: (r := c.create(metadata={"a": "b"}, top_p=0.5, user="u")).metadata == {"a": "b"}
        and (r.top_p, r.user, r.temperature, r.max_output_tokens, r.store) == (0.5, "u", 0, 5, False),
    "null fields": lambda c: c.text(instructions=None, tools=None, tool_choice=None, text=None,
    previous_response_id=None,
        store=None, reasoning=None, include=None, top_logprobs=None,
        truncation=None, conversation=None, prompt=None, background=None) == c.text(),
    "logprobs": lambda c: len(c.create(include=["message.output_text.logprobs"]).output[0].content[0].logprobs) >= 1,
    "top_logprobs": lambda c: len(c.create(include=["message.output_text.logprobs"], top_logprobs=3)
        .output[0].content[0].logprobs[0].top_logprobs) == 3,
    "raw": lambda c: "x-request-id" in c.client.responses.with_raw_response.create(model="tiny", input="a").headers,
    "stream": lambda c: deltas(c.events()) == c.text(),
    "stream order": lambda c: [e.type for e in c.events()][:4] == ["response.created", "response.in_progress",
        "response.output_item.added", "response.content_part.added"],
    "stream numbers": lambda c: numbered(c.events()),
    "stream end": lambda c: c.events(max_output_tokens=2)[-1].type == "response.incomplete",
    "stream response": lambda c: c.events()[-1].response.output_text == c.text(),
    "stream closes what it opens": lambda c: closes(c.events()),
    "stream logprobs": lambda c: any(e.logprobs for e in c.events(include=["message.output_text.logprobs"])
        if e.type == "response.output_text.delta"),
    "function": lambda c: is_call(c.called()) and c.called().status == "completed",
    "function named": lambda c: is_call(c.called(tool_choice={"type": "function", "name": "weather"})),
    "function none": lambda c: not any(i.type == "function_call" for i in c.called(tool_choice="none",
        max_output_tokens=5).output),
    "function result": lambda c: c.text(input=[USER, CALL, RESULT], tools=[TOOL]) == c.chat([USER,
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"}], tools=[CHAT_TOOL]),
    "function result in parts": lambda c: c.text(input=[USER, CALL, RESULT | {"output": [
        {"type": "input_text", "text": "sunny"}]}], tools=[TOOL]) == c.text(input=[USER, CALL, RESULT], tools=[TOOL]),
    "parallel calls": lambda c: isinstance(c.text(input=[USER, CALL, CALL | {"call_id": "c2"}, RESULT,
        RESULT | {"call_id": "c2"}], tools=[TOOL]), str),
    "function again": lambda c: isinstance(c.text(input=[USER, *c.called().output, RESULT | {
        "call_id": c.called().output[0].call_id}], tools=[TOOL]), str),
    "function streamed": lambda c: is_call(c.events(tools=[TOOL], tool_choice="required",
        max_output_tokens=200)[-1].response),
    "function arguments streamed": lambda c: tells_arguments(c.events(tools=[TOOL], tool_choice="required",
        max_output_tokens=200)),
    "function helper": lambda c: is_call(c.followed(tools=[TOOL], tool_choice="required", max_output_tokens=200)),
    "json_object": lambda c: c.text(text={"format": {"type": "json_object"}}, max_output_tokens=20).startswith("{"),
    "json_schema": lambda c: Answer.model_validate_json(c.text(text={"format": {"type": "json_schema", "name": "answer",
        "schema": SCHEMA, "strict": True}}, max_output_tokens=60)),
    "json parse": lambda c: isinstance(c.client.responses.parse(model="tiny", input="a", max_output_tokens=60,
        text_format=Answer).output_parsed, Answer),
    "refused previous": lambda c: c.refused("stores no responses", previous_response_id="resp_1"),
    "refused reference": lambda c: c.refused("stores no responses", input=[{"type": "item_reference", "id": "x"}]),
    "refused tool": lambda c: c.refused("'web_search'", tools=[{"type": "web_search"}]),
    "refused image": lambda c: c.refused("'input_image'", input=[{"role": "user", "content": [
        {"type": "input_image", "image_url": "x", "detail": "auto"}]}]),
    "refused format": lambda c: c.refused("text.format", text={"format": {"type": "json_schema"}}),
    "refused store": lambda c: c.refused("store must be", store=True),
    "refused choice": lambda c: c.refused("not in tools", tools=[TOOL], tool_choice={"type": "function", "name": "x"}),
    "refused length": lambda c: c.refused("context length", input="x" * 5000),
}  # fmt: skip
CHAT_TOOL = {
    "type": "function",
    "function": {name: TOOL[name] for name in ("name", "description", "parameters", "strict")},
}


def numbered(events: list[Any]) -> bool:
    return [event.sequence_number for event in events] == list(range(len(events)))


def tells_arguments(events: list[Any]) -> bool:
    told = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    return told == events[-1].response.output[0].arguments and closes(events)


def closes(events: list[Any]) -> bool:
    """Every item and part that was added is done, once, and the last event has the same items."""
    added = [event.item.id for event in events if event.type == "response.output_item.added"]
    done = [event.item.id for event in events if event.type == "response.output_item.done"]
    parts = [sum(event.type == f"response.content_part.{end}" for event in events) for end in ("added", "done")]
    return added == done == [item.id for item in events[-1].response.output] and parts[0] == parts[1]


@pytest.fixture(scope="module")
def client(start) -> Iterator[Client]:
    config = EngineConfig(num_blocks=256, batch_invariant=True)
    with start(config=config) as server, httpx.Client(trust_env=False) as http:
        yield Client(openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=http))


@pytest.mark.parametrize("name", CALLS)
def test_the_official_client_gets_what_it_expects(client, name):
    if name.startswith(("function", "json")):
        pytest.importorskip("llguidance", reason="constrained output needs llguidance")
    assert CALLS[name](client)


def test_the_official_client_knows_every_event(client):
    """The client turns an event that it does not know into no class of its own."""
    for event in client.events(tools=[TOOL]):
        assert type(event).__module__.startswith("openai.types.responses") and event.type.startswith("response.")


def test_an_answer_that_the_filter_stops_is_incomplete(start):
    with start(guard=lambda text: "blocked" if len(text) > 12 else None) as server:
        http = httpx.Client(trust_env=False)
        client = Client(openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=http))
        response = client.create(input="a", max_output_tokens=400)
        assert response.status == "incomplete" and response.incomplete_details.reason == "content_filter"
        assert response.output[-1].content[-1].refusal == "blocked"
        assert closes(client.events(input="a", max_output_tokens=400))
        http.close()


def test_thoughts_are_an_item_before_the_message():
    """The pieces of a model that thinks, whole and as events."""
    from qianwen.serve.response_events import ResponseAnswer
    from qianwen.serve.responses_protocol import ResponsesRequest

    def piece(reason: str | None = None, **delta: str) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}

    usage = {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    pieces = [piece(reasoning_content="so "), piece(reasoning_content="be it"), piece(content="Yes"), piece("stop")]
    answer = ResponseAnswer(ResponsesRequest(model="tiny", input="a"), "tiny").completion(pieces, usage)
    response = openai.types.responses.Response.model_validate(answer)
    thoughts, message = response.output
    assert (thoughts.type, thoughts.content[0].text, message.content[0].text) == ("reasoning", "so be it", "Yes")
    assert response.output_text == "Yes" and response.usage.output_tokens_details.reasoning_tokens == 1
