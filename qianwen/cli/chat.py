"""`qianwen chat`: talk to a model in a terminal, or send it one question through a pipe."""

import functools
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tyro

from qianwen.chat import Delta, Message, collect, to_openai, trim_history
from qianwen.chat.messages import text_messages
from qianwen.chat.model import check_sampling_names
from qianwen.chat.render import ChatFormat
from qianwen.checkpoints.load import Bits
from qianwen.cli.arguments import parse
from qianwen.cli.chat_terminal import (
    interruptible,
    markdown_writer,
    piped_questions,
    take_line,
    typed_questions,
    write_plain,
)
from qianwen.cli.long_context_options import AS_STORED, LongContextOptions
from qianwen.cli.model_settings import sampling_source, settings_line
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import ConfigError, QianwenError, RequestError
from qianwen.runtime.files import atomic_file, json_text, runs_dir
from qianwen.runtime.log import console
from qianwen.runtime.runs import all_runs
from qianwen.runtime.translation import tr

NOT_CHAT = ("tokenizer", "data", "pretrain", "extend", "reward")  # stages whose models cannot chat
SETTINGS = tuple(name.name for name in fields(SamplingParams) if name.name not in ("n", "logprobs", "grammar"))


@dataclass(frozen=True)
class ChatOptions:
    """Talk to a model. Type /help in the chat for its commands.

    A question of several lines can be pasted, or written between two lines of three double quotes. Text from a pipe is
    one question: `cat report.txt | qianwen chat MODEL`.
    """

    model: tyro.conf.Positional[str] = ""
    """The model: a folder, GGUF file, run name or hub id; by default the newest chat model in the runs folder."""
    system: str | None = None
    """System prompt."""
    bits: Bits = "stored"
    """Bits per weight: `stored`: as on disk; 4, 5, 8, 16: packed for the fast kernels; None: unpacked floats."""
    context: int = 0
    """Maximum tokens of the conversation and the answer; 0: the model's own limit, or what fits in memory."""
    seed: int | None = None
    """Random seed: with it the answers are the same every time."""
    temperature: float | None = None
    """Sampling temperature; 0: always the most likely token. Default: the model's own."""
    top_p: float | None = None
    """Sample from the most likely tokens whose probabilities add up to this. Default: the model's own."""
    max_tokens: int | None = None
    """Maximum length of an answer in tokens."""
    markdown: bool = True
    """Show answers as formatted Markdown, if the output is a terminal."""
    lines: bool = False
    """Read a pipe line by line: each line is a question or a command of the chat."""
    long_context: tyro.conf.OmitArgPrefixes[LongContextOptions] = AS_STORED

    def sampling(self) -> dict[str, Any]:
        """The options that were set; all others keep the model's own values."""
        options = {name: getattr(self, name) for name in ("seed", "temperature", "top_p", "max_tokens")}
        return {name: value for name, value in options.items() if value is not None}


def chat(argv: list[str]) -> int:
    """Load a model and chat until the input ends or the user types /exit."""
    options = parse(ChatOptions, "qianwen chat", argv)
    config = EngineConfig(max_model_len=options.context, extension=options.long_context.extension)
    model, windows = options.model or str(newest_chat_model()), options.long_context.window_sizes
    llm = LLM.load(model, bits=options.bits, windows=windows, config=config)
    with_markdown = options.markdown and sys.stdout.isatty()
    session = ChatSession(
        llm,
        system=options.system,
        sampling=options.sampling(),
        answer_writer=functools.partial(markdown_writer, console) if with_markdown else None,
    )
    if not llm.is_chat:
        print(pretrained_note(llm.name), file=sys.stderr)
    is_terminal = sys.stdin.isatty()
    if not is_terminal and not options.lines:
        question = sys.stdin.read().rstrip("\n")
        if not question.strip():
            raise ConfigError(tr("the pipe has no text; send a question, as in `echo hello | qianwen chat MODEL`"))
        session.ask(question)
        return 0
    if is_terminal:
        print(tr("{name} is ready. /help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.", name=llm.name))
        print(settings_line(llm, session.sampling))
    for question in typed_questions() if is_terminal else piped_questions():
        if not session.take(question):
            break
    return 0


def pretrained_note(name: str) -> str:
    """What to expect of a model that was not trained to chat."""
    message = (
        "{name} is a pretrained model: it continues text and was not trained to answer. `qianwen generate` continues a "
        "text; `qianwen sft {name} --data FILE` trains it to chat"
    )
    return tr(message, name=name)


def newest_chat_model() -> Path:
    """The newest model folder of all runs. Raises ConfigError, with the ways to get a model, if there is none."""
    for run in all_runs():
        folder = run.path / "model"
        if run.record["stage"] not in NOT_CHAT and (folder / "config.json").exists():
            return folder
    raise ConfigError(
        tr(
            "There is no chat model in {folder} yet. `qianwen demo` trains a small one in minutes; "
            "`qianwen chat Qwen/Qwen2.5-0.5B-Instruct` fetches one; `qianwen chat PATH` takes a folder or GGUF file.",
            folder=runs_dir(),
        )
    )


