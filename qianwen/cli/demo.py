"""`qianwen demo`: every stage of a Qwen run in miniature on this machine, then a chat with the result."""

import shlex
import sys
from dataclasses import dataclass

from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class DemoOptions:
    """Take real text through vocabulary, pretraining and fine-tuning to a chat. The same command goes on."""

    quick: bool = False
    """Every stage in seconds, offline: to see that it works, not to learn."""
    data: str = ""
    """A folder of text, Markdown, code, JSON lines or Parquet instead of the quickstart corpus."""
    allow_licence: tuple[str, ...] = ()
    """Of the quickstart corpus only sources under these licences."""
    name: str = ""
    """Of the run; by default demo."""
    seed: int = 0
    """Of the fresh weights and of the order of the text."""
    chat: bool = True
    """Talk to the result at the end, on a terminal."""


def demo(argv: list[str]) -> int:
    """Run all stages, then chat on a terminal, or print what was asked and answered."""
    import tyro

    options = tyro.cli(DemoOptions, prog="qianwen demo", args=argv)

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
