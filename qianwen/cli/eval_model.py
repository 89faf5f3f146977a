"""The model of `qianwen eval`: one that runs here, or one behind a URL, with the settings that its results hold."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.chat.model import ChatModel
    from qianwen.cli.eval import EvalOptions
    from qianwen.engine.llm import LLM
    from qianwen.eval.task import PromptModel

KEY_VARIABLE = "QIANWEN_KEY"  # the environment variable with the API key for --url


def no_check(_: "ChatModel") -> None:
    """For tasks that are checked one by one."""


@contextmanager
def opened_model(
    options: "EvalOptions", check: Callable[["ChatModel"], None] = no_check
) -> Iterator[tuple["ChatModel", dict[str, Any]]]:
    """The model and its settings. `check` raises for a model that cannot do the tasks, before a URL is asked."""
    from qianwen.eval.provenance import model_settings, url_settings

    if not options.url:
        llm = local_model(options)
        yield llm, model_settings(llm, options.model, options.bits)
        return

    from qianwen.chat.client import ChatClient
    from qianwen.eval.remote import connect

    if options.exact or options.bits != "stored" or options.context:
        raise ConfigError(tr("--exact, --bits and --context are settings of the server; start it with them"))
    with ChatClient(options.url, options.model, os.environ.get(KEY_VARIABLE)) as client:
        check(client)
        model = connect(client)
        yield model, url_settings(options.model, options.url, model)


def local_model(options: "EvalOptions") -> "LLM":
    """The model in an engine of the size that the options give."""
    from qianwen.engine.llm import LLM
    from qianwen.engine.llm_engine import EngineConfig

    config = EngineConfig(max_num_seqs=options.batch, max_model_len=options.context, batch_invariant=options.exact)
    return LLM.load(options.model, bits=options.bits, config=config)


def prompt_model(options: "EvalOptions") -> "Callable[[], PromptModel] | None":
    """Reads what a task needs for prompts of a given length, without the weights; None for a model behind a URL."""

    @functools.cache
    def read() -> "PromptModel":
        from qianwen.checkpoints.load import open_model
        from qianwen.eval.task import PromptModel

        model = open_model(options.model)
        return PromptModel(model.tokenizer, model.chat, options.context or model.config.max_position_embeddings)

    return None if options.url else read
