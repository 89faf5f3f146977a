"""`qianwen pretrain RECIPE [--from MODEL] [--resume] [--field value …]`: train a language model on text."""

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import runs_dir
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

VOCAB_GRAIN = 64
USAGE = """usage: qianwen pretrain RECIPE [--from MODEL] [--resume] [--FIELD VALUE …]

  RECIPE            tiny, qwen_7b:memo, qwen_7b:report, … or your own module:function
  --from MODEL      continue training this model, and report the loss on --held-out texts before and after; its shape,
                    length and rotary base stay as they are (`qianwen extend` trains a model to read longer texts)
  --vocabulary DIR  use this tokenizer; the model gets the size of its vocabulary
  --resume          fail if there is no run to continue; without it the same command starts or continues the run
  --FIELD           any field of the recipe; `qianwen pretrain RECIPE --help` lists them"""


def pretrain(argv: list[str]) -> int:
    """Load the recipe, run it, and print the next command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(tr(USAGE))
        return 0 if argv else 2
    recipe, *fields = argv
    fields, resume = recipe_fields(fields)

    from qianwen.cli.arguments import parse
    from qianwen.recipes import load_recipe
    from qianwen.tokenizer.tokenizer import Tokenizer
    from qianwen.train.pretrain import PretrainConfig
    from qianwen.train.pretrain import pretrain as run

    default = load_recipe(recipe, PretrainConfig, "pretrain")
    config = parse(PretrainConfig, f"qianwen pretrain {recipe}", fields, default=default)
    if resume:
        check_resume(config.name)
    model, chooses_vocabulary = None, config.vocabulary != default.vocabulary
    if config.start_from:
        from qianwen.checkpoints.load import load_model

        if chooses_vocabulary:
            message = (
                "--vocabulary {path} has no effect with --from: {model} has its own vocabulary; leave one of them out"
            )
            raise ConfigError(tr(message, path=config.vocabulary, model=config.start_from))
        loaded = load_model(config.start_from)
        model, tokenizer = loaded.model, loaded.tokenizer
        check_length(config.seq_len, model.config.max_position_embeddings, config.start_from)
        config = replace(config, model=model.config)
    else:
        tokenizer = Tokenizer.qwen() if config.vocabulary == "qwen" else Tokenizer.from_folder(config.vocabulary)
        if chooses_vocabulary and config.model.vocab_size == default.model.vocab_size:
            # Rows beyond the vocabulary are never used; matrix products are faster with a multiple of 64.
            vocab_size = -(-tokenizer.vocab_size // VOCAB_GRAIN) * VOCAB_GRAIN
            console.print(tr("the model has {size:,} tokens, as {path}", size=vocab_size, path=config.vocabulary))
            config = replace(config, model=replace(config.model, vocab_size=vocab_size))
    finish(["pretrain", *argv], lambda: run(config, tokenizer, model=model))
    return 0


def recipe_fields(fields: list[str]) -> tuple[list[str], bool]:
    """The options with the names of their fields, and whether --resume was among them."""
    renamed = [re.sub(r"^--from(?==|$)", "--start-from", field) for field in fields if field != "--resume"]
    return renamed, "--resume" in fields


def finish(command: list[str], train: Callable[[], Path]) -> None:
    """Train, and print what to do next: with the model, or after an interruption."""
    try:
        folder = train()
    except KeyboardInterrupt as interruption:
        again = shlex.join(["qianwen", *command])
        console.print(tr("{what}; to continue: {command}", what=interruption, command=again))
        raise
    console.print(tr("the model is in {folder}; next: {command}", folder=folder, command=f"qianwen generate {folder}"))


def check_length(seq_len: int, longest: int, model: str) -> None:
    """Raise ConfigError for sequences that are longer than the longest text of the model."""
    if seq_len > longest:
        message = (
            "sequences of {seq_len:,} tokens are longer than {model} reads ({longest:,}); use --seq-len {longest}, or "
            "train it to read longer texts with `qianwen extend`"
        )
        raise ConfigError(tr(message, seq_len=seq_len, model=model, longest=longest))


def check_resume(name: str) -> None:
    """Raise ConfigError if there is no run of this name."""
    if not (runs_dir() / name / "run.json").exists():
        message = "there is no run {name} to resume; without --resume a new run is started"
        raise ConfigError(tr(message, name=name))
