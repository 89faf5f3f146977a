"""What fewer bits, and an adapter learned over them, do to a model as a whole: one matrix.

    python benchmarks/bits_and_adapters.py --model DIR_OR_GGUF --service DIALOGUES --mmlu ZIP --gsm8k FILE
        --texts english=A.txt,chinese=B.txt,code=C.py --calibration DIALOGUES [--keep FOLDER] [--json FILE]

    bf16        floats; LoRA beside them
    int8, int4  GPTQ's layout, groups of 128, calibrated on `--calibration`; Q-LoRA over the codes, as Qwen's own
    nf4         NF4; Q-LoRA over it

Each stands as it is and after an adapter has learned `--service`, tool calls of customers' questions (`tool_calls.py`),
the same sequences in the same order, each once unless `--steps` says fewer. Columns: perplexity of each text; MMLU and
GSM8K, chat without examples, greedy, with their 95 % interval; the share of held-out questions answered with the right
tool. Answers come through the engine from packed weights; NF4's are unpacked into int8 for it.

Rows that are in `--json` already are not measured again: a run that was stopped goes on.
"""

from __future__ import annotations

import gc
import json
import math
import tempfile
from pathlib import Path
from typing import Any

from pairs import Report, arguments, console
from quantization import plain, quantised, read, texts_of
from tool_calls import questions, selected, tuned, write_questions

from qianwen.align.dialogues import read_dialogues
from qianwen.checkpoints.load import LoadedModel, load_model, open_model
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.eval.runner import run_task
from qianwen.eval.task import TaskOptions
from qianwen.eval.tasks import TASKS
from qianwen.model.linears.nf4 import Nf4Linear
from qianwen.model.transformer import Qwen, replace_module
from qianwen.quantize.gptq import GptqConfig

BASES = ("bf16", "int8", "int4", "nf4")


def base_of(row: str, options: Any, keep: Path) -> str:
    """The MODEL that a row begins with, made where it is not there yet."""
    if row in ("int8", "int4"):
        return str(quantised(options.model, keep / row, GptqConfig(bits=int(row[3:])), options.calibration))
    return options.model


def answering(model: str, row: str) -> LoadedModel:
    """The model or adapter `model` in the bits of a row, ready to answer."""
    if row == "bf16":
        return load_model(model, bits=16)
    if row != "nf4":
        return load_model(model, bits="stored")
    loaded = load_model(model, bits="nf4")
    unpacked(loaded.model)
    return loaded


def unpacked(model: Qwen) -> None:
    """Swap what is in NF4 for int8, which answers without unpacking; its rounding is far below that of NF4."""
    for name, linear in [(name, part) for name, part in model.named_modules() if isinstance(part, Nf4Linear)]:
        replace_module(model, name, linear.fast())


def measure(loaded: LoadedModel, options: Any, held_out: list, texts: dict[str, list[int]]) -> dict[str, Any]:
    """The numbers of one row."""
    row: dict[str, Any] = {}
    for name, ids in texts.items():
        row[name] = math.exp(-read(loaded.model, ids, plain).logprobs.double().mean())
    llm = LLM(loaded.model, loaded.tokenizer, EngineConfig(max_model_len=2048, max_num_seqs=64))
    for name, limit in (("mmlu", options.mmlu_asked), ("gsm8k", options.gsm8k_asked)):
        done = run_task(TASKS[f"{name}-chat"](TaskOptions(data=Path(getattr(options, name)))), llm, limit=limit)
        row[name] = next(iter(done.metrics.values()))
    row["tools"] = selected(loaded, held_out)["all"]
    return row


def main() -> None:
    options = arguments(
        __doc__, model="", service="", mmlu="", gsm8k="", texts="", calibration="", keep="", tokens=2048,
        steps=0, asked=60, mmlu_asked=228, gsm8k_asked=50,
    )  # fmt: skip
    if not all((options.model, options.service, options.mmlu, options.gsm8k, options.texts, options.calibration)):
        raise SystemExit("--model, --service, --mmlu, --gsm8k, --texts and --calibration are all needed")
    if options.quick:
        options.tokens, options.steps, options.asked, options.mmlu_asked, options.gsm8k_asked = 256, 2, 8, 8, 2
    learned, held_out = questions(list(read_dialogues(options.service)))
    held_out = held_out[: options.asked]
    texts = texts_of(options.texts, options.tokens, open_model(options.model).tokenizer)
    found: dict[str, dict[str, Any]] = {}
    if options.json and options.json.exists():
        found = json.loads(options.json.read_text())["values"].get("rows", {})
    report = Report(f"quantisation and adapters, {Path(options.model).stem}", "")
    report.note("rows", found)
    with tempfile.TemporaryDirectory() as temporary:
        keep = Path(options.keep or temporary)
        keep.mkdir(parents=True, exist_ok=True)
        data = write_questions(learned, keep / "calls.jsonl")
        for row in BASES:
            for name in (row, f"{row} + adapter"):
                if name in found:
                    continue
                model = base_of(row, options, keep)
                if name != row:
                    method = "lora" if row == "bf16" else "qlora"
                    run = f"bits-{Path(options.model).stem}-{row}"
                    model = str(tuned(run, model, method, data, options.steps)[0])
                found[name] = measure(answering(model, row), options, held_out, texts)
                console.print(name, highlight=False)
                report.finish({}, options.json)
                gc.collect()


if __name__ == "__main__":
    main()
