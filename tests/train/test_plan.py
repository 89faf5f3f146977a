"""Predicted memory: parts that can be counted by hand, what autograd really keeps, and the published tables."""

import gc
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qianwen.model.attention import DocumentAttention
from qianwen.model.config import PRESETS
from qianwen.model.linears.lora import LoraConfig, attach
from qianwen.model.rope import RotaryEmbedding
from qianwen.model.rope_state import RopeState
from qianwen.model.transformer import Layer, Qwen
from qianwen.runtime.device import free_memory_bytes
from qianwen.runtime.errors import ConfigError
from qianwen.train.plan import GIGABYTE, LIBRARIES, lora_parameters, memory, published, published_size

TINY = replace(PRESETS["tiny"], num_key_value_heads=2)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("whole", [(), ("embed_tokens", "lm_head")])
def test_trained_weights_of_an_adapter_are_those_of_the_network(tied: bool, whole: tuple) -> None:
    lora = LoraConfig(rank=4, target_modules=("q_proj", "v_proj", "down_proj"), modules_to_save=whole)
    config = replace(TINY, tie_word_embeddings=tied)
    model = attach(Qwen(config), lora)
    assert lora_parameters(config, lora) == sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def test_parts_of_full_training_by_hand() -> None:
    count = sum(weight.numel() for weight in Qwen(TINY).parameters())
    found = memory(TINY, "full", 128).parts
    assert found["weights"] == 0 and found["trained"] == count * (2 + 4 + 4 + 8)
    assert memory(TINY, "full", 128, itemsize=4).parts["trained"] == count * 16
    assert found["logits"] == 128 * TINY.vocab_size * 8


def kept_by(layer: Layer, seq_len: int) -> int:
    """Bytes that autograd keeps of a layer on the CPU, weights left out."""
    own = {weight.untyped_storage().data_ptr() for weight in layer.parameters()}
    x = torch.randn(1, seq_len, TINY.hidden_size, requires_grad=True)
    rotate = RotaryEmbedding(TINY)(torch.arange(seq_len)[None], RopeState())
    own |= {table.untyped_storage().data_ptr() for table in rotate.k}
    sizes = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes()}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x, rotate, DocumentAttention(TINY, seq_len, None, stretch=False))
    return sum(sizes.values())


def test_activations_are_what_autograd_keeps() -> None:
    layer = Qwen(TINY).model.layers[0]
    predicted = memory(TINY, "full", 256, itemsize=4, recompute=False).parts["activations"] / TINY.num_hidden_layers
    assert predicted == pytest.approx(kept_by(layer, 256), rel=0.1)
    gc.collect()
    model = attach(Qwen(TINY), LoraConfig(rank=8))
    predicted = memory(TINY, "lora", 256, itemsize=4, recompute=False, lora=LoraConfig(rank=8)).parts["activations"]
    assert predicted / TINY.num_hidden_layers == pytest.approx(kept_by(model.model.layers[0], 256), rel=0.2)


def test_recomputing_and_sharing_take_less() -> None:
    config = PRESETS["1.8b"]
    kept, again = (memory(config, "lora", 2048, recompute=recompute) for recompute in (False, True))
    assert again.parts["activations"] < 0.1 * kept.parts["activations"]
    shared = memory(config, "full", 2048, gpus=4)
    assert shared.parts["trained"] == memory(config, "full", 2048).parts["trained"] / 4
    assert shared.parts["activations"] == memory(config, "full", 2048).parts["activations"]


@pytest.mark.parametrize("size", ["1.8b", "7b", "14b", "72b"])
def test_fine_tuning_takes_no_more_than_was_published(size: str) -> None:
    assert published_size(PRESETS[size]) == size
    for task, cells in published()["finetune"][size].items():
        for seq_len, figure in cells.items():
            found = memory(PRESETS[size], task, int(seq_len))
            assert (found.total - LIBRARIES) / GIGABYTE <= 1.002 * figure, (task, seq_len)


@pytest.mark.parametrize(("size", "bits"), [("1.8b", 4), ("7b", 4), ("14b", 4), ("72b", 4), ("7b", 8), ("7b", 16)])
def test_generating_takes_no_more_than_was_published(size: str, bits: int) -> None:
    found = memory(PRESETS[size], "generate", 2048, bits=bits)
    assert (found.total - LIBRARIES) / GIGABYTE <= published()["generate"][size][str(bits)]


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("size", ["1.8b", "7b"])
def test_an_answer_of_2048_tokens_takes_no_more_than_was_published(size: str, tmp_path: Path) -> None:
    """Measured, in four bits, Python and PyTorch included."""
    figure = published()["generate"][size]["4"]
    if free_memory_bytes(torch.device("cpu")) < 1.5 * figure * GIGABYTE:
        pytest.skip(f"needs {1.5 * figure:.0f} GB of free memory")
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "memory.py"
    command = [sys.executable, str(script), "--generate", f"{size}:4", "--json", str(tmp_path / "found.json")]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads((tmp_path / "found.json").read_text())["values"]["measured"][f"generate {size} 4 2048"]
    assert found["GB"] <= figure


def test_what_is_no_run() -> None:
    assert published_size(TINY) == ""
    for wrong in ({"seq_len": 0}, {"seq_len": 8, "gpus": 0}):
        with pytest.raises(ConfigError, match="at least 1"):
            memory(TINY, "lora", **wrong)
    with pytest.raises(ConfigError, match="3 bits"):
        memory(TINY, "generate", 8, bits=3)
