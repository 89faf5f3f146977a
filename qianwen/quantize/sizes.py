"""What a GPTQ folder will take on the disk, beside what the model takes now.

A folder that other programs read keeps embedding and head in 16 bits, so it can be larger than a file that has few bits
already. Only headers are read.
"""

from math import prod
from typing import NamedTuple

from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.checkpoints.gguf.parts import part_paths
from qianwen.checkpoints.hf_weights import Layout, inventory
from qianwen.checkpoints.load import OpenModel
from qianwen.checkpoints.tied_tables import with_one_table
from qianwen.model.transformer import empty_network
from qianwen.quantize.gptq import GptqConfig
from qianwen.quantize.gptq_model import folder_plans


class Sizes(NamedTuple):
    """Bytes of the weights now and in the folder, and bits per weight now."""

    before: int
    after: int
    bits_before: float


def folder_sizes(opened: OpenModel, config: GptqConfig, layout: Layout) -> Sizes:
    """The sizes if `opened` is quantised with `config` (`quantize_model`)."""
    source = opened.source
    if isinstance(source, GgufModel):
        files = set(part_paths(source.path))
        count = sum(prod(tensor.shape) for tensor in source.tensors.values())
    else:
        tensors = inventory(source)
        files = {file.path for file in tensors.values()}
        count = sum(prod(file.entries[name].shape) for name, file in tensors.items())
    before = sum(file.stat().st_size for file in files)
    plans = folder_plans(empty_network(with_one_table(opened).config), config, layout)
    after = sum(prod(shape) * dtype.itemsize for dtype, shape in plans.values())
    return Sizes(before, after, before * 8 / count)
