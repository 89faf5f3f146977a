"""Encoding and learning speed beside tiktoken, Hugging Face tokenizers and gigatoken, on one vocabulary and one text.

    python benchmarks/tokenizer_throughput.py [--texts FOLDER] [--mb 3] [--learn-mb 8] [--quick]

`--texts` holds `*.txt`, one corpus each (english, chinese, code, languages, …); without it three sources of
`qianwen data fetch quickstart` are read, those that can be had. Of each corpus `--mb` are encoded and `--learn-mb`
learned from, drawn from all over it and no text twice: who caches gains nothing that real text does not give.
Text is composed (NFC) beforehand, as ours would compose it and the peers do not. All ids must be equal on every text
before anything is timed. Documents have 200, 4,000 and 100,000 characters and go in as one batch, best of three calls a
turn; tiktoken's batch starts all threads, and where its plain loop is faster that is the peer.

    vs_tiktoken           `Tokenizer.encode_arrays` with gigatoken installed / tiktoken
    vs_tiktoken_default   `Tokenizer.encode_batch` in the default install, which has tiktoken alone / tiktoken
    learn_vs_hf           8,192 tokens learned: ours / Hugging Face's BpeTrainer, same pattern

Each is that of the worst corpus and size.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pairs import Report, alternate, arguments, console

from qianwen.data.documents.sources import SOURCES, fetch
from qianwen.tokenizer.patterns import QWEN_PATTERN
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.train import train_vocabulary
from qianwen.tokenizer.vocab_files import qwen_vocabulary, save_vocabulary, write_tiktoken

SIZES = (4_000, 200, 100_000)  # characters in a document; at the first all peers are measured
LEARNED = 8192  # tokens
QUICKSTART = ("python-stdlib", "wikipedia-en", "many-languages")
THREADS = os.cpu_count() or 1
Encode = Callable[[list[str]], Any]


def corpora(folder: str) -> dict[str, str]:
    """Name → text."""
    if folder:
        return {path.stem: path.read_text("utf-8") for path in sorted(Path(folder).glob("*.txt"))}
    with tempfile.TemporaryDirectory() as fetched:
        _, missing = fetch([SOURCES[name] for name in QUICKSTART], Path(fetched))
        for name, reason in missing.items():
            console.print(f"without {name}: {reason}")
        files = {path.stem: path.read_text("utf-8").splitlines() for path in sorted(Path(fetched).glob("*.jsonl"))}
    return {name: "\n\n".join(json.loads(line)["text"] for line in lines) for name, lines in files.items()}


def sample(text: str, num_bytes: float) -> str:
    """At least `num_bytes` of the text in large pieces from all over it; all of it where it has no more."""
    size = max(SIZES)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    random.Random(0).shuffle(pieces)
    kept, length = [], 0
    while pieces and length < num_bytes:
        kept.append(unicodedata.normalize("NFC", pieces.pop()))
        length += len(kept[-1].encode())
    return unicodedata.normalize("NFC", "".join(kept))


def cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def encoders() -> dict[str, Encode]:
    """The same vocabulary in everyone's hands."""
    import gigatoken
    import tiktoken
    from tokenizers import Tokenizer as HuggingFace

    vocabulary = qwen_vocabulary()
    default, fast = Tokenizer(vocabulary, fast=False), Tokenizer(vocabulary)
    reference = tiktoken.Encoding(
        "qwen", pat_str=QWEN_PATTERN, mergeable_ranks=dict(vocabulary.ranks), special_tokens={}
    )
    with tempfile.TemporaryDirectory() as folder:
        save_vocabulary(vocabulary, folder)
        hugging_face = HuggingFace.from_file(f"{folder}/tokenizer.json")
        write_tiktoken(vocabulary.ranks, Path(folder) / "plain.tiktoken")
        giga = gigatoken.Tokenizer.from_tiktoken(Path(folder) / "plain.tiktoken", "qwen2", {})
    return {
        "ours, fast": fast.encode_arrays,
        "ours": default.encode_batch,
        "tiktoken": lambda texts: reference.encode_ordinary_batch(texts, num_threads=THREADS),
        "tiktoken, one by one": lambda texts: [*map(reference.encode_ordinary, texts)],
        "Hugging Face": lambda texts: [x.ids for x in hugging_face.encode_batch_fast(texts, add_special_tokens=False)],
        "gigatoken": lambda texts: (
            giga.encode_batch(texts) if hasattr(giga, "encode_batch") else [*map(giga.encode, texts)]
        ),
    }


