"""`qianwen data system-prompts`: dialogues in which a system prompt is obeyed over six turns, as SFT rows."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class SystemPromptData:
    """Generate dialogues of six turns that obey a system prompt: role, style, task or behaviour, English and Chinese.

    With --model its own answers are used where a rule finds that they obey. The same command then continues an
    interrupted one.
    """

    out: tyro.conf.Positional[str]
    """Output file (JSON lines)."""
    count: int = 300
    """Number of dialogues."""
    model: str = ""
    """A model that answers: a folder, GGUF file, run name or hub id."""
    url: str = ""
    """Base URL of an OpenAI-compatible server that knows --model. The API key is read from the environment variable
    QIANWEN_KEY."""
    concurrency: int = 16
    """Dialogues at the same time."""
    seed: int = 0
    """Random seed."""


def system_prompt_data(options: SystemPromptData) -> int:
    """Write the dialogues and print how many answers are the model's."""
    from qianwen.align.system_prompts.training import model_rows, training_dialogues, write_dialogues
    from qianwen.cli.chat_model import opened_chat_model
    from qianwen.runtime.errors import ConfigError
    from qianwen.runtime.log import progress

    if min(options.count, options.concurrency) < 1:
        raise ConfigError(tr("--count and --concurrency must be at least 1"))
    if options.url and not options.model:
        raise ConfigError(tr("--url needs --model: the name that the server knows"))
    if options.model and Path(options.out).suffix != ".jsonl":
        raise ConfigError(tr("with --model the output grows line by line: its name must end in .jsonl; got {path}",
                             path=options.out))  # fmt: skip
    if not options.model:
        write_dialogues(Path(options.out), options.count, options.seed)
    else:
        dialogues = list(training_dialogues(options.count, options.seed))
        Path(options.out).parent.mkdir(parents=True, exist_ok=True)
        with opened_chat_model(options.model, options.url, options.concurrency) as model:
            rows = model_rows(model, dialogues, Path(options.out), seed=options.seed, concurrency=options.concurrency)
            num_own = sum(row["own_answers"] for row in progress(rows, len(dialogues), tr("writing dialogues")))
        message = "answers of the model: {own:,} of {all:,}; the others are templates"
        console.print(tr(message, own=num_own, all=6 * len(dialogues)))
    console.print(tr("written: {path}", path=options.out))
    return 0
