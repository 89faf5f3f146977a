"""One model on many processes, with PyTorch's own parts: FSDP2, activation checkpointing, compilation.

`shards` processes split one copy of the weights, and the copies train on different sequences:

    shards = all processes    FSDP: least memory
    shards = 1                plain replicas ("DDP"): least traffic
    between                   replicas of shards ("HSDP"): shard inside a node, replicate across nodes

All three are one call with a mesh of two dimensions (replicas, shards). Weights stay float32 in their shards and are
gathered in the compute type; gradients are summed, not averaged, since the loop divides by the number of tokens of all
processes. Checkpoints are safetensors too, one file per process; torch's distributed checkpoint reads them back
onto any number of processes.

Start with `torchrun --nproc-per-node N -m qianwen pretrain …`. Not here: tensor, pipeline and context parallelism.
"""

import functools
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from qianwen.model.attention import DocumentAttention
from qianwen.model.transformer import Qwen
from qianwen.runtime.distributed import world_size
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """How the model is split over processes, and options that trade time for memory."""

    shards: int = 0  # processes that share one copy of the weights; 0: all (FSDP), 1: none (replicas)
    checkpoint_activations: bool = False  # recompute layers in the backward pass: a third more work, far less memory
    compile: bool = False  # compile every layer with torch.compile


def join_processes(device: torch.device) -> None:
    """Join the process group that torchrun sets in the environment; with a single process, do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def parallelize(model: nn.Module, layers: Iterable[nn.Module], config: ParallelConfig, dtype: torch.dtype) -> None:
    """Change `model` in place; its `layers` are the units that are recomputed, compiled and sharded."""
    layers = list(layers)
    if config.compile:
        for module in model.modules():
            if isinstance(module, Qwen):
                module.document_attention = _uncompiled_attention()
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, 2 * len(layers))  # one code, compiled for each layer
    for layer in layers:
        if config.checkpoint_activations:
            layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
        if config.compile:
            layer.compile()
    if world_size() == 1:
        return
    shards = config.shards or world_size()
    if world_size() % shards:
        raise ConfigError(tr("shards = {shards} does not divide {all} processes", shards=shards, all=world_size()))
    device = next(model.parameters()).device
    mesh = init_device_mesh(device.type, (world_size() // shards, shards), mesh_dim_names=("replicas", "shards"))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for module in [*layers, model]:
        sharded = fully_shard(module, mesh=mesh, mp_policy=policy)
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # gloo has no other


@functools.cache
def _uncompiled_attention() -> type[DocumentAttention]:
    """Attention that is not compiled: document boundaries differ in every batch, and each would be compiled again.

    Created on first use, since `torch.compiler.disable` imports the compiler, which takes a second.
    """
    return type(
        "UncompiledAttention", (DocumentAttention,), {"attend": torch.compiler.disable(DocumentAttention.attend)}
    )


def sync_gradients(model: nn.Module, on: bool) -> None:
    """Whether the next backward pass adds up gradients over processes: only the last of a step needs to."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(on)


def total_norm(gradients: list[Tensor]) -> float:
    """The Euclidean norm of all `gradients` as one vector, over all shards."""
    norm = torch.nn.utils.get_total_norm(gradients)
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()


def local(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor; any other as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """All weights of a sharded model, on the CPU of the main process; nothing on the others. All must call it."""
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def gathered(model: Qwen) -> Qwen:
    """A model of one process as it is; of several, a copy with all weights on the CPU, correct on the main process."""
    if world_size() == 1:
        return model
    weights = whole_weights(model)  # all processes take part
    copy = Qwen(model.config)
    copy.load_state_dict(weights, strict=False)
    return copy


def save_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write this process's part of `tensors` as one safetensors file. All must call it; all get the same OSError."""
    try:
        dcp.save(tensors, storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        raise OSError(str(error)) from error


def load_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    """Overwrite `tensors` from the safetensors files of any number of processes, each its own part."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*assuming the intent is to load in a single process")
        dcp.load(tensors, storage_reader=dcp.HuggingFaceStorageReader(str(folder)), no_dist=world_size() == 1)
