"""`qianwen sft RECIPE` or `qianwen sft MODEL --data FILE`: fine-tune a language model on dialogues."""

import dataclasses
import itertools
import shlex
from typing import TYPE_CHECKING, Any

from qianwen.cli.arguments import is_recipe, parse
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import RunFolder, runs_dir
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.align.sft import SFTConfig
    from qianwen.chat.render import Rendered
    from qianwen.tokenizer.tokenizer import Tokenizer

USAGE = """usage: qianwen sft RECIPE [--data FILE …] [--FIELD VALUE …]
       qianwen sft MODEL --data FILE … [--method METHOD] [--FIELD VALUE …]

  RECIPE    tiny, qwen_7b:sft, qwen_7b:sft_memo, … or your own module:function; with --data only module:function
  MODEL     folder, GGUF file, run or hub id
  METHOD    full (every weight), lora (a small adapter beside frozen weights), qlora (beside weights of 4 bits);
            without it, the free memory and the size of the model decide, as for learning rate and length
  FILE      dialogues as JSON lines or one JSON list, with the fields of OpenAI (`messages`), of finetune.py or ShareGPT
            (`conversations`), of Alpaca (`instruction`, `input`, `output`) or of swift (`query`, `response`);
            several files are mixed: --data a.jsonl b.jsonl --weights 3 1
  --preview print what the data teaches, its size and its first labels, and stop
  --FIELD   any field of the configuration; `qianwen sft RECIPE --help` lists them"""


def sft(argv: list[str]) -> int:
    """Load the recipe or the model, fine-tune, and print the next command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(tr(USAGE))
        return 0 if argv else 2

    from qianwen.align.sft import SFTConfig
    from qianwen.align.sft import sft as run
    from qianwen.checkpoints.load import load_model

    first, *fields = [option for option in argv if option != "--preview"]
    if first.startswith("-"):
        message = "the model is missing: write it before {option}, as in `qianwen sft MODEL --data FILE`"
        raise ConfigError(tr(message, option=first.partition("=")[0]))
    config = parse(SFTConfig, f"qianwen sft {first}", fields, default=_default(first, fields))
    if "--preview" in argv:
        _preview(config, with_labels=not _values(fields, "--data") or is_recipe(first))
        return 0
    loaded = load_model(config.model, bits="nf4" if config.method == "qlora" else None)
    config = dataclasses.replace(config, seq_len=min(config.seq_len, loaded.config.max_position_embeddings))
    sampling = {name: value for name, value in loaded.generation.items() if name != "eos_token_id"}
    try:
        folder = run(config, loaded.model, loaded.tokenizer, generation=sampling)
    except KeyboardInterrupt:
        console.print(tr("saved; to continue: {command}", command=shlex.join(["qianwen", "sft", *argv])))
        raise
    console.print(tr("the chat model is in {folder}; next: {command}", folder=folder, command=f"qianwen chat {folder}"))
    return 0


def _default(first: str, fields: list[str]) -> "SFTConfig":
    """The configuration that the options change: of the recipe, or chosen for a model if there is --data."""
    from qianwen.align.sft import SFTConfig
    from qianwen.recipes import load_recipe

    is_help = any(field in ("-h", "--help") for field in fields)
    if _values(fields, "--data") and not is_help and not is_recipe(first):
        return _chosen(first, fields)
    try:
        return load_recipe(first, SFTConfig, "sft")
    except ConfigError as error:
        if is_help:  # of a model; its settings are chosen later, from the data
            return SFTConfig(name="NAME", model=first, data="FILE")
        hint = "{error}. To fine-tune a model, add --data FILE: qianwen sft {model} --data FILE"
        raise ConfigError(tr(hint, error=error, model=first)) from error


def _preview(config: "SFTConfig", *, with_labels: bool) -> None:
    """Print what the run would learn from; no weight is loaded. `with_labels`: also the first dialogue."""
    from qianwen.align.training_data import training_data
    from qianwen.checkpoints.load import open_model

    opened = open_model(config.model)
    most = opened.config.max_position_embeddings
    data = training_data(dataclasses.replace(config, seq_len=min(config.seq_len, most)), opened.tokenizer, most)
    if with_labels:
        _print_first(data.first, opened.tokenizer)


def _print_first(first: "Rendered", tokenizer: "Tokenizer") -> None:
    """The first dialogue with its labels."""
    from qianwen.align.preview import preview

    console.print(tr("tokens of the first dialogue that have a label (the rest is context):"), style="bold")
    console.print(preview(first, tokenizer, colour=console.is_terminal and not console.no_color))


def _chosen(model: str, fields: list[str]) -> "SFTConfig":
    """Choose and print settings that suit the model, the data and this machine. Options on the command line win."""
    from qianwen.align.finetune_plan import default_name, plan_finetune
    from qianwen.align.sft import SFTConfig

    files = tuple(_values(fields, "--data"))
    plain = SFTConfig(
        name=_option(fields, "--name") or default_name(model), model=model, data=files if len(files) > 1 else files[0]
    )
    if (saved := _saved_run(plain.name)) is not None:  # continue with its settings, whatever memory is free now
        return _with_settings(plain, saved.config)
    seq_len = _option(fields, "--seq-len")
    length = int(seq_len) if seq_len.isdecimal() and len(seq_len) < 10 else 0
    plan = plan_finetune(plain, method=_option(fields, "--method"), seq_len=length)
    _print_first(plan.first, plan.tokenizer)
    message = (
        "chosen: --method {method} --loop.lr {lr:g} --seq-len {seq_len} --loop.sequences-per-step {batch}, "
        "about {need:.1f} GB; pass the same options to change them"
    )
    chosen = plan.choice
    settings = {"method": chosen.method, "lr": chosen.lr, "seq_len": chosen.seq_len, "batch": chosen.sequences_per_step}
    console.print(tr(message, **settings, need=chosen.bytes_needed / 1e9))
    return plan.config


def _saved_run(name: str) -> RunFolder | None:
    """The fine-tuning run of this name, if it has settings to keep: not one that failed before its first step."""
    if not (runs_dir() / name / "run.json").exists():
        return None
    run = RunFolder.open(name)
    return None if run.is_empty() or run.record["stage"] != "sft" else run


def _with_settings(plain: "SFTConfig", saved: dict[str, Any]) -> "SFTConfig":
    try:
        loop = dataclasses.replace(plain.loop, **{name: saved["loop"][name] for name in ("lr", "sequences_per_step")})
        settings = {name: saved[name] for name in ("method", "seq_len", "checkpoint_activations")}
    except (KeyError, TypeError) as error:
        message = "the run {name} has no settings to continue with; choose another name with --name"
        raise ConfigError(tr(message, name=plain.name)) from error
    return dataclasses.replace(plain, loop=loop, **settings)


def _option(fields: list[str], option: str) -> str:
    """The last value given for `option`; empty where it is not given."""
    return (_values(fields, option) or [""])[-1]


def _values(fields: list[str], option: str) -> list[str]:
    """The values of the last `option`: the words after it up to the next option."""
    values: list[str] = []
    for place, field in enumerate(fields):
        if field == option:
            values = list(itertools.takewhile(lambda word: not word.startswith("--"), fields[place + 1 :]))
        elif field.startswith(f"{option}="):
            values = [field.partition("=")[2]]
    return values
