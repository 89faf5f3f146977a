"""The stages of the demo, which train and measure a small chat model in a few minutes.

    text → vocabulary → pretraining → evaluation → fine-tuning → evaluation → report

Each stage is a folder of the run. A stage is not repeated if its settings and its input are the same and its files
verify, so the same command continues an interrupted demo. The settings include a hash of the input, so a stage is
repeated when its input changes. All measurements use held-out text and questions.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qianwen.align.sft import SFTConfig, sft
from qianwen.checkpoints.load import load_model
from qianwen.data.curate.corpus import folder_hash, stage
from qianwen.data.documents.sources import Source, fetch, named
from qianwen.data.tokens.pack import PackedDataset, tokenized
from qianwen.demo.findings import EVALUATION, titles
from qianwen.demo.report import print_stage, write_report
from qianwen.demo.text import TextConfig, build_text
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling_params import SamplingParams
from qianwen.eval.evaluation import Evaluation
from qianwen.eval.provenance import model_settings
from qianwen.eval.tasks.questions import Questions
from qianwen.eval.tasks.text import Text, compressors, unigram
from qianwen.runtime.device import peak_memory_bytes
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import RunFolder, read_jsonl, verify_folder
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.train import train_vocabulary
from qianwen.train.job import Job
from qianwen.train.pretrain import PretrainConfig, pretrain

FACTS = "facts.json"  # results of a stage, for the report
ENGINE = EngineConfig(max_num_seqs=64, max_num_batched_tokens=2048)
PROMPTS = ("The most important thing about the city of", "def read(self, size", "In 1905")


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Configuration of a demo. The paths in `pretrain` and `sft` are in its run folder."""

    name: str  # name of the run
    text: TextConfig
    vocab_size: int  # tokens learned, control tokens not counted
    pretrain: PretrainConfig
    sft: SFTConfig


def run_demo(config: DemoConfig) -> Path:
    """Run or continue the demo, and return its folder; the chat model is in its subfolder `model`."""
    with Job.start(config.name, "demo", config) as job:
        for number, (name, make) in enumerate(STAGES.items(), start=1):
            console.print(f"\n{number}/{len(STAGES)}  {titles()[name]}", style="bold")
            with _timed(job, name):
                make(config, job.folder)
            print_stage(job.folder, name)
    return job.path


@contextmanager
def _timed(job: Job, name: str) -> Iterator[None]:
    """Add the seconds of a stage to the run's record, also if the stage fails."""
    began = time.perf_counter()
    try:
        yield
    finally:
        record = job.folder.record
        seconds = dict(record.get("seconds", {}))
        seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - began, 1)
        peak = max(record.get("peak_memory_bytes", 0), peak_memory_bytes())
        job.record(seconds=seconds, peak_memory_bytes=peak)


def _text(config: DemoConfig, run: RunFolder) -> None:
    """Fetch the named corpus, or use the given folder, and divide it into parts."""
    name, inputs = config.text.source, Path(config.text.source)
    if not inputs.is_dir():
        inputs = run.path / "sources" / "documents"
        shares = config.text.corpus.shares
        sources = [source for source in named(name, config.text.licences) if shares.get(source.name, 1.0) > 0]
        settings = {"sources": [source.name for source in sources]}
        stage(run.path / "sources", settings, lambda folder: _fetch(sources, folder))
    settings = dataclasses.asdict(config.text) | {"inputs": _fingerprint(inputs)}
    stage(run.path / "text", settings, lambda folder: _save(folder, build_text(inputs, folder, config.text)))


def _vocabulary(config: DemoConfig, run: RunFolder) -> None:
    """Learn a vocabulary from the documents, and measure its bytes per token on the held-out ones."""
    text = run.path / "text"

    def learn(folder: Path) -> None:
        began = time.perf_counter()
        documents = (row["text"] for row in read_jsonl(text / "train" / "documents.jsonl"))
        tokenizer = Tokenizer(train_vocabulary(documents, config.vocab_size))
        seconds = time.perf_counter() - began
        tokenizer.save(folder)
        _save(folder, {"vocab_size": tokenizer.vocab_size, "seconds": seconds, **_packing(tokenizer, text)})

    stage(run.path / "tokenizer", {"vocab_size": config.vocab_size, "text": folder_hash(text)}, learn)


def _pretrain(config: DemoConfig, run: RunFolder) -> None:
    """Pretrain from random weights, unless the finished model exists."""
    _drop_if_changed(run, "pretrain", folder_hash(run.path / "tokenizer"))
    if _is_whole(run.path / "pretrain" / "model"):
        return
    tokenizer = Tokenizer.from_folder(run.path / "tokenizer")
    model = dataclasses.replace(config.pretrain.model, vocab_size=tokenizer.vocab_size)
    pretrain(dataclasses.replace(config.pretrain, model=model), tokenizer)


