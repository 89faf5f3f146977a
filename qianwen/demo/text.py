"""The demo's training text and its test questions: one folder, made from any folder of text.

    curated/documents/                    the curated text, without low-quality documents, duplicates and personal data
                                          (see curated/counts.json and its card)
    train/, held_out/, held_out.txt, …    the corpus made of it, see data/curate/corpus.py
    train/arithmetic.jsonl                lines such as "47 + 21 = 68.", none of them held out
    dialogues/train.jsonl                 questions and answers derived from train/, for fine-tuning
    dialogues/held_out.jsonl              test questions: derived from held_out/, and held-out arithmetic
    sample/                               a part of held_out/, measured during pretraining

Documents and sums are divided into training and test data first, and questions are derived afterwards. So test data
cannot leak into training, except where two documents say the same. Such cases are counted: test questions that are
training questions too (they are removed), and held-out sums in the training text.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qianwen.align.corpus_questions import Pair, arithmetic, arithmetic_text, expression, pairs_of
from qianwen.data.curate.corpus import CorpusConfig, build_corpus, chance
from qianwen.data.curate.curation import curate
from qianwen.data.curate.filter_part import CurateConfig
from qianwen.data.documents.document import Document
from qianwen.data.documents.readers import readable_documents
from qianwen.runtime.files import write_jsonl

SUM = re.compile(r"\d+ \+ \d+")
SAMPLE_BYTES = 30_000


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The text, and how much data is derived from it."""

    source: str = "quickstart"  # a folder of any text, or the name of a corpus
    licences: tuple[str, ...] = ()  # use only sources of a named corpus with these licences; (): all
    # No optional package is needed: languages are those that the documents declare, and rules for web pages are off.
    curate: CurateConfig = field(default_factory=lambda: CurateConfig(rules=("code", "text"), identify=False))
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    num_sums: int = 0  # lines of arithmetic added to the text
    held_out_sums: float = 0.1  # fraction of the sums that are held out
    num_dialogues: dict[str, int] = field(default_factory=dict)  # kind of pair → maximum number for fine-tuning
    num_questions: int = 100  # maximum number of test questions of each kind


def build_text(inputs: Path, folder: Path, config: TextConfig) -> dict[str, Any]:
    """Fill `folder` from the text at `inputs`, and return counts for the report."""
    curated = curate([str(inputs)], folder / "curated", config.curate, workers=1)
    counts = build_corpus(folder / "curated" / "documents", folder, config.corpus)
    sums = {part: arithmetic(part, config.held_out_sums) for part in ("train", "held_out")}
    pairs = {part: [*pairs_of(readable_documents(folder / part)), *sums[part]] for part in sums}
    in_training = {pair.question for pair in pairs["train"]}
    unseen = [pair for pair in pairs["held_out"] if pair.question not in in_training]
    (folder / "dialogues").mkdir()
    chosen = {
        "train": _of_each_kind(pairs["train"], config.num_dialogues),
        "held_out": _of_each_kind(unseen, dict.fromkeys(config.num_dialogues, config.num_questions)),
    }
    for part, selected in chosen.items():
        write_jsonl(folder / "dialogues" / f"{part}.jsonl", (pair.row() for pair in selected))
    write_jsonl(folder / "train" / "arithmetic.jsonl", arithmetic_text(sums["train"], config.num_sums, seed=0))
    (folder / "sample").mkdir()
    write_jsonl(folder / "sample" / "held_out.jsonl", _sample(folder / "held_out"))
    return counts | {
        "curated": {name: curated[name] for name in ("read", "dropped", "kept", "personal")},
        "held_out_bytes": (folder / "held_out.txt").stat().st_size,
        "derived": Counter(pair.kind for pair in pairs["train"]),
        "dialogues": Counter(pair.kind for pair in chosen["train"]),
        "questions": Counter(pair.kind for pair in chosen["held_out"]),
        "asked_before": len(pairs["held_out"]) - len(unseen),
        "sums_in_text": _count_in(folder / "train", sums["held_out"]),
    }


def _of_each_kind(pairs: Sequence[Pair], limits: dict[str, int]) -> list[Pair]:
    """At most `limits[kind]` pairs of each kind, in the order of the hashes of their questions."""
    chosen: list[Pair] = []
    for kind, number in limits.items():
        chosen += sorted((pair for pair in pairs if pair.kind == kind), key=_order)[:number]
    return sorted(chosen, key=_order)


def _order(pair: Pair) -> float:
    return chance(pair.question, "order")


def _count_in(folder: Path, problems: Iterable[Pair]) -> int:
    """How often one of `problems` is in the text."""
    held_out = {expression(pair) for pair in problems}
    return sum(each in held_out for document in readable_documents(folder) for each in SUM.findall(document["text"]))


def _sample(folder: Path) -> Iterator[Document]:
    """The beginnings of some documents, up to SAMPLE_BYTES in all."""
    size = 0
    for document in sorted(readable_documents(folder), key=lambda document: chance(document["text"], "order")):
        document["text"] = document["text"][:2000]
        size += len(document["text"].encode("utf-8"))
        if size > SAMPLE_BYTES:
            return
        yield document
