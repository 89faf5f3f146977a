"""`pretrain` as a whole: from texts to a model folder, stopped and continued, refused where it would lie."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch

from qianwen.checkpoints.hf_weights import load_weights
from qianwen.data.documents.readers import readable_documents
from qianwen.data.tokens.mixture import write_domains, write_weights
from qianwen.model import PRESETS, Qwen, QwenConfig
from qianwen.runtime.device import num_threads
from qianwen.runtime.errors import CheckpointError, ConfigError, DataError
from qianwen.runtime.files import RunFolder, lock
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.train import train_vocabulary
from qianwen.train.loop import LoopConfig
from qianwen.train.pretrain import PretrainConfig, flops_per_token, pretrain

SHAPE = QwenConfig(vocab_size=464, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)


BYTES = Tokenizer(train_vocabulary(["a"], 464))  # no merges: an id is a byte or a control token


@pytest.fixture
def config(tmp_path, monkeypatch) -> PretrainConfig:
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(8):
        (corpus / f"{number}.txt").write_text(f"text number {number}: " + "count, count. " * (number + 2))
    return PretrainConfig(
        name="try",
        data=str(corpus),
        model=SHAPE,
        seq_len=32,
        loop=LoopConfig(steps=8, sequences_per_step=4, micro_batch_size=2, lr=3e-3),
        log_steps=1,
        eval_steps=4,
        save_steps=3,
        held_out=(str(corpus / "7.txt"),),
    )


def metrics(config: PretrainConfig) -> list[dict]:
    path = RunFolder.open(config.name).metrics_path
    return [json.loads(line) for line in path.read_text().splitlines()]


def numbers(config: PretrainConfig) -> list[tuple]:
    return [(m["step"], m["loss"], m["grad_norm"], m["lr"]) for m in metrics(config)]


def test_from_texts_to_a_model_folder(config, capsys):
    folder = pretrain(config, BYTES)
    assert load_weights(folder).config.hidden_size == 32
    assert Tokenizer.from_folder(folder).encode("text") == BYTES.encode("text")
    assert (folder / "generation_config.json").exists()
    rows = metrics(config)
    assert [m["step"] for m in rows] == list(range(1, 9))
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[3]["held_out_7"] > rows[7]["held_out_7"]
    assert {"lr", "grad_norm", "tokens_per_second", "share_of_peak", "memory_gb", "eta"} <= rows[0].keys()
    assert RunFolder.open("try").record["state"] == "finished"
    assert "8 documents" in capsys.readouterr().out
    before = (folder / "model.safetensors").read_bytes()
    assert pretrain(config, BYTES) == folder  # again: nothing is left to do
    assert (folder / "model.safetensors").read_bytes() == before
    assert metrics(config) == rows


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_call_goes_on(config, number):
    """R2: no step is lost, and the continuation is the run that was never stopped."""
    pretrain(replace(config, name="straight"), BYTES)

    before = signal.getsignal(number)

    def interrupt(model) -> dict:
        os.kill(os.getpid(), number)
        return {}

    with pytest.raises(KeyboardInterrupt, match="saved at step 4"):
        pretrain(config, BYTES, evaluate=interrupt)
    assert RunFolder.open("try").record["state"] == "interrupted"
    assert signal.getsignal(number) == before  # as it was
    folder = pretrain(config, BYTES)
    straight = RunFolder.open("straight").path / "model"
    assert (folder / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()
    assert numbers(config) == numbers(replace(config, name="straight"))


def test_a_changed_recipe_or_changed_data_is_refused(config, tmp_path):
    pretrain(config, BYTES)
    with pytest.raises(ConfigError, match=r"loop.lr = 0.003, not 0.004"):
        pretrain(replace(config, loop=replace(config.loop, lr=4e-3)), BYTES)
    tokens = RunFolder.open("try").path / "tokens" / "index.json"
    tokens.write_text(tokens.read_text() + " ")
    with pytest.raises(CheckpointError, match="index.json has"):
        pretrain(config, BYTES)
    with pytest.raises(ConfigError, match="contains token 256, but the model has 200"):
        pretrain(replace(config, name="small", model=replace(SHAPE, vocab_size=200)), BYTES)


def test_other_token_files_under_the_same_name_are_refused(config, tmp_path):
    from qianwen.data.tokens.pack import write_tokens

    write_tokens([[1, 2, 3] * 20], tmp_path / "tokens", 256)
    config = replace(config, data=str(tmp_path / "tokens"), held_out=())
    pretrain(config, BYTES)
    write_tokens([[3, 2, 1] * 20], tmp_path / "tokens", 256)
    with pytest.raises(CheckpointError, match="was made with tokens = "):
        pretrain(config, BYTES)


def test_a_mixture_is_trained_on_and_other_weights_are_other_data(config, tmp_path):
    mix = tmp_path / "mix"
    found = readable_documents(config.data)
    halves = ({**one, "kind": "odd" if number % 2 else "even"} for number, one in enumerate(found))
    write_domains(halves, mix, ("kind",), BYTES.encode_batch, BYTES.eod_id)
    write_weights(tmp_path / "other", {"odd": 1.0}, mix)
    assert (pretrain(replace(config, data=str(mix)), BYTES) / "model.safetensors").exists()
    short = replace(config, data=str(mix), name="short", loop=replace(config.loop, steps=4))
    pretrain(short, BYTES)
    (tmp_path / "other" / "mixture.json").replace(mix / "mixture.json")
    record = tmp_path / "runs" / "short" / "run.json"
    record.write_text(record.read_text().replace('"steps": 4', '"steps": 8'))
    with pytest.raises(CheckpointError, match="tokens"):
        pretrain(replace(short, loop=replace(short.loop, steps=8)), BYTES)


def test_sequences_cut_from_long_documents(config, capsys):
    folder = pretrain(replace(config, packed_share=0.25), BYTES)
    said = capsys.readouterr().out
    assert "8 of 8 documents have at least 32 tokens" in " ".join(said.split()) and (folder / "config.json").exists()
    pretrain(replace(config, name="packed"), BYTES)
    assert numbers(config) != numbers(replace(config, name="packed"))
    with pytest.raises(DataError, match="the longest document has"):
        pretrain(replace(config, name="long", seq_len=1024, packed_share=0.0), BYTES)
    with pytest.raises(ConfigError, match="packed_share = 1.5"):
        pretrain(replace(config, name="wrong", packed_share=1.5), BYTES)


def test_two_processes_cannot_share_a_run(config, tmp_path):
    with lock(tmp_path / "runs" / "try"), pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):
        pretrain(config, BYTES)


def test_continuing_a_model_reports_what_it_forgot(config, tmp_path, capsys):
    torch.manual_seed(0)
    start = Qwen(SHAPE).init_weights(5)
    (tmp_path / "other.txt").write_text("0123456789 " * 30)
    config = replace(config, start_from="a model", held_out=(*config.held_out, str(tmp_path / "other.txt")))
    pretrain(config, BYTES, model=start)
    table = capsys.readouterr().out.split("held-out text")[1].splitlines()
    rows = {row.split()[0]: [float(value) for value in row.split()[1:]] for row in table[1:3]}
    assert set(rows) == {"7", "other"}
    for before, after, change in rows.values():
        assert change == pytest.approx(after - before, abs=2e-4)
    assert rows["7"][1] < rows["7"][0]
    assert RunFolder.open("try").record["losses_before"]["held_out_7"] == pytest.approx(rows["7"][0], abs=1e-4)


def test_goes_on_with_the_threads_it_began_with(config, monkeypatch, capsys):
    """R7."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seen = []

    def stop_once(model) -> dict:
        seen.append(torch.get_num_threads())
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    with pytest.raises(KeyboardInterrupt):
        pretrain(config, BYTES, evaluate=stop_once)
    with num_threads(2):
        pretrain(config, BYTES, evaluate=stop_once)
        assert seen == [1, 1] and torch.get_num_threads() == 2
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        pretrain(config, BYTES)
        assert "not be bit-identical" in capsys.readouterr().out


def test_flops_count_every_product():
    model = Qwen(PRESETS["tiny"])
    shape = model.config
    per_layer = 4 * shape.hidden_size**2 + 3 * shape.hidden_size * shape.intermediate_size
    products = shape.num_hidden_layers * per_layer + shape.vocab_size * shape.hidden_size  # the tied head multiplies
    attention = shape.num_hidden_layers * shape.hidden_size * 100
    assert flops_per_token(model, 100) == 6 * (products + attention)
