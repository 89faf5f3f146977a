"""What is known of a model without loading it: its kind, size, bits, context, memory, recommended sampling.

Only headers and small JSON files are read: no weights and no vocabulary, and nothing is fetched.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qianwen.checkpoints.adapter_folder import base_of, is_adapter
from qianwen.checkpoints.generation_config import gguf_generation, read_generation
from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.checkpoints.gguf.parts import part_paths
from qianwen.checkpoints.gptq_folder import is_gptq, read_format
from qianwen.checkpoints.hf_weights import stored_dtype
from qianwen.checkpoints.load import is_chat, source_and_shape
from qianwen.checkpoints.packed_cache import gguf_bits
from qianwen.checkpoints.recommended_sampling import Recommended, recommended_sampling
from qianwen.model.account import kv_bytes_per_token
from qianwen.model.config import QwenConfig
from qianwen.tokenizer.hf_vocab_files import read_special_tokens
from qianwen.tokenizer.template_files import read_template, template_from_gguf
from qianwen.tokenizer.vocab import qwen_special_tokens

Kind = Literal["GGUF", "GPTQ", "folder", "adapter"]
CACHE_SHARE = 0.8  # of the memory beside the weights, for keys and values
FLOAT_BITS = 32  # of a key or value on a CPU, and of the embedding beside packed linears
WORKING_BYTES = 0.5e9  # Python, PyTorch and temporary buffers


@dataclass(frozen=True)
class ModelFacts:
    """A model on disk."""

    kind: Kind
    size: int  # bytes on disk
    base: str = ""  # MODEL of the base, of an adapter
    config: QwenConfig | None = None  # None for an adapter
    bits: int | None = None  # of most weights
    sampling: Recommended = Recommended()

    @property
    def context(self) -> int | None:
        """The longest text that the model allows, in tokens."""
        return self.config.max_position_embeddings if self.config else None

    def weight_memory(self) -> float:
        """Bytes of the loaded model without keys and values; roughly, for packed weights on a CPU."""
        if self.config is None:
            return float(self.size)
        return self.size + self.config.vocab_size * self.config.hidden_size * FLOAT_BITS / 8 + WORKING_BYTES

    def fitting_context(self, free: float) -> int | None:
        """The longest text whose keys and values fit beside the weights in `free` bytes; 0: the weights do not fit."""
        if self.config is None:
            return None
        room = CACHE_SHARE * (free - self.weight_memory())
        fitting = math.floor(room / kv_bytes_per_token(self.config, FLOAT_BITS))
        return max(0, min(self.config.max_position_embeddings, fitting))


def model_facts(path: Path) -> ModelFacts:
    """The facts of a weight folder, adapter folder or GGUF file. Raises CheckpointError or ConfigError."""
    if is_adapter(path):
        return ModelFacts("adapter", _size(path), base_of(path))
    source, config = source_and_shape(path)
    special = _special_tokens(source)
    if isinstance(source, GgufModel):
        generation, kind, bits = gguf_generation(source.metadata, path), "GGUF", gguf_bits(source)
        template = template_from_gguf(source.metadata)
        bits = bits or (16 if any(tensor.type == "F16" for tensor in source.tensors.values()) else 32)
    else:
        generation, template = read_generation(source), read_template(source)
        kind = "GPTQ" if is_gptq(source) else "folder"
        bits = read_format(source).bits if kind == "GPTQ" else 8 * stored_dtype(source).itemsize
    chat = is_chat(generation, special, has_template=template is not None)
    text = template.text if template else None
    sampling = recommended_sampling(generation, config.architecture, special, chat=chat, template=text)
    return ModelFacts(kind, _size(path), config=config, bits=bits, sampling=sampling)


def _special_tokens(source: GgufModel | Path) -> Mapping[str, int]:
    """The special tokens by name, without the other tokens of the vocabulary."""
    if isinstance(source, GgufModel):
        tokens = source.metadata.get("tokenizer.ggml.tokens")
        return {text: token for token, text in enumerate(tokens or ()) if text.startswith("<") and text.endswith(">")}
    listed = read_special_tokens(source / "tokenizer.json").get("special_tokens", {})
    return listed or (qwen_special_tokens(0) if (source / "qwen.tiktoken").exists() else {})


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else part_paths(path)
    return sum(file.stat().st_size for file in files if file.is_file())
