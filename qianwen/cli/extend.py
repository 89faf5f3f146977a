"""`qianwen extend RECIPE [--from MODEL] [--resume] [--field value …]`: train a model to read longer texts."""

from qianwen.cli.pretrain import check_resume, finish, recipe_fields
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

USAGE = """usage: qianwen extend RECIPE [--from MODEL] [--resume] [--FIELD VALUE …]

  RECIPE           tiny, qwen_7b, … or your own module:function
  --from MODEL     the model to extend: a folder, GGUF file, run or hub id; by default that of the recipe
  --seq-len N      the new length in tokens
  --rope-theta X   the new base of the rotary positions
  --resume         fail if there is no run to continue; without it the same command starts or continues the run
  --FIELD          any field of the recipe; `qianwen extend RECIPE --help` lists them"""


def extend(argv: list[str]) -> int:
    """Load the recipe and the model, extend it, and print the next command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(tr(USAGE))
        return 0 if argv else 2
    recipe, *fields = argv
    fields, resume = recipe_fields(fields)

    from qianwen.checkpoints.load import load_model
    from qianwen.cli.arguments import parse
    from qianwen.recipes import load_recipe
    from qianwen.train.extend import ExtendConfig
    from qianwen.train.extend import extend as run

    default = load_recipe(recipe, ExtendConfig, "extend")
    config = parse(ExtendConfig, f"qianwen extend {recipe}", fields, default=default)
    for name in ("model", "vocabulary"):
        if getattr(config.pretrain, name) != getattr(default.pretrain, name):
            message = "--{field} has no effect: shape and vocabulary are those of the model to extend; leave it out"
            raise ConfigError(tr(message, field=name))
    if resume:
        check_resume(config.pretrain.name)
    if not config.pretrain.start_from:
        raise ConfigError(tr("the recipe {recipe} names no model to extend: add --from MODEL", recipe=recipe))
    loaded = load_model(config.pretrain.start_from)
    finish(["extend", *argv], lambda: run(config, loaded.model, loaded.tokenizer))
    return 0
