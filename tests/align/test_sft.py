"""Fine-tuning: it learns to answer and to stop, goes on where it stopped, and refuses what cannot work."""

import copy
import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qianwen.align.sft import SFTConfig, sft
from qianwen.chat import Message, collect
from qianwen.checkpoints.adapter_folder import TENSORS, is_adapter
from qianwen.checkpoints.hf_folder import write_folder
from qianwen.checkpoints.load import load_model, open_model
from qianwen.engine.llm import LLM
from qianwen.model.linears.lora import LoraConfig
from qianwen.model.linears.nf4 import Nf4Linear
from qianwen.model.transformer import Qwen
from qianwen.quantize.gptq import GptqConfig
from qianwen.quantize.gptq_model import quantize_model
from qianwen.runtime.errors import CheckpointError, ConfigError, DataError
from qianwen.runtime.files import RunFolder, atomic_folder, verify_folder
from qianwen.runtime.log import read_metrics
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.train.loop import Diverged, LoopConfig
from qianwen.train.pretrain import next_token_loss

ANSWERS = {"dog": "wuff", "cat": "miau", "cow": "muh"}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SFTConfig:
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    path = tmp_path / "animals.jsonl"
    rows = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in ANSWERS.items()]
    path.write_text("\n".join(json.dumps({"messages": row}) for row in rows))
    loop = LoopConfig(steps=60, sequences_per_step=1, micro_batch_size=1, lr=5e-3, warmup_steps=5)
    return SFTConfig(name="animals", model="fresh", data=str(path), seq_len=256, loop=loop, save_steps=20, log_steps=20)


def test_it_learns_to_answer_and_to_stop(config: SFTConfig, model: Qwen, tokenizer: Tokenizer) -> None:
    longer = dataclasses.replace(config.loop, steps=120)
    folder = sft(dataclasses.replace(config, loop=longer), model, tokenizer)
    verify_folder(folder)
    loaded = load_model(folder)
    assert loaded.chat
    llm = LLM(loaded.model, loaded.tokenizer)
    for question, answer in ANSWERS.items():
        deltas = list(llm.chat([Message("user", question)], temperature=0.0, max_tokens=20))
        assert collect(deltas).content == answer and deltas[-1].finish_reason == "stop"
    run = RunFolder.open("animals")
    assert run.record["state"] == "finished" and run.record["answers_that_end"] == "3/3"
    rows = read_metrics(run.metrics_path)
    assert rows[-1]["step"] == 120 and rows[-1]["loss"] < 0.5 < rows[0]["loss"]


def test_stopped_half_way_it_ends_in_the_same_weights(config: SFTConfig, model: Qwen, tokenizer: Tokenizer) -> None:
    fresh = copy.deepcopy(model)
    whole = load_model(sft(dataclasses.replace(config, name="whole"), model, tokenizer)).model.state_dict()
    measured = []

    def interrupt(_: Qwen) -> dict[str, float]:
        measured.append(1)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        sft(config, copy.deepcopy(fresh), tokenizer, evaluate=interrupt)
    assert RunFolder.open("animals").record["state"] == "interrupted"
    again = load_model(sft(config, fresh, tokenizer)).model.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())
    steps = [row["step"] for row in read_metrics(RunFolder.open("animals").metrics_path)]
    assert steps == [1, 20, 40, 60]


def test_steps_follow_from_epochs(config: SFTConfig, model: Qwen, tokenizer: Tokenizer) -> None:
    loop = dataclasses.replace(config.loop, steps=0)
    sft(dataclasses.replace(config, loop=loop, epochs=4.0), model, tokenizer)
    assert read_metrics(RunFolder.open("animals").metrics_path)[-1]["step"] == 4  # three dialogues, one sequence


def test_what_cannot_work_is_refused_before_training(config: SFTConfig, model: Qwen, tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="seq_len = 512 is more than the 256 tokens"):
        sft(dataclasses.replace(config, seq_len=512), model, tokenizer)
    with pytest.raises(DataError, match="nothing to train on"):
        sft(dataclasses.replace(config, name="short", seq_len=16), model, tokenizer)
    assert RunFolder.open("short").record["state"] == "failed"


def rows(config: SFTConfig, *turns: tuple[str, str]) -> None:
    """Replace the data by dialogues of these questions and answers."""
    messages = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in turns]
    Path(config.data).write_text("\n".join(json.dumps({"messages": row}) for row in messages))


