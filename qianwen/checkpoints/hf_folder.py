"""A model folder for other programs: weights, tokenizer, chat template, and generation settings.

    qwen2    the files of Hugging Face; transformers, vLLM and SGLang read them without our code
    qwen     the files of Qwen v1: config and settings of the first release; its modelling files can be added

The chat template is the model's own, or ours if it came without. It gives the same ids in other programs as here, with
one difference: a control token that a user types becomes a real one there. In `chat/render.py` it stays plain text.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from qianwen.chat.templates.choose import template_source
from qianwen.checkpoints.hf_weights import CONFIG, Layout, read_json, write_weights
from qianwen.checkpoints.load import END_OF_TURN, GENERATION
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.files import atomic_file
from qianwen.tokenizer.hf_vocab_files import TOKENIZER_CONFIG, write_tokenizer_config
from qianwen.tokenizer.template_files import QWEN_V1, V1_FLAG
from qianwen.tokenizer.tokenizer import Tokenizer

END_OF_TEXT = "<|endoftext|>"

# Generation settings of the released Qwen v1 models; other classes do not have those in V1_ONLY.
V1_GENERATION = {"max_new_tokens": 512, "do_sample": True, "top_k": 0, "top_p": 0.8}
V1_ONLY = ("chat_format", "max_window_size", "stop_words_ids")
V1_WINDOW = 6144  # tokens of history in the released chat models
V1_CONFIG = {
    "tokenizer_class": "QWenTokenizer",
    "auto_map": {
        "AutoConfig": "configuration_qwen.QWenConfig",
        "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
    },
}
V1_TOKENIZER = {
    "tokenizer_class": "QWenTokenizer",
    "auto_map": {"AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None]},
}


def write_folder(
    model: Qwen,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    chat: bool,
    layout: Layout = "qwen2",
    dtype: torch.dtype | None = None,
    generation: Mapping[str, Any] | None = None,
) -> None:
    """Write all files into an existing folder, for example that of `atomic_folder`.

    `chat`: whether the model ends its turns. `generation`: settings to write, as in `generation_config.json`.
    """
    write_weights(model, folder, layout, dtype=dtype)
    write_settings(model.config, tokenizer, folder, chat=chat, layout=layout, generation=generation)


def write_settings(
    config: QwenConfig,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    chat: bool,
    layout: Layout = "qwen2",
    generation: Mapping[str, Any] | None = None,
) -> None:
    """Write the files besides the weights or the adapter: tokenizer, chat template, generation settings."""
    tokenizer.save(folder)
    settings, ends = dict(generation or {}), end_ids(tokenizer, chat, generation)
    eod = tokenizer.special_tokens.get(END_OF_TEXT)
    max_length = config.max_position_embeddings
    if layout == "qwen":
        window = {"max_window_size": V1_WINDOW} if chat else {"stop_words_ids": [[eod]]}
        ours = {"chat_format": "chatml" if chat else "raw", "eos_token_id": eod, "pad_token_id": eod}
        settings = V1_GENERATION | window | settings | ours
        write_json(folder / TOKENIZER_CONFIG, {"model_max_length": max_length} | V1_TOKENIZER)
        write_json(folder / CONFIG, read_json(folder / CONFIG) | V1_CONFIG)
    else:
        settings = {name: value for name, value in settings.items() if name not in V1_ONLY}
        settings |= {"eos_token_id": ends, "pad_token_id": eod if eod is not None else ends[0]}
        names = {token: name for name, token in tokenizer.special_tokens.items()}
        write_tokenizer_config(
            tokenizer.vocabulary,
            folder,
            eos_token=names.get(ends[0]),
            pad_token=names.get(eod if eod is not None else ends[0]),
            model_max_length=max_length,
            **chat_template_fields(tokenizer),
        )
    write_json(folder / GENERATION, settings)


def end_ids(tokenizer: Tokenizer, chat: bool, generation: Mapping[str, Any] | None = None) -> list[int]:
    """Ids that end generation: end of turn (of a chat model), those in `generation`, end of text; each once."""
    special = tokenizer.special_tokens
    turn = [special[END_OF_TURN]] if chat and END_OF_TURN in special else []
    text = [special[END_OF_TEXT]] if END_OF_TEXT in special else []
    return list(dict.fromkeys([*turn, *(generation or {}).get("eos_token_id", ()), *text]))


def chat_template_fields(tokenizer: Tokenizer) -> dict[str, Any]:
    """The chat template, and the tokens that it names, as fields of tokenizer_config.json; none if there is none."""
    if tokenizer.template == QWEN_V1:
        plain = template_source(Tokenizer(tokenizer.vocabulary))
        return {} if plain is None else {"chat_template": plain.text, V1_FLAG: True}
    source = template_source(tokenizer)
    if source is None:
        return {}
    tokens = {name: token for name, token in source.tokens if name in ("bos_token", "unk_token")}
    if source.tool_use is None:
        return {"chat_template": source.text, **tokens}
    named = {"default": source.text, "tool_use": source.tool_use}
    return {"chat_template": [{"name": name, "template": text} for name, text in named.items()], **tokens}


def write_json(path: Path, contents: Mapping[str, Any]) -> None:
    """Write a JSON object, formatted as in Hugging Face's files."""
    with atomic_file(path, "w") as file:
        json.dump(contents, file, indent=2, ensure_ascii=False)
        file.write("\n")
