"""`qianwen pretrain RECIPE [--from MODEL] [--resume] [--field value …]`: train a language model on text."""

import shlex
from dataclasses import replace

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import runs_dir
from qianwen.runtime.language import tr
from qianwen.runtime.log import console

USAGE = """usage: qianwen pretrain RECIPE [--from MODEL] [--resume] [--FIELD VALUE …]

  RECIPE        tiny, qwen_7b:memo, qwen_7b:report, … or your own module:function
  --from MODEL  continue these weights and report what was forgotten on --held-out texts
  --resume      insist that there is a run to go on with; the same command goes on by itself
  --FIELD       any field of the recipe; `qianwen pretrain RECIPE --help` lists them"""


def pretrain(argv: list[str]) -> int:
    """Resolve the recipe, run it, and end with the next command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(tr(USAGE))
        return 0 if argv else 2
    recipe, *fields = argv
    fields, resume = [field for field in fields if field != "--resume"], "--resume" in fields
    fields, start_from = _option(fields, "--from")

    import tyro

    from qianwen.recipes import load_recipe
    from qianwen.tokenizer.tokenizer import Tokenizer
    from qianwen.train.pretrain import PretrainConfig
    from qianwen.train.pretrain import pretrain as run

    config = load_recipe(recipe, PretrainConfig)
    config = tyro.cli(PretrainConfig, default=config, args=fields, prog=f"qianwen pretrain {recipe}")
    if resume and not (runs_dir() / config.name / "run.json").exists():
        raise ConfigError(tr("there is no run {name} to resume: leave --resume out to begin it", name=config.name))
    model = None
    if start_from:
        from qianwen.quantize.load import load_model

        loaded = load_model(start_from)
        config = replace(config, start_from=start_from, model=loaded.model.config)
        model, tokenizer = loaded.model, loaded.tokenizer
    else:
        tokenizer = Tokenizer.qwen() if config.vocabulary == "qwen" else Tokenizer.from_folder(config.vocabulary)
    try:
        folder = run(config, tokenizer, model=model)
    except KeyboardInterrupt as interruption:
        console.print(tr("{what}; go on with: {command}", what=interruption, command=_command(argv)))
        raise
    console.print(tr("the model is in {folder}; next: {command}", folder=folder, command=f"qianwen generate {folder}"))
    return 0


def _option(argv: list[str], name: str) -> tuple[list[str], str]:
    """Take `name VALUE` or `name=VALUE` out of the arguments."""
    for place, argument in enumerate(argv):
        if argument == name:
            if place + 1 == len(argv):
                raise ConfigError(tr("{name} needs a value", name=name))
            return argv[:place] + argv[place + 2 :], argv[place + 1]
        if argument.startswith(f"{name}="):
            return argv[:place] + argv[place + 1 :], argument.removeprefix(f"{name}=")
    return argv, ""


def _command(argv: list[str]) -> str:
    return shlex.join(["qianwen", "pretrain", *argv])
