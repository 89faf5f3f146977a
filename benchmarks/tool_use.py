"""Does a model that two cores trained in minutes use a calculator? Held-out products, with the tool and without.

    python benchmarks/tool_use.py [--demo RUN] [--seeds N] [--asked N] [--threads N] [--quick]

The base is the chat model of a demo (`--demo`: the name of its run; without that run the demo is made first, seven
minutes). Each seed is fine-tuned by `recipes/tiny.py:tool_use` on dialogues of its own, then an agent answers held-out
products with the calculator, and the same model answers them alone. A finished seed is not trained again, so the same
command continues an interrupted one. Runs go where QIANWEN_RUNS says.

The bar is 90 % with the tool and at most 40 % without, by the mean of the seeds. `--quick`: one seed, a tiny base.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from pairs import Report, arguments

from qianwen.agents.agent import Agent
from qianwen.agents.journal import Journal
from qianwen.agents.step import Answer, Call
from qianwen.agents.tools.calculator import calculator
from qianwen.align.calculator_dialogues import Counts, Product, dialogues, products
from qianwen.align.sft import SFTConfig, sft
from qianwen.chat import Message
from qianwen.chat.model import collect
from qianwen.checkpoints.load import load_model
from qianwen.demo.stages import run_demo
from qianwen.engine.llm import LLM
from qianwen.recipes import tiny
from qianwen.runtime.files import read_jsonl, runs_dir, verify_folder, write_jsonl

BAR, LIMIT = 0.9, 0.4  # with the tool at least, without it at most
TEST_SEED = 1_000_000  # of the questions, the same for all seeds
QUICK = Counts(call=20, react=40, direct=10, copy=20)


def base(demo: str, *, quick: bool) -> Path:
    """The chat model of the demo, which is made if it does not exist. A finished demo is not touched."""
    if not (runs_dir() / demo / "sft" / "model").is_dir():
        run_demo(tiny.quick(demo) if quick else tiny.demo(demo))
    return runs_dir() / demo / "sft" / "model"


def tuned(demo: str, seed: int, *, quick: bool) -> tuple[Path, float]:
    """The fine-tuned model of a seed, and the seconds of its training; 0 if it was trained before."""
    config = tiny.tool_use(demo, seed)
    counts = QUICK if quick else tiny.CALCULATOR_DIALOGUES
    rows = dialogues(tiny.CALCULATOR, counts, seed)
    model = runs_dir() / config.name / "model"
    if model.is_dir():
        if list(read_jsonl(Path(str(config.data)))) != rows:
            raise SystemExit(f"{model.parent} was trained on other dialogues; delete it")
        verify_folder(model)
        return model, 0.0
    Path(str(config.data)).parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(Path(str(config.data)), rows)
    began = time.perf_counter()
    train(config)
    return model, time.perf_counter() - began


def train(config: SFTConfig) -> None:
    loaded = load_model(config.model)
    sft(config, loaded.model, loaded.tokenizer, generation={"do_sample": False})


def with_tool(llm: LLM, asked: Sequence[Product], threads: int) -> dict[str, Any]:
    """The share of right answers of an agent, and of right expressions."""
    tool = replace(calculator()[0], spec=tiny.CALCULATOR)
    folder = Path(tempfile.mkdtemp(prefix="tool-use-"))
    journal = Journal(folder)
    agent = Agent(llm, [tool], journal=journal, sampling={"temperature": 0, "max_tokens": 80})

    def answer(product: Product) -> tuple[bool, bool]:
        steps = list(agent.run(product.question))
        calls = [step.call.arguments for step in steps if isinstance(step, Call)]
        answers = [step.text for step in steps if isinstance(step, Answer)]
        is_called = bool(calls) and f'"{product.expression}"' in calls[0]
        return is_called, bool(answers) and is_right(answers[-1], product)

    try:
        with ThreadPoolExecutor(threads) as pool:
            results = list(pool.map(answer, asked))
    finally:
        journal.close()
        shutil.rmtree(folder)
    return {"right": share([right for _, right in results]), "right calls": share([called for called, _ in results])}


def without_tool(llm: LLM, asked: Sequence[Product], threads: int) -> float:
    """The share of right answers of the model alone."""

    def answer(product: Product) -> bool:
        reply = collect(llm.chat([Message("user", product.question)], temperature=0, max_tokens=80))
        return is_right(reply.text, product)

    with ThreadPoolExecutor(threads) as pool:
        return share(list(pool.map(answer, asked)))


def is_right(answer: str, product: Product) -> bool:
    return answer.strip().rstrip(".") == product.value


def share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)


def main() -> None:
    options = arguments(__doc__, demo="", seeds=3, asked=200, threads=16)
    demo = options.demo or ("tool-use-quick" if options.quick else "demo")
    seeds, num_asked = (1, 8) if options.quick else (options.seeds, options.asked)
    options.json = options.json or (None if options.quick else Path(__file__).parent / "results" / "tool_use.json")
    asked = list(islice(products("held_out", TEST_SEED), num_asked))
    report = Report("held-out products with a calculator", "share")
    report.note("base", str(base(demo, quick=options.quick)))
    report.note("questions", num_asked)
    shares: dict[str, list[float]] = {"with": [], "without": []}
    for seed in range(seeds):
        model, seconds = tuned(demo, seed, quick=options.quick)
        llm = LLM.load(str(model))
        results = with_tool(llm, asked, options.threads) | {"alone": without_tool(llm, asked, options.threads)}
        report.note(f"seed {seed}", results | {"training seconds": round(seconds)})
        shares["with"].append(results["right"])
        shares["without"].append(results["alone"])
    means = {name: statistics.mean(values) for name, values in shares.items()}
    report.note("bar", f"with >= {BAR}: {means['with'] >= BAR}; without <= {LIMIT}: {means['without'] <= LIMIT}")
    report.finish({f"tool_use_{name}": value for name, value in means.items()}, options.json)


if __name__ == "__main__":
    main()
