"""Held-out loss: the same number as one dialogue after another, and no change of a run that measures it."""

import json
from pathlib import Path

import pytest

from qianwen.align.dialogues import read_dialogues, rendered
from qianwen.align.held_out_dialogues import HeldOutDialogues
from qianwen.align.sft import SFTConfig, sft
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import RunFolder
from qianwen.runtime.log import read_metrics
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.train.loop import LoopConfig

from .test_training_files import write


def test_the_loss_is_the_mean_over_labels_however_dialogues_are_packed(
    tmp_path: Path, model: Qwen, tokenizer: Tokenizer
) -> None:
    file = tmp_path / "sums.test.jsonl"
    rows = [{"query": f"{n} + 2?" * (n + 1), "response": "is " * n + str(n + 2)} for n in range(6)]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    losses = [HeldOutDialogues([str(file)], tokenizer, "clean", size, 0).losses(model.eval()) for size in (160, 256)]
    assert losses[0].keys() == {"held_out_sums"}
    assert losses[0]["held_out_sums"] == pytest.approx(losses[1]["held_out_sums"], rel=1e-5)
    assert len(rendered(list(read_dialogues(file)), tokenizer, "clean", 256)) == 6


def test_names_that_meet_and_missing_files_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "b").mkdir()
    files = [write(tmp_path / "a.jsonl"), write(tmp_path / "b" / "a.jsonl")]
    with pytest.raises(ConfigError, match="two held-out files have the name a; rename one"):
        HeldOutDialogues(files, tokenizer, "clean", 128, 0)
    with pytest.raises(DataError, match="no such file"):
        HeldOutDialogues([str(tmp_path / "absent.jsonl")], tokenizer, "clean", 128, 0)


def test_a_run_measures_before_during_and_after(
    tmp_path: Path, model: Qwen, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    data, held_out = write(tmp_path / "train.jsonl", "cat", "miau"), write(tmp_path / "test.jsonl", "cat", "miau")
    loop = LoopConfig(steps=20, sequences_per_step=1, micro_batch_size=1, lr=5e-3)
    config = SFTConfig(
        name="cats", model="fresh", data=data, held_out=(held_out,), seq_len=128, loop=loop, save_steps=10, dropout=0.1
    )
    sft(config, model, tokenizer)
    run = RunFolder.open("cats")
    before, after = run.record["losses_before"]["held_out_test"], run.record["losses_after"]["held_out_test"]
    measured = [row["held_out_test"] for row in read_metrics(run.metrics_path) if "held_out_test" in row]
    assert after < 0.5 * before and len(measured) == 2
    assert measured[-1] == pytest.approx(after, rel=1e-3)
