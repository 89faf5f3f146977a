"""`extend`: the same weights with other positions, trained on long documents, and what is measured and recorded."""

import json
import os
import signal
from dataclasses import replace

import pytest

from qianwen.checkpoints.hf_weights import load_weights
from qianwen.data.documents.readers import readable_documents
from qianwen.model import Qwen, QwenConfig
from qianwen.model.linears.lora import LoraConfig, attach
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import RunFolder
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.train import train_vocabulary
from qianwen.train.extend import ExtendConfig, extend, extended
from qianwen.train.loop import LoopConfig
from qianwen.train.pretrain import PretrainConfig

OLD = QwenConfig(
    vocab_size=464, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=64, train_len=32, use_dynamic_ntk=True, use_logn_attn=True,
)  # fmt: skip
BYTES = Tokenizer(train_vocabulary(["a"], 464))  # no merges: an id is a byte or a control token


@pytest.fixture
def config(tmp_path, monkeypatch) -> ExtendConfig:
    """From 32 to 128 tokens, on documents of about 60 to 700 bytes."""
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    (tmp_path / "corpus").mkdir()
    for number in range(30):
        text = f"text number {number}: " + "count, count. " * (3 + number * 7 % 48)
        (tmp_path / "corpus" / f"{number}.txt").write_text(text)
    pretrain = PretrainConfig(
        name="longer",
        data=str(tmp_path / "corpus"),
        model=OLD,
        start_from="a model",
        seq_len=128,
        packed_share=0.25,
        loop=LoopConfig(steps=8, sequences_per_step=4, micro_batch_size=2, lr=3e-3),
        log_steps=1,
        eval_steps=4,
        save_steps=3,
    )
    return ExtendConfig(pretrain=pretrain, rope_theta=1e5, hold_out=0.2)


def model() -> Qwen:
    return Qwen(OLD).init_weights(5)


def training(config: ExtendConfig, **fields) -> ExtendConfig:
    return replace(config, pretrain=replace(config.pretrain, **fields))


def metrics(name: str) -> list[tuple]:
    rows = [json.loads(line) for line in RunFolder.open(name).metrics_path.read_text().splitlines()]
    return [(m["step"], m["loss"], m["grad_norm"], m["lr"]) for m in rows]


def test_from_a_model_to_a_longer_one(config, capsys):
    folder = extend(config, model(), BYTES)
    loaded = load_weights(folder).config
    expected = replace(
        OLD, rope_theta=1e5, max_position_embeddings=128, train_len=128, use_dynamic_ntk=False, use_logn_attn=False
    )
    assert loaded == expected
    said = " ".join(capsys.readouterr().out.split())
    assert "rope_theta 10000.0 → 100000.0" in said and "have at least 128 tokens" in said
    run = RunFolder.open("longer")
    assert run.record["stage"] == "extend" and run.record["changes"]["train_len"] == [32, 128]
    before, after = run.record["losses_before"], run.record["losses_after"]
    assert list(before) == ["held_out_held_out_32", "held_out_held_out_128"]
    assert all(after[name] < before[name] - 0.5 for name in before)
    assert "perplexity of held_out_128 at 128 tokens" in said and f"{before['held_out_held_out_32']:.4f}" in said
    card = (folder / "README.md").read_text()
    assert "Extended from 32 to 128 tokens" in card and "| rope_theta | 10000.0 | 100000.0 |" in card
    assert metrics("longer")[-1][1] < metrics("longer")[0][1]


def test_held_out_documents_are_not_trained(config):
    extend(config, model(), BYTES)
    corpus = RunFolder.open("longer").path / "corpus"
    sides = [{d["text"] for d in readable_documents(corpus / side)} for side in ("train", "held_out")]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    index = json.loads((RunFolder.open("longer").path / "tokens" / "index.json").read_text())
    assert index["num_documents"] == len(sides[0])


def test_before_is_the_old_model_as_it_was_configured(config):
    """Measured with dynamic NTK and LogN at the new length; within the old length these change nothing."""
    extend(config, model(), BYTES)
    plain = Qwen(replace(OLD, use_dynamic_ntk=False, use_logn_attn=False)).init_weights(5)
    extend(training(config, name="plain"), plain, BYTES)
    ours, theirs = (RunFolder.open(name).record["losses_before"] for name in ("longer", "plain"))
    assert ours["held_out_held_out_32"] == theirs["held_out_held_out_32"]
    assert ours["held_out_held_out_128"] != theirs["held_out_held_out_128"]
    assert metrics("longer") == metrics("plain")


