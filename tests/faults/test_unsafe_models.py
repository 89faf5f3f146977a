"""S8: model folders that would run code if they were believed. Nothing of theirs runs; it is refused or passed over.

Malformed safetensors and GGUF headers: `tests/checkpoints/test_safetensors_file.py`,
`tests/checkpoints/gguf/test_file.py`.
"""

import io
import json
import pickle
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import torch

from qianwen.checkpoints.hf_folder import write_folder
from qianwen.checkpoints.load import load_model
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.device import memory_in_use_bytes
from qianwen.runtime.errors import QianwenError
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens

PLACES = (
    "pytorch_model.bin",
    "model.pt",
    "consolidated.00.pth",
    "model.ckpt",
    "model.pkl",
    "model.safetensors",
    "model-00001-of-00001.safetensors",
    "model.gguf",
    "adapter_model.bin",
    "adapter_model.safetensors",
)
WRAPPINGS = ("plain", "oldest protocol", "torch", "torch of old", "zip in a zip", "tar")
TEMPLATES = (
    "{{{{ ''.__class__.__mro__[1].__subclasses__()[{n}]('touch {canary}', shell=True) }}}}",
    "{{{{ cycler.__init__.__globals__.os.system('touch {canary}') }}}}{n}",
    "{{% for x in range({n}0000000) %}}{{{{ lipsum.__globals__['os'].popen('touch {canary}').read() }}}}{{% endfor %}}",
    "{{{{ self._TemplateReference__context.joiner.__init__.__globals__.os.system('touch {canary}') }}}}{n}",
)


class Evil:
    """Leaves its mark when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return eval, (f"open({str(self.canary)!r}, 'w').close()",)


def wrapped(kind: str, canary: Path) -> bytes:
    """A pickle that runs code, in one of the forms that weights have come in."""
    if kind == "plain":
        return pickle.dumps({"weight": Evil(canary)})
    if kind == "oldest protocol":
        return pickle.dumps({"weight": Evil(canary)}, protocol=0)
    data = io.BytesIO()
    if kind.startswith("torch"):
        torch.save({"weight": Evil(canary)}, data, _use_new_zipfile_serialization=kind == "torch")
    elif kind == "tar":
        with tarfile.open(fileobj=data, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("pickle"), io.BytesIO(wrapped("plain", canary)))
    else:
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("archive/data.pkl", wrapped("plain", canary))
            archive.writestr("inner.zip", wrapped("torch", canary))
    return data.getvalue()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that loads."""
    folder = tmp_path_factory.mktemp("sound") / "model"
    folder.mkdir()
    ranks = {bytes([byte]): byte for byte in range(256)}
    shape = {"vocab_size": 520, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    model = Qwen(QwenConfig(**shape, num_attention_heads=2, max_position_embeddings=64)).init_weights(0)
    write_folder(model, Tokenizer(Vocabulary(ranks, qwen_special_tokens(256))), folder, chat=True)
    return folder


def copied(sound: Path, to: Path) -> Path:
    to.mkdir()
    for file in sound.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_the_canary_sings(tmp_path: Path) -> None:
    for number, kind in enumerate(WRAPPINGS[:4]):
        canary = tmp_path / str(number)
        data = wrapped(kind, canary)
        torch.load(io.BytesIO(data), weights_only=False) if kind.startswith("torch") else pickle.loads(data)
        assert canary.exists()


@pytest.mark.parametrize("kind", WRAPPINGS)
@pytest.mark.parametrize("place", PLACES)
def test_no_pickle_is_opened_whatever_it_is_called(tmp_path: Path, sound: Path, place: str, kind: str) -> None:
    canary, folder = tmp_path / "canary", copied(sound, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / place).write_bytes(wrapped(kind, canary))
    if place.startswith("adapter"):
        config = {"peft_type": "LORA", "r": 2, "base_model_name_or_path": str(sound), "target_modules": ["q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
    if place.startswith("model-"):
        index = {"weight_map": {"model.embed_tokens.weight": place}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    memory, began = memory_in_use_bytes(), time.perf_counter()
    for model in (folder, folder / place):
        with pytest.raises(QianwenError):
            load_model(model, device="cpu")
    assert time.perf_counter() - began < 2
    assert memory_in_use_bytes() - memory < 1 << 30
    assert not canary.exists()


@pytest.mark.parametrize("number", range(25))
@pytest.mark.parametrize("template", TEMPLATES)
def test_what_lies_beside_sound_weights_never_runs(tmp_path: Path, sound: Path, template: str, number: int) -> None:
    canary, folder = tmp_path / "canary", copied(sound, tmp_path / "model")
    code = f"open({str(canary)!r}, 'w').close()\n"
    for name in ("modeling_qwen.py", "configuration_qwen.py", "tokenization_qwen.py", "cpp_kernels.py", "setup.py"):
        (folder / name).write_text(code)
    for file in ("config.json", "tokenizer_config.json", "generation_config.json"):
        said = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        said["auto_map"] = {name: "modeling_qwen.Evil" for name in ("AutoConfig", "AutoModelForCausalLM")}
        said["chat_template"] = template.format(canary=canary, n=number)
        (folder / file).write_text(json.dumps(said | {"trust_remote_code": True}))
    (folder / "chat_template.jinja").write_text(template.format(canary=canary, n=number))
    began = time.perf_counter()
    loaded = load_model(folder, device="cpu")
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("hello")) == "hello"
    assert time.perf_counter() - began < 2
    assert not canary.exists()
