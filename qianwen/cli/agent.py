"""`qianwen agent`: a model with tools, in a terminal or for one question of a script."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from qianwen.chat.functions import FunctionFormat
from qianwen.cli.arguments import parse
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.agents.agent import Agent
    from qianwen.agents.config import AgentConfig
    from qianwen.agents.tool import Tool
    from qianwen.chat.model import ChatModel
    from qianwen.cli.agent_session import AgentSession

DEFAULT_TOOLS = ("calculator", "clock", "code_interpreter")
KEY_VARIABLE = "QIANWEN_KEY"  # the environment variable with the API key for a URL
WAITING = 3  # exit status of a question that waits for a permission


@dataclass(frozen=True)
class AgentOptions:
    """Work with an agent: a model that calls tools until it can answer. Type /help for the commands.

    Every step is saved, so a run that was stopped or killed goes on with `--resume RUN`. Text from a pipe is one
    question.
    """

    agent: tyro.conf.Positional[str]
    """AGENT.json, or a model (folder, GGUF file, run or hub id), which then has calculator, clock, code interpreter."""
    prompt: Annotated[str | None, tyro.conf.arg(aliases=("-p",))] = None
    """Answer this question and leave; calls are shown on standard error, the answer on standard output."""
    file: tuple[Path, ...] = ()
    """Files for the first question; they are copied into the run's folder."""
    resume: str | None = None
    """Go on with a run: its id, the start of its id, or `last`."""
    json: bool = False
    """Print every step as a line of JSON."""
    allow: tuple[str, ...] = ()
    """Tools that need no permission in this run."""
    url: str = ""
    """Address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1; the model is its name there."""
    bits: Literal["stored", 4, 5, 8, 16] | None = "stored"
    """Bits per weight: `stored`: as on disk; 4, 5, 8, 16: packed for the fast kernels; None: unpacked floats."""
    function_style: FunctionFormat | None = None
    """Write tools and calls in this style; default: `style` of AGENT.json, else the model's own."""
    context: int = 0
    """Maximum tokens of the conversation and the answer; 0: the model's own limit, or what fits in memory."""
    seed: int | None = None
    """Random seed: with it the answers are the same every time."""
    temperature: float | None = None
    """Sampling temperature; 0: always the most likely token. Default: the model's own."""
    max_tokens: int | None = None
    """Maximum length of an answer in tokens."""
    folder: Path | None = None
    """Folder of the journal and of the files of all runs."""


def agent(argv: list[str]) -> int:
    """Open an agent and work with it until the input ends or the user types /exit."""
    options = parse(AgentOptions, "qianwen agent", argv)
    with opened_agent(options) as opened:
        return _work(opened, options)


def _work(agent: "Agent", options: AgentOptions) -> int:
    from rich.console import Console

    from qianwen.cli.agent_session import AgentSession
    from qianwen.cli.agent_terminal import AgentView, JsonView

    question = options.prompt
    if question is None and not sys.stdin.isatty() and not options.resume:
        question = sys.stdin.read().rstrip("\n")
        if not question.strip():
            raise ConfigError(tr("the pipe has no text; send a question, or use --prompt TEXT"))
    journal = agent.journal
    run = journal.find_run(options.resume) if options.resume else journal.create_run(agent.name)
    is_script = question is not None or not sys.stdin.isatty()
    answers = Console(highlight=False, soft_wrap=True)
    console = Console(stderr=True, highlight=False, soft_wrap=True) if is_script else answers
    view = JsonView(console, answers) if options.json else AgentView(console, answers)
    if isinstance(view, JsonView):
        view.record({"kind": "run", "id": run, "files": str(journal.files(run))})
    session = AgentSession(agent, run, view, _prompt if sys.stdin.isatty() else _nobody)
    session.attach(list(options.file))
    return _answer(session, question) if is_script else _converse(session, is_resumed=bool(options.resume))


def _prompt(text: str) -> str:
    """Ask on standard error, so that a pipe gets the answer alone."""
    print(text, end="", file=sys.stderr, flush=True)
    return input()


def _nobody(_: str) -> str:
    raise EOFError


def _converse(session: "AgentSession", *, is_resumed: bool) -> int:
    from qianwen.cli.chat_terminal import typed_questions

    message = "{name} is ready, run {run}. /help lists the commands, Ctrl-C stops a step, Ctrl-D leaves."
    session.view.note(tr(message, name=session.agent.name, run=session.run))
    if is_resumed:
        session.take("/steps")
        session.take("/resume")
    for question in typed_questions():
        if not session.take(question):
            break
    return 0


def _answer(session: "AgentSession", question: str | None) -> int:
    """One question for a script. The exit status is 0 if the agent answered."""
    from qianwen.agents.step import Answer, since_given

    end = session.resume() if question is None else session.ask(question)
    steps = since_given(session.agent.journal.steps(session.run))
    return (0 if any(isinstance(step, Answer) for step in steps) else 1) if end else WAITING


@contextmanager
def opened_agent(options: AgentOptions) -> "Iterator[Agent]":
    """The agent of the options, with its model, tools and journal; closed after use."""
    from qianwen.agents.agent import Agent
    from qianwen.agents.config import AgentConfig, make_tools, read_config
    from qianwen.agents.journal import Journal
    from qianwen.agents.tools import TOOLS
    from qianwen.runtime.files import data_dir

    is_file = options.agent.endswith(".json")
    config = read_config(Path(options.agent)) if is_file else AgentConfig(model=options.agent, tools=DEFAULT_TOOLS)
    config = replace(config, permissions={**config.permissions, **dict.fromkeys(options.allow, "allow")})
    with ExitStack() as stack:
        tools = make_tools(config, TOOLS) if is_file else _default_tools(config)
        for tool in tools:
            if tool.close is not None:
                stack.callback(tool.close)
        journal = Journal(options.folder or data_dir() / "agents")
        stack.callback(journal.close)
        chosen = {name: getattr(options, name) for name in ("seed", "temperature", "max_tokens")}
        sampling = {**config.sampling, **{name: value for name, value in chosen.items() if value is not None}}
        if style := options.function_style or config.style:
            sampling["function_style"] = style
        yield Agent(
            _model(config, options, stack),
            tools,
            journal=journal,
            instructions=config.instructions,
            budget=config.budget,
            policy=config.policy,
            name=config.name,
            sampling=sampling,
        )


def _default_tools(config: "AgentConfig") -> "list[Tool]":
    """The tools of an agent without a file. Where no sandbox works, the others are there, and a note says why."""
    from qianwen.agents.config import make_tools
    from qianwen.agents.tools import TOOLS

    tools = []
    for name in config.tools:
        try:
            tools += make_tools(replace(config, tools=[name]), TOOLS)
        except ConfigError as error:
            print(tr("without {name}: {reason}", name=name, reason=error), file=sys.stderr)
    return tools


def _model(config: "AgentConfig", options: AgentOptions, stack: ExitStack) -> "ChatModel":
    """The model that runs here, or behind a URL."""
    if url := options.url or config.url:
        from qianwen.chat.client import ChatClient

        return stack.enter_context(ChatClient(url, config.model, os.environ.get(KEY_VARIABLE)))
    if not config.model:
        raise ConfigError(tr("{path} names no model; add the field `model`", path=options.agent))

    from qianwen.engine.llm import LLM
    from qianwen.engine.llm_engine import EngineConfig

    beside = config.folder / config.model
    name = str(beside) if beside.exists() else config.model
    return LLM.load(name, bits=options.bits, config=EngineConfig(max_model_len=options.context))
