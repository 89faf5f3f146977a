"""From a training step back to the documents it learned from, their sources and the filters they passed.

The data of a step is a function of the token files, the sequence length, the seed and the step alone, so nothing had to
be recorded while the run ran: step n takes the sequences [(n − 1)·S, n·S) of the shuffled stream (`pack.py`), and each
is spans of documents, whose origins lie beside the tokens (`provenance.py`). Of a mixture it is the same
(`mixture.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qianwen.data.tokens.mixture import MixedDataset
from qianwen.data.tokens.pack import PackedDataset


@dataclass(frozen=True)
class Traced:
    """A span of a document that one sequence of a step held."""

    sequence: int  # of the step, from 0
    document: int  # its number in the token files
    start: int  # token of the document the span begins with
    ids: np.ndarray  # the tokens, the end of the document among them if it is in the span
    origin: dict[str, str]  # source, url, lang, licence, kind, passed


def trace_step(dataset: PackedDataset | MixedDataset, step: int, sequences_per_step: int) -> list[Traced]:
    """Every span that optimizer step `step` (from 1) saw, in the order of its sequences.

    Raises DataError when the token files do not say where their documents come from.
    """
    first = (step - 1) * sequences_per_step
    spans = [(row, span) for row in range(sequences_per_step) for span in dataset.spans(first + row)]
    origins = dataset.origins([span.document for _, span in spans])
    return [
        Traced(row, span.document, span.start, dataset.tokens(span), origin)
        for (row, span), origin in zip(spans, origins, strict=True)
    ]


def by(traced: Sequence[Traced], *names: str) -> dict[tuple[str, ...], int]:
    """Tokens by the values of some columns of their origin, the most first."""
    totals: dict[tuple[str, ...], int] = {}
    for one in traced:
        key = tuple(one.origin[name] for name in names)
        totals[key] = totals.get(key, 0) + len(one.ids)
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))
