"""Compression: how many bits a model spends on each byte of text it never saw.

It compares models of any vocabulary with each other and with compressors: a model that predicts a text can encode it,
at -log2 p(token) bits a token (Shannon 1948). The first token and the end of a document cost bits too, see
`eval/likelihood.py`.
"""

import lzma
import math
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from qianwen.data.curate.corpus import corpus_of
from qianwen.data.documents.readers import readable_documents
from qianwen.eval.metrics import Share
from qianwen.eval.task import Answer, Loglikelihood, Score, Task


class Text(Task):
    """The documents at `path`, in any form that `data/documents/readers.py` reads."""

    name = "text"

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def examples(self) -> Iterable[Loglikelihood]:
        for document in readable_documents(self.path):
            facts = {"bytes": len(document["text"].encode("utf-8")), "corpus": corpus_of(document)}
            yield Loglikelihood(continuation=document["text"], facts=facts)

    def score(self, example: Loglikelihood, answer: Answer) -> Score:
        share = Share(-answer.logprob / math.log(2), example.facts["bytes"])
        return Score(shares={"bits_per_byte": share, f"bits_per_byte/{example.facts['corpus']}": share})


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
