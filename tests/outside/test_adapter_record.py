"""An exported adapter is compared with the model that was trained, whatever its base has become since."""

import json
from pathlib import Path

import pytest
import torch

from qianwen.checkpoints.adapter_folder import write_adapter
from qianwen.checkpoints.export import GgufOptions, export_model
from qianwen.checkpoints.hf_folder import write_folder
from qianwen.checkpoints.load import load_model
from qianwen.checkpoints.parity import RECORD, next_token_logprobs, read_record, write_record
from qianwen.model.config import QwenConfig
from qianwen.model.linears.lora import LoraConfig, adapted, attach
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.files import atomic_folder
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens

SHAPE = QwenConfig(
    vocab_size=472, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=512,
)  # fmt: skip
TOKENIZER = Tokenizer(Vocabulary({bytes([byte]): byte for byte in range(256)}, qwen_special_tokens(256)))


def write_base(seed: int, spread: float = 3) -> None:
    model = Qwen(SHAPE).init_weights(seed=seed).eval()
    for parameter in model.parameters():
        parameter.data *= spread
    with atomic_folder("base") as inside:
        write_folder(model, TOKENIZER, inside, chat=True)


@pytest.fixture(autouse=True)
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Qwen:
    """A base in `base/` and, in `adapter/`, what a training on it wrote."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))
    write_base(seed=1)
    config = LoraConfig(rank=4)
    model = attach(load_model("base", dtype=torch.float32).model, config)
    for _, lora in adapted(model):
        torch.nn.init.normal_(lora.lora_B, std=0.1, generator=torch.Generator().manual_seed(2))
    Path("adapter").mkdir()
    write_adapter(model, Path("adapter"), config, "base")
    write_record(model, TOKENIZER, Path("adapter"))
    return model


def card() -> str:
    return Path("out/README.md").read_text(encoding="utf-8")


def edit(**changes: object) -> None:
    path = Path("adapter/adapter_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_base_it_was_trained_on() -> None:
    done = export_model("adapter", "out")
    assert done.parity.top1_agreement == 1 and done.parity.mean_kl < 1e-5
    assert "the model at the end of its training, as recorded then" in card() and "Part of the difference" not in card()


@pytest.mark.parametrize("format", ["hf", "qwen-v1", "gguf", "ollama"])
def test_another_base_under_the_same_name_is_refused(format: str) -> None:
    write_base(seed=9)
    with pytest.raises(
        CheckpointError, match=r"base .*base is not the one that the adapter was trained on.*of 64 prompts"
    ):
        export_model("adapter", "out", format)  # type: ignore[arg-type]
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "change", [{"lora_alpha": 800}, {"lora_alpha": -64, "r": 4}, {"use_rslora": True, "lora_alpha": 400}]
)
def test_another_strength_than_in_training_is_refused(change: dict) -> None:
    """What is read in another way than it was trained gives other answers, whatever the reason."""
    edit(**change)
    with pytest.raises(CheckpointError, match="not the one that the adapter was trained on"):
        export_model("adapter", "out")


def test_other_matrices_than_in_training_are_refused(trained: Qwen) -> None:
    for _, lora in adapted(trained):
        lora.lora_B.data.neg_()
    write_adapter(trained, Path("adapter"), LoraConfig(rank=4), "base")
    with pytest.raises(CheckpointError, match="not the one that the adapter was trained on"):
        export_model("adapter", "out")


def test_accepted_on_request_the_card_says_what_was_lost_before() -> None:
    write_base(seed=1, spread=2.7)
    done = export_model("adapter", "out", min_agreement=0)
    assert 0 < done.parity.top1_agreement < 1 and "Part of the difference was there before the export" in card()


def test_rounding_is_measured_from_the_trained_model() -> None:
    """A base that is near, as four bits are: the loss of both steps counts, not that of the last one alone."""
    write_base(seed=1, spread=2.95)
    base_alone = export_model("adapter", "out", min_agreement=0).parity
    both = export_model("adapter", "out", "gguf", gguf=GgufOptions("Q4_0"), min_agreement=0).parity
    assert base_alone.mean_kl > 1e-4 and both.mean_kl > base_alone.mean_kl
    with pytest.raises(ConfigError, match="Nothing was written"):
        export_model("adapter", "out", "gguf", gguf=GgufOptions("Q4_0"), min_agreement=both.top1_agreement + 0.01)


def test_an_adapter_of_another_trainer_has_no_record() -> None:
    Path("adapter", RECORD).unlink()
    assert export_model("adapter", "out").parity.top1_agreement == 1
    assert "the adapter has no record of its training" in card()


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "{}", '{"tokens": [[1]], "logprobs": [[0.5]]}', '{"tokens": "abc", "logprobs": []}',
        json.dumps({"tokens": [[9999] * 16] * 64, "logprobs": [[-1.0] * 16] * 64}),
        json.dumps({"tokens": [[1.5] * 16] * 64, "logprobs": [[-1.0] * 16] * 64}),
        json.dumps({"tokens": [[1] * 16] * 64, "logprobs": [["a"] * 16] * 64}),
    ],
)  # fmt: skip
def test_a_damaged_record_is_named(text: str) -> None:
    Path("adapter", RECORD).write_text(text)
    with pytest.raises(CheckpointError, match=RECORD):
        export_model("adapter", "out")


def test_a_record_measures_as_all_tokens_do(trained: Qwen) -> None:
    """Up to what 16 of the tokens can show: never more than the KL divergence over all."""
    record = read_record(Path("adapter"), SHAPE.vocab_size)
    assert record is not None
    own = next_token_logprobs(trained, TOKENIZER)
    assert record.compare(own).top1_agreement == 1 and record.compare(own).max_kl < 1e-4
    other = (own + 0.5 * torch.randn(own.shape, generator=torch.Generator().manual_seed(3))).log_softmax(-1)
    exact = (own.exp() * (own - other)).sum(-1)
    assert 0 < record.compare(other).mean_kl <= exact.mean() + 1e-5
