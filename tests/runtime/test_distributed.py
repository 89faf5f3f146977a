"""Alone, the collectives do nothing; with two processes they add up."""

import socket
import subprocess
import sys

import torch

from qianwen.runtime import distributed

TWO = """
import sys, torch, torch.distributed as dist
from qianwen.runtime import distributed
rank, port = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
total = distributed.all_reduce_sum(torch.tensor([1.0 + rank]))
distributed.barrier()
print(distributed.rank(), distributed.world_size(), distributed.is_main(), total.item())
dist.destroy_process_group()
"""


def test_one_process_is_its_own_world():
    tensor = torch.tensor([3.0])
    assert distributed.all_reduce_sum(tensor) is tensor and tensor.item() == 3.0
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    distributed.barrier()


def test_torch_is_not_imported_to_ask_for_the_rank():
    code = "import sys; from qianwen.runtime import distributed as d; assert d.is_main(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_two_processes_add_up():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-c", TWO]
    pair = [subprocess.Popen([*command, str(rank), port], stdout=subprocess.PIPE, text=True) for rank in (0, 1)]
    assert [process.communicate(timeout=60)[0] for process in pair] == ["0 2 True 3.0\n", "1 2 False 3.0\n"]
