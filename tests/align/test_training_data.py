"""The data of a run: what it says about itself, and the same training for every batch layout (R10)."""

import copy
import functools
import json
from pathlib import Path

import pytest
import torch

from qianwen.align.sft_config import SFTConfig
from qianwen.align.training_data import training_data
from qianwen.model.transformer import Qwen
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.train.loop import LoopConfig, run
from qianwen.train.optim import AdamW, AdamWConfig
from qianwen.train.pretrain import next_token_loss
from qianwen.train.state import TrainState


@pytest.fixture
def config(tmp_path: Path) -> SFTConfig:
    """Dialogues of very different lengths, one in a sequence or several."""
    rows = [
        {"query": f"question {number} " * (number % 5 + 1), "response": "answer " * (number % 7 + 1)}
        for number in range(40)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    loop = LoopConfig(steps=0, sequences_per_step=8, micro_batch_size=1, lr=2e-6)
    return SFTConfig(name="run", model="base", data=str(file), seq_len=192, epochs=2.0, loop=loop)


def test_steps_follow_from_epochs_and_counts_are_printed(
    config: SFTConfig, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    data = training_data(config, tokenizer, 256)
    assert data.loop.steps == -(-2 * len(data.batches) // 8)
    assert sum(sum(counts.values()) for counts in data.abilities.values()) == len(data.dialogues) == 40
    printed = " ".join(capsys.readouterr().out.split())
    assert f"40 dialogues packed into {len(data.batches)} sequences" in printed and "ability" in printed


def test_batch_layouts_agree(config: SFTConfig, model: Qwen, tokenizer: Tokenizer) -> None:
    """R10 for fine-tuning: 8 × 1 = 4 × 2 = 1 × 8 after 20 steps in fp32, packed, with lengths that differ."""
    batches = training_data(config, tokenizer, 256).batches
    results = []
    for micro in (1, 2, 8):
        loop = LoopConfig(steps=20, sequences_per_step=8, micro_batch_size=micro, lr=2e-6, warmup_steps=3)
        copied = copy.deepcopy(model)
        state = TrainState(copied, AdamW(copied, AdamWConfig()))
        run(copied, next_token_loss, functools.partial(batches.batch, micro_batch_size=micro), loop, state)
        results.append(copied.state_dict())
    for other in results[1:]:
        for name, tensor in results[0].items():
            torch.testing.assert_close(other[name], tensor, rtol=0, atol=1e-6)
