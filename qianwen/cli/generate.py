"""`qianwen generate`: continue one prompt, or process a file of prompts."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from qianwen.chat.infill import infill_prompt
from qianwen.chat.messages import text_messages
from qianwen.chat.model import Usage
from qianwen.checkpoints.load import Bits
from qianwen.cli.arguments import parse
from qianwen.cli.long_context_options import AS_STORED, LongContextOptions
from qianwen.engine.chat_run import ChatRun
from qianwen.engine.llm import LLM, CompletionOutput, Stream
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.long_context import LongContext
from qianwen.runtime.errors import ConfigError, DataError, QianwenError, excerpt
from qianwen.runtime.files import json_text, read_rows, repair_jsonl
from qianwen.runtime.log import ProgressBar, console
from qianwen.runtime.translation import tr

MAX_REPORTED = 10  # failed rows whose errors are printed


@dataclass(frozen=True)
class GenerateOptions:
    """Continue a prompt, or generate an answer for every row of a JSONL file.

    A row has `prompt` (continued as it is, or up to `suffix`) or `messages` (answered as a chat); its other fields are
    copied to the output, `sampling` may set its own parameters, and `rope` its own extension of the trained length, as
    in the API. The output has the rows in the same order, each
    with `text`, `finish_reason` and `usage`, or with `error`. The same command continues an interrupted one.
    """

    model: tyro.conf.Positional[str]
    """The model: a folder, GGUF file, run name or hub id."""
    prompt: str | None = None
    """Text to continue."""
    suffix: str = ""
    """Text behind the output: the model writes what is between --prompt and this, if it can fill in the middle."""
    input: Path | None = None
    """JSONL file of prompts or messages."""
    output: Path | None = None
    """JSONL file to write."""
    chat: bool = False
    """Send --prompt as a chat message instead of continuing it."""
    bits: Bits = "stored"
    """Bits per weight: `stored`: as on disk; 4, 5, 8, 16: packed for the fast kernels; None: unpacked floats."""
    context: int = 0
    """Maximum tokens of prompt and answer together; 0: the model's own limit, or what fits in memory."""
    temperature: float | None = None
    """Sampling temperature; 0: always the most likely token. Default: the model's own."""
    top_k: int | None = None
    """Sample from the K most likely tokens; 0: from all. Default: the model's own."""
    top_p: float | None = None
    """Sample from the most likely tokens whose probabilities add up to this. Default: the model's own."""
    repetition_penalty: float | None = None
    """Above 1: tokens that already occurred become less likely. Default: the model's own."""
    seed: int | None = None
    """Random seed: with it the output is the same every time."""
    max_tokens: int | None = None
    """Maximum number of new tokens."""
    stop: tuple[str, ...] = ()
    """Texts that end the output when they are generated."""
    long_context: tyro.conf.OmitArgPrefixes[LongContextOptions] = AS_STORED

    def sampling(self) -> dict[str, Any]:
        """The options that were set; all others keep the model's own values."""
        names = ("temperature", "top_k", "top_p", "repetition_penalty", "seed", "max_tokens", "stop")
        return {name: getattr(self, name) for name in names if getattr(self, name) not in (None, ())}


def generate(argv: list[str]) -> int:
    """Continue one prompt on the terminal, or process a file."""
    options = parse(GenerateOptions, "qianwen generate", argv)
    if (options.prompt is None) == (options.input is None):
        raise ConfigError(tr("Give either --prompt TEXT or --input FILE.jsonl"))
    if options.input is not None and options.output is None:
        raise ConfigError(tr("--input needs --output FILE.jsonl"))
    if options.suffix and (options.prompt is None or options.chat):
        raise ConfigError(tr("--suffix needs --prompt TEXT, without --chat; in a file, rows have their own `suffix`"))
    config = EngineConfig(max_model_len=options.context, extension=options.long_context.extension)
    llm = LLM.load(options.model, bits=options.bits, windows=options.long_context.window_sizes, config=config)
    llm.defaults = llm.params(**options.sampling())
    if options.prompt is not None:
        row = _chat_row(options.prompt) if options.chat else {"prompt": options.prompt, "suffix": options.suffix}
        for output in _start(llm, row):
            print(output.text, end="", flush=True)
        print()
        return 0
    assert options.input is not None and options.output is not None
    return generate_file(llm, options.input, options.output)


