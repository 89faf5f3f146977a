"""The forms of MODEL, and the errors for everything else."""

import json
import os
import shutil
from pathlib import Path
from typing import Literal

import pytest
import torch

from qianwen.checkpoints import load
from qianwen.checkpoints import packed_cache as store
from qianwen.checkpoints.adapter_folder import write_adapter
from qianwen.checkpoints.gguf.network import write_model
from qianwen.checkpoints.hf_folder import write_folder
from qianwen.checkpoints.load import LoadedModel, find_model, load_model
from qianwen.kernels.cpu import operators
from qianwen.model.caches.contiguous import ContiguousCache
from qianwen.model.config import QwenConfig
from qianwen.model.linears.lora import LoraConfig, adapted, attach
from qianwen.model.linears.packed import PackedLinear
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.files import RunFolder, atomic_folder
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens

CONFIG = QwenConfig(
    vocab_size=520, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=256,
)  # fmt: skip


def small_tokenizer() -> Tokenizer:
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"th": 256, b"the": 257}
    return Tokenizer(Vocabulary(ranks, qwen_special_tokens(258)))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current folder, with its own runs and cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QIANWEN_RUNS", raising=False)
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(load, "fetch_model", lambda model: pytest.fail(f"the network was asked for {model}"))
    return tmp_path


def save(folder: Path, *, chat: bool = True) -> Qwen:
    model = Qwen(CONFIG).init_weights(seed=1).eval()
    with atomic_folder(folder) as inside:
        write_folder(model, small_tokenizer(), inside, chat=chat)
    return model


def save_gguf(file: Path, end: str = "<|im_end|>") -> None:
    vocabulary = small_tokenizer().vocabulary
    ends = {"tokenizer.ggml.eos_token_id": vocabulary.special_tokens[end]}
    write_model(Qwen(CONFIG).init_weights(seed=1), vocabulary, file, extra=ends)


# ---- what is found ----------------------------------------------------------------------------------------------


def test_model_can_be_a_folder_a_file_in_it_or_a_run(place: Path) -> None:
    model = save(place / "models" / "my-model")
    RunFolder.create("first", "pretrain", {})
    save(place / "runs" / "first" / "model", chat=False)
    expected = model.state_dict()
    for name in ("models/my-model", "models/my-model/model.safetensors", "models/my-model/config.json", "first"):
        loaded = load_model(name, dtype=torch.float32)
        assert all(torch.equal(value, expected[key]) for key, value in loaded.model.state_dict().items())
        assert loaded.tokenizer.encode("the thing") == small_tokenizer().encode("the thing")
        assert loaded.config == CONFIG and not loaded.model.training
    assert load_model("models/my-model").name == "my-model"
    for run in ("first", "runs/first", "runs/first/model", str(place / "runs" / "first")):
        assert load_model(run).name == "first"


def test_model_can_be_a_gguf_file_or_a_folder_with_one(place: Path) -> None:
    (place / "g").mkdir()
    save_gguf(place / "g" / "tiny-f16.gguf")
    for name in ("g/tiny-f16.gguf", "g"):
        loaded = load_model(name)
        assert loaded.chat and loaded.generation == {"eos_token_id": [260]}
        assert loaded.tokenizer.vocabulary == small_tokenizer().vocabulary
    assert load_model("g/tiny-f16.gguf").name == "tiny-f16"
    save_gguf(place / "g" / "other.gguf")
    with pytest.raises(ConfigError, match="other.gguf, tiny-f16.gguf"):
        load_model("g")


def test_chat_models_differ_from_base_models(place: Path) -> None:
    save(place / "chat")
    save(place / "base", chat=False)
    save_gguf(place / "base.gguf", end="<|endoftext|>")
    assert load_model("chat").chat and load_model("chat").generation["eos_token_id"] == [260, 258]
    assert not load_model("base").chat and load_model("base").generation["eos_token_id"] == [258]
    assert not load_model("base.gguf").chat
    settings = {"chat_format": "chatml", "eos_token_id": 258, "top_p": 0.8}
    (place / "base" / "manifest.json").unlink()
    (place / "base" / "generation_config.json").write_text(json.dumps(settings))
    loaded = load_model("base")
    assert loaded.chat and loaded.generation == settings | {"eos_token_id": [258]}


