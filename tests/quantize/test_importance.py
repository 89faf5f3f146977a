"""Mean squares of the inputs of every linear, against hand-made sums."""

from dataclasses import replace

import pytest
import torch

from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.quantize.calibration import LINEARS
from qianwen.quantize.importance import input_importance

SHAPE = QwenConfig(
    vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128,
)  # fmt: skip
TEXTS = [[(7 * i + 3 * j) % 256 for j in range(30)] for i in range(5)]


@pytest.mark.parametrize("is_tied", [True, False])
def test_it_has_every_linear_and_the_head(is_tied: bool) -> None:
    model = Qwen(replace(SHAPE, tie_word_embeddings=is_tied)).init_weights(seed=1).eval()
    importance = input_importance(model, TEXTS, 64)
    linears = {f"model.layers.{layer}.{name}.weight" for layer in range(2) for name in LINEARS}
    head = "model.embed_tokens.weight" if is_tied else "lm_head.weight"
    assert importance.keys() == linears | {head}
    assert importance.keys() <= dict(model.named_parameters()).keys()
    for name, values in importance.items():
        assert values.shape == model.get_parameter(name).shape[1:] and values.min() >= 0 and values.max() > 0
    assert not any(module._forward_pre_hooks for module in model.modules())


@torch.inference_mode()
def test_it_is_the_mean_square_over_all_tokens() -> None:
    model = Qwen(SHAPE).init_weights(seed=1).eval()
    importance = input_importance(model, TEXTS, 20)
    first = model.model.layers[0].input_layernorm(model.model.embed_tokens(torch.tensor([t[:20] for t in TEXTS])))
    hidden = model(torch.tensor([text[:20] for text in TEXTS]))
    torch.testing.assert_close(importance["model.layers.0.self_attn.q_proj.weight"], first.square().mean((0, 1)))
    torch.testing.assert_close(importance["lm_head.weight"], hidden.square().mean((0, 1)))


def test_without_a_token_there_is_none() -> None:
    assert input_importance(Qwen(SHAPE).init_weights(seed=1), [[], []], 20) == {}
