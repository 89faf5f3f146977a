"""Ranks and collectives that are no-ops on one process, so no caller ever asks how many there are.

A process group can only exist once torch is imported, which is why this file does not import it.
"""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def _group():
    """`torch.distributed` when a process group is up, else None."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def rank() -> int:
    """This process's number, 0 when alone."""
    return dist.get_rank() if (dist := _group()) else 0


def world_size() -> int:
    """How many processes train together, 1 when alone."""
    return dist.get_world_size() if (dist := _group()) else 1


def is_main() -> bool:
    """True on the one process that prints and writes."""
    return rank() == 0


def all_reduce_sum(tensor: "torch.Tensor") -> "torch.Tensor":
    """Sum `tensor` over all processes, in place, and return it."""
    if dist := _group():
        dist.all_reduce(tensor)
    return tensor


def barrier() -> None:
    """Wait until every process is here."""
    if dist := _group():
        dist.barrier()
