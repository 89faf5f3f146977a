"""`qianwen data service`: dialogues with tool calls, web search with citations, and executed programs, as SFT rows."""

from dataclasses import dataclass
from typing import Any, Literal

from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

Group = Literal["calls", "search", "interpreter"]
GROUPS: tuple[Group, ...] = ("calls", "search", "interpreter")


@dataclass(frozen=True)
class Service:
    """Build service data without a model: dialogues with tool calls, web search with citations, and executed programs.

    With --model the questions and answers are rewritten, where all facts stay. The same command continues an
    interrupted one.
    """

    name: str = "service"
    """Name of the run folder."""
    count: int = 1000
    """Number of dialogues."""
    groups: tuple[Group, ...] = GROUPS
    """Kinds of dialogues: calls, search, interpreter."""
    documents: str = ""
    """A corpus (folder or file of documents) that is the web of the search dialogues; by default texts of the
    package."""
    model: str = ""
    """A model that rewrites questions and answers: a folder, GGUF file, run name or hub id."""
    url: str = ""
    """Base URL of an OpenAI-compatible server that knows --model. The API key is read from the environment variable
    QIANWEN_KEY."""
    concurrency: int = 16
    """Rewrites at the same time."""
    sandbox: str = "auto"
    """Isolation for the programs: auto, bubblewrap, namespaces or landlock."""
    seed: int = 0
    """Random seed."""


def service(options: Service) -> int:
    """Build the dialogues, rewrite them if a model is given, print the counts."""
    from qianwen.align.service.build import DIALOGUES, DRAWN, ServiceConfig, rewrite_rows, service_rows, write_rows
    from qianwen.align.service.interpreter import sandbox_executor
    from qianwen.cli.chat_model import opened_chat_model
    from qianwen.data.documents.readers import readable_documents
    from qianwen.runtime.errors import ConfigError
    from qianwen.runtime.files import read_jsonl, write_jsonl
    from qianwen.runtime.log import progress
    from qianwen.sandbox.process import Sandbox
    from qianwen.train.job import Job

    if min(options.count, options.concurrency) < 1 or not options.groups:
        raise ConfigError(tr("--count and --concurrency must be at least 1, and --groups must name a kind"))
    if options.url and not options.model:
        raise ConfigError(tr("--url needs --model: the name that the server knows"))
    config = ServiceConfig(
        count=options.count, groups=options.groups, documents=options.documents, model=options.model,
        concurrency=options.concurrency, seed=options.seed,
    )  # fmt: skip
    with Job.start(options.name, "service", config) as job:
        drawn = job.path / DRAWN
        if not drawn.exists():
            documents = readable_documents(options.documents) if options.documents else ()
            needs_sandbox = "interpreter" in options.groups
            execute = sandbox_executor(Sandbox.open(options.sandbox)) if needs_sandbox else None  # type: ignore[arg-type]
            rows: Any = service_rows(config, documents, execute)
            write_jsonl(drawn, progress(rows, options.count, tr("building")))
        dialogues = list(read_jsonl(drawn))
        if options.model:
            with opened_chat_model(options.model, options.url, options.concurrency) as model:
                rows = rewrite_rows(model, dialogues, config, job.path)
                dialogues = list(progress(rows, options.count, tr("rewriting")))
        counts = write_rows(dialogues, job.path)
    for name, count in counts["kinds"].items():
        console.print(f"{name:>24}  {count:,}")
    if options.model:
        message = (
            "rewritten: {questions:,} question{questions:plural}, {answers:,} answer{answers:plural} "
            "of {all:,} dialogue{all:plural}"
        )
        parts = counts["rewritten"]
        numbers = {"questions": parts.get("question", 0), "answers": parts.get("answer", 0)}
        console.print(tr(message, **numbers, all=len(dialogues)))
    console.print(tr("written: {path}", path=job.path / DIALOGUES))
    return 0
