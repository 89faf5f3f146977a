"""`qianwen pretrain RECIPE [--from MODEL] [--resume] [--field value …]`: train a language model on text."""

import re
import shlex
from dataclasses import replace

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import runs_dir
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

USAGE = """usage: qianwen pretrain RECIPE [--from MODEL] [--resume] [--FIELD VALUE …]

  RECIPE        tiny, qwen_7b:memo, qwen_7b:report, … or your own module:function
  --from MODEL  continue these weights and report what was forgotten on --held-out texts
  --resume      insist that there is a run to go on with; the same command goes on by itself
  --FIELD       any field of the recipe; `qianwen pretrain RECIPE --help` lists them"""


def pretrain(argv: list[str]) -> int:
    """Load the recipe, run it, and print the next command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(tr(USAGE))
        return 0 if argv else 2
    recipe, *fields = argv
    resume = "--resume" in fields
    fields = [re.sub(r"^--from(?==|$)", "--start-from", field) for field in fields if field != "--resume"]

    import tyro

    from qianwen.recipes import load_recipe
    from qianwen.tokenizer.tokenizer import Tokenizer
    from qianwen.train.pretrain import PretrainConfig
    from qianwen.train.pretrain import pretrain as run

    config = load_recipe(recipe, PretrainConfig, "pretrain")
    config = tyro.cli(PretrainConfig, default=config, args=fields, prog=f"qianwen pretrain {recipe}")
    if resume and not (runs_dir() / config.name / "run.json").exists():
        raise ConfigError(
            tr("there is no run {name} to resume; without --resume a new run is started", name=config.name)
        )
    model = None
    if config.start_from:
        from qianwen.checkpoints.load import load_model

        loaded = load_model(config.start_from)
        model, tokenizer = loaded.model, loaded.tokenizer
        config = replace(config, model=model.config)
    else:
        tokenizer = Tokenizer.qwen() if config.vocabulary == "qwen" else Tokenizer.from_folder(config.vocabulary)
    try:
        folder = run(config, tokenizer, model=model)
    except KeyboardInterrupt as interruption:
        command = shlex.join(["qianwen", "pretrain", *argv])
        console.print(tr("{what}; to continue: {command}", what=interruption, command=command))
        raise
    console.print(tr("the model is in {folder}; next: {command}", folder=folder, command=f"qianwen generate {folder}"))
    return 0
