"""`qianwen demo`: every training stage of Qwen at a small size on this machine, then a chat with the model."""

import shlex
import sys
from dataclasses import dataclass

from qianwen.cli.arguments import parse
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class DemoOptions:
    """Train a small chat model on real text: vocabulary, pretraining, fine-tuning, then a chat. The same command
    continues an interrupted one."""

    quick: bool = False
    """Run every stage in seconds, offline. This checks the installation; the model is not useful."""
    data: str = ""
    """Train on this folder (text, Markdown, code, JSON lines, Parquet) instead of the quickstart corpus."""
    allow_licence: tuple[str, ...] = ()
    """Use only sources of the quickstart corpus under these licences (SPDX identifiers); by default all."""
    name: str = ""
    """Name of the run folder; by default demo."""
    seed: int = 0
    """Random seed of the initial weights and of the order of the text."""
    chat: bool = True
    """Start a chat with the model at the end, if this is a terminal."""


def demo(argv: list[str]) -> int:
    """Run all stages, then chat if this is a terminal, else print the sample conversation."""
    options = parse(DemoOptions, "qianwen demo", argv)

    from qianwen.demo.report import print_conversation
    from qianwen.demo.stages import run_demo
    from qianwen.recipes import tiny

    recipe = tiny.quick if options.quick else tiny.demo
    chosen = {"name": options.name, "source": options.data}
    config = recipe(
        licences=options.allow_licence, seed=options.seed, **{key: value for key, value in chosen.items() if value}
    )
    try:
        folder = run_demo(config)
    except KeyboardInterrupt:
        console.print(tr("saved; to continue: {command}", command=shlex.join(["qianwen", "demo", *argv])))
        raise
    console.print(tr("report: {path}", path=folder / "report.html"))
    if options.chat and sys.stdin.isatty():
        from qianwen.cli.chat import chat

        return chat([str(folder)])
    print_conversation(folder)
    console.print(tr("next: {command}", command=f"qianwen chat {folder}"))
    return 0