@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_a_signal_saves_and_the_same_call_continues(config, monkeypatch, number):
    extend(training(config, name="straight"), model(), BYTES)
    from qianwen.train import extend as module

    measure, calls = module._measure, []

    def interrupting(*args):
        def measured(model):
            calls.append(model)
            if len(calls) == 2:  # the first is before the training
                os.kill(os.getpid(), number)
            return measure(*args)(model)

        return measured

    monkeypatch.setattr(module, "_measure", interrupting)
    with pytest.raises(KeyboardInterrupt, match="saved at step 4"):
        extend(config, model(), BYTES)
    monkeypatch.setattr(module, "_measure", measure)
    folder = extend(config, model(), BYTES)
    straight = RunFolder.open("straight").path / "model" / "model.safetensors"
    assert (folder / "model.safetensors").read_bytes() == straight.read_bytes()
    assert metrics("longer") == metrics("straight")
    with pytest.raises(ConfigError, match="rope_theta = 100000.0, not 200000.0"):
        extend(replace(config, rope_theta=2e5), model(), BYTES)


def test_a_scaling_is_trained_with_and_saved(config):
    scaled = training(
        replace(config, rope_scaling="linear", rope_theta=1e4), loop=replace(config.pretrain.loop, steps=2)
    )
    folder = extend(scaled, model(), BYTES)
    saved = load_weights(folder).config
    assert saved.rope_scaling == RopeState(method="linear", factor=4, original_len=32) and saved.scaling_from == 0


def test_training_free_methods_end_unless_asked_for(config):
    old = replace(OLD, rope_scaling=RopeState(method="yarn", factor=2, original_len=32), scaling_from=32)
    new = extended(config, old).pretrain.model
    assert (new.rope_scaling, new.scaling_from, new.use_dynamic_ntk, new.use_logn_attn) == (
        RopeState(),
        0,
        False,
        False,
    )
    new = extended(replace(config, use_dynamic_ntk=True, use_logn_attn=True), old).pretrain.model
    assert new.use_dynamic_ntk and new.use_logn_attn
    assert extended(config, replace(OLD, logn_in_training=True)).pretrain.model.use_logn_attn
    trained = replace(OLD, rope_scaling=RopeState(method="linear", factor=2))
    assert extended(config, trained).pretrain.model.rope_scaling == trained.rope_scaling


@pytest.mark.parametrize(
    ("changes", "old", "message"),
    [
        ({"seq_len": 32}, OLD, "seq_len = 32 is not longer than what a model was trained on"),
        ({"rope_theta": 500.0}, OLD, "rope_theta = 500.0 is below that of a model, which is 10000.0"),
        (
            {"rope_scaling": "yarn"},
            replace(OLD, rope_scaling=RopeState(method="linear", factor=2)),
            "trained with rope scaling linear, so yarn",
        ),
    ],
)
def test_what_is_no_extension_is_refused(config, changes, old, message):
    if "seq_len" in changes:
        config, changes = training(config, **changes), {}
    with pytest.raises(ConfigError, match=message):
        extended(replace(config, **changes), old)


def test_unusable_shares_are_refused(config):
    with pytest.raises(ConfigError, match="packed_share = 1"):
        training(config, packed_share=1.0)
    with pytest.raises(ConfigError, match="hold_out = 1"):
        replace(config, hold_out=1)


def test_too_short_documents_and_adapters_are_named(config):
    with pytest.raises(DataError, match="the longest document has"):
        extend(training(config, seq_len=4096), model(), BYTES)
    with pytest.raises(ConfigError, match="a model has an adapter"):
        extend(config, adapter(model()), BYTES)


def adapter(network: Qwen) -> Qwen:
    attach(network, LoraConfig(rank=2), seed=0)
    return network


def test_nothing_is_held_out_of_token_files(config, tmp_path):
    from qianwen.data.tokens.pack import write_tokens

    write_tokens([[1, 2, 3] * 100] * 3, tmp_path / "tokens", 256)
    with pytest.raises(ConfigError, match="of which no texts can be held out"):
        extend(training(config, data=str(tmp_path / "tokens")), model(), BYTES)
    without = training(replace(config, hold_out=0.0), data=str(tmp_path / "tokens"))
    assert (extend(without, model(), BYTES) / "config.json").exists()


def test_a_measurement_without_long_documents_is_announced(config, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("few words")
    extend(training(replace(config, hold_out=0.0), held_out=(str(tmp_path / "short.txt"),)), model(), BYTES)
    assert "no held-out document has 128 tokens" in " ".join(capsys.readouterr().out.split())
    assert list(RunFolder.open("longer").record["losses_after"]) == ["held_out_short_32"]
