"""Device and number format, seeds, memory."""

import mmap
import random
import sys

import numpy as np
import pytest
import torch

from qianwen.runtime import device, processor


def test_the_best_device_computes():
    chosen = device.best_device()
    assert torch.ones(2, device=chosen).sum().item() == 2


@pytest.mark.parametrize(
    ("features", "dtype"),
    [
        ({"avx2", "avx512f", "avx512_vnni"}, torch.float32),
        ({"avx512f", "avx512_bf16"}, torch.bfloat16),
        ({"amx_tile", "amx_bf16"}, torch.bfloat16),
        ({"asimd", "bf16"}, torch.bfloat16),
        (set(), torch.float32),
    ],
)
def test_bfloat16_only_where_the_cpu_multiplies_it(monkeypatch, features, dtype):
    monkeypatch.setattr(device, "cpu_features", lambda: frozenset(features))
    assert device.compute_dtype(torch.device("cpu")) == dtype


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_bfloat16_on_cuda_from_8_0(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert device.compute_dtype(torch.device("cuda")) == dtype


def test_the_features_of_this_machine_agree_with_torch():
    seen = torch.backends.cpu.get_cpu_capability()  # such as AVX512 or AVX2
    if seen.startswith("AVX"):
        assert any(name.startswith(seen.lower().replace("_", "")[:6]) for name in processor.cpu_features())
    assert processor.cpu_name()


def test_a_seed_repeats_every_generator():
    def draw() -> tuple:
        device.seed_everything(2**40 + 7)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert draw() == draw()


def test_memory_is_counted():
    before = device.memory_in_use_bytes()
    with mmap.mmap(-1, 100_000_000) as block:  # new memory for sure: an allocator may hand out some that was freed
        block.write(bytes(len(block)))
        assert device.memory_in_use_bytes() - before > 80_000_000
        assert device.peak_memory_bytes() >= device.memory_in_use_bytes() - 1_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone can be asked to")
def test_what_was_freed_goes_back_to_the_system():
    kept = []
    for _ in range(200):  # small pieces, each second of them freed: none at the end of the heap
        kept.append(np.ones(60_000, np.uint8))
    before = device.memory_in_use_bytes()
    del kept[:-1]
    device.return_free_memory()
    assert device.memory_in_use_bytes() < before - 8_000_000