def test_dtype_and_device_are_chosen_or_given(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(place / "m")
    monkeypatch.setattr(load, "compute_dtype", lambda device: torch.bfloat16)
    assert next(load_model("m", device="cpu").model.parameters()).dtype == torch.bfloat16
    assert next(load_model("m", dtype=torch.float64).model.parameters()).dtype == torch.float64


def test_hub_names_are_fetched_only_if_no_local_path_exists(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(place / "fetched")
    asked = []
    monkeypatch.setattr(load, "fetch_model", lambda model: asked.append(model) or place / "fetched")
    assert load_model("Qwen/Tiny-Chat").name == "Tiny-Chat"
    assert load_model("modelscope:Qwen/Tiny-Chat@v1").name == "Tiny-Chat"
    assert asked == ["Qwen/Tiny-Chat", "modelscope:Qwen/Tiny-Chat@v1"]
    save(place / "Qwen" / "Tiny-Chat")
    assert find_model("Qwen/Tiny-Chat") == Path("Qwen/Tiny-Chat")


# ---- what is not ------------------------------------------------------------------------------------------------


def test_an_unknown_model_lists_forms_and_near_matches(place: Path) -> None:
    save(place / "models" / "my-model")
    RunFolder.create("first", "pretrain", {})
    with pytest.raises(ConfigError) as caught:
        load_model("models/my-modle")
    assert "Did you mean models/my-model?" in str(caught.value)
    for form in (".gguf", "safetensors", "runs/NAME", "Qwen/Qwen2.5-0.5B-Instruct", "modelscope:"):
        assert form in str(caught.value)
    with pytest.raises(ConfigError, match=r"Did you mean first\?"):
        load_model("fisrt")
    for nonsense in ("", ".", "a/b/c", "..", "notes.txt", "~/nothing", "\0"):
        with pytest.raises(ConfigError, match="is not a model"):
            load_model(nonsense)


def test_unsupported_files_are_refused(place: Path) -> None:
    (place / "notes.txt").write_text("hello")
    with pytest.raises(ConfigError, match="is not a model"):
        load_model("notes.txt")
    (place / "weights.pt").write_bytes(b"\x80\x04")
    with pytest.raises(CheckpointError, match="pickle"):
        load_model("weights.pt")
    (place / "old").mkdir()
    (place / "old" / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match="pickle"):
        load_model("old")


def test_no_code_of_a_folder_ever_runs(place: Path) -> None:
    """Remote code, templates and pickles in a folder with good weights are ignored."""
    save(place / "m")
    (place / "m" / "manifest.json").unlink()
    canary = place / "ran"
    (place / "m" / "modeling_evil.py").write_text(f"open({str(canary)!r}, 'w')")
    (place / "m" / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    config = json.loads((place / "m" / "config.json").read_text())
    remote = {"auto_map": {"AutoConfig": "modeling_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}}
    (place / "m" / "config.json").write_text(json.dumps(config | remote))
    template = "{{ cycler.__init__.__globals__.os.system('touch ran') }}"
    (place / "m" / "tokenizer_config.json").write_text(json.dumps({"chat_template": template} | remote))
    assert load_model("m").chat and not canary.exists()


def test_a_run_without_a_model_is_an_error(place: Path) -> None:
    RunFolder.create("young", "pretrain", {})
    with pytest.raises(ConfigError, match="has not written a model yet"):
        load_model("young")


def formats(model: Qwen) -> dict[str, str]:
    return {name: module.format for name, module in model.named_modules() if isinstance(module, PackedLinear)}


def logits(model: Qwen) -> torch.Tensor:
    ids = torch.arange(24).view(1, 24)
    with torch.inference_mode():
        return model.logits(model(ids))


@pytest.mark.parametrize(("bits", "format"), [(4, "int4"), (5, "int5"), (8, "int8"), (16, "bf16")])
@pytest.mark.parametrize("source", ["folder", "gguf"])
def test_bits_pack_every_linear(place: Path, bits: Literal[4, 5, 8, 16], format: str, source: str) -> None:
    """From a folder and from a GGUF file with floats; the head has at least eight bits."""
    save(place / "m") if source == "folder" else save_gguf(place / "m.gguf")
    name = "m" if source == "folder" else "m.gguf"
    packed = load_model(name, bits=bits).model
    found = formats(packed)
    assert len(found) == 2 * 7 + 1 and found.pop("lm_head") == ("bf16" if bits == 16 else "int8")
    assert set(found.values()) == {format}
    error = (logits(packed) - logits(load_model(name).model)).norm() / logits(load_model(name).model).norm()
    assert error < {4: 0.2, 5: 0.1, 8: 0.03, 16: 0.01}[bits]
    assert torch.equal(logits(load_model(name, bits=bits).model), logits(packed))  # now from the cache


def test_unsupported_bits_are_refused(place: Path) -> None:
    save(place / "m")
    with pytest.raises(ConfigError, match="3 bits is not supported; choose one of 4, 5, 8, 16"):
        load_model("m", bits=3)  # type: ignore[arg-type]


def test_stored_uses_the_bits_of_the_weights(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save(place / "float32")
    with atomic_folder(place / "half") as inside:
        write_folder(model.bfloat16(), small_tokenizer(), inside, chat=True)
    for type in ("F32", "Q8_0"):
        write_model(model, small_tokenizer().vocabulary, place / f"{type}.gguf", type=type, extra={})
    monkeypatch.setattr(operators, "available", lambda: True)
    assert not formats(load_model("float32", bits="stored", device="cpu").model)
    assert set(formats(load_model("half", bits="stored", device="cpu").model).values()) == {"bf16"}
    assert not formats(load_model("F32.gguf", bits="stored", device="cpu").model)
    found = set(formats(load_model("Q8_0.gguf", bits="stored", device="cpu").model).values())
    assert found == {"q8_0", "bf16"}  # the writer keeps rows that are no whole blocks as F16
    monkeypatch.setattr(operators, "available", lambda: False)
    assert not formats(load_model("Q8_0.gguf", bits="stored", device="cpu").model)


def test_a_full_disk_does_not_stop_a_packed_model(place: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    save(place / "m")
    monkeypatch.setattr(store, "save_packed", full)
    assert formats(load_model("m", bits=8).model)
    assert "could not be cached" in capsys.readouterr().out


# ---- adapters ---------------------------------------------------------------------------------------------------


def adapter(folder: Path, base: str, target: str = "adapter") -> Path:
    """A trained adapter for `base`, in the same folder as `base`."""
    model = attach(load_model(base, dtype=torch.float32).model, LoraConfig(rank=4))
    for _, lora in adapted(model):
        torch.nn.init.normal_(lora.lora_B, std=0.1)
    (folder / target).mkdir()
    write_adapter(model, folder / target, LoraConfig(rank=4), base)
    return folder / target


def test_an_adapter_loads_with_its_base(place: Path) -> None:
    base = save(place / "base")
    found = load_model(adapter(place, "base"), dtype=torch.float32)
    change = dict(adapted(found.model))["model.layers.0.self_attn.q_proj"]
    assert change.lora_B.abs().sum() > 0 and torch.equal(
        change.base.weight, base.model.layers[0].self_attn.q_proj.weight
    )
    assert found.name == "adapter" and found.tokenizer.special_tokens == load_model("base").tokenizer.special_tokens


def test_an_adapter_over_packed_weights(place: Path) -> None:
    save(place / "base")
    adapter(place, "base")
    exact, packed = load_model("adapter", dtype=torch.float32).model, load_model("adapter", bits=8).model
    assert "int8" in formats(packed).values()
    ids = torch.arange(12).reshape(1, 12)
    with torch.no_grad():
        expected, got = exact.logits(exact(ids)), packed.logits(packed(ids))
    assert (got - expected).norm() < 0.05 * expected.norm()


def test_an_adapter_without_its_base_is_an_error(place: Path) -> None:
    save(place / "base")
    adapter(place, "base")
    with pytest.raises(CheckpointError, match="is an adapter too"):
        again = adapter(place, "base", "second")
        settings = json.loads((again / "adapter_config.json").read_text())
        (again / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": "adapter"}))
        load_model("second")
    shutil.rmtree(place / "base")
    with pytest.raises(ConfigError, match="base is not a model"):
        load_model("adapter")


# ---- real weights -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> LoadedModel:
    folder = os.environ.get("QIANWEN_TEST_WEIGHTS")
    files = sorted(Path(folder).glob("*0.5b*.gguf")) if folder else []
    if not files:
        pytest.skip("QIANWEN_TEST_WEIGHTS names no folder with a 0.5b GGUF file")
    return load_model(str(files[0]))


@torch.inference_mode()
@pytest.mark.slow
@pytest.mark.parametrize(
    ("question", "answer"), [("法国的首都是哪里？", "巴黎"), ("What is the capital of France?", "Paris")]
)
def test_real_weights_answer_and_end(real: LoadedModel, question: str, answer: str) -> None:
    text, start, end = real.tokenizer.encode, real.tokenizer.im_start_id, real.tokenizer.im_end_id
    ids = [start, *text("user\n"), *text(question), end, *text("\n"), start, *text("assistant\n")]
    cache, new, said = ContiguousCache(real.config, max_len=128), torch.tensor([ids]), []
    for _ in range(24):
        hidden = real.model(new, cache=cache)
        new = real.model.logits(hidden[:, -1]).argmax(-1, keepdim=True)
        said.append(int(new))
        if said[-1] in real.generation["eos_token_id"]:
            break
    assert said[-1] == end and answer in real.tokenizer.decode(said)
