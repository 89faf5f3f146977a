"""`ChatClient`: a `ChatModel` behind an OpenAI-compatible URL, such as `qianwen serve` or a hosted model.

>>> with ChatClient("http://127.0.0.1:8000/v1", "qwen") as model:
...     for delta in model.chat([Message("user", "你好")], temperature=0):
...         print(delta.text, end="")

The request is sent when the iterator is first read, and cancelled when the iterator is closed. Before the first delta,
the request is retried after a failed connection or a status 429, 500, 502, 503 or 504. The pause before each retry
doubles and is never shorter than the server's Retry-After. After the first delta there is no retry, because text that
was yielded cannot be taken back. It does not retry after `timeout` seconds without data, because the server may
still be computing.

The API key is sent to the host of the URL only: redirects are not followed, and a proxy from the environment is used
for https only, where it cannot read the request. `chat/sse.py` reads the event stream.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx

from qianwen.chat.messages import FunctionSpec, Message, to_openai
from qianwen.chat.model import (
    TOOL_CHOICES,
    Delta,
    ResponseFormat,
    ToolChoice,
    check_response_format,
    check_sampling_names,
    forced_functions,
)
from qianwen.chat.sse import ReplyAssembler, server_error, server_events
from qianwen.runtime.errors import ConfigError, RequestError
from qianwen.runtime.translation import tr

RETRIED_STATUS = frozenset((429, 500, 502, 503, 504))
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0  # seconds before a retry; doubled each time, with jitter
LONGEST_RETRY_AFTER = 60.0  # seconds; if the server asks for more, the error is raised at once
SAMPLING = (
    *("temperature", "top_p", "max_tokens", "seed", "presence_penalty", "frequency_penalty", "logit_bias"),
    *(
        "top_k",
        "min_p",
        "repetition_penalty",
        "stop_token_ids",
        "ignore_eos",
    ),  # not in OpenAI's API, but accepted by most local servers
)


class ChatClient:
    """`chat` as in `ChatModel`. Threads may share one client, each thread with its own conversation."""

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str | None = None,
        *,
        timeout: float = 120.0,
        connect_timeout: float = 10.0,
        retries: int = 4,
    ) -> None:
        """`url` is what OpenAI's clients call the base URL; it usually ends in `/v1`. Times are in seconds."""
        self.model, self.retries = model, retries
        self._timeout = timeout
        base = _base_url(url)
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise ConfigError(
                tr("the API key contains characters that are not allowed in an HTTP header, such as a line end")
            )
        self._url = base.copy_with(path=base.path.rstrip("/") + "/chat/completions")
        self._http = httpx.Client(
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(timeout, connect=connect_timeout, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
            follow_redirects=False,
            trust_env=base.scheme == "https",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def chat(
        self,
        messages: Sequence[Message],
        functions: Sequence[FunctionSpec] = (),
        *,
        tool_choice: ToolChoice = "auto",
        response_format: ResponseFormat = None,
        stop: Sequence[str] = (),
        function_style: str | None = None,
        **sampling: Any,
    ) -> Iterator[Delta]:
        """Stream the assistant's reply; `SAMPLING` lists the allowed sampling parameters.

        `function_style` chooses how functions are written into the prompt; only `qianwen serve` knows it.
        """
        body = {
            "model": self.model,
            "messages": [to_openai(message) for message in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **_tools(functions, tool_choice),
            **_response_format(response_format),
            **_sampling(sampling),
        }
        if function_style is not None:
            body["chat_template_kwargs"] = {"function_style": function_style}
        if stop:
            body["stop"] = [stop] if isinstance(stop, str) else list(stop)
        return self._with_retries(json.dumps(body).encode())

    def _with_retries(self, body: bytes) -> Iterator[Delta]:
        for attempt in range(self.retries + 1):
            has_deltas = False
            try:
                with closing(self._deltas(body)) as deltas:
                    for delta in deltas:
                        has_deltas = True
                        yield delta
                return
            except httpx.HTTPError as error:
                wait = None if has_deltas or attempt == self.retries else _wait(error, attempt)
                if wait is None:
                    raise self._request_error(error, has_deltas) from error
            time.sleep(wait)

    def _deltas(self, body: bytes) -> Generator[Delta, None, None]:
        """One attempt. Closing the generator early closes the connection, and the server then cancels the request."""
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        with self._http.stream("POST", self._url, content=body, headers=headers) as response:
            if not response.is_success:
                response.read()
                response.raise_for_status()
            content_type = response.headers.get("content-type", "")
            if not content_type.startswith("text/event-stream"):
                message = "{url} must answer with an event stream (text/event-stream); got content type {type!r}"
                raise RequestError(tr(message, url=self._url, type=content_type), status=502)
            assembler = ReplyAssembler()
            for event in server_events(response.iter_bytes()):
                yield from assembler.feed(event)
            yield from assembler.finish()

    def _request_error(self, error: httpx.HTTPError, has_deltas: bool) -> RequestError:
        """The error with the server's own message, if it sent one."""
        if isinstance(error, httpx.HTTPStatusError):
            response = error.response
            if response.is_redirect:
                message = "{url} redirects to {location}; use that URL if you trust it"
                location = response.headers.get("location", "?")
                return RequestError(tr(message, url=self._url, location=location), status=502)
            return server_error(response.status_code, response.content, _retry_after(response))
        if isinstance(error, httpx.ReadTimeout):
            message = tr(
                "{url} sent no data for {seconds:g} s; raise the timeout if the server is slow",
                url=self._url,
                seconds=self._timeout,
            )
            return RequestError(message, status=504, code="timeout")
        reason = str(error) or type(error).__name__
        message = tr("cannot connect to {url}: {reason}", url=self._url, reason=reason)
        if has_deltas:
            message = tr("the connection to {url} was lost during the answer: {reason}", url=self._url, reason=reason)
        return RequestError(message, status=502, code="connection_error")


def _base_url(url: str) -> httpx.URL:
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL:
        base = httpx.URL()
    if base.scheme not in ("http", "https") or not base.host or base.userinfo:
        raise ConfigError(tr("{url} is not a URL such as http://127.0.0.1:8000/v1", url=url))
    return base


def _tools(functions: Sequence[FunctionSpec], tool_choice: ToolChoice) -> dict[str, Any]:
    forced_functions(functions, tool_choice)
    if not functions:
        return {}
    tools = [function.to_openai() for function in functions]
    if tool_choice in TOOL_CHOICES:
        return {"tools": tools, "tool_choice": tool_choice}
    return {"tools": tools, "tool_choice": {"type": "function", "function": {"name": tool_choice}}}


def _response_format(response_format: ResponseFormat) -> dict[str, Any]:
    check_response_format(response_format)
    if response_format is None:
        return {}
    if isinstance(response_format, str):
        return {"response_format": {"type": response_format}}
    schema = {"name": "response", "schema": dict(response_format), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _sampling(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are set; for None the server uses its own default. RequestError for an unknown name."""
    check_sampling_names(sampling, SAMPLING)
    return {name: value for name, value in sampling.items() if value is not None}


def _wait(error: httpx.HTTPError, attempt: int) -> float | None:
    """Seconds before the next attempt; None if the request is not sent again."""
    wait = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1.0)
    if not isinstance(error, httpx.HTTPStatusError):
        return wait if isinstance(error, httpx.TransportError) and not isinstance(error, httpx.ReadTimeout) else None
    if error.response.status_code not in RETRIED_STATUS:
        return None
    retry_after = _retry_after(error.response) or 0.0
    return retry_after + wait if retry_after <= LONGEST_RETRY_AFTER else None


def _retry_after(response: httpx.Response) -> float | None:
    """The header Retry-After in seconds; its value is a number of seconds or a date."""
    value = response.headers.get("retry-after", "")
    with suppress(ValueError):
        return max(float(value), 0.0)
    with suppress(TypeError, ValueError):
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    return None
