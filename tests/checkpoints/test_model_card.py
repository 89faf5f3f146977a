"""The limits in a model card: which long-context methods other programs have, and up to which length they agree."""

from dataclasses import replace
from pathlib import Path

import pytest

from qianwen.checkpoints.load import OpenModel
from qianwen.checkpoints.model_card import Checks, Origin, length_elsewhere, model_card, own_methods
from qianwen.checkpoints.parity import Parity
from qianwen.checkpoints.recommended_sampling import Recommended
from qianwen.model import PRESETS, QwenConfig
from qianwen.model.rope_state import RopeState
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens

PLAIN, V1 = PRESETS["qwen2.5-0.5b"], PRESETS["7b"]
YARN = replace(
    PLAIN,
    rope_scaling=RopeState(method="yarn", factor=4, original_len=32768),
    **{"scaling_from": 32768, "train_len": 32768, "max_position_embeddings": 131072},
)
DYNAMIC = replace(PLAIN, rope_scaling=RopeState(method="dynamic_ntk", factor=2, original_len=32768), scaling_from=32768)
ONE_WINDOW = replace(PLAIN, layer_windows=(0,) * 20 + (4096,) * 4)
WINDOWS = replace(PLAIN, layer_windows=(2048,) * 8 + (4096,) * 8 + (0,) * 8)


@pytest.mark.parametrize(
    ("config", "format", "methods", "longest"),
    [
        (PLAIN, "hf", (), 32768),
        (V1, "hf", ("dynamic NTK", "LogN scaling"), 8192),
        (V1, "qwen-v1", ("dynamic NTK", "LogN scaling"), 8192),
        (V1, "GGUF F16", ("dynamic NTK", "LogN scaling"), 8192),
        (YARN, "hf", (), 131072),
        (YARN, "GGUF Q8_0", (), 131072),
        (DYNAMIC, "hf", (), 32768),
        (DYNAMIC, "GGUF F16", ("dynamic rope scaling",), 32768),
        (ONE_WINDOW, "hf", (), 32768),
        (ONE_WINDOW, "GGUF F16", ("attention windows",), 4096),
        (WINDOWS, "hf", ("attention windows",), 2048),
        (replace(WINDOWS, use_logn_attn=True), "hf", ("LogN scaling", "attention windows"), 2048),
    ],
)
def test_methods_that_stay_here(config: QwenConfig, format: str, methods: tuple[str, ...], longest: int) -> None:
    assert own_methods(config, format) == methods and length_elsewhere(config, format) == longest
    card = card_of(config, format)
    assert all(method in card for method in methods)
    assert (f"use at most {longest:,} tokens there" in card) == bool(methods)


def card_of(config: QwenConfig, format: str) -> str:
    tokenizer = Tokenizer(Vocabulary({bytes([value]): value for value in range(256)}, qwen_special_tokens(256)))
    opened = OpenModel(Path("m"), Path("m"), config, tokenizer, {}, "m", True, Recommended())
    checks = Checks(Parity(64, 1.0, 0.0, 0.0))
    return model_card(opened, Origin("m"), checks, format=format, command="run it")


def test_the_card_says_where_yarn_acts() -> None:
    card = card_of(YARN, "hf")
    assert "Trained on inputs of up to 32,768 tokens." in card
    assert "up to 131,072 tokens are read with yarn (factor 4)" in card and "more than 32,768 tokens" in card
    assert "scale all inputs" in card
    trained = replace(YARN, scaling_from=0, train_len=131072)
    assert "yarn" not in card_of(trained, "hf") and "scale all inputs" not in card_of(PLAIN, "hf")
