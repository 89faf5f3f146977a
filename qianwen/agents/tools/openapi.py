"""Tools from an OpenAPI 3 schema in JSON: every operation of a web service is a tool.

GET and HEAD have the effect `sends`, everything else `changes`. Requests go through the guard (`fetch_guard.py`), so a
service that is not public must be allowed by name. Secrets that the user gives are sent to the host of the schema
alone: no redirect takes a request elsewhere.

Read are parameters in path, query and header, and a body in JSON. An operation that needs something else, such as a
cookie or an uploaded file, is an error that names it; `operations` chooses those that are wanted.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode

from qianwen.agents.fetch_guard import Guard, Method
from qianwen.agents.tool import CallContext, Observation, Tool
from qianwen.agents.tools.documents import decode
from qianwen.agents.web_address import read_address
from qianwen.chat.messages import FunctionSpec
from qianwen.runtime.errors import ConfigError, ToolError, excerpt
from qianwen.runtime.translation import tr

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
MAX_REFERENCES = 12  # one inside the other; a schema that contains itself is cut there
OWN_HEADERS = frozenset(("accept", "content-type", "authorization", "host", "cookie", "content-length", "connection"))


@dataclass(frozen=True)
class Field:
    """A parameter: its name in the tool, its name in the request, where it is sent, and whether a list is repeated."""

    name: str
    sent: str
    place: str  # path, query, header or body
    schema: Mapping[str, Any]
    is_required: bool
    is_repeated: bool = True


def openapi(
    schema: str | Path | Mapping[str, Any],
    *,
    server: str = "",
    operations: Sequence[str] | None = None,
    secrets: Mapping[str, str] | None = None,
    allowed: Sequence[str] = (),
) -> Sequence[Tool]:
    """The tools of a schema: its path, or the schema itself.

    `server` replaces the address in the schema. `operations` are the names of those that are wanted; without it, all.
    `secrets` are values by the names of the schema's `securitySchemes`; "$NAME" is read from the environment.
    """
    document = schema if isinstance(schema, Mapping) else _read(Path(schema))
    if not str(document.get("openapi", "")).startswith("3."):
        raise ConfigError(tr("{schema} is not an OpenAPI 3 schema", schema=excerpt(str(schema)[:60])))
    address = _server(document, server)
    credentials = _credentials(document, secrets or {}, address, allowed)
    guard, tools = Guard(allowed=tuple(allowed)), []
    for name, method, path, operation in _operations(document):
        if operations is None or name in operations:
            fields = _fields(document, name, operation)
            tools.append(
                _tool(guard, (address, path), cast(Method, method.upper()), (name, operation), fields, credentials)
            )
    if missing := set(operations or ()) - {tool.name for tool in tools}:
        known = ", ".join(name for name, *_ in _operations(document))
        raise ConfigError(tr("the schema has no operation {name}; it has {names}", name=min(missing), names=known))
    return tuple(tools)


def _read(path: Path) -> Mapping[str, Any]:
    """A schema in JSON or YAML. What JSON does not have, such as dates and numbers as names, becomes text."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise ConfigError(tr("cannot read {path}: {reason}", path=path, reason=error.strerror)) from None
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else _yaml(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ConfigError(tr("{path} is neither JSON nor YAML with fields", path=path))
    return document


def _yaml(text: str) -> Any:
    """ValueError for YAML with mistakes, or with aliases, which can stand for gigabytes in a few lines."""
    try:
        import yaml
    except ImportError:
        raise ConfigError(tr("a schema in YAML needs pyyaml: pip install 'qianwen[agents]'")) from None
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("alias")
        return json.loads(json.dumps(yaml.safe_load(text), default=str))
    except (yaml.YAMLError, TypeError) as error:
        raise ValueError(str(error)) from None


def _server(document: Mapping[str, Any], server: str) -> str:
    """The address that all paths are below."""
    if not server:
        entry: Mapping[str, Any] = next(iter(document.get("servers") or []), {})
        server = str(entry.get("url", ""))
        for name, variable in (entry.get("variables") or {}).items():
            server = server.replace(f"{{{name}}}", str(variable.get("default", "")))
    try:
        return str(read_address(server)).rstrip("/")
    except ToolError:
        message = "the schema names no server that can be used ({server}); pass server='https://host'"
        raise ConfigError(tr(message, server=excerpt(server))) from None


def _credentials(
    document: Mapping[str, Any], secrets: Mapping[str, str], server: str, allowed: Sequence[str]
) -> list[tuple[str, str, str]]:
    """Place (header or query), name and value of each secret."""
    address, found = read_address(server), []
    if secrets and address.scheme != "https" and not {address.host, f"{address.host}:{address.port}"} & set(allowed):
        raise ConfigError(tr("secrets are sent over https only, and {server} is http", server=server))
    schemes = (document.get("components") or {}).get("securitySchemes") or {}
    for name, value in secrets.items():
        if value.startswith("$"):
            value = os.environ.get(value[1:]) or _missing(value[1:])
        match _resolved(document, schemes.get(name)):
            case {"type": "apiKey", "in": ("header" | "query") as place, "name": str() as sent}:
                found.append((place, sent, value))
            case {"type": "http", "scheme": str() as scheme} if scheme.lower() in ("bearer", "basic"):
                found.append(("header", "Authorization", f"{scheme.capitalize()} {value}"))
            case {"type": "oauth2" | "openIdConnect"}:
                found.append(("header", "Authorization", f"Bearer {value}"))
            case _:
                names = ", ".join(schemes) or "-"
                raise ConfigError(
                    tr("the schema has no secret {name} that can be sent; it has {names}", name=name, names=names)
                )
    return found


def _missing(name: str) -> str:
    raise ConfigError(tr("the environment variable {name} is not set", name=name))


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Name, method, path and description of each operation; parameters of its path are added to its own."""
    seen: set[str] = set()
    for path, item in (document.get("paths") or {}).items():
        item = _resolved(document, item)
        for method in METHODS:
            if isinstance(operation := item.get(method), Mapping):
                if operation.get("servers") or item.get("servers"):
                    raise ConfigError(tr("{path} has a server of its own, which is not supported", path=path))
                name = re.sub(r"\W+", "_", str(operation.get("operationId") or f"{method}{path}"), flags=re.ASCII)
                name = name.strip("_")[:64]
                if name in seen:
                    raise ConfigError(tr("two operations have the name {name}", name=name))
                seen.add(name)
                parameters = [*(item.get("parameters") or []), *(operation.get("parameters") or [])]
                yield name, method, path, {**operation, "parameters": parameters}


def _resolved(document: Mapping[str, Any], part: Any) -> Any:
    """A part of the schema, looked up where it is a reference."""
    for _ in range(MAX_REFERENCES):
        if not isinstance(part, Mapping) or not isinstance(reference := part.get("$ref"), str):
            return part if part is not None else {}
        part = document if reference.startswith("#/") else None
        for name in reference[2:].split("/"):
            part = part.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(part, Mapping) else None
        if part is None:
            raise ConfigError(tr("the schema has no part {reference}", reference=excerpt(reference)))
    return {}


def _whole(document: Mapping[str, Any], part: Any, depth: int = 0) -> Any:
    """A JSON schema without references."""
    if isinstance(part, list):
        return [_whole(document, item, depth) for item in part]
    if not isinstance(part, Mapping):
        return part
    if "$ref" in part:
        return _whole(document, _resolved(document, part), depth + 1) if depth < MAX_REFERENCES else {}
    return {name: _whole(document, value, depth) for name, value in part.items() if name not in ("example", "xml")}


def _fields(document: Mapping[str, Any], name: str, operation: Mapping[str, Any]) -> list[Field]:
    """The parameters of an operation and its body; a later one replaces an earlier one of the same name and place."""
    fields: dict[tuple[str, str], Field] = {}
    for entry in operation["parameters"]:
        entry = _resolved(document, entry)
        place, sent = entry.get("in"), str(entry.get("name"))
        if place == "header" and sent.lower() in OWN_HEADERS:
            continue  # OpenAPI says that these are not parameters
        if place not in ("path", "query", "header"):
            if not entry.get("required"):
                continue
            raise ConfigError(
                tr("operation {name} needs {what}, which is not supported", name=name, what=f"{place} {sent}")
            )
        schema = {**_whole(document, entry.get("schema") or {})}
        schema |= {"description": text} if (text := entry.get("description")) else {}
        own_name = (
            sent
            if sent not in {field.name for key, field in fields.items() if key != (place, sent)}
            else f"{place}_{sent}"
        )
        is_required = bool(entry.get("required")) or place == "path"
        fields[place, sent] = Field(own_name, sent, place, schema, is_required, entry.get("explode", True))
    if body := _resolved(document, operation.get("requestBody")):
        content = body.get("content") or {}
        kind = next((kind for kind in content if re.match(r"application/([\w.+-]+\+)?json\b|\*/\*", kind)), None)
        if kind is None and body.get("required"):
            raise ConfigError(
                tr("operation {name} needs {what}, which is not supported", name=name, what=", ".join(content))
            )
        if kind is not None:
            schema = _whole(document, content[kind].get("schema") or {})
            fields["body", ""] = Field("body", kind, "body", schema, bool(body.get("required")))
    return list(fields.values())


def _tool(
    guard: Guard,
    place: tuple[str, str],
    method: Method,
    described: tuple[str, Mapping[str, Any]],
    fields: Sequence[Field],
    credentials: Sequence[tuple[str, str, str]],
) -> Tool:
    name, operation = described

    def run(arguments: Mapping[str, Any], context: CallContext) -> Observation:
        path, query, headers, content = _request(place[1], fields, arguments)
        query += [(sent, value) for where, sent, value in credentials if where == "query"]
        headers |= {sent: value for where, sent, value in credentials if where == "header"}
        if method not in ("GET", "HEAD"):
            headers["Idempotency-Key"] = context.key  # the same when an interrupted call is made again
        url = place[0] + path + (f"?{urlencode(query)}" if query else "")
        page = guard.fetch(
            url, method=method, headers=headers, content=content, seconds=context.seconds, same_origin=True
        )
        text = decode(page.body)
        text = f"({len(page.body):,} bytes that are not text)" if text is None else text
        return Observation(text if page.status < 300 else f"HTTP {page.status}\n{text}", is_error=page.status >= 300)

    properties = {field.name: field.schema for field in fields}
    required = [field.name for field in fields if field.is_required]
    parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    texts = (operation.get("summary"), operation.get("description"))
    description = "\n".join(dict.fromkeys(text for text in texts if text)) or f"{method} {place[1]}"
    effect = "sends" if method in ("GET", "HEAD") else "changes"
    return Tool(spec=FunctionSpec(name, description, parameters), run=run, effect=effect)


def _request(
    path: str, fields: Sequence[Field], arguments: Mapping[str, Any]
) -> tuple[str, list[tuple[str, str]], dict[str, str], bytes | None]:
    """Path, query, headers and body of a call."""
    query: list[tuple[str, str]] = []
    headers: dict[str, str] = {"Accept": "application/json, text/*;q=0.9, */*;q=0.5"}
    content = None
    for field in fields:
        if field.name not in arguments:
            continue
        value = arguments[field.name]
        if field.place == "body":
            content = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
            headers["Content-Type"] = field.sent if "*" not in field.sent else "application/json"
        elif field.place == "query":
            items = value if isinstance(value, list) and field.is_repeated else [value]
            pairs = value.items() if isinstance(value, dict) else [(field.sent, item) for item in items]
            query += [(name, _text(item)) for name, item in pairs]
        elif field.place == "header":
            headers[field.sent] = _text(value)
        else:
            text = _text(value)
            if text in ("", ".", ".."):  # would be another path
                raise ToolError(tr("argument {name} is wrong: {reason}", name=field.name, reason=excerpt(text)))
            path = path.replace(f"{{{field.sent}}}", quote(text, safe=""))
    return path, query, headers, content


def _text(value: Any) -> str:
    """A value in a path, query or header: lists with commas, truth values as JSON writes them."""
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
