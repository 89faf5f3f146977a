"""A longer context by continued pretraining (Qwen-72B: longer sequences and a larger rotary base).

    trained model → its weights with a larger base → pretraining on sequences cut from long documents → model folder

A larger base turns the rotary pairs more slowly, so the angles of the new positions stay within the range that was
trained; further training adapts the weights to the changed angles. Linear and YaRN scaling of the positions are the
other choices. A share of the sequences is packed from short documents, because a model that is trained on long ones
alone forgets short texts.

The loss on held-out texts is measured before and after: packed at the old length (what was forgotten), and on long
documents cut at the new length (what was learned; before, the old model reads them with its own configuration).

Training-free extension is in `model/long_context.py`. A run is resumed like any other (`job.py`).
"""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from qianwen.data.curate.corpus import CorpusConfig, build_corpus, stage
from qianwen.data.tokens.mixture import is_tokens
from qianwen.data.tokens.pack import tokenized
from qianwen.model.config import QwenConfig
from qianwen.model.linears.lora import adapted
from qianwen.model.rope_state import RopeState
from qianwen.model.transformer import Qwen, empty_network
from qianwen.runtime.device import best_device, num_threads, seed_everything
from qianwen.runtime.distributed import barrier, is_main, rank
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.train.held_out import HeldOut
from qianwen.train.job import Job
from qianwen.train.parallel import join_processes
from qianwen.train.pretrain import (
    Measure,
    PretrainConfig,
    print_forgetting,
    record_losses_before,
    starting_threads,
    token_files,
    train_on_tokens,
    write_model,
)

CARD = """\
# {name}

Extended from {old_len:,} to {new_len:,} tokens by continued pretraining on {tokens:,} tokens, starting from `{source}`.
{share:.0%} of the sequences were packed from short documents, the others were cut from long ones.

| | before | after |
|---|---|---|
{changes}
"""


@dataclass(frozen=True, kw_only=True)
class ExtendConfig:
    """Configuration of an extension: how positions change, and the training on longer sequences."""

    pretrain: PretrainConfig  # the training; seq_len is the new length, start_from the model to extend
    rope_theta: float  # new base of the rotary frequencies, at least that of the model
    rope_scaling: Literal["none", "linear", "yarn"] = "none"  # scaling of positions by new / old length, trained with
    use_dynamic_ntk: bool = False  # whether dynamic NTK extends the new model beyond its new length
    use_logn_attn: bool = False  # whether LogN scales queries of the new model beyond its new length
    hold_out: float = 0.0  # share of the documents of `data` (texts, not token files) to measure instead of train

    def __post_init__(self) -> None:
        if self.pretrain.packed_share == 1:
            message = (
                "packed_share = 1 packs all sequences, so few tokens have late positions: choose a share below 1, such "
                "as 0.2"
            )
            raise ConfigError(tr(message))
        if not 0 <= self.hold_out < 1:
            raise ConfigError(tr("{field} = {value} is not a valid value", field="hold_out", value=self.hold_out))


def extended(config: ExtendConfig, model: QwenConfig) -> ExtendConfig:
    """The configuration with the shape of the extended `model`. Raises ConfigError if it does not fit the model."""
    new_len = config.pretrain.seq_len
    if new_len <= model.train_len:
        message = "seq_len = {new} is not longer than what {model} was trained on: choose more than {old} tokens"
        raise ConfigError(tr(message, new=new_len, model=config.pretrain.start_from, old=model.train_len))
    if config.rope_theta < model.rope_theta:
        message = "rope_theta = {new} is below that of {model}, which is {old}: a longer context needs at least that"
        raise ConfigError(tr(message, new=config.rope_theta, model=config.pretrain.start_from, old=model.rope_theta))
    scaling = RopeState() if model.scaling_from else model.rope_scaling  # what the model was not trained with ends
    if config.rope_scaling != "none":
        if scaling.method != "none":
            message = "{model} was trained with rope scaling {method}, so {new} cannot be added: use none"
            names = {"model": config.pretrain.start_from, "method": scaling.method, "new": config.rope_scaling}
            raise ConfigError(tr(message, **names))
        factor = new_len / model.train_len
        scaling = RopeState(method=config.rope_scaling, factor=factor, original_len=model.train_len)
    shape = replace(
        model,
        rope_theta=float(config.rope_theta),
        max_position_embeddings=new_len,
        train_len=new_len,
        use_dynamic_ntk=config.use_dynamic_ntk,
        use_logn_attn=config.use_logn_attn or model.logn_in_training,
        rope_scaling=scaling,
        scaling_from=0,
    )
    return replace(config, pretrain=replace(config.pretrain, model=shape))


