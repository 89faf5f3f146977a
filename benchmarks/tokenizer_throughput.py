"""Encoding and learning speed beside tiktoken, Hugging Face tokenizers and gigatoken, on one vocabulary and one text.

    python benchmarks/tokenizer_throughput.py [--texts FOLDER] [--mb 8] [--quick]

`--texts` holds `*.txt`, one corpus each (english, chinese, code, languages, …); without it only Python's own library is
read. Every corpus is cut into documents of about 4,000 characters, repeated up to `--mb` and encoded as one
batch on all threads, best of three calls a turn. All ids must be equal on every document before anything is timed.

    vs_tiktoken      `Tokenizer.encode_arrays` with gigatoken installed / tiktoken's `encode_ordinary_batch`
    vs_tiktoken_default   the same with the default install, which has tiktoken alone
    learn_vs_hf     8,192 tokens learned: ours / Hugging Face's BpeTrainer, same pattern (of each the worst corpus)
"""

from __future__ import annotations

import os
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pairs import Report, alternate, arguments, console

from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.train import train_vocabulary
from qianwen.tokenizer.vocab import QWEN_PATTERN, qwen_vocabulary, save_vocabulary, write_tiktoken

DOCUMENT, LEARNED = 4000, 8192  # characters; tokens
THREADS = os.cpu_count() or 1
Encode = Callable[[list[str]], Any]


def corpora(folder: str, num_bytes: int) -> dict[str, list[str]]:
    """Name → documents, `num_bytes` of them."""
    if folder:
        texts = {path.stem: path.read_text("utf-8") for path in sorted(Path(folder).glob("*.txt"))}
    else:
        library = Path(sysconfig.get_paths()["stdlib"])
        texts = {"code": "\n\n".join(p.read_text("utf-8", "replace") for p in sorted(library.glob("*.py")))}
    found = {}
    for name, text in texts.items():
        pieces = [text[start : start + DOCUMENT] for start in range(0, len(text), DOCUMENT)]
        size = sum(len(piece.encode()) for piece in pieces)
        found[name] = (pieces * (num_bytes // size + 1))[: max(1, len(pieces) * num_bytes // size)]
    return found


def encoders() -> dict[str, Encode]:
    """The same vocabulary in everyone's hands."""
    import gigatoken
    import tiktoken
    from tokenizers import Tokenizer as HuggingFace

    vocabulary = qwen_vocabulary()
    default, fast = Tokenizer(vocabulary, fast=False), Tokenizer(vocabulary)
    reference = tiktoken.Encoding("qwen", pat_str=QWEN_PATTERN, mergeable_ranks=vocabulary.ranks, special_tokens={})
    with tempfile.TemporaryDirectory() as folder:
        save_vocabulary(vocabulary, folder)
        hugging_face = HuggingFace.from_file(f"{folder}/tokenizer.json")
        write_tiktoken(vocabulary.ranks, Path(folder) / "plain.tiktoken")
        giga = gigatoken.Tokenizer.from_tiktoken(Path(folder) / "plain.tiktoken", "qwen2", {})
    return {
        "ours, fast": fast.encode_arrays,
        "ours": default.encode_batch,
        "tiktoken": lambda texts: reference.encode_ordinary_batch(texts, num_threads=THREADS),
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
    options = arguments(__doc__, texts="", mb=8.0)
    num_pairs = 2 if options.quick else options.pairs
    report = Report("tokenizers, ids equal", "MB/s")
    known, worst = encoders(), {"vs_tiktoken": [], "vs_tiktoken_default": [], "learn_vs_hf": []}
    for name, documents in corpora(options.texts, int((1 if options.quick else options.mb) * 1e6)).items():
        console.print(f"measuring {name}: {len(documents)} documents")
        check_equal(known, list(dict.fromkeys(documents)))
        turns = {key: speed(encode, documents) for key, encode in known.items()}
        for ours, peer, ratio in (
            ("ours, fast", "tiktoken", "vs_tiktoken"),
            ("ours", "tiktoken", "vs_tiktoken_default"),
            ("ours, fast", "gigatoken", ""),
            ("ours, fast", "Hugging Face", ""),
        ):
            pairs = alternate(turns[ours], turns[peer], num_pairs)
            report.add(f"{name}: {ours} / {peer}", pairs)
            worst.setdefault(ratio, []).append(pairs.ratio)
        pairs = alternate(*learning(documents), num_pairs)
        report.add(f"{name}: learning {LEARNED:,} / Hugging Face", pairs)
        worst["learn_vs_hf"].append(pairs.ratio)
    report.finish({name: min(ratios) for name, ratios in worst.items() if name}, options.json)


if __name__ == "__main__":
    main()
