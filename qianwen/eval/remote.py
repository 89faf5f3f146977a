"""A model behind an OpenAI-compatible URL, checked before the first question.

One short request shows whether the server is there, the key is right and the model is known. It also shows whether the
server knows the sampling parameters that OpenAI's API does not have. A server that refuses them has its own values for
them, so the settings of the results say so.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from qianwen.chat.client import ChatClient
from qianwen.chat.messages import FunctionSpec, Message
from qianwen.chat.model import Delta
from qianwen.eval.ask import GREEDY
from qianwen.runtime.errors import RequestError

NOT_OPENAI = ("top_k", "min_p", "repetition_penalty")
QUESTION = [Message("user", "1")]


class OpenAISampling:
    """A `ChatModel` that leaves out what OpenAI's API does not have."""

    def __init__(self, client: ChatClient) -> None:
        self._client = client

    def chat(
        self, messages: Sequence[Message], functions: Sequence[FunctionSpec] = (), **options: Any
    ) -> Iterator[Delta]:
        known = {name: value for name, value in options.items() if name not in NOT_OPENAI}
        return self._client.chat(messages, functions, **known)


def connect(client: ChatClient) -> ChatClient | OpenAISampling:
    """`client`, if its server answers. RequestError if it does not."""
    try:
        list(client.chat(QUESTION, **GREEDY, max_tokens=1))
        return client
    except RequestError as error:
        if error.status not in (400, 422):
            raise
    plain = OpenAISampling(client)
    list(plain.chat(QUESTION, **GREEDY, max_tokens=1))
    return plain
