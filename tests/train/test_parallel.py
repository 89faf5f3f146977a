"""Two gloo processes against one: the same training, and checkpoints that any number of processes reads (R12).

Run as a script, this file is one process of such a run.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qianwen.model import Qwen, QwenConfig
from qianwen.model.attention import DocumentAttention
from qianwen.runtime.device import seed_everything
from qianwen.runtime.distributed import is_main, world_size
from qianwen.runtime.errors import ConfigError
from qianwen.train.checkpoint import Checkpoints
from qianwen.train.loop import LoopConfig, run
from qianwen.train.optim import AdamW, AdamWConfig
from qianwen.train.parallel import ParallelConfig, join_processes, local, parallelize, whole_weights
from qianwen.train.pretrain import next_token_loss
from qianwen.train.state import TrainState

SHAPE = QwenConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)


def batches(cursor: int) -> dict[str, torch.Tensor]:
    """One sequence of two documents, of lengths that differ between cursors."""
    generator = torch.Generator().manual_seed(cursor)
    ids = torch.randint(96, (1, 17), generator=generator)
    cut = int(torch.randint(3, 14, (), generator=generator))
    labels = ids[:, 1:].clone()
    labels[:, cut - 1] = -100
    positions = torch.cat((torch.arange(cut), torch.arange(16 - cut)))[None]
    return {"input_ids": ids[:, :-1], "labels": labels, "positions": positions}


def train(source: Path, target: Path, steps: int, **parallel: object) -> tuple[TrainState, list[dict]]:
    """Go on from the newest checkpoint in `source` up to `steps`, and save in `target`."""
    seed_everything(0)
    model = Qwen(SHAPE).init_weights(0)
    parallelize(model, model.model.layers, ParallelConfig(**parallel), torch.float32)
    state = TrainState(model, AdamW(model, AdamWConfig()))
    Checkpoints(source).load_newest(state)
    config = LoopConfig(steps=10, sequences_per_step=4, micro_batch_size=1, lr=3e-4)
    seen: list[dict] = []
    run(model, next_token_loss, batches, config, state, [lambda _, m: seen.append(m)], until=steps)
    Checkpoints(target).save(state)
    return state, seen


def launch(processes: int, folder: Path) -> list[dict]:
    """This file as that many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    outputs = [process.communicate(timeout=100) for process in running]
    assert all(process.returncode == 0 for process in running), "\n".join(error for _, error in outputs)
    return json.loads(outputs[0][0].splitlines()[-1])


def one_of_several(folder: Path) -> None:
    """Five steps from nothing; five more from what one process saved. First sharded, then replicated."""
    join_processes(torch.device("cpu"))
    torch.set_num_threads(1)
    history = []
    for shards in (0, 1):
        early, first = train(folder / "nothing", folder / f"from-zero-{shards}", 5, shards=shards)
        final, second = train(folder / "alone-5", folder / "unused", 10, shards=shards, checkpoint_activations=True)
        history.append(first + second)
        for name, state in {"early": early, "final": final}.items():
            whole = whole_weights(state.model)
            if is_main():
                save_file(whole, folder / f"{name}-{shards}.safetensors")
    if is_main():
        print(json.dumps(history))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_like_one_and_checkpoints_reshard(tmp_path):
    halfway, first = train(tmp_path / "nothing", tmp_path / "alone-5", 5)
    final, second = train(tmp_path / "alone-5", tmp_path / "alone-10", 10)
    histories = launch(2, tmp_path)
    for shards, seen in enumerate(histories):
        loaded, _ = train(tmp_path / f"from-zero-{shards}", tmp_path / "same", 5)  # 2 → 1; there is nothing left to do
        for name, tensor in halfway.tensors().items():
            torch.testing.assert_close(loaded.tensors()[name], tensor, rtol=0, atol=1e-6)
        early = load_file(tmp_path / f"early-{shards}.safetensors")
        assert all(torch.equal(early[name], weight) for name, weight in loaded.model.named_parameters())
        weights = load_file(tmp_path / f"final-{shards}.safetensors")  # 1 → 2
        for name, weight in final.model.named_parameters():
            torch.testing.assert_close(weights[name], weight.detach(), rtol=0, atol=1e-6)
        for ours, theirs in zip(seen, first + second, strict=True):
            assert (ours["num_items"], ours["num_tokens"]) == (theirs["num_items"], theirs["num_tokens"])
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
            assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-5)


def test_recomputed_activations_change_nothing(tmp_path):
    plain, _ = train(tmp_path / "nothing", tmp_path / "plain", 3)
    recomputed, _ = train(tmp_path / "nothing", tmp_path / "recomputed", 3, checkpoint_activations=True)
    pairs = zip(plain.tensors().values(), recomputed.tensors().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.nightly
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiled layers need a C++ compiler")
@pytest.mark.filterwarnings("default")
def test_compiled_layers_learn_the_same_and_are_compiled_once(tmp_path):
    torch._dynamo.reset()
    _, plain = train(tmp_path / "nothing", tmp_path / "plain", 6)
    _, first = train(tmp_path / "nothing", tmp_path / "compiled-2", 2, compile=True)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    _, seen = train(tmp_path / "nothing", tmp_path / "compiled-6", 6, compile=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2 * graphs, "other cuts compile nothing anew"
    for ours, theirs in zip(seen, plain, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


@pytest.mark.filterwarnings("default")
def test_compiling_one_model_leaves_others_alone():
    plain, compiled = Qwen(SHAPE), Qwen(SHAPE)
    attend = DocumentAttention.attend
    parallelize(compiled, compiled.model.layers, ParallelConfig(compile=True), torch.float32)
    assert compiled.document_attention is not DocumentAttention and plain.document_attention is DocumentAttention
    assert DocumentAttention.attend is attend


def test_alone_there_is_no_process_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    join_processes(torch.device("cpu"))
    assert world_size() == 1
    assert local(torch.ones(2)).tolist() == [1.0, 1.0]


def test_shards_must_divide_the_processes(monkeypatch):
    monkeypatch.setattr("qianwen.train.parallel.world_size", lambda: 4)
    with pytest.raises(ConfigError, match="shards = 3 does not divide 4 processes"):
        parallelize(torch.nn.Linear(1, 1), [], ParallelConfig(shards=3), torch.float32)


if __name__ == "__main__":
    one_of_several(Path(sys.argv[1]))
