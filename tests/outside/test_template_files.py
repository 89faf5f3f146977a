"""Where a chat template is read: every form in which folders and GGUF files name it."""

import json
from pathlib import Path

import pytest

from qianwen.runtime.errors import CheckpointError
from qianwen.tokenizer.hf_vocab_files import write_hf_files
from qianwen.tokenizer.template_files import QWEN_V1, TemplateSource, read_template, template_from_gguf

from .test_chat_templates import vocabulary


@pytest.mark.parametrize(
    "config",
    [{"chat_template": "T"},
     {"chat_template": [{"name": "default", "template": "T"}, {"name": "rag", "template": "R"}]},
     {"chat_template": {"default": "T", "tool_use": "U"}}, {"chat_template": [{"name": "only", "template": "T"}]},
     {"chat_template": "T", "bos_token": {"content": "<s>"}, "eos_token": "</s>"}],
)  # fmt: skip
def test_a_folder_names_its_template_in_several_forms(tmp_path: Path, config: dict) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    source = read_template(tmp_path)
    assert source is not None and source.text == "T"
    assert dict(source.tokens) == ({"bos_token": "<s>", "eos_token": "</s>"} if "bos_token" in config else {})
    (tmp_path / "chat_template.jinja").write_text("J")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("JT")
    assert read_template(tmp_path) == TemplateSource("J", "JT", source.tokens)


@pytest.mark.parametrize("value", [7, [], [{"name": "x"}], ["T"], True, [[]]])
def test_a_template_of_another_kind_is_named(tmp_path: Path, value: object) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    with pytest.raises(CheckpointError, match="chat_template"):
        read_template(tmp_path)


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_no_template_is_none(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": text}))
    assert read_template(tmp_path) is None and template_from_gguf({"tokenizer.chat_template": text}) is None


def test_a_gguf_file_names_template_and_tokens() -> None:
    metadata = {"tokenizer.chat_template": "T", "tokenizer.chat_template.tool_use": "U",
                "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 9,
                "tokenizer.ggml.tokens": ["a", "<s>"]}  # fmt: skip
    assert template_from_gguf(metadata) == TemplateSource("T", "U", (("bos_token", "<s>"),))


@pytest.mark.parametrize("config", [{"tokenizer_class": "QWenTokenizer"}, {"tokenizer_type": "QWenTokenizer"}, None])
def test_qwen_v1_has_no_template(tmp_path: Path, config: dict | None) -> None:
    (tmp_path / "qwen.tiktoken").touch()
    if config:
        write_hf_files(vocabulary(), tmp_path)
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert read_template(tmp_path) == QWEN_V1
