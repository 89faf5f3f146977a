"""From a training step back to its documents, their sources and the filters they passed.

The data of a step is a function of the token files, the sequence length, the seed and the number of the step. So a run
records nothing for this. Step n reads the sequences [(n − 1)·S, n·S) of the shuffled stream (`pack.py`). A sequence
consists of spans of documents, and the origin of each document is in a file beside the tokens (`provenance.py`). The
same holds for a mixture (`mixture.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qianwen.data.tokens.mixture import MixedDataset
from qianwen.data.tokens.pack import PackedDataset


@dataclass(frozen=True)
class Traced:
    """A span of a document in one sequence of a step."""

    sequence: int  # number of the sequence in the step, from 0
    document: int  # number of the document in the token files
    start: int  # first token of the span, counted from the start of the document
    ids: np.ndarray  # the tokens, with the end-of-document token if the span contains it
    origin: dict[str, str]  # source, url, lang, licence, kind, passed


def trace_step(dataset: PackedDataset | MixedDataset, step: int, sequences_per_step: int) -> list[Traced]:
    """Every span that optimizer step `step` (from 1) read, in the order of its sequences.

    Raises DataError when the token files have no record of the sources of their documents.
    """
    first = (step - 1) * sequences_per_step
    spans = [(row, span) for row in range(sequences_per_step) for span in dataset.spans(first + row)]
    origins = dataset.origins([span.document for _, span in spans])
    return [
        Traced(row, span.document, span.start, dataset.tokens(span), origin)
        for (row, span), origin in zip(spans, origins, strict=True)
    ]


def tokens_by(traced: Sequence[Traced], *names: str) -> dict[tuple[str, ...], int]:
    """Number of tokens for each combination of values of the origin columns `names`, largest first."""
    totals: dict[tuple[str, ...], int] = {}
    for span in traced:
        key = tuple(span.origin[name] for name in names)
        totals[key] = totals.get(key, 0) + len(span.ids)
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))
