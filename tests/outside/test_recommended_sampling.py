"""Recommended sampling reaches every way to use a model: Python, the chat, the server, a GGUF file of Qwen2.5 or 3."""

from pathlib import Path

import pytest

from qianwen.checkpoints.gguf.network import write_model
from qianwen.checkpoints.recommended_sampling import QWEN3, QWEN3_THINKING, QWEN25, Recommended
from qianwen.cli.chat import ChatSession
from qianwen.cli.model_settings import settings_line
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.serve.bridge import Bridge
from qianwen.serve.service import Served
from qianwen.tokenizer.vocab import Vocabulary

NAMES = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "<think>")


def load(folder: Path, *, arch: str = "qwen2", end: int = 258, **extra: object) -> LLM:
    config = QwenConfig(
        vocab_size=272, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=256, qkv_bias=arch == "qwen2", qk_norm=arch == "qwen3",
    )  # fmt: skip
    ranks = {bytes([value]): value for value in range(256)}
    vocabulary = Vocabulary(ranks, {name: 256 + number for number, name in enumerate(NAMES)})
    entries = {"tokenizer.ggml.eos_token_id": end} | {key.replace("__", "."): value for key, value in extra.items()}
    write_model(Qwen(config).init_weights(0), vocabulary, folder / "m.gguf", extra=entries)
    return LLM.load(str(folder / "m.gguf"), bits=None, config=EngineConfig(num_blocks=8))


@pytest.mark.parametrize(
    ("options", "expected", "said"),
    [
        ({}, QWEN25, "recommended for Qwen2.5"),
        ({"arch": "qwen3"}, QWEN3_THINKING, "recommended for Qwen3"),
        ({"arch": "qwen3", "tokenizer__chat_template": "plain"}, QWEN3, "recommended for Qwen3"),
        ({"arch": "llama"}, {}, "no recommendation"),
        ({"end": 256}, {}, "no recommendation"),
        ({"general__sampling__temp": 0.3}, {"temperature": 0.3}, "the model's own files"),
        ({"general__sampling__top_k": 0}, {}, "the model's own files"),
    ],
)
def test_a_gguf_file(tmp_path: Path, options: dict, expected: dict, said: str) -> None:
    llm = load(tmp_path, **options)
    assert llm.defaults == SamplingParams(**expected)
    line = settings_line(llm, {})
    assert said in line and "context 256 tokens" in line and f"temperature {expected.get('temperature', 1):g}" in line


def test_the_caller_wins_and_the_chat_shows_both(tmp_path: Path) -> None:
    llm = load(tmp_path)
    assert llm.params(temperature=0.1) == SamplingParams(**{**QWEN25, "temperature": 0.1})
    shown: list[str] = []
    session = ChatSession(llm, sampling={"temperature": 0.1}, write=shown.append)
    session.take("/sampling")
    text = "".join(shown)
    assert "temperature = 0.1" in text and "top_k = 20" in text and "recommended for Qwen2.5" in text


def test_the_model_route_shows_it(tmp_path: Path) -> None:
    for arch, more in (("qwen2", False), ("qwen3", True)):
        llm = load(tmp_path, arch=arch)
        bridge = Bridge(llm.engine)
        card = Served("m", bridge, llm.tokenizer, 256, llm.defaults, recommended=llm.recommended).card(0)
        bridge.close()
        assert card["sampling"]["temperature"] == llm.defaults.temperature
        assert card["sampling"]["source"] == llm.recommended.source
        assert card.get("sampling_without_thinking") == (QWEN3 if more else None)
    assert Recommended().sampling == {}


@pytest.mark.parametrize("thinking", [None, True, False])
def test_without_thoughts_the_values_are_the_others_unless_the_user_chose(
    tmp_path: Path, thinking: bool | None
) -> None:
    llm = load(tmp_path, arch="qwen3")
    expected = QWEN3 if thinking is False else QWEN3_THINKING
    assert llm.params(thinking) == SamplingParams(**expected)
    assert llm.params(thinking, top_p=0.3) == SamplingParams(**{**expected, "top_p": 0.3})
    llm.defaults = llm.params(temperature=0.1)
    assert llm.params(thinking) == SamplingParams(**{**expected, "temperature": 0.1})
    plain = load(tmp_path)
    assert plain.params(thinking) == SamplingParams(**QWEN25)
