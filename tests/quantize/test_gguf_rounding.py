"""Which matrices get more bits: those that change a state most, within the room for them."""

from pathlib import Path

import pytest
import torch

from qianwen.checkpoints.gguf.network import GgufModel, write_model
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.quantize.gguf_rounding import MAX_CHANGE, MORE_BITS, Matrix, choose_rounding, give_more_bits
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens

SHAPE = QwenConfig(
    vocab_size=472, hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4,
    max_position_embeddings=128,
)  # fmt: skip
TEXTS = [[(7 * i + 3 * j) % 256 for j in range(60)] for i in range(12)]


def matrix(name: str, type: str = "Q4_0", largest: float = 0.01, mean_square: float = 1e-4, rows: int = 64) -> Matrix:
    return Matrix(name, type, torch.Size((rows, 256)), largest, mean_square)


def test_a_matrix_that_changes_a_token_gets_bits_until_it_does_not() -> None:
    switch, worse = (matrix(name, largest=size, mean_square=0) for name, size in (("switch", 0.3), ("worse", 1e9)))
    matrices = [matrix("plain", rows=500), switch, worse]
    give_more_bits(matrices)
    types = {each.name: each.type for each in matrices}
    assert types == {"plain": "Q4_0", "switch": "Q6_K", "worse": "Q8_0"}
    assert switch.largest <= MAX_CHANGE


def test_more_bits_go_where_they_save_most() -> None:
    """A small matrix with the same error costs less; one with no error gets none."""
    matrices = [matrix("large", rows=10_000), matrix("small", rows=8), matrix("exact", mean_square=0, rows=8)]
    bits = sum(each.bits for each in matrices)
    give_more_bits(matrices)
    assert matrices[1].type == "Q8_0" and matrices[2].type == "Q4_0"
    assert 0 < sum(each.bits for each in matrices) / bits - 1 <= MORE_BITS


def test_the_room_is_used_but_not_much_more() -> None:
    matrices = [matrix(str(number), mean_square=1e-4 * number) for number in range(1, 101)]
    bits = sum(each.bits for each in matrices)
    give_more_bits(matrices)
    more = sum(each.bits for each in matrices) / bits - 1
    assert 0.8 * MORE_BITS < more <= MORE_BITS + 1e-9
    assert matrices[-1].type != "Q4_0" and matrices[0].type == "Q4_0"


@pytest.mark.parametrize(("row", "types"), [(256, ["Q4_0", "Q5_0", "Q5_1", "Q6_K"]), (96, ["Q4_0", "Q5_0", "Q5_1"])])
def test_the_next_format_fits_the_rows_and_has_more_bits(row: int, types: list[str]) -> None:
    each = Matrix("m", "Q4_0", torch.Size((4, row)), 0, 0)
    found = []
    while each.next_type():
        found.append(each.type)
        before = each.bits
        each.promote()
        assert each.bits > before
    assert each.type == "Q8_0" and each.gain() == 0 and found == types


def network() -> Qwen:
    model = Qwen(SHAPE).init_weights(seed=1).eval()
    for parameter in model.parameters():
        parameter.data *= 2
    return model


@pytest.mark.parametrize("type", ["Q4_0", "Q4_K_M"])
def test_a_row_that_makes_a_massive_activation_gets_more_bits(type: str, tmp_path: Path) -> None:
    """One large weight hides a row's small ones, which alone carry the signal: a grid of four bits loses them."""
    model = network()
    down, up = (model.model.layers[1].mlp.get_submodule(f"{name}_proj").weight for name in ("down", "up"))
    down.data[5] *= 3000  # a state of some thousands in one channel
    up.data[:, ::32] *= 40  # every block of the rows has a weight that is far larger than the rest
    model.model.layers[1].post_attention_layernorm.weight.data[::32] = 1e-6  # and meets no input
    rounding = choose_rounding(model, type, TEXTS, 60)  # type: ignore[arg-type]
    assert (
        "model.layers.1.mlp.down_proj.weight" in rounding.types or "model.layers.1.mlp.up_proj.weight" in rounding.types
    )
    vocabulary = Vocabulary({bytes([byte]): byte for byte in range(256)}, qwen_special_tokens(256))
    extra = {"tokenizer.ggml.eos_token_id": 256}
    write_model(model, vocabulary, tmp_path / "m.gguf", type=type, extra=extra, rounding=rounding)
    read = GgufModel(tmp_path / "m.gguf")
    for name, chosen in rounding.types.items():
        assert read.tensors[name].type == chosen
    assert all(weight.isfinite().all() for weight in read.load().parameters())


def test_the_model_is_as_before() -> None:
    model, same = network(), network()
    choose_rounding(model, "Q4_0", TEXTS, 60)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_without_texts_every_matrix_has_the_usual_format() -> None:
    for texts in ([], [[]]):
        rounding = choose_rounding(network(), "Q4_0", texts, 60)
        assert not rounding.importance and not rounding.types


def test_it_loses_less_than_the_plain_rounding(tmp_path: Path) -> None:
    model = network()
    vocabulary = Vocabulary({bytes([byte]): byte for byte in range(256)}, qwen_special_tokens(256))
    errors = []
    with torch.inference_mode():
        exact = model.logits(model(torch.tensor(TEXTS)))
        for rounding in (None, choose_rounding(model, "Q4_0", TEXTS, 60)):
            extra = {"tokenizer.ggml.eos_token_id": 256}
            write_model(model, vocabulary, tmp_path / "m.gguf", type="Q4_0", extra=extra, rounding=rounding)
            copy = GgufModel(tmp_path / "m.gguf").load()
            errors.append((copy.logits(copy(torch.tensor(TEXTS))) - exact).norm())
    assert errors[1] < 0.95 * errors[0]
