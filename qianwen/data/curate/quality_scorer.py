"""Where a learned filter joins a curation: `Scorer` names a function that says how much each text is worth keeping.

    scorers = [Scorer(name="quality", function="qianwen.data.filters.vote:load", model="filters/quality")]
    curate(inputs, output, config, scorers=scorers)

A part is finished in another process, perhaps on another machine, so the function is named and imported there:
`function(model)` returns a `Score`, from texts to a number in [0, 1] for each, 1 for what is surely worth keeping. A
number must depend on its text alone; then parts, cores and kills change nothing. A document whose number is below
`threshold` is dropped under the scorer's name, and those that stay keep their numbers in the column `score_NAME`.

Scorers see what rules and duplicates left, in the order given; all of them see all of it, so that the report can tell
what each drops. A vote of several members is one scorer. Not here: what the functions are, and how they learn.
"""

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qianwen.data.text_arrays import by_size
from qianwen.runtime.atomic import MANIFEST
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import sha256_file, verify_folder
from qianwen.runtime.translation import tr

Score = Callable[[list[str]], Sequence[float]]
CHARACTERS = 1 << 20  # of texts scored in one call
BINS = 20  # of the histogram of a scorer's numbers


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A filter that reads texts. Raises ConfigError when it cannot be one."""

    name: str  # the reason that what it drops is dropped for
    function: str  # `module:function`, from `model` to a Score
    model: str = ""  # what the function is given, such as a folder
    threshold: float = 0.5  # documents with a lower score are dropped
    languages: tuple[str, ...] = ()  # documents in these alone are judged; none: prose in any
    code: bool = False  # judge program text too

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w+", self.name):
            raise ConfigError(tr("{name!r} is not a valid scorer name; use letters, digits and _", name=self.name))
        if not 0 <= self.threshold <= 1:
            raise ConfigError(
                tr("{name}: threshold {threshold} is not between 0 and 1", name=self.name, threshold=self.threshold)
            )

    def model_hash(self) -> str:
        """A hash of the model, so that another one judges anew; empty when it is not a folder or file."""
        path = Path(self.model)
        if not self.model or not path.exists():
            return ""
        if path.is_file():
            return sha256_file(path)
        verify_folder(path)
        return sha256_file(path / MANIFEST)

    def judges(self, lang: str, kind: str) -> bool:
        """Whether a document is one it is meant for."""
        if kind == "code":
            return self.code
        return not self.languages or lang in self.languages

    def load(self) -> Score:
        """The function itself. Raises ConfigError when it is not there."""
        module, _, name = self.function.partition(":")
        try:
            return getattr(importlib.import_module(module), name)(self.model)
        except (ImportError, AttributeError, ValueError) as error:
            message = tr(
                "{name}: {function} cannot be used: {error}", name=self.name, function=self.function, error=error
            )
            raise ConfigError(message) from error


def scores(scorer: Scorer, score: Score, texts: Sequence[str], judged: np.ndarray) -> np.ndarray:
    """The number of each text that is to be judged [D], NaN for the others. Raises DataError if one is no number."""
    found = np.full(len(texts), np.nan, dtype=np.float32)
    chosen = [text for text, is_judged in zip(texts, judged, strict=True) if is_judged]
    values: list[float] = []
    for some in by_size(chosen, CHARACTERS):
        values += map(float, score(some))
    if len(values) != len(chosen):
        message = tr(
            "{name} returned {found} scores for {texts} texts", name=scorer.name, found=len(values), texts=len(chosen)
        )
        raise DataError(message)
    numbers = np.array(values, dtype=np.float32)
    if not ((numbers >= 0) & (numbers <= 1)).all():
        bad = numbers[~((numbers >= 0) & (numbers <= 1))][0]
        raise DataError(
            tr("{name} returned the score {value}; scores must be between 0 and 1", name=scorer.name, value=bad)
        )
    found[judged] = numbers
    return found


def histogram(numbers: np.ndarray) -> list[int]:
    """How many of the numbers lie in each of BINS equal parts of [0, 1]."""
    known = numbers[~np.isnan(numbers)]
    return np.bincount(np.minimum((known * BINS).astype(np.int64), BINS - 1), minlength=BINS).tolist()
