"""Which sampling is recommended for a model: by its own files, else by its family. Most GGUF files bring none.

    Qwen2.5, Qwen2.5-Coder        temperature 0.7, top-p 0.8, top-k 20, repetition penalty 1.05
    Qwen3, thinking               temperature 0.6, top-p 0.95, top-k 20
    Qwen3, not thinking           temperature 0.7, top-p 0.8, top-k 20
    Qwen v1                       top-p 0.8
    others, models without chat   neutral: temperature 1, nothing is cut off

The values are those that the authors publish with the models. At temperature 1 a small Qwen2.5 mixes languages. A
family is recognised by its network and its special tokens, because the name of a file says little.
"""

from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from qianwen.checkpoints.generation_config import SAMPLING

FILES = "files"
QWEN25 = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
QWEN3_THINKING = {"temperature": 0.6, "top_p": 0.95, "top_k": 20}
QWEN3 = {"temperature": 0.7, "top_p": 0.8, "top_k": 20}
QWEN1 = {"top_p": 0.8}


class Recommended(NamedTuple):
    """Fields of `SamplingParams`, and where they are from."""

    source: str = ""  # FILES, the name of a family, or empty: the values are neutral
    sampling: Mapping[str, Any] = {}
    without_thinking: Mapping[str, Any] = {}  # instead of `sampling` in a request that switches thinking off


def recommended_sampling(
    generation: Mapping[str, Any],
    architecture: str,
    special_tokens: Container[str],
    *,
    chat: bool,
    template: str | None = None,
) -> Recommended:
    """The values for a model with these settings, this `QwenConfig.architecture` and these special tokens.

    `template` is the chat template, if it is known: Qwen3 models that never think differ only there.
    """
    own = {name: generation[name] for name in SAMPLING if name in generation}
    if generation.get("do_sample") is False:
        own["temperature"] = 0.0
    if own:
        return Recommended(FILES, own, own)
    if not chat:
        return Recommended()
    if "<|extra_0|>" in special_tokens:
        return Recommended("Qwen", QWEN1, QWEN1)
    if architecture == "qwen3":
        thinks = template is None or "<think>" in template
        return Recommended("Qwen3", QWEN3_THINKING if thinks else QWEN3, QWEN3)
    if architecture == "qwen2" and "<tool_call>" in special_tokens:
        return Recommended("Qwen2.5", QWEN25, QWEN25)
    return Recommended()