def check_equal(known: dict[str, Encode], documents: list[str]) -> None:
    expected = known["tiktoken"](documents)
    for name, encode in known.items():
        for mine, theirs in zip(encode(documents), expected, strict=True):
            if np.asarray(mine).tolist() != list(theirs):
                raise SystemExit(f"{name} gives other ids than tiktoken")


def speed(encode: Encode, documents: list[str]) -> Callable[[], float]:
    """MB/s of the best of three calls."""
    size = sum(len(document.encode()) for document in documents) / 1e6

    def measure() -> float:
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            encode(documents)
            seconds.append(time.perf_counter() - began)
        return size / min(seconds)

    return measure


def learning(documents: list[str]) -> tuple[Callable[[], float], Callable[[], float]]:
    """MB/s of learning a vocabulary: ours and Hugging Face's trainer."""
    from tokenizers import Regex, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as HuggingFace

    size = sum(len(document.encode()) for document in documents) / 1e6

    def ours() -> float:
        began = time.perf_counter()
        train_vocabulary(documents, LEARNED)
        return size / (time.perf_counter() - began)

    def theirs() -> float:
        split = pre_tokenizers.Split(Regex(QWEN_PATTERN), "isolated")
        learner = HuggingFace(models.BPE())
        learner.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=LEARNED - 208, show_progress=False, initial_alphabet=alphabet)
        began = time.perf_counter()
        learner.train_from_iterator(documents, trainer)
        return size / (time.perf_counter() - began)

    return ours, theirs


def main() -> None:
    options = arguments(__doc__, texts="", mb=3.0, learn_mb=8.0)
    num_pairs, scale = (2, 1e5) if options.quick else (options.pairs, 1e6)
    report, known = Report("tokenizers with equal ids", "MB/s"), encoders()
    worst: dict[str, list[float]] = {"vs_tiktoken": [], "vs_tiktoken_default": [], "learn_vs_hf": []}
    for name, text in corpora(options.texts).items():
        encoded = sample(text, options.mb * scale)
        for size in SIZES:
            documents = cut(encoded, size)
            console.print(f"measuring {name}: {len(documents):,} documents of {size:,} characters")
            check_equal(known, documents)
            turns = {key: speed(encode, documents) for key, encode in known.items()}
            tiktoken = max(("tiktoken", "tiktoken, one by one"), key=lambda key: turns[key]())
            rivals = [("ours, fast", tiktoken, "vs_tiktoken"), ("ours", tiktoken, "vs_tiktoken_default")]
            if size == SIZES[0]:
                rivals += [("ours, fast", "gigatoken", ""), ("ours, fast", "Hugging Face", "")]
            for ours, peer, ratio in rivals:
                pairs = alternate(turns[ours], turns[peer], num_pairs)
                report.add(f"{name}, {size:,}: {ours} / {peer}", pairs)
                worst.setdefault(ratio, []).append(pairs.ratio)
        pairs = alternate(*learning(cut(sample(text, options.learn_mb * scale), SIZES[0])), num_pairs)
        report.add(f"{name}: learning {LEARNED:,} / Hugging Face", pairs)
        worst["learn_vs_hf"].append(pairs.ratio)
    report.finish({name: min(ratios) for name, ratios in worst.items() if name}, options.json)


if __name__ == "__main__":
    main()
