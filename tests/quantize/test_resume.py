"""A quantisation that is stopped goes on where it was, and ends as if nothing had happened."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from qianwen.checkpoints.hf_folder import write_folder
from qianwen.checkpoints.load import open_model
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.quantize import calibration
from qianwen.quantize.gptq import GptqConfig
from qianwen.quantize.gptq_model import quantize_model
from qianwen.quantize.resume import layers_done, work_folder
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import atomic_folder
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens

CONFIG = QwenConfig(
    vocab_size=472, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
    max_position_embeddings=128,
)  # fmt: skip
GRIDS = [GptqConfig(group_size=32), GptqConfig(bits=8, group_size=64, sym=False)]
TEXTS = [[(7 * i + 3 * j) % 256 for j in range(60)] for i in range(12)]


@pytest.fixture(autouse=True)
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The layers that are quantised; `source/` is the model."""
    monkeypatch.chdir(tmp_path)
    vocabulary = Vocabulary({bytes([byte]): byte for byte in range(256)}, qwen_special_tokens(256))
    with atomic_folder("source") as inside:
        write_folder(Qwen(CONFIG).init_weights(seed=1), Tokenizer(vocabulary), inside, chat=True)
    layers: list[int] = []
    quantize_layer = calibration.quantize_layer
    monkeypatch.setattr(
        calibration,
        "quantize_layer",
        lambda layer, index, *rest: (layers.append(index), quantize_layer(layer, index, *rest))[1],
    )
    return layers


def reduce(to: str, config: GptqConfig = GRIDS[0], texts: list[list[int]] = TEXTS, stop_at: int = -1) -> str:
    """The digest of the weights; interrupted at the layer `stop_at`."""

    def stopping(layers: range, count: int, title: str) -> Iterator[int]:
        for layer in layers:
            if layer == stop_at:
                raise KeyboardInterrupt
            yield layer

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("qianwen.quantize.gptq_model.progress", stopping)
        quantize_model(open_model("source"), to, config, texts)
    return hashlib.sha256((Path(to) / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("config", GRIDS, ids=["int4", "int8, asymmetric"])
def test_it_ends_as_if_it_had_never_been_stopped(made: list[int], config: GptqConfig, capsys) -> None:
    whole = reduce("whole", config)
    made.clear()
    with pytest.raises(KeyboardInterrupt):
        reduce("out", config, stop_at=1)
    with pytest.raises(KeyboardInterrupt):
        reduce("out", config, stop_at=3)
    assert not Path("out").exists() and "3 layers are saved in out.unfinished" in capsys.readouterr().out
    assert reduce("out", config) == whole
    assert made == [0, 1, 2, 3] and "continuing after 3 layers" in capsys.readouterr().out
    assert not Path("out.unfinished").exists() and not Path("whole.unfinished").exists()


def test_a_layer_whose_bytes_changed_is_made_again(made: list[int], capsys) -> None:
    whole = reduce("whole")
    with pytest.raises(KeyboardInterrupt):
        reduce("out", stop_at=2)
    codes = Path("out.unfinished/layer-00001/codes.safetensors")
    data = bytearray(codes.read_bytes())
    data[-1] ^= 1
    codes.write_bytes(data)
    made.clear()
    assert reduce("out") == whole and made == [1, 2, 3]
    assert "regenerated" in capsys.readouterr().out


def test_layers_made_otherwise_are_not_mixed_in(made: list[int]) -> None:
    with pytest.raises(KeyboardInterrupt):
        reduce("out", stop_at=2)
    with pytest.raises(ConfigError, match=r"another value of options\.passes"):
        reduce("out", GptqConfig(group_size=32, passes=0))
    with pytest.raises(ConfigError, match="another value of texts"):
        reduce("out", texts=TEXTS[:-1])
    weights = Path("source/model.safetensors")
    weights.touch()
    with pytest.raises(ConfigError, match=r"another value of model\.model\.safetensors"):
        reduce("out")
    assert made == [0, 1]
    made_of = Path("out.unfinished/made.json")
    made_of.write_text("[")
    with pytest.raises(ConfigError, match="delete its folder"):
        reduce("out")


def test_stopped_before_the_first_layer_it_leaves_nothing(capsys) -> None:
    with pytest.raises(KeyboardInterrupt):
        reduce("out", stop_at=0)
    assert not Path("out.unfinished").exists() and "kept" not in capsys.readouterr().out


def test_two_at_once_are_kept_apart() -> None:
    with work_folder(Path("out"), {}, layers_done), pytest.raises(ConfigError, match="in use by process"):
        reduce("out")


def test_rounding_keeps_nothing(made: list[int]) -> None:
    with pytest.raises(KeyboardInterrupt):
        reduce("out", texts=[], stop_at=2)
    assert not Path("out.unfinished").exists()
    reduce("out", texts=[])
    assert made == [0, 1, 0, 1, 2, 3]


def test_the_states_behind_a_restored_layer_are_those_behind_the_made_one() -> None:
    model = Qwen(CONFIG).init_weights(seed=1)
    rows = [torch.tensor([text]) for text in TEXTS[:3]]
    ways = [
        calibration.start(CONFIG, model.model.embed_tokens.weight.data, [(ids, torch.arange(60)[None]) for ids in rows])
        for _ in range(2)
    ]
    layer = model.model.layers[0]
    found = calibration.quantize_layer(layer, 0, ways[0], GRIDS[0])
    calibration.restore_layer(layer, found)
    calibration.advance(layer, ways[1])
    assert all(torch.equal(one.states, other.states) for one, other in zip(*ways, strict=True))
