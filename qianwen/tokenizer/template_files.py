"""A model's chat template, as its files have it: read here, rendered by `chat/render.py`.

    tokenizer_config.json           `chat_template`: a text, or a list of texts by name (`default`, `tool_use`)
    chat_template.jinja             newer folders; it has priority, as in transformers
    additional_chat_templates/      more templates of such a folder, one file each
    tokenizer.chat_template         the same in the metadata of a GGUF file

A template may also use the texts of the tokens that begin and end a document (`bos_token`, …).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.translation import tr

CONFIG, JINJA, MORE = "tokenizer_config.json", "chat_template.jinja", "additional_chat_templates"
TOKEN_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
V1_CLASS = "QWenTokenizer"
V1_FLAG = "encodes_apart"  # our field in tokenizer_config.json: a tuned Qwen v1 in the files of a later class


@dataclass(frozen=True)
class TemplateSource:
    """The text of a template, the one for conversations with tools if it differs, and the tokens it may name."""

    text: str
    tool_use: str | None = None
    tokens: tuple[tuple[str, str], ...] = ()  # (name, text): ("bos_token", "<s>"), …


QWEN_V1 = TemplateSource("")  # Qwen v1 has no template: its format is code (`chat/chatml.py`)


def read_template(folder: Path) -> TemplateSource | None:
    """The template of a model folder; None if it has none."""
    config = _json(folder / CONFIG)
    is_v1 = V1_CLASS in (config.get("tokenizer_class"), config.get("tokenizer_type")) or config.get(V1_FLAG)
    if is_v1 or (not config and _has_only_tiktoken(folder)):
        return QWEN_V1
    texts = _texts(config.get("chat_template"), folder / CONFIG)
    if (folder / JINJA).exists():
        texts["default"] = _text(folder / JINJA)
    texts |= {file.stem: _text(file) for file in sorted((folder / MORE).glob("*.jinja"))}
    named = _json(folder / "special_tokens_map.json") | config
    tokens = {name: _content(named.get(name)) for name in TOKEN_NAMES}
    return _source(texts, tokens)


def template_from_gguf(metadata: Mapping[str, Any]) -> TemplateSource | None:
    """The template in the metadata of a GGUF file; None if it has none."""
    key, ids = "tokenizer.chat_template", "tokenizer.ggml.{}_token_id"
    texts = {"default": metadata.get(key), "tool_use": metadata.get(f"{key}.tool_use")}
    vocabulary = metadata.get("tokenizer.ggml.tokens") or []
    tokens = {}
    for name, kind in (("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")):
        token = metadata.get(ids.format(kind))
        if isinstance(token, int) and 0 <= token < len(vocabulary):
            tokens[name] = vocabulary[token]
    return _source({name: text for name, text in texts.items() if isinstance(text, str)}, tokens)


def _source(texts: Mapping[str, str], tokens: Mapping[str, str | None]) -> TemplateSource | None:
    text = texts.get("default") or next(iter(texts.values()), "")
    if not text.strip():
        return None
    named = tuple((name, token) for name, token in tokens.items() if token is not None)
    return TemplateSource(text, texts.get("tool_use"), named)


def _texts(template: Any, path: Path) -> dict[str, str]:
    """By name. A list has entries of `name` and `template`; older folders have an object."""
    if template is None:
        return {}
    if isinstance(template, str):
        return {"default": template}
    try:
        pairs = template.items() if isinstance(template, Mapping) else [(x["name"], x["template"]) for x in template]
        texts = {name: text for name, text in pairs if isinstance(name, str) and isinstance(text, str)}
        if texts:
            return texts
    except (KeyError, TypeError):
        pass
    message = "{path}: `chat_template` must be a text or a list of names and texts; got {value}"
    raise CheckpointError(tr(message, path=path, value=repr(template)[:200]))


def _has_only_tiktoken(folder: Path) -> bool:
    return (folder / "qwen.tiktoken").exists() and not (folder / "tokenizer.json").exists()


def _content(token: Any) -> str | None:
    """A special token is a text, or an object with the text as `content`."""
    token = token.get("content") if isinstance(token, Mapping) else token
    return token if isinstance(token, str) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(tr("{path} is not readable text: {reason}", path=path, reason=error)) from error


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(tr("{path} is not readable JSON: {reason}", path=path, reason=error)) from error
    return value if isinstance(value, dict) else {}
