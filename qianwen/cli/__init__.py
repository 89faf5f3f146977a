"""The `qianwen` command. `COMMANDS` maps each subcommand to a function `(argv) -> exit status`, imported when called.

This module imports nothing heavy, so `qianwen --help` starts fast.
"""

import difflib
import errno
import importlib
import importlib.metadata
import os
import re
import sys
import traceback

from qianwen import __version__
from qianwen.runtime.errors import QianwenError, fault_message
from qianwen.runtime.streams import accept_any_bytes
from qianwen.runtime.translation import tr

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("qianwen.cli.demo:demo", "every stage in miniature on this machine, then a chat with the result"),
    "data": ("qianwen.cli.data:data", "fetch named corpora; curate web pages, text and code; report what was dropped"),
    "tokenizer": ("qianwen.cli.tokenizer:tokenizer", "learn, extend, compare and convert vocabularies"),
    "pretrain": ("qianwen.cli.pretrain:pretrain", "train a language model on text, or continue one"),
    "extend": ("qianwen.cli.extend:extend", "train a language model to read longer texts"),
    "sft": ("qianwen.cli.sft:sft", "teach a language model to answer"),
    "eval": ("qianwen.cli.eval:evaluate", "put tasks to a model"),
    "redteam": (
        "qianwen.cli.redteam:redteam",
        "ask a model harmful questions under attacks, and count what it answers",
    ),
    "models": ("qianwen.cli.models:models", "list the models on this disk, and what fits this machine"),
    "chat": ("qianwen.cli.chat:chat", "talk to a model"),
    "agent": ("qianwen.cli.agent:agent", "a model that uses tools: calculator, files, code, your own functions"),
    "bench": ("qianwen.cli.bench:bench", "measure how fast a model reads and writes here"),
    "generate": ("qianwen.cli.generate:generate", "continue a prompt, or answer a file of prompts"),
    "serve": ("qianwen.cli.serve:serve", "models behind OpenAI's API"),
    "keys": ("qianwen.cli.serve:keys", "who may use a server: add, list and revoke keys"),
    "export": ("qianwen.cli.export:export", "write a model for transformers, vLLM, llama.cpp or Ollama, and check it"),
    "plan": ("qianwen.cli.plan:plan", "what a run would take in memory, and what fits this machine"),
    "quantize": ("qianwen.cli.quantize:quantize", "round a model's weights to 4 or 8 bits, in GPTQ's format"),
    "runs": ("qianwen.cli.runs:runs", "list, follow, compare and delete the runs on this disk"),
    "report": ("qianwen.cli.runs:report", "write a run's report as one HTML page"),
    "doctor": ("qianwen.cli.doctor:doctor", "what works on this machine, what does not, and why"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command and print every error as one line. `QIANWEN_DEBUG=1` shows tracebacks."""
    accept_any_bytes()
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()  # a closed pipe raises here, inside the try, not at exit
        return status
    except KeyboardInterrupt:
        return _complain(tr("interrupted"), 130)
    except BrokenPipeError:  # `qianwen runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except QianwenError as error:
        return _complain(str(error))
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        if error.errno == errno.ENOSPC:
            message = tr("{error}: free some disk space, then run the same command again", error=message)
        return _complain(message)
    except ModuleNotFoundError as error:
        if extra := _extra_of(error.name or ""):
            return _complain(tr("this needs {name}: pip install 'qianwen[{extra}]'", name=error.name, extra=extra))
        return _complain(fault_message(error), 70)
    except MemoryError:
        return _complain(tr("not enough memory; close other programs, or choose a smaller model or fewer bits"))
    except Exception as error:
        return _complain(fault_message(error), 70)


def _run(argv: list[str]) -> int:
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version"):
        print(f"qianwen {__version__}")
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = tr("did you mean {name}?", name=close[0]) if close else tr("`qianwen --help` lists the commands")
        return _complain(tr("unknown command {name}: {hint}", name=name, hint=hint), 2)
    module, function = COMMANDS[name][0].split(":")
    return getattr(importlib.import_module(module), function)(rest) or 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {tr(about)}" for name, (_, about) in COMMANDS.items()]
    title = tr("usage: qianwen COMMAND …      qianwen COMMAND --help explains one")
    return "\n".join([title, "", *lines])


def _complain(message: str, status: int = 1) -> int:
    if os.environ.get("QIANWEN_DEBUG") and sys.exc_info()[0]:
        traceback.print_exc()
    red, plain = ("\033[31m", "\033[0m") if sys.stderr.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"{red}{message}{plain}", file=sys.stderr)
    return status


def _extra_of(module: str) -> str | None:
    """The optional extra that installs a module, read from the metadata of this package."""
    top = module.split(".")[0].replace("_", "-").lower()
    for requirement in importlib.metadata.requires("qianwen") or []:
        match = re.match(rf"{re.escape(top)}\b(?!-).*extra == ['\"]([\w-]+)['\"]", requirement.lower())
        if match:
            return match[1]
    return None
