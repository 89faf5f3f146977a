"""Layer after layer: the states of the rows are those of the network as it becomes, and rows are packed documents."""

import torch

from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Layer, Qwen
from qianwen.quantize.calibration import LINEARS, advance, packed_rows, quantize_layer, start
from qianwen.quantize.gptq import GptqConfig, nearest

CONFIG = QwenConfig(
    vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, qk_norm=True,
    qkv_bias=False,
)  # fmt: skip
GRID = GptqConfig(group_size=32)


def network() -> Qwen:
    model = Qwen(CONFIG).init_weights(seed=1).eval()
    for parameter in model.parameters():
        parameter.data *= 3
    return model


def first_layer(model: Qwen) -> Layer:
    layer = model.model.layers[0]
    assert isinstance(layer, Layer)
    return layer


def test_rows_hold_texts_whole_and_positions_restart() -> None:
    rows = list(packed_rows([[1, 2, 3], [4, 5], [6, 7, 8, 9, 10, 11, 12], [13]], seq_len=6))
    assert [ids.tolist()[0] for ids, _ in rows] == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [13]]
    assert rows[0][1].tolist() == [[0, 1, 2, 0, 1]]
    assert list(packed_rows([], 6)) == []


def test_rows_go_through_what_the_layer_becomes() -> None:
    model, texts = network(), [torch.randint(96, (40,)).tolist() for _ in range(6)]
    layer, table = first_layer(model), model.model.embed_tokens.weight.detach()
    rows, again = (start(CONFIG, table, list(packed_rows(texts, 100))) for _ in range(2))
    before = {name: layer.get_submodule(name).weight.detach().clone() for name in LINEARS}
    made = quantize_layer(layer, 0, rows, GRID)
    assert set(made) == set(LINEARS)
    for name, groups in made.items():
        torch.testing.assert_close(layer.get_submodule(name).weight.detach(), groups.dequantize())
        assert not torch.equal(groups.codes, nearest(before[name], GRID).codes)
    advance(layer, again)  # the quantised layer, run as the network runs it
    for row, other in zip(rows, again, strict=True):
        torch.testing.assert_close(row.states, other.states, atol=1e-4, rtol=1e-4)


def test_states_of_a_layer_are_those_of_the_network() -> None:
    model = network()
    ids, positions = next(packed_rows([torch.randint(96, (30,)).tolist(), torch.randint(96, (20,)).tolist()], 64))
    (row,) = start(CONFIG, model.model.embed_tokens.weight.detach(), [(ids, positions)])
    for layer in model.model.layers:
        advance(layer, [row])
    with torch.no_grad():
        torch.testing.assert_close(model.model.norm(row.states), model(ids, positions))


def test_without_rows_it_rounds_to_nearest() -> None:
    layer = first_layer(network())
    before = {name: layer.get_submodule(name).weight.detach().clone() for name in LINEARS}
    made = quantize_layer(layer, 0, [], GRID)
    assert all(torch.equal(made[name].codes, nearest(before[name], GRID).codes) for name in LINEARS)
