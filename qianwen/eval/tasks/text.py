"""Compression: how many bits a model spends on each byte of text it never saw.

    text     the user's documents, by corpus and by language
    ntrex    the same news in many languages (NTREX-128, Federmann et al. 2022), by language

It compares models of any vocabulary with each other and with compressors: a model that predicts a text can encode it,
at -log2 p(token) bits a token (Shannon 1948). The first token and the end of a document cost bits too, see
`eval/likelihood.py`.

Bytes are not information: a letter takes one byte in French and three in Thai. Compare models on one language by
`bits_per_byte`, and languages by `bits_per_line`: line N has the same meaning in all of them.
"""

import hashlib
import lzma
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from qianwen.data.curate.corpus import corpus_of
from qianwen.data.documents.document import UNKNOWN
from qianwen.data.documents.readers import readable_documents
from qianwen.eval.data_files import find
from qianwen.eval.metrics import Share
from qianwen.eval.task import Answer, Loglikelihood, Score, Task
from qianwen.tokenizer.compression import LANGUAGES, read_texts

NTREX_NAMES = ("ntrex*.jsonl", "NTREX-128", "NTREX/NTREX-128", "ntrex*")
LINES = 20  # of NTREX in one text


class Text(Task):
    """The documents at `path`, in any form that `data/documents/readers.py` reads."""

    name = "text"

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def examples(self) -> Iterable[Loglikelihood]:
        for document in readable_documents(self.path):
            facts = {"bytes": len(document["text"].encode("utf-8")), "corpus": corpus_of(document)}
            if document["lang"] != UNKNOWN:
                facts["language"] = document["lang"]
            yield Loglikelihood(continuation=document["text"], facts=facts)

    def score(self, example: Loglikelihood, answer: Answer) -> Score:
        share = Share(-answer.logprob / math.log(2), example.facts["bytes"])
        shares = {"bits_per_byte": share, f"bits_per_byte/{example.facts['corpus']}": share}
        if language := example.facts.get("language"):
            shares[f"bits_per_byte/lang:{language}"] = share
        return Score(shares=shares)


class Ntrex(Task):
    """NTREX-128: news of 2019 in English and its translations, `LINES` consecutive lines at a time.

    The first N examples have the same lines in every language. Metrics name languages by their ISO 639-1 codes.
    """

    name = "ntrex"

    def __init__(self, data: Path) -> None:
        self.data = data

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        return read_ntrex(self.data)

    def examples(self) -> Iterable[Loglikelihood]:
        by_language = [
            [_example(language, start, part) for start, part in parts(lines)] for language, lines in self.texts.items()
        ]
        return (example for example in chain.from_iterable(zip_longest(*by_language)) if example)

    def score(self, example: Loglikelihood, answer: Answer) -> Score:
        bits, facts = -answer.logprob / math.log(2), example.facts
        shares = {"bits_per_byte": Share(bits, facts["bytes"])}
        shares[f"bits_per_byte/{facts['language']}"] = shares["bits_per_byte"]
        shares[f"bits_per_line/{facts['language']}"] = Share(bits, facts["lines"])
        return Score(shares=shares)

    def settings(self) -> Mapping[str, Any]:
        return {"protocol": "likelihood", "lines_per_text": LINES, "data_sha256": hash_of(self.texts)}


def read_ntrex(data: Path) -> dict[str, list[str]]:
    """The lines of NTREX in the memo's languages: JSON lines with `lang` and `lines`, or the published text files."""
    languages = [name for name in LANGUAGES if name != "code"]
    return read_texts([find(data, NTREX_NAMES, inside=["newstest2019-ref.*.txt"])], languages)


def hash_of(texts: Mapping[str, Sequence[str]]) -> str:
    """What identifies the texts in the settings of a result."""
    return hashlib.sha256(repr(texts).encode("utf-8", "surrogatepass")).hexdigest()


def parts(lines: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """`LINES` lines at a time, with the index of the first."""
    for start in range(0, len(lines), LINES):
        yield start, lines[start : start + LINES]


def _example(language: str, start: int, lines: Sequence[str]) -> Loglikelihood:
    text = "\n".join(lines)
    facts = {"bytes": len(text.encode("utf-8")), "lines": len(lines), "language": language, "first_line": start + 1}
    return Loglikelihood(continuation=text, facts=facts, cluster=str(start))


def compressors(path: str | Path) -> dict[str, float]:
    """Bits per byte that ordinary compressors spend on the file `path` alone."""
    data = Path(path).read_bytes()
    packed = {"gzip -9": len(zlib.compress(data, 9)), "xz -9": len(lzma.compress(data, preset=9))}
    return {name: 8 * size / len(data) for name, size in packed.items()}


def unigram(learned: Iterable[np.ndarray], held_out: Iterable[Sequence[int]], vocab_size: int, num_bytes: int) -> float:
    """Bits per byte of knowing how often each token occurs, and nothing of what stands before it."""
    counts = np.ones(vocab_size)  # a token never learned must not be impossible
    for ids in learned:
        counts += np.bincount(ids.ravel(), minlength=vocab_size)
    bits = np.log2(counts.sum() / counts)
    return float(sum(bits[np.asarray(ids)].sum() for ids in held_out) / num_bytes)
