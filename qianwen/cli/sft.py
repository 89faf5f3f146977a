"""`qianwen sft RECIPE` or `qianwen sft MODEL --data FILE`: teach a language model to answer."""

import dataclasses
import shlex
from pathlib import Path

from qianwen.runtime.language import tr
from qianwen.runtime.log import console

ADAPTER_LR = 3e-4  # of the released LoRA and Q-LoRA scripts
USAGE = """usage: qianwen sft RECIPE [--FIELD VALUE …]
       qianwen sft MODEL --data FILE [--method METHOD] [--FIELD VALUE …]

  RECIPE    tiny, … or your own module:function
  MODEL     folder, GGUF file, run or hub id
  METHOD    full (every weight), lora (a small adapter beside frozen weights), qlora (beside weights of 4 bits)
  FILE      dialogues as JSON lines ({{"messages": […]}}) or as finetune.py's JSON list ({{"conversations": […]}})
  --FIELD   any field of the configuration; `qianwen sft RECIPE --help` lists them"""


def sft(argv: list[str]) -> int:
    """Resolve the recipe or the model, fine-tune, and end with the next command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(tr(USAGE))
        return 0 if argv else 2

    import tyro

    from qianwen.align.sft import SFTConfig
    from qianwen.align.sft import sft as run
    from qianwen.quantize.load import load_model
    from qianwen.recipes import load_recipe

    first, *fields = argv
    if any(field == "--data" or field.startswith("--data=") for field in fields):
        default = SFTConfig(name=f"{Path(first).stem or 'model'}-sft", model=first, data="")
        if (method := _method(fields)) != "full":
            loop = dataclasses.replace(default.loop, lr=ADAPTER_LR)
            default = dataclasses.replace(default, loop=loop, checkpoint_activations=method == "qlora")
    else:
        default = load_recipe(first, SFTConfig)
    config = tyro.cli(SFTConfig, default=default, args=fields, prog=f"qianwen sft {first}")
    loaded = load_model(config.model, bits="nf4" if config.method == "qlora" else None)
    config = dataclasses.replace(config, seq_len=min(config.seq_len, loaded.config.max_position_embeddings))
    sampling = {name: value for name, value in loaded.generation.items() if name != "eos_token_id"}
    try:
        folder = run(config, loaded.model, loaded.tokenizer, generation=sampling)
    except KeyboardInterrupt:
        console.print(tr("saved; go on with: {command}", command=shlex.join(["qianwen", "sft", *argv])))
        raise
    console.print(tr("the chat model is in {folder}; next: {command}", folder=folder, command=f"qianwen chat {folder}"))
    return 0


def _method(fields: list[str]) -> str:
    """What follows the last `--method`: what suits it is a default that other options may still change."""
    chosen = [value for name, value in zip(fields, fields[1:], strict=False) if name == "--method"]
    chosen += [field.partition("=")[2] for field in fields if field.startswith("--method=")]
    return chosen[-1] if chosen else "full"
