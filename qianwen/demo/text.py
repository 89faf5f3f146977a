"""What the demo learns from, and what it is asked: one folder, made from any folder of text.

    curated/documents/                    the text as the data chapter leaves it: rules passed, duplicates and personal
                                          data gone (see curated/counts.json and its card)
    train/, held_out/, held_out.txt, …    the corpus made of that, see data/curate/corpus.py
    train/arithmetic.jsonl                lines such as "47 + 21 = 68.", none of them held out
    dialogues/train.jsonl                 questions and answers derived from train/, for fine-tuning
    dialogues/held_out.jsonl              questions nothing learns from: derived from held_out/, and held-out arithmetic
    sample/                               a little of held_out/, to watch while pretraining

Nothing leaks by construction: documents, and the facts of arithmetic, are divided before anything is derived from them.
What construction cannot promise is counted: held-out questions that were also asked in training (left out), and
held-out sums that stand somewhere in the text.
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
    """Which text, and how much of what is made from it."""

    source: str = "quickstart"  # a folder of any text, or the name of a corpus
    licences: tuple[str, ...] = ()  # of a named corpus only sources under these; (): all
    # Nothing here needs an extra: languages are as the documents say, and the published rules for web pages stay out.
    curate: CurateConfig = field(default_factory=lambda: CurateConfig(rules=("code", "text"), identify=False))
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    num_sums: int = 0  # lines of arithmetic put into the text
    held_out_sums: float = 0.1  # share of the facts of arithmetic that nothing learns from
    num_dialogues: dict[str, int] = field(default_factory=dict)  # kind of pair → most that fine-tuning learns from
    num_questions: int = 100  # most held-out questions of each kind


def build_text(inputs: Path, folder: Path, config: TextConfig) -> dict[str, Any]:
    """Fill `folder` from the text at `inputs` and return what there is to tell about it."""
    curated = curate([str(inputs)], folder / "curated", config.curate, workers=1)
    counts = build_corpus(folder / "curated" / "documents", folder, config.corpus)
    sums = {part: arithmetic(part, config.held_out_sums) for part in ("train", "held_out")}
    pairs = {part: [*pairs_of(readable_documents(folder / part)), *sums[part]] for part in sums}
    asked = {pair.question for pair in pairs["train"]}
    unseen = [pair for pair in pairs["held_out"] if pair.question not in asked]
    (folder / "dialogues").mkdir()
    chosen = {
        "train": _some_of_each(pairs["train"], config.num_dialogues),
        "held_out": _some_of_each(unseen, dict.fromkeys(config.num_dialogues, config.num_questions)),
    }
    for part, some in chosen.items():
        write_jsonl(folder / "dialogues" / f"{part}.jsonl", (pair.row() for pair in some))
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
        "sums_in_text": _found_in(folder / "train", sums["held_out"]),
    }


def _some_of_each(pairs: Sequence[Pair], most: dict[str, int]) -> list[Pair]:
    """Up to `most` of each kind, chosen by the hash of the question, the kinds mixed."""
    chosen: list[Pair] = []
    for kind, number in most.items():
        chosen += sorted((pair for pair in pairs if pair.kind == kind), key=_order)[:number]
    return sorted(chosen, key=_order)


def _order(pair: Pair) -> float:
    return chance(pair.question, "order")


def _found_in(folder: Path, problems: Iterable[Pair]) -> int:
    """How often one of `problems` stands in the text."""
    held_out = {expression(pair) for pair in problems}
    return sum(found in held_out for document in readable_documents(folder) for found in SUM.findall(document["text"]))


def _sample(folder: Path) -> Iterator[Document]:
    """The beginnings of some documents, up to SAMPLE_BYTES in all."""
    size = 0
    for document in sorted(readable_documents(folder), key=lambda document: chance(document["text"], "order")):
        document["text"] = document["text"][:2000]
        size += len(document["text"].encode("utf-8"))
        if size > SAMPLE_BYTES:
            return
        yield document
