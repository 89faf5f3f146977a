"""Operations of a web service as tools: the request that is made, the secrets, and what is not supported."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from qianwen.agents.tool import CallContext, Observation, Tool
from qianwen.agents.tools.openapi import openapi
from qianwen.chat.json_schema import satisfies
from qianwen.runtime.errors import ConfigError, ToolError

CONTEXT = CallContext("key-1", Path("."), 5.0)


def schema(server: str, **paths: Any) -> dict[str, Any]:
    return {
        "openapi": "3.0.3",
        "servers": [{"url": server}],
        "paths": {"/echo/{city}": {
            "parameters": [{"name": "city", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {
                "operationId": "get.weather",
                "summary": "The weather of a city.",
                "parameters": [
                    {"$ref": "#/components/parameters/Days"},
                    {"name": "tags", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {"name": "flat", "in": "query", "explode": False, "schema": {"type": "array"}},
                    {"name": "where", "in": "query", "schema": {"type": "object"}},
                    {"name": "X-Unit", "in": "header", "schema": {"type": "string"}},
                    {"name": "Authorization", "in": "header", "schema": {"type": "string"}},
                    {"name": "city", "in": "query", "schema": {"type": "string"}},
                    {"name": "session", "in": "cookie", "schema": {"type": "string"}},
                ],
            },
            "post": {"requestBody": {"required": True, "content": {"application/json": {
                "schema": {"$ref": "#/components/schemas/Report"}}}}},
        }, **paths},
        "components": {
            "parameters": {"Days": {"name": "days", "in": "query", "description": "how many",
                                    "schema": {"type": "integer"}}},
            "schemas": {"Report": {"type": "object", "required": ["text"], "properties": {
                "text": {"type": "string"}, "reply": {"$ref": "#/components/schemas/Report"}}}},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-Key"},
                "word": {"type": "apiKey", "in": "query", "name": "word"},
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "c"},
            },
        },
    }  # fmt: skip


def tools(web, document: dict[str, Any] | None = None, **options: Any) -> dict[str, Tool]:
    made = openapi(document or schema(web.url), allowed=[web.host], **options)
    return {tool.name: tool for tool in made}


def echoed(observation: Observation) -> dict[str, Any]:
    assert not observation.is_error
    return json.loads(observation.text)


def test_every_operation_is_a_tool_with_its_effect_and_schema(web):
    made = tools(web)
    assert {name: tool.effect for name, tool in made.items()} == {"get_weather": "sends", "post_echo_city": "changes"}
    weather = made["get_weather"].spec
    assert weather.description == "The weather of a city."
    assert weather.parameters["required"] == ["city"]
    assert weather.parameters["properties"]["days"] == {"type": "integer", "description": "how many"}
    assert set(weather.parameters["properties"]) == {"city", "days", "tags", "flat", "where", "X-Unit", "query_city"}
    assert "$ref" not in json.dumps(made["post_echo_city"].spec.parameters)
    assert satisfies(
        {"city": "x", "body": {"text": "a", "reply": {"text": "b"}}}, made["post_echo_city"].spec.parameters
    )
    assert not satisfies({"city": "x", "body": {"reply": {}}}, made["post_echo_city"].spec.parameters)
    assert not any(tool.is_trusted for tool in made.values())


def test_parameters_are_sent_where_they_belong(web):
    arguments = {"city": "北京/../x?y#z", "days": 3, "tags": ["a", "b&c"], "flat": [1, 2], "where": {"q": True},
                 "X-Unit": "celsius", "query_city": "other"}  # fmt: skip
    request = echoed(tools(web)["get_weather"].run(arguments, CONTEXT))
    assert request["path"] == (
        "/echo/%E5%8C%97%E4%BA%AC%2F..%2Fx%3Fy%23z?days=3&tags=a&tags=b%26c&flat=1%2C2&q=true&city=other"
    )
    assert request["headers"]["X-Unit"] == "celsius"
    assert "Idempotency-Key" not in request["headers"]


def test_a_body_is_sent_as_json_with_the_key_of_the_call(web):
    request = echoed(tools(web)["post_echo_city"].run({"city": "x", "body": {"text": "热"}}, CONTEXT))
    assert (request["method"], json.loads(request["body"])) == ("POST", {"text": "热"})
    assert request["headers"]["Content-Type"] == "application/json"
    assert request["headers"]["Idempotency-Key"] == "key-1"


def test_secrets_are_sent_as_the_schema_says(web, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "t0ken")
    made = tools(web, secrets={"key": "k", "word": "w", "token": "$MY_TOKEN"})
    request = echoed(made["get_weather"].run({"city": "x"}, CONTEXT))
    assert request["headers"]["X-Key"] == "k"
    assert request["headers"]["Authorization"] == "Bearer t0ken"
    assert request["path"] == "/echo/x?word=w"
    assert "t0ken" not in str(made["get_weather"].spec)


@pytest.mark.parametrize("method", ["get", "post"])
def test_secrets_reach_no_other_host(method: str, web, trap):
    document = schema(web.url, **{"/away": {method: {"operationId": "away"}}})
    (away,) = openapi(document, allowed=["127.0.0.1"], secrets={"key": "k", "word": "w"}, operations=["away"])
    if method == "get":
        assert "first drunk" in away.run({}, CONTEXT).text  # to the same host
    web.away = f"http://127.0.0.1:{trap.port}/"
    if method == "get":
        with pytest.raises(ToolError, match="must not get"):
            away.run({}, CONTEXT)
    else:
        assert away.run({}, CONTEXT).text.startswith("HTTP 307")
    assert trap.connections() == 0


@pytest.mark.parametrize(
    ("secrets", "reason"),
    [
        ({"nothing": "k"}, "no secret nothing"),
        ({"cookie": "k"}, "no secret cookie"),
        ({"key": "$UNSET_NAME"}, "UNSET_NAME"),
    ],
)
def test_secrets_that_cannot_be_sent_are_refused(secrets: dict[str, str], reason: str, web):
    with pytest.raises(ConfigError, match=reason):
        tools(web, secrets=secrets)


def test_secrets_are_not_sent_without_encryption():
    with pytest.raises(ConfigError, match="https only"):
        openapi(schema("http://api.example/v1"), secrets={"key": "k"})
    assert openapi(schema("https://api.example/v1"), secrets={"key": "k"})


def test_a_service_that_is_not_public_must_be_allowed(web):
    made = {tool.name: tool for tool in openapi(schema(web.url))}
    with pytest.raises(ToolError, match="not public"):
        made["get_weather"].run({"city": "x"}, CONTEXT)
    assert web.requests == []


def test_errors_of_the_service_are_results_with_the_status(web):
    made = tools(web, schema(web.url, **{"/missing": {"get": {}}}))
    result = made["get_missing"].run({}, CONTEXT)
    assert result.is_error
    assert result.text.startswith("HTTP 404\n")


@pytest.mark.parametrize("city", ["", ".", ".."])
def test_a_part_of_a_path_that_would_be_another_path_is_refused(city: str, web):
    with pytest.raises(ToolError, match="city"):
        tools(web)["get_weather"].run({"city": city}, CONTEXT)


def test_operations_can_be_chosen(web):
    assert list(tools(web, operations=["get_weather"])) == ["get_weather"]
    with pytest.raises(ConfigError, match="no operation weather; it has get_weather"):
        tools(web, operations=["weather"])


def changed(**changes: Any) -> dict[str, Any]:
    return {**schema("https://a.example"), **changes}


UPLOAD = {"post": {"requestBody": {"required": True, "content": {"multipart/form-data": {}}}}}
COOKIE = {"get": {"parameters": [{"name": "c", "in": "cookie", "required": True}]}}
TWICE = {"get": {"operationId": "x"}, "post": {"operationId": "x"}}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"swagger": "2.0"}, "not an OpenAPI 3"),
        ({}, "not an OpenAPI 3"),
        (changed(servers=[]), "no server"),
        (changed(servers=[{"url": "/v1"}]), "no server"),
        (changed(servers=[{"url": "file:///etc"}]), "no server"),
        (changed(paths={"/x": UPLOAD}), "multipart"),
        (changed(paths={"/x": COOKIE}), "cookie c"),
        (changed(paths={"/x": TWICE}), "two operations"),
        (changed(paths={"/x": {"get": {"servers": [{"url": "https://evil.example"}]}}}), "server of its own"),
        (changed(paths={"/x": {"get": {"parameters": [{"$ref": "#/nowhere"}]}}}), "#/nowhere"),
        (changed(paths={"/x": {"get": {"parameters": [{"$ref": "other.json#/x"}]}}}), "other.json"),
    ],
)
def test_what_is_not_supported_is_named(document: dict[str, Any], reason: str):
    with pytest.raises(ConfigError, match=reason):
        openapi(document)


def test_a_schema_is_read_from_a_file(tmp_path: Path, web):
    path = tmp_path / "shop.json"
    path.write_text(json.dumps(schema("https://{host}/v1") | {
        "servers": [{"url": "https://{host}/v1", "variables": {"host": {"default": "a.example"}}}]}))  # fmt: skip
    assert len(openapi(path)) == 2
    assert echoed(tools(web, json.loads(path.read_text()), server=web.url)["get_weather"].run({"city": "x"}, CONTEXT))
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(json.loads(path.read_text())))
    assert [tool.spec for tool in openapi(tmp_path / "shop.yaml")] == [tool.spec for tool in openapi(path)]
    for broken in ("openapi: [3.0.0", "- 3", "a: &x [1]\nb: *x", "", "{1: 2}"):
        (tmp_path / "broken.yaml").write_text(broken)
        with pytest.raises(ConfigError, match="neither JSON nor YAML"):
            openapi(tmp_path / "broken.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        openapi(tmp_path / "missing.json")