class ChatSession:
    """A conversation and its commands. `take` handles one line of input."""

    def __init__(
        self,
        llm: LLM,
        *,
        system: str | None = None,
        sampling: dict[str, Any] | None = None,
        write: Callable[[str], object] = write_plain,
        answer_writer: Callable[[], AbstractContextManager[Callable[[str], object]]] | None = None,
    ) -> None:
        """`write` shows messages of the chat, `answer_writer` the pieces of an answer; by default `write` does both."""
        self.llm, self.sampling = llm, dict(sampling or {})
        self.messages = [] if system is None else [Message("system", system)]
        self.num_retries = 0
        self.thinking: bool | None = None  # None: as the model's chat template has it
        self._is_thinking = self._is_length_noted = False
        self._write, self._answer_writer = write, answer_writer
        llm.params(**self.sampling)

    def take(self, line: str) -> bool:
        """Answer a question or run a /command; False when the conversation is over."""
        return take_line(line, self._command, self._ask_anew, lambda message: self._write(f"{message}\n"))

    def _ask_anew(self, text: str) -> None:
        self.num_retries = 0
        self.ask(text)

    def ask(self, text: str) -> None:
        """Stream the answer to `text`. If the model cannot answer, the conversation stays unchanged."""
        before = list(self.messages)
        messages = [*before, Message("user", text)]
        try:
            answer = self._answer(messages)
        except BaseException:
            self.messages = before
            raise
        self.messages = [*messages, answer]

    def _answer(self, messages: list[Message]) -> Message:
        sampling = dict(self.sampling)
        if sampling.get("seed") is not None:
            sampling["seed"] += self.num_retries
        trimmed = trim_history(messages, self.llm.tokenizer, self._window(messages[-1].text, sampling))
        if trimmed.note:
            self._write(trimmed.note + "\n")
        parts: list[Delta] = []
        note = ""
        writer = self._answer_writer() if self._answer_writer else nullcontext(self._write)
        with interruptible() as is_interrupted, writer as show:
            for delta in self.llm.chat(trimmed.messages, thinking=self.thinking, **sampling):
                show(self._shown(delta, is_first=not parts))
                parts.append(delta)
                if is_interrupted():
                    note = " " + tr("[stopped]")
                    break
                if delta.finish_reason == "length":
                    note = " " + tr("[truncated: max_tokens or the end of the context was reached]")
        self._write(note + "\n")
        self._note_length(parts)
        return collect(parts)

    def _note_length(self, parts: Sequence[Delta]) -> None:
        """Write one line when the conversation has first passed the trained length."""
        usage = parts[-1].usage if parts else None
        note = self.llm.engine.limits.note(usage.prompt_tokens + usage.completion_tokens) if usage else ""
        if note and not self._is_length_noted:
            self._is_length_noted = True
            self._write(f"[{note}]\n")

    def _shown(self, delta: Delta, *, is_first: bool) -> str:
        """What is printed of a delta: thoughts between two lines that say so, then the answer."""
        text = ""
        if delta.reasoning and not self._is_thinking:
            text = ("" if is_first else "\n") + tr("[thinking]") + "\n"
        elif self._is_thinking and not delta.reasoning:
            text = "\n" + tr("[end of the thoughts]") + "\n"
        self._is_thinking = bool(delta.reasoning)
        return text + delta.reasoning + delta.text

    def _window(self, question: str, sampling: dict[str, Any]) -> int:
        """Tokens left for system prompt and history, after the question and the answer."""
        context = self.llm.engine.max_model_len
        max_tokens = self.llm.params(**sampling).max_tokens or context
        return context - len(self.llm.tokenizer.encode(question)) - min(max_tokens, context // 2) - 16

    def _command(self, text: str) -> bool:
        name, _, rest = text[1:].partition(" ")
        if name in ("exit", "quit", "q"):
            return False
        if name not in COMMANDS:
            self._write(tr("There is no command /{name}; /help lists them.", name=name) + "\n")
            return True
        COMMANDS[name][1](self, rest.strip())
        return True

    def _help(self, _: str) -> None:
        lines = [f"  {usage:<28} {tr(about)}" for usage, _, about in COMMANDS.values()]
        lines.append(f"  {'/exit':<28} {tr('leave')}")
        self._write("\n".join([*lines, tr("  //text sends a message that begins with a slash"), ""]))

    def _reset(self, _: str) -> None:
        self.messages = [message for message in self.messages[:1] if message.role == "system"]
        self._is_length_noted = False
        self._write(tr("The conversation was cleared.") + "\n")

    def _system(self, text: str) -> None:
        rest = [message for message in self.messages if message.role != "system"]
        if text:
            self.messages = [Message("system", text), *rest]
        self._write((self.messages[0].text if self.messages and len(self.messages) > len(rest) else "") + "\n")

    def _sampling(self, text: str) -> None:
        """Show the current values, or set those of `name=value …`: all of them, or none if one is not valid."""
        changed = dict(self.sampling)
        try:
            words = shlex.split(text)
        except ValueError as error:  # a quotation mark without its partner
            raise RequestError(tr("Write {word} as name=value, as in temperature=0.7", word=text)) from error
        for word in words:
            name, equals, value = word.partition("=")
            if not equals:
                raise RequestError(tr("Write {word} as name=value, as in temperature=0.7", word=word))
            changed[name] = _value(value)
        check_sampling_names(changed, SETTINGS)
        params = self.llm.params(**changed)
        self.sampling = changed
        self._write("".join(f"  {name} = {getattr(params, name)}\n" for name in SETTINGS))
        self._write(f"  ({sampling_source(self.llm.recommended)})\n")

    def _seed(self, text: str) -> None:
        seed = _value(text) if text else None
        self.llm.params(seed=seed)
        self.sampling["seed"] = seed
        self._write(f"  seed = {seed}\n")

    def _think(self, text: str) -> None:
        """Turn the thoughts of a model on; `/think off` and `/no_think` turn them off."""
        if text not in ("", "on", "off"):
            raise RequestError(tr("Write /think, /think on or /think off."))
        self._set_thinking(text != "off")

    def _no_think(self, _: str) -> None:
        self._set_thinking(False)

    def _set_thinking(self, thinking: bool) -> None:
        ChatFormat(self.llm.tokenizer).thinking(thinking)  # refuses what this model cannot do
        self.thinking = thinking
        self._write((tr("Thoughts are on.") if thinking else tr("Thoughts are off.")) + "\n")

    def _save(self, text: str) -> None:
        saved = {"messages": [to_openai(message) for message in self.messages], "sampling": self.sampling}
        with atomic_file(_path(text), "w", encoding="utf-8") as file:
            file.write(json_text(saved, indent=1))
        self._write(tr("Saved {count} message{count:plural} to {path}.", count=len(self.messages), path=text) + "\n")

    def _load(self, text: str) -> None:
        path = _path(text)
        try:
            saved = json.loads(path.read_bytes())
            messages, sampling = text_messages(saved["messages"]), dict(saved["sampling"])
        except KeyError as error:
            reason = tr("`{key}` is missing", key=error.args[0])
            raise RequestError(tr("{path} is not a saved conversation: {error}", path=text, error=reason)) from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            is_readable = isinstance(error, (QianwenError, UnicodeError, json.JSONDecodeError))
            reason = str(error) if is_readable else tr("it needs an object with `messages` and `sampling`")
            raise RequestError(tr("{path} is not a saved conversation: {error}", path=text, error=reason)) from error
        check_sampling_names(sampling, SETTINGS)
        self.llm.params(**sampling)
        self.messages, self.sampling = messages, sampling
        self._write(tr("Loaded {count} message{count:plural}.", count=len(messages)) + "\n")

    def _retry(self, _: str) -> None:
        last = next((i for i in reversed(range(len(self.messages))) if self.messages[i].role == "user"), None)
        if last is None:
            raise RequestError(tr("There is no question to answer again."))
        question, before = self.messages[last].text, self.messages
        self.messages = self.messages[:last]
        self.num_retries += 1
        try:
            self.ask(question)
        except QianwenError:
            self.messages = before
            raise


COMMANDS: dict[str, tuple[str, Callable[[ChatSession, str], None], str]] = {
    "help": ("/help", ChatSession._help, "this list"),
    "reset": ("/reset", ChatSession._reset, "forget the conversation, keep the system prompt"),
    "system": ("/system [TEXT]", ChatSession._system, "show or set the system prompt"),
    "sampling": ("/sampling [NAME=VALUE …]", ChatSession._sampling, "show or set how answers are drawn"),
    "seed": ("/seed [N]", ChatSession._seed, "the same answers again; without N different ones"),
    "think": ("/think [on|off]", ChatSession._think, "let the model think before it answers, or not"),
    "no_think": ("/no_think", ChatSession._no_think, "the same as /think off"),
    "save": ("/save FILE", ChatSession._save, "write the conversation as JSON"),
    "load": ("/load FILE", ChatSession._load, "go on with a saved conversation"),
    "retry": ("/retry", ChatSession._retry, "answer the last question again"),
}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _path(text: str) -> Path:
    if not text:
        raise RequestError(tr("Name a file."))
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # there is no user of this name
        path = Path(text)
    if "\0" in text:
        raise RequestError(tr("Name a file."))
    return path