def extend(config: ExtendConfig, model: Qwen, tokenizer: Tokenizer) -> Path:
    """Start or continue the extension of `model`, and return the folder of the finished model.

    On Ctrl-C or SIGTERM, saves a checkpoint and raises KeyboardInterrupt.
    """
    if any(adapted(model)):
        message = "{model} has an adapter: merge it with `qianwen export`, and extend the result"
        raise ConfigError(tr(message, model=config.pretrain.start_from))
    config, old = extended(config, model.config), model.config
    device, settings = best_device(), config.pretrain
    join_processes(device)
    with Job.start(settings.name, "extend", config) as job, num_threads(starting_threads(job)):
        seed_everything(settings.seed + rank())
        settings = _with_held_out(config, job.path)
        dataset = token_files(settings, tokenizer, job.path)
        measure = _measure(settings, tokenizer, dataset.eod_id, old.train_len)
        record_losses_before(job, measure, model.to(device))
        changes = _changes(old, settings.model)
        job.record(changes=changes)
        _say(tr("changed: {changes}", changes=", ".join(f"{name} {a} → {b}" for name, (a, b) in changes.items())))
        longer = _with_config(model, settings.model)
        train_on_tokens(settings, dataset, job, longer, [measure])
        print_forgetting(job, measure, longer)
        _say_perplexities(job, settings.seq_len)
        return write_model(longer, tokenizer, job.path / "model", _card(settings, old, job))


def _with_held_out(config: ExtendConfig, folder: Path) -> PretrainConfig:
    """The training, with its documents divided into trained and held-out ones if `hold_out` asks for it."""
    pretrain = config.pretrain
    if not config.hold_out:
        return pretrain
    if is_tokens(Path(pretrain.data)):
        message = "{data} contains token files, of which no texts can be held out: set hold_out 0 and use --held-out"
        raise ConfigError(tr(message, data=pretrain.data))
    corpus = folder / "corpus"
    if is_main():
        how = CorpusConfig(held_out=config.hold_out)
        stage(corpus, {"data": pretrain.data, **asdict(how)}, lambda to: build_corpus(pretrain.data, to, how))
    barrier()
    return replace(pretrain, data=str(corpus / "train"), held_out=(*pretrain.held_out, str(corpus / "held_out")))


def _measure(config: PretrainConfig, tokenizer: Tokenizer, eod_id: int, old_len: int) -> Measure:
    """The losses on every held-out text at the old length, and on those with long documents at the new one."""

    def texts(length: int) -> dict[str, Any]:
        return {f"{Path(text).stem}_{length}": tokenized(text, tokenizer.encode_batch) for text in config.held_out}

    short = HeldOut(texts(old_len), eod_id, old_len)
    long = HeldOut(texts(config.seq_len), eod_id, config.seq_len, cut=True)
    if not long.streams:
        message = "no held-out document has {length:,} tokens, so the loss at the new length is not measured"
        _say(tr(message, length=config.seq_len))
    return lambda model: short.losses(model) | long.losses(model)


def _changes(old: QwenConfig, new: QwenConfig) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, each with its old and its new value."""
    before, after = asdict(old), asdict(new)
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    if "rope_scaling" in changed:
        changed["rope_scaling"] = (old.rope_scaling.method, new.rope_scaling.method)
    return changed


def _with_config(model: Qwen, config: QwenConfig) -> Qwen:
    """The weights of `model`, not copied, in a network of another configuration."""
    network = empty_network(config)
    network.load_state_dict(model.state_dict(), assign=True)
    network.tie_weights()
    return network


def _say_perplexities(job: Job, length: int) -> None:
    before, after = job.folder.record["losses_before"], job.folder.record.get("losses_after", {})
    for name in after:
        if name.endswith(f"_{length}"):
            message = "perplexity of {name} at {length:,} tokens: {before:.4g} before, {after:.4g} after"
            perplexities = {"before": math.exp(before[name]), "after": math.exp(after[name])}
            _say(tr(message, name=name.removeprefix("held_out_"), length=length, **perplexities))


def _card(config: PretrainConfig, old: QwenConfig, job: Job) -> str:
    record = job.folder.record
    rows = [f"| {name} | {a} | {b} |" for name, (a, b) in record["changes"].items()]
    losses = record["losses_before"]
    rows += [f"| loss {name} | {losses[name]:.4f} | {record['losses_after'][name]:.4f} |" for name in losses]
    return CARD.format(
        name=config.name,
        old_len=old.train_len,
        new_len=config.seq_len,
        tokens=config.loop.steps * config.tokens_per_step,
        source=config.start_from,
        share=config.packed_share,
        changes="\n".join(rows),
    )


def _say(message: str) -> None:
    if is_main():
        console.print(message)
