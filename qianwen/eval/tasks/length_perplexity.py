"""Perplexity by length (memo, long context): the same long documents, read in windows of several lengths.

    perplexity/4096                     all tokens, in windows of 4,096
    perplexity/4096/arxiv               of the documents of one corpus; LaTeX, as the memo's texts, is a corpus
    last_quarter/4096                   the last quarter of each window

The windows are those of `length_windows.py`. Intervals resample documents. Documents that are shorter than the longest
length are left out, so every length has the same documents.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from qianwen.data.curate.corpus import corpus_of
from qianwen.data.documents.document import Document
from qianwen.data.documents.readers import readable_documents
from qianwen.eval.length_windows import check_lengths
from qianwen.eval.metrics import Estimate
from qianwen.eval.task import Answer, PromptModel, Score, Scored, Task, TaskOptions, Windows
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.translation import tr

SHORTEST, LONGEST = 1024, 32768  # the columns of the memo
LATEX = re.compile(r"\\(?:begin\{(?:document|theorem|lemma|proof|definition|proposition)\}|section\{|chapter\{)")
METRICS = {"every_token": "perplexity", "last_quarter": "last_quarter"}


class LengthPerplexity(Task):
    """The documents at `data`, in any form that `data/documents/readers.py` reads."""

    name = "perplexity-by-length"

    def __init__(self, options: TaskOptions) -> None:
        self.options = options

    @cached_property
    def model(self) -> PromptModel:
        if self.options.model is None:
            message = "{task} needs likelihoods: a model that runs here, not one behind a URL"
            raise ConfigError(tr(message, task=self.name))
        return self.options.model()

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """From short to long. ConfigError for one that the model does not cover."""
        limit = self.model.max_len
        if not self.options.lengths:
            return default_lengths(limit)
        lengths = tuple(sorted(set(self.options.lengths)))
        if lengths[-1] > limit:
            message = "{task}: the length {length:,} is more than the {limit:,} tokens that the model reads"
            raise ConfigError(tr(message, task=self.name, length=lengths[-1], limit=limit))
        check_lengths(lengths)
        return lengths

    def examples(self) -> Iterable[Windows]:
        shortest, longest = self.lengths[0], self.lengths[-1]
        for number, document in enumerate(self._long_documents()):
            for length in self.lengths:
                facts = {"source": document["source"], "corpus": column_of(document), "length": length}
                yield Windows(
                    text=document["text"], length=length, shortest=shortest, longest=longest, facts=facts,
                    cluster=str(number),
                )  # fmt: skip

    def order(self, example: Windows) -> tuple[int]:
        return (-example.length,)

    def score(self, example: Windows, answer: Answer) -> Score:
        length, corpus = example.facts["length"], example.facts["corpus"]
        shares = {}
        for part, metric in METRICS.items():
            shares[f"{metric}/{length}"] = shares[f"{metric}/{length}/{corpus}"] = answer.shares[part]
        return Score(shares=shares)

    def estimates(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        """exp of the mean nats; all documents first, then each corpus, from short to long."""
        found = super().estimates(scored)
        names = sorted(found, key=_place)
        return {name: _exponential(found[name]) for name in names}

    def settings(self) -> Mapping[str, Any]:
        return {
            "protocol": "likelihood in windows without overlap; no tokens at multiples of the shortest length",
            "lengths": list(self.lengths),
            "languages": list(self.options.languages),
            "curve": {"metrics": list(METRICS.values())},
        }

    def _long_documents(self) -> Iterator[Document]:
        """The documents with enough tokens. DataError if there are none."""
        longest, most, is_empty = self.lengths[-1], 0, True
        for document in readable_documents(self.options.data):
            if self.options.languages and document["lang"] not in self.options.languages:
                continue
            count = len(document["text"].encode("utf-8"))  # at least as many as tokens
            if count >= longest:
                count = len(self.model.tokenizer.encode(document["text"]))
            most = max(most, count)
            if count >= longest:
                is_empty = False
                yield document
        if is_empty:
            message = (
                "no document at {path} has {longest:,} tokens, the longest length; the longest document has at most "
                "{most:,}: choose shorter ones with --lengths, or longer documents"
            )
            raise DataError(tr(message, path=self.options.data, longest=longest, most=most))


def default_lengths(limit: int) -> tuple[int, ...]:
    """The memo's columns up to `limit` tokens; for a model with a short context its half and all of it.

    >>> default_lengths(5000)
    (1024, 2048, 4096)
    """
    shortest = min(SHORTEST, limit // 2)
    return tuple(shortest << n for n in range(32) if shortest << n <= min(limit, LONGEST))


def column_of(document: Document) -> str:
    """The corpus of a document; sources in LaTeX are one, wherever they are from."""
    return "latex" if LATEX.search(document["text"]) else corpus_of(document)


def _place(name: str) -> tuple[int, str, int]:
    metric, length, *corpus = name.split("/", 2)
    return list(METRICS.values()).index(metric), "".join(corpus), int(length)


def _exponential(estimate: Estimate) -> Estimate:
    value, low, high = (math.exp(nats) for nats in estimate[:3])
    return Estimate(value, low, high, estimate.num_examples)
