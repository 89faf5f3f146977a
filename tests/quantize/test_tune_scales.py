"""Tuned scales: nearer to the source, codes and layout as they were, stopped or not; and what is refused."""

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qianwen.checkpoints.hf_folder import write_folder
from qianwen.checkpoints.load import load_model, open_model
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.quantize import tune_scales as scales
from qianwen.quantize.gptq import GptqConfig
from qianwen.quantize.gptq_model import quantize_model
from qianwen.quantize.tune_scales import needed_bytes, tune_folder, tuning_done
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import atomic_folder, verify_folder
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens
from qianwen.train import job
from qianwen.train.loop import Hook, Metrics
from qianwen.train.state import TrainState

CONFIG = QwenConfig(
    vocab_size=472, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=2048,
)  # fmt: skip
TEXTS = [[(7 * i + 3 * j + j * j * i) % 256 for j in range(200)] for i in range(20)]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model in `source/`, rounded to nearest in `codes/`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))
    write("source", CONFIG)
    quantize_model(open_model("source"), "codes", GptqConfig(group_size=32))


def write(folder: str, config: QwenConfig) -> None:
    model = Qwen(config).init_weights(seed=1).eval()
    for parameter in model.parameters():
        parameter.data *= 2
    tokenizer = Tokenizer(Vocabulary({bytes([byte]): byte for byte in range(256)}, qwen_special_tokens(256)))
    with atomic_folder(folder) as inside:
        write_folder(model, tokenizer, inside, chat=True)


def divergence(folder: str) -> float:
    """From the source, on other texts than were learned from."""
    ids = torch.tensor([[(11 * j + 5) % 251 for j in range(300)]])
    with torch.inference_mode():
        models = (load_model(name, dtype=torch.float32).model for name in ("source", folder))
        p, q = (model.logits(model(ids)).log_softmax(-1) for model in models)
    return (p.exp() * (p - q)).sum(-1).mean().item()


@pytest.mark.parametrize("layout", ["qwen2", "qwen"])
def test_scales_learn_and_codes_stay(layout: str) -> None:
    quantize_model(open_model("source"), "codes", GptqConfig(group_size=32), layout=layout)  # type: ignore[arg-type]
    done = tune_folder(open_model("source"), Path("codes"), Path("tuned"), TEXTS, 40, keep=Path("kept"))
    assert divergence("tuned") < 0.9 * divergence("codes")
    before, after = load_file("codes/model.safetensors"), load_file("tuned/model.safetensors")
    assert list(before) == list(after)
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) == ("scales" not in name), name
        assert after[name].dtype == tensor.dtype
    assert verify_folder("tuned") and "tuned GPTQ Int4" in Path("tuned/README.md").read_text()
    assert done.parity.num_prompts == 64 and open_model("tuned").bits == 4


def test_it_can_replace_its_folder() -> None:
    loss = divergence("codes")
    tune_folder(open_model("source"), Path("codes"), Path("codes"), TEXTS, 20, keep=Path("kept"))
    assert divergence("codes") < loss


@pytest.mark.parametrize("stops", [[0], [5, 20]])
def test_stopped_and_gone_on_with_it_is_as_if_never_stopped(stops: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever Ctrl-C comes: after that step, or before the first."""
    given = open_model("source"), Path("codes"), Path("tuned"), TEXTS, 24
    tune_folder(*given, keep=Path("whole"))
    expected = Path("tuned/model.safetensors").read_bytes()
    shutil.rmtree("tuned")
    shown, stop_signals = scales._log_divergence, job.stop_signals

    def interrupting(steps: int, first: int) -> Hook:
        hook = shown(steps, first)

        def ask(state: TrainState, metrics: Metrics) -> None:
            hook(state, metrics)
            if state.step in stops:
                signal.raise_signal(signal.SIGINT)

        return ask

    @contextmanager
    def interrupted() -> Iterator[Callable[[], bool]]:
        with stop_signals() as stop:
            signal.raise_signal(signal.SIGINT)
            yield stop

    for at in stops:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(scales, "_log_divergence", interrupting)
            if not at:
                patched.setattr(job, "stop_signals", interrupted)
            tune_folder(*given, keep=Path("kept"))
        assert tuning_done(Path("kept")) == f"{at} steps of tuning" and not Path("tuned").exists()
    tune_folder(*given, keep=Path("kept"))
    assert Path("tuned/model.safetensors").read_bytes() == expected


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_model("source")
    with pytest.raises(ConfigError, match="source is not a GPTQ folder"):
        tune_folder(opened, Path("source"), Path("out"), TEXTS, 2, keep=Path("kept"))
    with pytest.raises(DataError, match="calibration texts are empty"):
        tune_folder(opened, Path("codes"), Path("out"), [[]], 2, keep=Path("kept"))
    write("other", replace(CONFIG, intermediate_size=96))
    with pytest.raises(ConfigError, match="codes was not made from other"):
        tune_folder(open_model("other"), Path("codes"), Path("out"), TEXTS, 2, keep=Path("kept"))
    monkeypatch.setattr(scales, "free_memory_bytes", lambda device: needed_bytes(CONFIG) - 1)
    with pytest.raises(ConfigError, match="run without --tune"):
        tune_folder(opened, Path("codes"), Path("out"), TEXTS, 2, keep=Path("kept"))
    assert not Path("out").exists()
