"""`qianwen chat`: talk to a model in a terminal, or through a pipe (one question per line)."""

import json
import shlex
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tyro

from qianwen.chat import Delta, Message, collect, from_openai, to_openai, trim_history
from qianwen.chat.render import ChatFormat
from qianwen.checkpoints.load import Bits
from qianwen.cli.model_settings import sampling_source, settings_line
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import ConfigError, QianwenError, RequestError
from qianwen.runtime.files import atomic_file, runs_dir
from qianwen.runtime.runs import all_runs
from qianwen.runtime.translation import tr

NOT_CHAT = ("tokenizer", "data", "pretrain", "extend", "reward")  # stages whose models cannot chat
SETTINGS = tuple(name.name for name in fields(SamplingParams) if name.name not in ("n", "logprobs", "grammar"))


@dataclass(frozen=True)
class ChatOptions:
    """Talk to a model. Type /help in the chat for its commands."""

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

    def sampling(self) -> dict[str, Any]:
        """The options that were set; all others keep the model's own values."""
        options = {name: getattr(self, name) for name in ("seed", "temperature", "top_p", "max_tokens")}
        return {name: value for name, value in options.items() if value is not None}


def chat(argv: list[str]) -> int:
    """Load a model and chat until the input ends or the user types /exit."""
    options = tyro.cli(ChatOptions, prog="qianwen chat", args=argv)
    config = EngineConfig(max_model_len=options.context)
    llm = LLM.load(options.model or str(newest_chat_model()), bits=options.bits, config=config)
    session = ChatSession(llm, system=options.system, sampling=options.sampling())
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        print(tr("{name} is ready. /help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.", name=llm.name))
        print(settings_line(llm, session.sampling))
    for line in _lines(is_terminal):
        if not session.take(line):
            break
    return 0


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


def _lines(is_terminal: bool) -> Iterator[str]:
    if not is_terminal:
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    if sys.platform != "win32":
        import readline  # noqa: F401  # gives input() its history and editing
    while True:
        try:
            yield input("\n" + tr("You") + "> ")
        except KeyboardInterrupt:
            print("\n" + tr("(/exit or Ctrl-D leaves)"))
        except EOFError:
            print()
            return


class ChatSession:
    """A conversation and its commands. `take` handles one line of input."""

    def __init__(
        self,
        llm: LLM,
        *,
        system: str | None = None,
        sampling: dict[str, Any] | None = None,
        write: Callable[[str], object] | None = None,
    ) -> None:
        self.llm, self.sampling = llm, dict(sampling or {})
        self.messages = [] if system is None else [Message("system", system)]
        self.num_retries = 0
        self.thinking: bool | None = None  # None: as the model's chat template has it
        self._is_thinking = False
        self._write = write or _print
        llm.params(**self.sampling)

    def take(self, line: str) -> bool:
        """Answer a question or run a /command; False when the conversation is over."""
        text = line.strip()
        if not text:
            return True
        try:
            if text.startswith("/") and not text.startswith("//"):
                return self._command(text)
            self.num_retries = 0
            self.ask(text.removeprefix("/") if text.startswith("//") else line)
        except (QianwenError, OSError) as error:
            self._write(f"{error}\n")
        return True

    def ask(self, text: str) -> None:
        """Stream the answer to `text`. If the model cannot answer, the conversation stays unchanged."""
        before = list(self.messages)
        messages = [*before, Message("user", text)]
        try:
            answer = self._answer(messages)
        except QianwenError:
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
        with _interruptible() as is_interrupted:
            for delta in self.llm.chat(trimmed.messages, thinking=self.thinking, **sampling):
                self._write(self._shown(delta, is_first=not parts))
                parts.append(delta)
                if is_interrupted():
                    self._write(" " + tr("[stopped]"))
                    break
                if delta.finish_reason == "length":
                    self._write(" " + tr("[truncated: max_tokens or the end of the context was reached]"))
        self._write("\n")
        return collect(parts)

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
        self._write(tr("The conversation was cleared.") + "\n")

    def _system(self, text: str) -> None:
        rest = [message for message in self.messages if message.role != "system"]
        if text:
            self.messages = [Message("system", text), *rest]
        self._write((self.messages[0].text if self.messages and len(self.messages) > len(rest) else "") + "\n")

    def _sampling(self, text: str) -> None:
        """Show the current values, or set those of `name=value …`: all of them, or none if one is not valid."""
        changed = dict(self.sampling)
        for word in shlex.split(text):
            name, equals, value = word.partition("=")
            if not equals:
                raise RequestError(tr("Write {word} as name=value, as in temperature=0.7", word=word))
            changed[name] = _value(value)
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
            json.dump(saved, file, ensure_ascii=False, indent=1)
        self._write(tr("Saved {count} messages to {path}.", count=len(self.messages), path=text) + "\n")

    def _load(self, text: str) -> None:
        try:
            saved = json.loads(_path(text).read_text(encoding="utf-8"))
            messages, sampling = [from_openai(message) for message in saved["messages"]], dict(saved["sampling"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RequestError(tr("{path} is not a saved conversation: {error}", path=text, error=error)) from error
        self.llm.params(**sampling)
        self.messages, self.sampling = messages, sampling
        self._write(tr("Loaded {count} messages.", count=len(messages)) + "\n")

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


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C stops the answer at the next token; a second one stops the program."""
    pressed: list[int] = []

    def on_interrupt(number: int, _: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _path(text: str) -> Path:
    if not text:
        raise RequestError(tr("Name a file."))
    return Path(text).expanduser()


def _print(text: str) -> None:
    """Print without control characters, except line end and tab: a model's text must not control the terminal."""
    print("".join(c for c in text if c in "\n\t" or not unicodedata.category(c).startswith("Cc")), end="", flush=True)
