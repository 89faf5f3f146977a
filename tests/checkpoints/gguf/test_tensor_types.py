"""The format of each tensor: llama.cpp's mix, seen in published files, and what small rows get instead."""

import pytest

from qianwen.checkpoints.gguf.tensor_types import FILE_TYPES, fitting, tensor_type


def mix(name: str, row: int = 512, layers: int = 24, **options: bool) -> str:
    return tensor_type(name, (64, row), "Q4_K_M", layers, **options)


def test_the_mix_of_q4_k_m() -> None:
    """Of 24 and 28 layers half have more bits, as in the published files of the 0.5B and 1.5B."""
    for part in ("attn_v", "ffn_down"):
        for layers in (24, 28):
            types = [mix(f"blk.{layer}.{part}.weight", layers=layers) for layer in range(layers)]
            assert types.count("Q6_K") == types.count("Q4_K") == layers // 2
            assert types[0] == types[layers // 8 - 1] == types[-1] == types[layers // 8 + 2] == "Q6_K"
    assert {mix(f"blk.0.{part}.weight") for part in ("attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up")} == {
        "Q4_K"
    }
    assert mix("blk.0.attn_qkv.weight") == "Q5_K"


def test_the_head_gets_more_bits_than_the_embedding() -> None:
    assert mix("output.weight") == "Q6_K" and mix("token_embd.weight") == "Q4_K"
    assert mix("token_embd.weight", is_tied=True) == "Q6_K"
    assert tensor_type("output.weight", (64, 64), "Q4_0", 2) == "Q8_0"
    assert tensor_type("token_embd.weight", (64, 64), "Q4_0", 2) == "Q4_0"
    assert tensor_type("token_embd.weight", (64, 64), "Q4_0", 2, is_tied=True) == "Q8_0"


@pytest.mark.parametrize(
    ("type", "row", "gets"),
    [
        ("Q4_K", 512, "Q4_K"), ("Q4_K", 896, "Q5_0"), ("Q6_K", 896, "Q8_0"), ("Q5_K", 96, "Q5_1"), ("Q4_0", 96, "Q4_0"),
        ("Q4_0", 48, "F16"), ("Q4_K", 48, "F16"), ("Q8_0", 33, "F16"), ("BF16", 33, "BF16"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fill_blocks(type: str, row: int, gets: str) -> None:
    assert fitting(type, row) == gets


@pytest.mark.parametrize("type", FILE_TYPES)
def test_vectors_stay_floats(type: str) -> None:
    assert tensor_type("blk.0.attn_norm.weight", (512,), type, 2) == "F32"


@pytest.mark.parametrize("type", FILE_TYPES)
def test_the_number_of_a_file_type_is_llama_cpps(type: str) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is the oracle")
    assert gguf.LlamaFileType["MOSTLY_" + type if type != "F32" else "ALL_F32"] == FILE_TYPES[type]
