"""The model of a command that only chats: one that runs here, or one behind an OpenAI-compatible URL."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qianwen.cli.eval_model import KEY_VARIABLE

if TYPE_CHECKING:
    from qianwen.chat.model import ChatModel


@contextmanager
def opened_chat_model(name: str, url: str, concurrency: int) -> Iterator["ChatModel"]:
    """The model `name` here, for `concurrency` requests at the same time; with `url`, the one that server knows."""
    if not url:
        from qianwen.engine.llm import LLM
        from qianwen.engine.llm_engine import EngineConfig

        yield LLM.load(name, config=EngineConfig(max_num_seqs=concurrency))
        return

    from qianwen.chat.client import ChatClient
    from qianwen.eval.remote import connect

    with ChatClient(url, name, os.environ.get(KEY_VARIABLE)) as client:
        yield connect(client)