def generate_file(llm: LLM, source: Path, target: Path) -> int:
    """Write the answers to the rows of `source` into `target`, in order; returns 1 if a row failed, else 0.

    Many rows run at once. A row is appended as soon as all rows before it are. A row that cannot be answered is written
    with its error, also if its line is not JSON. An incomplete last line, left by a crash, is removed first.
    """
    rows = list(read_rows(source))
    num_done = repair_jsonl(target)
    if num_done > len(rows):
        raise ConfigError(
            tr(
                "{path} has more rows than the input, so it belongs to another input; choose a new output file.",
                path=target,
            )
        )
    num_failed = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab") as file, ProgressBar(tr("generating"), len(rows), num_done) as bar:
        for number, result in enumerate(_in_order(llm, rows[num_done:], bar), start=num_done + 1):
            file.write(json_text(result).encode("utf-8") + b"\n")
            file.flush()
            bar.update(1)
            if "error" in result:
                num_failed += 1
                _report(number, result["error"], num_failed)
        os.fsync(file.fileno())
    console.print(
        tr(
            "{done} row{done:plural} in {path}, {failed} of them failed",
            done=len(rows),
            path=target,
            failed=num_failed,
        )
    )
    return 1 if num_failed else 0


def _report(number: int, error: str, num_failed: int) -> None:
    """Print the first errors; all of them are in the output file."""
    if num_failed <= MAX_REPORTED:
        console.print(tr("row {number}: {error}", number=number, error=error), style="yellow", markup=False)
    elif num_failed == MAX_REPORTED + 1:
        console.print(tr("further errors are only in the output file"), style="yellow")


def _in_order(llm: LLM, rows: list[dict[str, Any] | DataError], bar: ProgressBar) -> Iterator[dict[str, Any]]:
    """Results in the order of the rows. Enough requests are started ahead to keep the engine full."""
    ahead = 2 * llm.engine.config.max_num_seqs
    started: list[Stream | str] = []
    num_tokens = 0
    for index, row in enumerate(rows):
        while len(started) < min(len(rows), index + ahead):
            started.append(_try_start(llm, rows[len(started)]))
        stream = started[index]
        started[index] = ""  # free the memory of a finished stream
        fields = {name: value for name, value in row.items() if name != "error"} if isinstance(row, dict) else {}
        if isinstance(stream, str):
            yield {**fields, "error": stream}
            continue
        answer, usage = CompletionOutput(0), Usage(0, 0)
        try:
            for output in stream:
                answer.text += output.text
                answer.finish_reason, usage = output.finish_reason, output.usage
                num_tokens += len(output.token_ids)
                bar.update(description=tr("generating ({count} token{count:plural})", count=num_tokens))
        except QianwenError as error:
            yield {**fields, "error": str(error)}
            continue
        tokens = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        yield {**fields, "text": answer.text, "finish_reason": answer.finish_reason, "usage": tokens}


def _try_start(llm: LLM, row: dict[str, Any] | DataError) -> Stream | str:
    try:
        if isinstance(row, DataError):
            raise row
        return _start(llm, row)
    except QianwenError as error:
        return str(error)


def _start(llm: LLM, row: dict[str, Any]) -> Stream:
    """Start the request of one row. The error of a wrong field names the field."""
    params, extension = row_sampling(llm, row.get("sampling")), row_extension(llm, row.get("rope"))
    if row.get("messages") is not None:
        run = ChatRun(llm.tokenizer, text_messages(row["messages"]))
        return llm.stream(run.prompt_ids, run.params(params), extension=extension)
    if not isinstance(row.get("prompt"), str):
        raise DataError(tr("A row needs `prompt` (text) or `messages` (a list)."))
    if not row.get("suffix"):
        return llm.stream(row["prompt"], params, extension=extension)
    if not isinstance(row["suffix"], str):
        raise DataError(tr("`suffix` of a row must be text; got {value}", value=excerpt(row["suffix"])))
    infill = infill_prompt(llm.tokenizer, row["prompt"], row["suffix"])
    params = replace(params, stop_token_ids=(*params.stop_token_ids, *infill.stop_ids))
    return llm.stream(infill.ids, params, extension=extension)


def row_sampling(llm: LLM, sampling: Any) -> SamplingParams:
    """The parameters of one request from a JSON object; null stands for the model's own value."""
    if sampling is None:
        return llm.defaults
    if not isinstance(sampling, dict):
        raise DataError(tr("`{name}` must be an object; got {value}", name="sampling", value=excerpt(sampling)))
    if sampling.get("n") not in (None, 1):
        raise DataError(tr("`sampling.n` must be 1: a row has one answer; repeat the row for more"))
    return llm.params(**{name: value for name, value in sampling.items() if value is not None})


def row_extension(llm: LLM, rope: Any) -> LongContext | None:
    """How one request extends the trained length, from the name of a method or an object as in the API's `rope`."""
    if rope is None:
        return None
    fields = {"method": rope} if isinstance(rope, str) else rope
    if not isinstance(fields, dict) or not fields.keys() <= {"method", "factor", "logn", "on_growth"}:
        message = "`rope` of a row must be a method, or an object with method, factor, logn or on_growth; got {value}"
        raise DataError(tr(message, value=excerpt(rope)))
    named: dict[str, Any] = {
        "rope" if name == "method" else name: value for name, value in fields.items() if value is not None
    }
    return replace(llm.engine.config.extension, **named)


def _chat_row(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}]}