def test_an_error_after_the_last_step_fails_no_run(
    config: SFTConfig, model: Qwen, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise RuntimeError("cannot allocate memory")

    monkeypatch.setattr("qianwen.align.sft.ended_answers", no_memory)
    loop = dataclasses.replace(config.loop, steps=2)
    verify_folder(sft(dataclasses.replace(config, loop=loop), model, tokenizer))
    record = RunFolder.open("animals").record
    assert record["state"] == "finished" and record["answers_that_end"] == "cannot allocate memory"


@pytest.mark.parametrize("questions", [["q" * 400], ["q" * 400] * 3 + ["q"]])
def test_questions_longer_than_the_context_are_counted(
    config: SFTConfig,
    model: Qwen,
    tokenizer: Tokenizer,
    capsys: pytest.CaptureFixture[str],
    questions: list[str],
) -> None:
    rows(config, *((question, "a") for question in questions), ("dog", "long answer " * 5))
    sft(dataclasses.replace(config, loop=dataclasses.replace(config.loop, steps=2)), model, tokenizer)
    printed = " ".join(capsys.readouterr().out.split())
    too_long = sum(len(question) > 256 for question in questions)
    assert f"questions left out of the check: {too_long} (longer than the context of 256 tokens" in printed
    assert RunFolder.open("animals").record["answers_that_end"].endswith(f"/{len(questions) - too_long + 1}")


def test_answers_that_are_not_learned_are_counted(
    config: SFTConfig, model: Qwen, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"role": "assistant", "content": "wuff"}
    row = [{"role": "user", "content": "dog"}, {**answer, "weight": 0}, {"role": "user", "content": "dog"}, answer]
    Path(config.data).write_text(json.dumps({"messages": row}))
    sft(dataclasses.replace(config, loop=dataclasses.replace(config.loop, steps=1)), model, tokenizer)
    printed = " ".join(capsys.readouterr().out.split())
    assert "answers without a label: 1 " in printed and "; 5 of " in printed


@pytest.fixture
def base(config: SFTConfig, model: Qwen, tokenizer: Tokenizer, tmp_path: Path) -> SFTConfig:
    """The configuration of an adapter for a base on disk."""
    with atomic_folder(tmp_path / "base") as folder:
        write_folder(model, tokenizer, folder, chat=False)
    lora = LoraConfig(rank=8, alpha=16, dropout=0.1, modules_to_save=("embed_tokens",))
    return dataclasses.replace(config, model=str(tmp_path / "base"), method="lora", lora=lora)


def loaded(config: SFTConfig) -> Qwen:
    return load_model(config.model, dtype=torch.float32).model


def test_an_adapter_learns_beside_its_base(base: SFTConfig, tokenizer: Tokenizer) -> None:
    longer = dataclasses.replace(base.loop, steps=150)
    lora = dataclasses.replace(base.lora, dropout=0.0)
    folder = sft(dataclasses.replace(base, loop=longer, lora=lora), loaded(base), tokenizer)
    verify_folder(folder)
    assert is_adapter(folder) and not (folder / "config.json").exists()
    found = load_model("animals", dtype=torch.float32)
    assert found.chat and found.generation["eos_token_id"][0] == tokenizer.im_end_id
    llm = LLM(found.model, found.tokenizer)
    for question, answer in ANSWERS.items():
        assert collect(llm.chat([Message("user", question)], temperature=0.0, max_tokens=20)).content == answer
    before = load_model(base.model, dtype=torch.float32).model.state_dict()
    after = found.model.state_dict()
    assert torch.equal(after["model.layers.0.mlp.up_proj.base.weight"], before["model.layers.0.mlp.up_proj.weight"])


def test_an_adapter_stopped_half_way_ends_in_the_same_weights(base: SFTConfig, tokenizer: Tokenizer) -> None:
    base = dataclasses.replace(base, loop=dataclasses.replace(base.loop, steps=15), save_steps=5)
    whole = load_file(sft(dataclasses.replace(base, name="whole"), loaded(base), tokenizer) / TENSORS)
    measured = []

    def interrupt(_: Qwen) -> dict[str, float]:
        measured.append(1)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        sft(base, loaded(base), tokenizer, evaluate=interrupt)
    again = load_file(sft(base, loaded(base), tokenizer) / TENSORS)
    assert whole.keys() == again.keys() and all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_recomputing_changes_no_bit(base: SFTConfig, tokenizer: Tokenizer) -> None:
    base = dataclasses.replace(base, loop=dataclasses.replace(base.loop, steps=5))
    plain = load_file(sft(dataclasses.replace(base, name="plain"), loaded(base), tokenizer) / TENSORS)
    recomputed = dataclasses.replace(base, name="recomputed", checkpoint_activations=True)
    other = load_file(sft(recomputed, loaded(base), tokenizer) / TENSORS)
    assert all(torch.equal(other[name], tensor) for name, tensor in plain.items())


def test_an_adapter_learns_over_four_bits(base: SFTConfig, tokenizer: Tokenizer) -> None:
    lora = dataclasses.replace(base.lora, dropout=0.0)
    config = dataclasses.replace(base, method="qlora", lora=lora, checkpoint_activations=True)
    with pytest.raises(ConfigError, match="Q-LoRA needs a 4-bit base"):
        sft(dataclasses.replace(config, name="floats"), loaded(base), tokenizer)
    sft(config, load_model(base.model, bits="nf4", dtype=torch.float32).model, tokenizer)
    rows = read_metrics(RunFolder.open("animals").metrics_path)
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert load_model("animals").chat


def test_an_adapter_learns_over_a_gptq_folder(base: SFTConfig, tokenizer: Tokenizer, tmp_path: Path) -> None:
    quantize_model(open_model(base.model), tmp_path / "int4", GptqConfig(group_size=32))
    lora = dataclasses.replace(base.lora, dropout=0.0)
    loop = dataclasses.replace(base.loop, steps=60)
    config = dataclasses.replace(base, method="qlora", model=str(tmp_path / "int4"), lora=lora, loop=loop)
    sft(config, load_model(config.model, bits="nf4", dtype=torch.float32).model, tokenizer)
    rows = read_metrics(RunFolder.open("animals").metrics_path)
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert load_model("animals").chat


@pytest.mark.parametrize("modules", [(), ("lm_head",), ("embed_tokens", "lm_head")])
def test_a_quantised_head_trains(base: SFTConfig, tokenizer: Tokenizer, modules: tuple) -> None:
    """Of a GPTQ folder with `lm_head` quantised: the loss needs its weight, and `modules_to_save` trains it."""
    quantised = load_model(base.model, bits="nf4", dtype=torch.float32).model
    table = quantised.model.embed_tokens.weight.detach().clone()
    quantised.config = dataclasses.replace(quantised.config, tie_word_embeddings=False)
    quantised.lm_head = Nf4Linear.from_float(table)  # type: ignore[assignment]
    lora = dataclasses.replace(base.lora, dropout=0.0, modules_to_save=modules)
    loop = dataclasses.replace(base.loop, steps=60)
    sft(dataclasses.replace(base, method="qlora", lora=lora, loop=loop), quantised, tokenizer)
    metrics = read_metrics(RunFolder.open("animals").metrics_path)
    assert metrics[-1]["loss"] < (0.5 if modules else 0.9) * metrics[0]["loss"]
    saved = load_file(RunFolder.open("animals").path / "model" / TENSORS)
    assert any("lm_head.weight" in name for name in saved) == ("lm_head" in modules)


@pytest.mark.parametrize("form", ["folder", "file in it", "run", "run folder", "hub name"])
def test_the_adapter_names_the_folder_of_the_weights(
    base: SFTConfig, tokenizer: Tokenizer, tmp_path: Path, form: str
) -> None:
    """PEFT's AutoPeftModel opens a folder with config.json: not a run folder, not a file."""
    folder = Path(base.model)
    if form.startswith("run"):
        RunFolder.create("start", "pretrain", {})
        folder = folder.rename(tmp_path / "runs" / "start" / "model")
    names = {
        "folder": str(folder),
        "file in it": str(folder / "model.safetensors"),
        "run": "start",
        "run folder": str(tmp_path / "runs" / "start"),
        "hub name": "Nobody/no-such-model",
    }
    model = load_model(str(folder), dtype=torch.float32).model
    loop = dataclasses.replace(base.loop, steps=1)
    written = sft(dataclasses.replace(base, model=names[form], loop=loop), model, tokenizer)
    named = json.loads((written / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == (names[form] if form == "hub name" else str(folder.resolve()))
    assert form == "hub name" or (Path(named) / "config.json").exists()


def short(config: SFTConfig, **changes: object) -> SFTConfig:
    """The run in six steps of two sequences, with small sequences."""
    loop = dataclasses.replace(config.loop, steps=6, sequences_per_step=2)
    return dataclasses.replace(config, loop=loop, seq_len=64, save_steps=2, **changes)


def test_with_dropout_a_resumed_run_ends_in_the_same_bits(config: SFTConfig, model: Qwen, tokenizer: Tokenizer) -> None:
    """The masks of dropout continue too, also where activations are recomputed."""
    config = short(config, dropout=0.2, checkpoint_activations=True)
    fresh = copy.deepcopy(model)
    whole = load_model(sft(dataclasses.replace(config, name="whole"), copy.deepcopy(fresh), tokenizer)).model
    calls = []

    def interrupt(_: Qwen) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        sft(config, copy.deepcopy(fresh), tokenizer, evaluate=interrupt)
    again = load_model(sft(config, copy.deepcopy(fresh), tokenizer)).model.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.state_dict().items())
    plain = sft(short(config, name="plain", dropout=0.0), fresh, tokenizer)
    assert not torch.equal(load_model(plain).model.state_dict()["lm_head.weight"], again["lm_head.weight"])


def test_recomputed_activations_have_the_same_dropout(config: SFTConfig, model: Qwen, tokenizer: Tokenizer) -> None:
    weights = []
    for recompute in (False, True):
        each = short(config, name=f"recompute-{recompute}", dropout=0.3, checkpoint_activations=recompute)
        weights.append(load_model(sft(each, copy.deepcopy(model), tokenizer)).model.state_dict())
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())


def test_a_damaged_update_leaves_the_weights_alone(
    config: SFTConfig, model: Qwen, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R8 for fine-tuning: a loss that is not finite is refused and logged with its sequences; too many end the run."""
    bad = {2, 3}
    steps: list[int] = []

    def loss(network: Qwen, batch: dict[str, torch.Tensor]) -> tuple:
        steps.append(1)
        total, items, sums = next_token_loss(network, batch)
        return total * (float("nan") if len(steps) in bad else 1.0), items, sums

    monkeypatch.setattr("qianwen.align.sft.next_token_loss", loss)
    loop = dataclasses.replace(config.loop, steps=6)
    sft(dataclasses.replace(config, loop=loop, log_steps=1), copy.deepcopy(model), tokenizer)
    logged = read_metrics(RunFolder.open("animals").metrics_path)
    assert [row["step"] for row in logged if "refused" in row] == [2, 3]
    assert "sequences 1 to 1" in logged[1]["refused"]
    weights = load_model("animals", dtype=torch.float32).model.state_dict()
    assert all(tensor.isfinite().all() for tensor in weights.values())
    bad.update(range(100))
    steps.clear()
    with pytest.raises(Diverged, match="stopped after 5 refused updates"):
        sft(dataclasses.replace(config, name="hopeless", loop=loop), copy.deepcopy(model), tokenizer)


def test_files_are_mixed_and_counted(
    config: SFTConfig, model: Qwen, tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "sums.jsonl"
    lines = [{"query": f"What is {number} + 2?", "response": str(number + 2), "ability": "sums"} for number in range(9)]
    other.write_text("\n".join(json.dumps(line) for line in lines))
    mixed = dataclasses.replace(short(config), data=(config.data, str(other)), weights=(1.0, 3.0), seq_len=128)
    sft(mixed, model, tokenizer)
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "animals.jsonl 3" in printed and "25.0%" in printed and "75.0%" in printed and "12 dialogues packed" in printed
    )
    assert RunFolder.open("animals").record["abilities"]["sums"] == {"en": 9}
    other.write_text("\n".join(json.dumps(line) for line in lines[1:]))
    with pytest.raises(CheckpointError, match="was made with data"):
        sft(mixed, model, tokenizer)
    with pytest.raises(ConfigError, match="give a number above 0"):
        sft(dataclasses.replace(mixed, name="negative", weights=(1.0, -3.0)), model, tokenizer)


ONE_OF_TWO = """
import sys
from qianwen.align.sft import SFTConfig, sft
from qianwen.checkpoints.load import load_model
from qianwen.train.loop import LoopConfig
import torch
torch.set_num_threads(1)
base, data, method = sys.argv[1:]
loaded = load_model(base, dtype=torch.float32)
loop = LoopConfig(steps=4, sequences_per_step=2, micro_batch_size=1, lr=1e-3)
config = SFTConfig(name="two", model=base, data=data, method=method, seq_len=64, loop=loop, dropout=0.1)
sft(config, loaded.model, loaded.tokenizer)
"""


@pytest.mark.slow
def test_two_processes_share_the_weights(base: SFTConfig, tmp_path: Path) -> None:
    """FSDP: one of them writes and prints, and the folder has all weights."""
    (tmp_path / "one_of_two.py").write_text(ONE_OF_TWO)

    def launch(method: str) -> list[tuple[int, str, str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        shared["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        running = [
            subprocess.Popen(
                [sys.executable, str(tmp_path / "one_of_two.py"), base.model, str(base.data), method],
                env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for rank in range(2)
        ]  # fmt: skip
        return [(process.wait(), *process.communicate(timeout=100)) for process in running]

    first, second = launch("full")
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert "3 dialogues packed" in first[1] and not second[1].strip()
    record = RunFolder.open("two").record
    assert record["state"] == "finished" and "answers_that_end" in record
    trained, before = (load_model(name, dtype=torch.float32).model.state_dict() for name in ("two", base.model))
    assert trained.keys() == before.keys()
    assert all(trained[name].shape == tensor.shape for name, tensor in before.items())
    assert not torch.equal(trained["model.layers.0.mlp.up_proj.weight"], before["model.layers.0.mlp.up_proj.weight"])


def test_several_processes_train_no_adapter(
    base: SFTConfig, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qianwen.align.sft.world_size", lambda: 2)
    with pytest.raises(ConfigError, match="several processes train all weights: use --method full"):
        sft(base, loaded(base), tokenizer)
