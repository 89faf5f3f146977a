"""The chat template of a tokenizer: the one in its model's files, or ours for the tokens that its vocabulary has."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import resources

from qianwen.chat.functions import function_format
from qianwen.chat.templates.template import ChatTemplate
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.tokenizer.template_files import QWEN_V1, TemplateSource
from qianwen.tokenizer.tokenizer import Tokenizer

NO_TOOLS = "{%- if tools %}{{ raise_exception('this model takes tools as text, see its ReAct format') }}{%- endif %}\n"
# A token that opens turns, the template for it, and the token that begins a document.
BY_TOKEN = (
    ("<|im_start|>", "chatml", None),
    ("<|start_header_id|>", "llama3", "<|begin_of_text|>"),
    ("<｜User｜>", "deepseek_r1", "<｜begin▁of▁sentence｜>"),
)


def chat_template(tokenizer: Tokenizer) -> ChatTemplate | None:
    """The template to run; None if `chat/chatml.py` writes the turns. ConfigError if there is none and no tokens."""
    source = template_source(tokenizer)
    if source is None:
        message = (
            "this model has no chat template, and its vocabulary has no tokens for turns such as <|im_start|>: it is a "
            "model that continues text; use `qianwen generate MODEL --prompt TEXT`"
        )
        raise ConfigError(tr(message))
    if source == QWEN_V1 or source.text in (_packaged("chatml"), NO_TOOLS + _packaged("chatml")):
        return None
    return _compiled(source, tuple(tokenizer.special_tokens), tuple(tokenizer.vocabulary.control_tokens))


def template_source(tokenizer: Tokenizer) -> TemplateSource | None:
    """The template in the model's files, else ours; None if no template fits the vocabulary."""
    if tokenizer.template is not None:
        return tokenizer.template
    special = tokenizer.special_tokens
    for turn, name, begin in BY_TOKEN:
        if turn in special:
            is_plain = name == "chatml" and function_format(tokenizer) == "react"
            tokens = (("bos_token", begin),) if begin in special else ()
            return TemplateSource((NO_TOOLS if is_plain else "") + _packaged(name), tokens=tokens)
    return None


@cache
def _packaged(name: str) -> str:
    return resources.files("qianwen.chat.templates").joinpath(f"{name}.jinja").read_text(encoding="utf-8")


@lru_cache(maxsize=16)
def _compiled(source: TemplateSource, special: tuple[str, ...], control: tuple[str, ...]) -> ChatTemplate:
    template = ChatTemplate(source, special, control)
    if template.family is None:
        message = (
            "this model's chat template is of no known family (ChatML, Llama 3, DeepSeek R1). It runs in a sandbox; "
            "that a message cannot contain control tokens is ensured by a check of its text alone"
        )
        console.print(tr(message), style="yellow", markup=False)
    return template
