"""`qianwen data self-instruct MODEL`: a model writes tools, questions and dialogues with calls; rules reject."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class SelfInstruct:
    """Generate dialogues with tool calls from seed tools, keep those that pass the rules, report why others did not.
    The same command continues an interrupted one."""

    model: tyro.conf.Positional[str]
    """The model: a folder, GGUF file, run name or hub id; with --url the name that the server knows."""
    url: str = ""
    """Base URL of an OpenAI-compatible server. The API key is read from the environment variable QIANWEN_KEY."""
    name: str = "self-instruct"
    """Name of the run folder."""
    tools: int = 200
    """Number of requests for a new tool."""
    questions: int = 4
    """Number of requests for questions per tool; each gives four questions."""
    plain_share: float = 0.15
    """Requests for questions that need no tool, as a share of those for questions that do."""
    evaluation_share: float = 0.15
    """Share of the tools that training never sees."""
    temperature: float = 0.8
    """Sampling temperature of tools and questions."""
    seed: int = 0
    """Random seed."""
    concurrency: int = 16
    """Requests at the same time."""


def self_instruct(options: SelfInstruct) -> int:
    """Run the three stages and print the counts."""
    from qianwen.align.self_instruct.accepted import SelfInstructConfig, accepted_questions, accepted_tools
    from qianwen.align.self_instruct.outcome import write_outcome
    from qianwen.align.self_instruct.stages import Stages
    from qianwen.cli.chat_model import opened_chat_model
    from qianwen.runtime.errors import ConfigError, DataError
    from qianwen.runtime.log import progress
    from qianwen.train.job import Job

    if min(options.tools, options.questions, options.concurrency) < 1:
        raise ConfigError(tr("--tools, --questions and --concurrency must be at least 1"))
    config = SelfInstructConfig(
        model=Path(options.model).name, tools=options.tools, questions=options.questions,
        plain_share=options.plain_share, evaluation_share=options.evaluation_share, temperature=options.temperature,
        concurrency=options.concurrency, seed=options.seed,
    )  # fmt: skip
    with Job.start(options.name, "self-instruct", config) as job:
        with opened_chat_model(options.model, options.url, options.concurrency) as model:
            stages = Stages(model, config, job.path)
            tools = accepted_tools(list(progress(stages.tools(), config.tools, tr("writing tools"))))
            if not tools[0]:
                raise DataError(tr("no tool was accepted; see {path}", path=job.path / "tools.jsonl"))
            requests = len(stages.question_items(tools[0]))
            replies = list(progress(stages.questions(tools[0]), requests, tr("writing questions")))
            asked = accepted_questions(replies, tools[0], config)
            dialogues = list(progress(stages.dialogues(asked[0], tools[0]), len(asked[0]), tr("writing dialogues")))
        counts = write_outcome(job.path, tools, asked, dialogues)
    for stage in ("tools", "questions", "dialogues"):
        row = counts[stage]
        message = "{stage}: {accepted:,} of {judged:,} accepted ({share:.0%}); rejected:"
        counted = {"accepted": row["accepted"], "judged": row["judged"], "share": row["acceptance"]}
        console.print(tr(message, stage=stage, **counted))
        for reason, count in row["rejected"].items():
            console.print(f"{count:>8,}  {reason}")
    console.print(tr("written: {path}", path=job.path / "train.jsonl"))
    return 0
