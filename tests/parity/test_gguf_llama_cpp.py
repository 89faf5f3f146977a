"""Our GGUF files in llama.cpp itself: the same token ids and the same greedy tokens, for each architecture.

Needs Node.js and a folder named by QIANWEN_NODE_LLAMA_CPP in which this was done:
    npm i --omit=optional node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from qianwen.checkpoints.adapter_folder import write_adapter
from qianwen.checkpoints.export import GgufOptions, export_model
from qianwen.checkpoints.gguf.network import GgufModel, write_model
from qianwen.checkpoints.hf_folder import write_folder
from qianwen.checkpoints.load import load_model, open_model
from qianwen.model.config import QwenConfig
from qianwen.model.linears.lora import LoraConfig, adapted, attach
from qianwen.model.rope_state import RopeState
from qianwen.model.transformer import Qwen
from qianwen.quantize.gptq import GptqConfig
from qianwen.quantize.gptq_model import quantize_model
from qianwen.runtime.files import atomic_folder
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens

pytestmark = pytest.mark.peer

TEXTS = ["the cat sat on the mat", "你好，世界", "x = 12 + 34", "  def f(a):\n\treturn a", "Ünïcödé 😀"]
Run = Callable[[Path, list[str], int], list[dict[str, Any]]]


@pytest.fixture
def llama_cpp() -> Run:
    folder, node = os.environ.get("QIANWEN_NODE_LLAMA_CPP"), shutil.which("node")
    if not folder or not node:
        pytest.skip("needs node and QIANWEN_NODE_LLAMA_CPP, a folder with node-llama-cpp installed")

    def run(model: Path, texts: list[str], count: int) -> list[dict[str, Any]]:
        script = Path(__file__).with_name("llama_cpp.mjs")
        request = json.dumps({"model": str(model), "texts": texts, "count": count})
        done = subprocess.run([node, script], cwd=folder, input=request, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def small_vocabulary() -> Vocabulary:
    ranks = {bytes([byte]): byte for byte in range(256)}
    words = [b"th", b"the", b" the", b"at", b" c", b" cat", b"  "]
    for token in [*words, "你".encode()[:2], "你".encode(), "好".encode()[:2], "好".encode(), "你好".encode()]:
        ranks[token] = len(ranks)
    return Vocabulary(ranks, qwen_special_tokens(len(ranks)))


SHAPE = QwenConfig(
    vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=256, rope_theta=10000.0,
)  # fmt: skip
SHAPES = {
    "qwen": SHAPE,
    "qwen2": replace(SHAPE, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen3": replace(SHAPE, num_key_value_heads=2, head_dim=32, qkv_bias=False, qk_norm=True),
    "llama": replace(SHAPE, qkv_bias=False),
}

# Scaled positions, by architecture and method; scaled in short texts too, as llama.cpp does it.
YARN = RopeState(method="yarn", factor=4, original_len=64, attention_factor=1.3)
SCALED = {
    "qwen2 yarn": replace(SHAPES["qwen2"], rope_scaling=YARN),
    "qwen3 yarn": replace(SHAPES["qwen3"], rope_scaling=YARN),
    "llama linear": replace(SHAPES["llama"], rope_scaling=RopeState(method="linear", factor=2.5)),
    "llama llama3": replace(SHAPES["llama"], rope_scaling=RopeState(method="llama3", factor=8, original_len=64)),
}


def regret(model: Qwen, answer: dict[str, Any]) -> float:
    """How much less likely, in nats, our model finds a token that llama.cpp chose than its own choice, at the worst.

    Not zero: llama.cpp keeps keys and values in 16 bits, so a near tie may fall the other way.
    """
    ids, chosen = answer["ids"], torch.tensor(answer["next"])
    logits = model.logits(model(torch.tensor([ids + answer["next"]])))[0, len(ids) - 1 : -1].log_softmax(-1)
    return float((logits.amax(-1) - logits.gather(-1, chosen[:, None])[:, 0]).max())


@torch.inference_mode()
@pytest.mark.parametrize("name", [*SHAPES, *SCALED])
def test_llama_cpp_reads_and_continues_as_we_do(tmp_path: Path, llama_cpp: Run, name: str) -> None:
    arch, config = name.split()[0], (SHAPES | SCALED)[name]
    model = Qwen(config).init_weights(seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    vocabulary = small_vocabulary()
    file, ends = tmp_path / "m.gguf", {"tokenizer.ggml.eos_token_id": vocabulary.special_tokens["<|im_end|>"]}
    write_model(model, vocabulary, file, type="F32", arch=arch, extra=ends)
    tokenizer, again = Tokenizer(vocabulary), GgufModel(file).load()
    for text, answer in zip(TEXTS, llama_cpp(file, TEXTS, 12), strict=True):
        assert answer["ids"] == tokenizer.encode(text)
        assert len(answer["next"]) == 12 and regret(again, answer) < 0.05


@torch.inference_mode()
@pytest.mark.parametrize(("type", "allowed"), [("F16", 0.05), ("Q8_0", 0.3), ("Q4_K_M", 0.3), ("Q4_0", 0.3)])
def test_a_merged_adapter_answers_alike(tmp_path: Path, llama_cpp: Run, type: str, allowed: float) -> None:
    """An adapter over GPTQ codes, added to its base and exported: llama.cpp continues as base and adapter apart do.

    In fewer bits as our own reading of the file does; there llama.cpp rounds activations too.
    """
    model = (
        Qwen(replace(SHAPES["qwen2"], hidden_size=256, head_dim=64, intermediate_size=256)).init_weights(seed=1).eval()
    )
    for parameter in model.parameters():
        parameter.data *= 2
    with atomic_folder(tmp_path / "source") as folder:
        write_folder(model, Tokenizer(small_vocabulary()), folder, chat=True)
    quantize_model(open_model(str(tmp_path / "source")), tmp_path / "int4", GptqConfig(group_size=32))
    apart = attach(load_model(tmp_path / "int4", bits="nf4", dtype=torch.float32).model, LoraConfig(rank=4))
    for _, lora in adapted(apart):
        torch.nn.init.normal_(lora.lora_B, std=0.1)
    (tmp_path / "adapter").mkdir()
    write_adapter(apart, tmp_path / "adapter", LoraConfig(rank=4), str(tmp_path / "int4"))
    options = GgufOptions(type)  # type: ignore[arg-type]
    export_model(str(tmp_path / "adapter"), tmp_path / "out", "ollama", gguf=options, min_agreement=0)
    (file,) = (tmp_path / "out").glob("*.gguf")
    expected = apart.eval() if type == "F16" else GgufModel(file).load()
    for answer in llama_cpp(file, TEXTS, 12):
        assert regret(expected, answer) < allowed


@torch.inference_mode()
def test_llama_cpp_continues_real_weights_as_we_do(llama_cpp: Run) -> None:
    folder = os.environ.get("QIANWEN_TEST_WEIGHTS")
    files = sorted(Path(folder).glob("*0.5b*.gguf")) if folder else []
    if not files:
        pytest.skip("QIANWEN_TEST_WEIGHTS names no folder with a 0.5b GGUF file")
    loaded = load_model(str(files[0]), dtype=torch.float32)
    texts = ["The capital of France is", "中国的首都是北京，法国的首都是", "def add(a, b):\n    return"]
    for text, answer in zip(texts, llama_cpp(files[0], texts, 6), strict=True):
        assert answer["ids"] == loaded.tokenizer.encode(text)
        assert regret(loaded.model, answer) < 0.2  # llama.cpp also rounds activations to 8 bits
