"""The four filters of an ensemble, as raw scores: the higher, the likelier a text is to be dropped.

    rules         what the published rules count, and how a text speaks to its reader, weighed (`traits`)
    quality       hashed n-grams: edited prose against chatter, spam, boilerplate, noise      (`linear_classifier.py`)
    safety        hashed n-grams, the worst window of a text: abuse and obscenity against the rest
    perplexity    an n-gram model of edited text; or a transformer's, handed in as a function  (`ngram_model.py`)

They are fitted to labelled texts: `good`, `low` (not worth learning from) or `unfit` (not fit for it). What scores
mean, `score_calibration.py` says. D texts, M = 4 members.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qianwen.data.curate.text_statistics import Batch
from qianwen.data.filters.linear_classifier import Linear, fit, fit_dense, grams
from qianwen.data.filters.ngram_model import NgramModel, fit_ngrams
from qianwen.data.filters.score_calibration import script_of
from qianwen.data.text_arrays import Texts, by_size

GOOD, LOW, UNFIT = "good", "low", "unfit"
LABELS = (GOOD, LOW, UNFIT)
MEMBERS = ("rules", "quality", "safety", "perplexity")
WINDOW = 64  # words; the safety of a text is that of its worst window
PERSONS = ("you your yours yourself u ur ya 你 您", "i me my mine im we us our ours 我 咱")  # spoken to, and speaking
Perplexity = Callable[[list[str]], Sequence[float]]
"""Nats a word, or a token, of each text: what takes the place of the n-gram model."""


@dataclass(frozen=True)
class Members:
    """All four. `perplexity` replaces the n-gram model where it is given."""

    rules: np.ndarray
    quality: Linear
    safety: Linear
    ngrams: NgramModel
    perplexity: Perplexity | None = None

    def scores(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Raw scores [D, M], and the script of each text [D]."""
        parts = [self._batch_scores(batch) for batch in by_size(texts)]
        if not parts:
            return np.zeros((0, len(MEMBERS))), np.zeros(0, dtype=np.int64)
        return np.concatenate([scores for scores, _ in parts]), np.concatenate([script for _, script in parts])

    def _batch_scores(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        batch = _batch(texts)
        usual = np.asarray(self.perplexity(texts), dtype=float) if self.perplexity else self.ngrams.surprise(batch)
        found = grams(batch)
        rules = traits(batch) @ self.rules[:-1] + self.rules[-1]
        scores = [rules, self.quality.scores(batch, found), self.safety.scores(batch, found), usual]
        return np.stack(scores, axis=1), script_of(batch)


def fit_members(texts: Sequence[str], label: np.ndarray, perplexity: Perplexity | None = None) -> Members:
    """Fit each to the texts that teach it. Unfit prose may be well written, so quality does not learn from it."""

    def chosen_texts(chosen: np.ndarray) -> list[str]:
        return [texts[number] for number in np.flatnonzero(chosen).tolist()]

    judged = label != UNFIT
    dense = np.concatenate([traits(_batch(batch)) for batch in by_size(chosen_texts(judged))])
    return Members(
        rules=fit_dense(dense, label[judged] == LOW),
        quality=fit(chosen_texts(judged), label[judged] == LOW),
        safety=fit(texts, label == UNFIT, window=WINDOW, decay=3e-5),  # rare words are what tells
        ngrams=fit_ngrams(chosen_texts(label == GOOD)),
        perplexity=perplexity,
    )


def traits(batch: Batch) -> np.ndarray:
    """What the published rules count, and how a text speaks to its reader, as shares and logarithms [D, 2F + 1]: for
    scripts with spaces, then without.

    Advertising is written well enough for n-grams and rules; that it shouts, names prices and says "you" holds for
    sources that were never seen. Length stays out: the shortest texts are not the worst, they are those of which least
    is known.
    """
    ink, words, lines = batch.num_ink, batch.num_words, batch.num_lines
    by_line = batch.by_line
    ends = batch.are("terminal")[batch.line_end - 1]
    repeated = by_line(batch.line_length * batch.repeated_lines)
    letters = batch.per_document(batch.are("letter"))

    def marks(name: str) -> np.ndarray:
        return np.log1p(100 * batch.share(batch.per_document(batch.are(name)), ink))

    columns = [
        np.log1p(batch.share(batch.num_letters, words)),
        batch.share(letters, ink),
        batch.share(batch.per_document(batch.are("digit")), ink),
        batch.share(batch.per_document(batch.are("curly")), ink),
        np.log1p(100 * batch.share(batch.per_document(batch.codes == ord("#")), ink)),
        *map(marks, ("sentence", "chinese mark", "shout", "question", "pause", "bracket", "money", "machine")),
        batch.share(batch.per_document(batch.are("capital")), letters),
        *(np.log1p(100 * batch.share(_number_of(batch, found), words)) for found in _persons()),
        batch.share(batch.per_document(batch.are("chinese stop")), np.maximum(words, 1)),
        batch.share(by_line(ends), lines),
        batch.share(by_line(batch.are("bullet")[batch.line_start]), lines),
        np.log1p(batch.share(by_line(batch.line_length), lines)),
        batch.share(repeated, by_line(batch.line_length)),
        batch.share(by_line(batch.line_length < 30), lines),
        np.log1p(100 * batch.share(batch.per_document(batch.codes == 0xFFFD), ink)),
    ]
    found = np.stack(columns, axis=1).astype(np.float64)
    unspaced = script_of(batch)[:, None] == 1
    return np.concatenate([np.where(unspaced, 0, found), np.where(unspaced, found, 0), unspaced], axis=1)


@functools.cache
def _persons() -> tuple[np.ndarray, ...]:
    """The hashes of the words for each of PERSONS, sorted."""
    return tuple(np.unique(Texts([words]).word_hash) for words in PERSONS)


def _number_of(batch: Batch, hashes: np.ndarray) -> np.ndarray:
    """How many words of a text are among these [D]."""
    return np.bincount(batch.word_document, weights=np.isin(batch.word_hash, hashes), minlength=len(batch))


def _batch(texts: list[str]) -> Batch:
    """Without language and kind, which only rules ask for."""
    return Batch(texts, ["und"] * len(texts), ["text"] * len(texts))
