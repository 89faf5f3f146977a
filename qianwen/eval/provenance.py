"""What a number is of: the model and its weights, bits and chat template, the versions and the machine.

Two runs whose settings here are the same, and `exact`, write the same answers to the last bit.
"""

import dataclasses
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import qianwen
from qianwen.chat.model import ChatModel
from qianwen.chat.templates.choose import template_source
from qianwen.checkpoints.adapter_folder import is_adapter
from qianwen.checkpoints.gguf.parts import part_paths
from qianwen.checkpoints.load import Bits, base_model, find_model
from qianwen.checkpoints.model_facts import model_facts
from qianwen.engine.llm import LLM
from qianwen.eval.remote import NOT_OPENAI, OpenAISampling
from qianwen.runtime.device import best_device
from qianwen.runtime.files import sha256_file
from qianwen.runtime.processor import cpu_name
from qianwen.tokenizer.tokenizer import Tokenizer

PACKAGES = ("torch", "numpy", "tiktoken")  # those whose version may change an answer; sacrebleu's is in its signature


def model_settings(llm: LLM, model: str, bits: Bits) -> dict[str, Any]:
    """The settings of a model that runs here: MODEL, loaded with `bits`."""
    path = find_model(model)
    base = base_model(path)
    return {
        "model": llm.name,
        "weights": weights_hash([*_weight_files(base), *(_weight_files(path) if is_adapter(path) else ())]),
        "bits": model_facts(base).bits if bits == "stored" else bits,
        "template": template_settings(llm.tokenizer),
        "exact": llm.engine.config.batch_invariant,
        "kv_cache": llm.engine.config.kv_cache_dtype,
        "extension": dataclasses.asdict(llm.engine.config.extension),
        "windows": list(llm.engine.runner.model.config.layer_windows),
        **_here(),
    }


def url_settings(model: str, url: str, client: ChatModel) -> dict[str, Any]:
    """The settings of a served model. What its weights are, only the server knows."""
    unset = list(NOT_OPENAI) if isinstance(client, OpenAISampling) else []
    return {"model": model, "url": url, "left_to_the_server": unset, **_here()}


def template_settings(tokenizer: Tokenizer) -> dict[str, str] | None:
    """Whose chat template it is, and the hash of its text; None for a model that only continues text."""
    source = template_source(tokenizer)
    if source is None:
        return None
    text = (source.text + "\0" + (source.tool_use or "")).encode("utf-8", "surrogatepass")
    kind = "model" if tokenizer.template is not None else "vocabulary"
    return {"from": kind, "sha256": hashlib.sha256(text).hexdigest()}


def weights_hash(files: Iterable[Path]) -> str:
    """One hash over the bytes of all files; their names do not count."""
    return hashlib.sha256("".join(map(sha256_file, files)).encode()).hexdigest()


def _weight_files(path: Path) -> list[Path]:
    return part_paths(path) if path.suffix == ".gguf" else sorted(path.glob("*.safetensors"))


def _here() -> dict[str, Any]:
    device = best_device()
    return {
        "versions": {"qianwen": qianwen.__version__, "python": platform.python_version(), **_versions()},
        "machine": {
            "processor": cpu_name(),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
            "cores": os.cpu_count(),
        },
    }


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
