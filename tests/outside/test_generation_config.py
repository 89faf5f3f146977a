"""`generation_config.json` and sampling in GGUF files with odd values: read as they are meant, or refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from qianwen.checkpoints.generation_config import gguf_generation, read_generation
from qianwen.checkpoints.recommended_sampling import FILES, QWEN1, QWEN3, QWEN3_THINKING, QWEN25, recommended_sampling
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import CheckpointError


def read(folder: Path, **values: Any) -> dict[str, Any]:
    (folder / "generation_config.json").write_text(json.dumps(values))
    return read_generation(folder)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_k": 0}, {"top_k": 0}),
        ({"top_k": 20.0}, {"top_k": 20}),
        ({"top_k": None}, {}),
        ({"top_p": 0}, {"top_k": 1}),
        ({"top_p": 0.0, "top_k": 50}, {"top_k": 1}),
        ({"top_p": 1}, {"top_p": 1}),
        ({"top_p": None, "temperature": None, "repetition_penalty": None}, {}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 1}, {"temperature": 1}),
        ({"min_p": 0.05}, {"min_p": 0.05}),
        ({"repetition_penalty": 1}, {"repetition_penalty": 1}),
        ({"do_sample": None}, {}),
        ({"typical_p": 1.0, "num_beams": 1}, {"typical_p": 1.0, "num_beams": 1}),
    ],
    ids=str,
)
def test_values_with_a_clear_meaning(tmp_path: Path, values: dict, expected: dict) -> None:
    found = read(tmp_path, **values)
    assert found == expected | {"eos_token_id": []}
    recommended = recommended_sampling(found, "qwen2", (), chat=True)
    SamplingParams(**recommended.sampling)  # all are valid there


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        (5, [5]),
        ([5, 7], [5, 7]),
        ([[5], [7]], [5, 7]),
        ([[[5]], 7, None], [5, 7]),
        (None, []),
        ([], []),
        (5.0, [5]),
        ([5, 5], [5]),
        (-1, []),
        ([-1, 5], [5]),
    ],
    ids=str,
)
def test_end_tokens_in_any_shape(tmp_path: Path, value: Any, ids: list[int]) -> None:
    assert read(tmp_path, eos_token_id=value)["eos_token_id"] == ids


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_k", 20.5),
        ("top_k", "20"),
        ("top_k", True),
        ("top_k", [20]),
        ("top_p", 1.5),
        ("top_p", -0.1),
        ("top_p", "0.8"),
        ("min_p", 2),
        ("temperature", -1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", True),
        ("temperature", {"value": 1}),
        ("repetition_penalty", 0),
        ("repetition_penalty", "high"),
        ("eos_token_id", "<|im_end|>"),
        ("eos_token_id", [5, "7"]),
        ("eos_token_id", {"id": 5}),
        ("eos_token_id", True),
        ("eos_token_id", 5.5),
    ],
    ids=str,
)
def test_values_without_meaning_name_the_file_and_the_field(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=rf"generation_config\.json: {field} = .* is not valid"):
        read(tmp_path, **{field: value})


@pytest.mark.parametrize("content", ["", "[]", "null", "{", '"text"', "\x00"])
def test_a_file_that_is_no_object_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(CheckpointError, match="generation_config.json"):
        read_generation(tmp_path)


def test_a_folder_without_the_file_has_the_end_token_of_its_config(tmp_path: Path) -> None:
    assert read_generation(tmp_path) == {"eos_token_id": []}
    for value, ids in ((7, [7]), ([7, 5], [7, 5]), (None, [])):
        (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": value, "temperature": 5}))
        assert read_generation(tmp_path) == {"eos_token_id": ids}
    assert read(tmp_path, top_k=3) == {"top_k": 3, "eos_token_id": []}


def test_sampling_of_a_gguf_file_is_read() -> None:
    entries = {
        "general.sampling.temp": 0.699999988079071,
        "general.sampling.top_k": 20,
        "general.sampling.top_p": 0.800000011920929,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.eot_token_id": 4,
    }
    found = gguf_generation(entries, Path("m.gguf"))
    assert found == {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "eos_token_id": [3, 4]}
    with pytest.raises(CheckpointError, match=r"m\.gguf: top_p"):
        gguf_generation({"general.sampling.top_p": "high"}, Path("m.gguf"))


# ---- what is recommended ----------------------------------------------------------------------------------------

CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINK = "{%- if enable_thinking is defined %}<think>{% endif %}"


@pytest.mark.parametrize(
    ("arch", "special", "template", "source", "sampling"),
    [
        ("qwen2", (*CHATML, "<tool_call>"), None, "Qwen2.5", QWEN25),
        ("qwen2", (*CHATML, "<tool_call>", "<|fim_prefix|>"), THINK, "Qwen2.5", QWEN25),
        ("qwen3", (*CHATML, "<tool_call>", "<think>"), None, "Qwen3", QWEN3_THINKING),
        ("qwen3", (*CHATML, "<tool_call>", "<think>"), THINK, "Qwen3", QWEN3_THINKING),
        ("qwen3", (*CHATML, "<tool_call>", "<think>"), "no thoughts", "Qwen3", QWEN3),
        ("qwen2", (*CHATML, "<|extra_0|>"), None, "Qwen", QWEN1),
        ("qwen2", CHATML, None, "", {}),
        ("llama", CHATML, None, "", {}),
        ("qwen2", ("<｜User｜>", "<｜Assistant｜>"), None, "", {}),
    ],
)
def test_the_family_decides_where_the_files_say_nothing(
    arch: str, special: tuple, template: str | None, source: str, sampling: dict
) -> None:
    found = recommended_sampling({"eos_token_id": [1]}, arch, special, chat=True, template=template)
    assert (found.source, found.sampling) == (source, sampling)
    assert found.without_thinking == (QWEN3 if source == "Qwen3" else sampling)
    SamplingParams(**found.sampling)


@pytest.mark.parametrize("own", [{"temperature": 0.3}, {"top_k": 0}, {"do_sample": False}])
def test_the_files_of_the_model_win(own: dict) -> None:
    found = recommended_sampling(own, "qwen2", (*CHATML, "<tool_call>"), chat=True)
    assert found.source == FILES and found.sampling == ({"temperature": 0.0} if "do_sample" in own else own)


def test_a_model_without_chat_is_neutral() -> None:
    found = recommended_sampling({}, "qwen2", (*CHATML, "<tool_call>"), chat=False)
    assert found.source == "" and not found.sampling