def _measure(name: str, trained: str) -> Callable[[DemoConfig, RunFolder], None]:
    """The stage that evaluates the model of the run `trained` on text and questions."""

    def measure(config: DemoConfig, run: RunFolder) -> None:
        text, model = run.path / "text", run.path / trained / "model"

        def ask(folder: Path) -> None:
            llm = LLM.load(str(model), config=ENGINE)
            questions = Questions(str(text / "dialogues" / "held_out.jsonl"))
            evaluation = Evaluation([Text(str(text / "held_out")), questions], folder / EVALUATION)
            evaluation.run(llm, model_settings(llm, str(model), "stored"))
            if name == "before":
                _save(folder, {"baselines": _baselines(run), "samples": _samples(llm)})

        stage(run.path / name, {"model": folder_hash(model), "text": folder_hash(text)}, ask)

    return measure


def _sft(config: DemoConfig, run: RunFolder) -> None:
    """Fine-tune the pretrained model on the derived dialogues, and copy the chat model to the run's `model`."""
    base = run.path / "pretrain" / "model"
    _drop_if_changed(run, "sft", folder_hash(base))
    if not _is_whole(run.path / "sft" / "model"):
        loaded = load_model(str(base))
        sft(
            config.sft, loaded.model, loaded.tokenizer, generation={"do_sample": False}
        )  # greedy: so small a model answers worse with sampling
    made = run.path / "sft" / "model"
    copy = {"ignore": shutil.ignore_patterns("manifest.json"), "dirs_exist_ok": True}
    stage(run.path / "model", {"sft": folder_hash(made)}, lambda folder: shutil.copytree(made, folder, **copy))


def _report(config: DemoConfig, run: RunFolder) -> None:
    write_report(run)


STAGES: dict[str, Callable[[DemoConfig, RunFolder], None]] = {
    "text": _text,
    "tokenizer": _vocabulary,
    "pretrain": _pretrain,
    "before": _measure("before", "pretrain"),
    "sft": _sft,
    "after": _measure("after", "sft"),
    "report": _report,
}


def _fetch(sources: list[Source], folder: Path) -> None:
    fetched, missing = fetch(sources, folder / "documents")
    _save(folder, {"sources": [source._asdict() for source in fetched], "missing": missing})


def _packing(tokenizer: Tokenizer, text: Path) -> dict[str, Any]:
    """Bytes per token of the held-out documents, by corpus, and the tokens of a sample."""
    sizes: dict[str, list[int]] = {}
    for row in read_jsonl(text / "held_out" / "documents.jsonl"):
        size = sizes.setdefault(row["source"].partition(":")[0], [0, 0])
        size[0] += len(row["text"].encode("utf-8"))
        size[1] += len(tokenizer.encode(row["text"]))
    sample = next(read_jsonl(text / "dialogues" / "held_out.jsonl"))["messages"][1]["content"]
    tokens = [tokenizer.decode([token]) for token in tokenizer.encode(sample)]
    return {"bytes_per_token": {name: size / count for name, (size, count) in sizes.items()}, "tokens": tokens}


def _baselines(run: RunFolder) -> dict[str, float]:
    """Bits per byte of simple methods: the frequencies of tokens, and compressors that see only the held-out file."""
    text, tokenizer = run.path / "text", Tokenizer.from_folder(run.path / "tokenizer")
    learned = PackedDataset(run.path / "pretrain" / "tokens", seq_len=1024)
    batches = (learned.batch(cursor, 64)["input_ids"].numpy() for cursor in range(0, len(learned), 64))
    held_out = ([*ids, tokenizer.eod_id] for ids in tokenized(text / "held_out", tokenizer.encode_batch))
    size = (text / "held_out.txt").stat().st_size
    return {"unigram": unigram(batches, held_out, tokenizer.vocab_size, size)} | compressors(text / "held_out.txt")


def _samples(llm: LLM) -> list[str]:
    """Continuations of a few prompts by the model."""
    params = SamplingParams(temperature=0.7, top_p=0.9, max_tokens=60, seed=0)
    return [prompt + answer.text for prompt, answer in zip(PROMPTS, llm.generate(PROMPTS, params), strict=True)]


def _save(folder: Path, facts: dict[str, Any]) -> None:
    (folder / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")


def _is_whole(folder: Path) -> bool:
    try:
        verify_folder(folder)
    except CheckpointError:
        return False
    return True


def _drop_if_changed(run: RunFolder, name: str, read: str) -> None:
    """Remove the training run `name` if its input has changed since."""
    made_from = dict(run.record.get("made_from", {}))
    if made_from.get(name, read) != read:
        console.print(
            tr("{name} has other inputs or settings than before; it is trained again from the start", name=name)
        )
        shutil.rmtree(run.path / name, ignore_errors=True)
    run.set_state("running", made_from=made_from | {name: read})


def _fingerprint(folder: Path) -> list[tuple[str, int, int]]:
    """The names, sizes and times of all files of a folder, to notice changes."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [(file.relative_to(folder).as_posix(), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
