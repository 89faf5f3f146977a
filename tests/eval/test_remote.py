"""A server is tried before the first question, and its limits are respected."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from qianwen.chat import Delta, Message
from qianwen.eval.ask import GREEDY
from qianwen.eval.remote import NOT_OPENAI, OpenAISampling, connect
from qianwen.runtime.errors import RequestError


class Server:
    """Stands for a ChatClient: it fails with `status`, or refuses the fields that OpenAI's API does not have."""

    def __init__(self, status: int = 0, *, is_strict: bool = False) -> None:
        self.status, self.is_strict = status, is_strict
        self.options: list[dict[str, Any]] = []

    def chat(self, messages: Sequence[Message], functions=(), **options: Any) -> Iterator[Delta]:
        self.options.append(options)
        if self.status:
            raise RequestError("no", status=self.status)
        if self.is_strict and set(options) & set(NOT_OPENAI):
            raise RequestError("unknown field", status=400)
        yield Delta(text="1", finish_reason="stop")


def test_a_server_that_takes_everything_is_used_as_it_is() -> None:
    server = Server()
    assert connect(server) is server and len(server.options) == 1  # type: ignore[arg-type, comparison-overlap]


def test_a_server_with_the_fields_of_openai_only_gets_no_others() -> None:
    server = Server(is_strict=True)
    model = connect(server)  # type: ignore[arg-type]
    assert isinstance(model, OpenAISampling)
    list(model.chat([Message("user", "q")], stop=("x",), **GREEDY, max_tokens=5))
    assert server.options[-1] == {
        "stop": ("x",), "max_tokens": 5, "temperature": 0.0, "top_p": 1.0,
        "presence_penalty": 0.0, "frequency_penalty": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 502, 504])
def test_a_server_that_does_not_answer_is_an_error_before_the_first_question(status: int) -> None:
    with pytest.raises(RequestError) as caught:
        connect(Server(status))  # type: ignore[arg-type]
    assert caught.value.status == status
