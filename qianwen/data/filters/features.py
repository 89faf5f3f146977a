"""The four members of the ensemble. Each gives a raw score: the higher, the more likely a text should be dropped.

    rules         logistic regression on what the published rules count and on how a text addresses its reader: `traits`
    quality       hashed n-grams: edited prose against chat, spam, boilerplate and noise        (`linear_classifier.py`)
    safety        hashed n-grams, the worst window of a text: abuse and obscenity against other text
    perplexity    the surprise of an n-gram model of good texts, in nats a word: shuffled words, codes, other languages
                  (`ngram_model.py`). A function, such as the perplexity of a transformer, can replace it

Members are fitted to labelled texts: `good`, `low` (low quality) or `unfit` (abuse, obscenity). `score_calibration.py`
puts the scores on one scale. D texts, M = 4 members.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qianwen.data.curate.text_statistics import Batch
from qianwen.data.filters.linear_classifier import Linear, fit, fit_dense, grams
from qianwen.data.filters.ngram_model import NgramModel, fit_ngrams
from qianwen.data.filters.score_calibration import script_of
from qianwen.data.text_arrays import Texts, by_size

GOOD, LOW, UNFIT = "good", "low", "unfit"
LABELS = (GOOD, LOW, UNFIT)
MEMBERS = ("rules", "quality", "safety", "perplexity")
WINDOW = 64  # words of a window of safety
PERSONS = ("you your yours yourself u ur ya 你 您", "i me my mine im we us our ours 我 咱")  # second and first person
SELLING = (  # words of advertising: goods, money, requests, promises
    "free offer offers buy order purchase sale discount discounts price prices cheap cheapest deal deals bargain save "
    "savings shop shipping guarantee guaranteed 免费 购买 优惠 打折 促销 特价 包邮 热卖",
    "money cash income earn earnings profit profits dollars credit loan loans mortgage debt investment investments "
    "rich wealth wealthy bonus commission win winner winning prize million millions",
    "click call contact visit email e mail mailing unsubscribe subscribe remove removed removal list subscription "
    "register sign join limited today now act instant instantly http www com",
    "best amazing incredible easy easily simply never ever secret special exclusive new fast hot absolutely risk "
    "opportunity opportunities proven real",
)
Perplexity = Callable[[list[str]], Sequence[float]]
"""Nats a word, or a token, of each text: replaces the n-gram models."""


class Scores(NamedTuple):
    """Raw scores [D, M]; the script [D] (`script_of`) and the number of words [D] of the texts."""

    raw: np.ndarray
    script: np.ndarray
    words: np.ndarray

    def joined(self, other: "Scores") -> "Scores":
        """The scores of these texts, and then of those."""
        return Scores(*map(np.concatenate, zip(self, other, strict=True)))


@dataclass(frozen=True)
class Members:
    """All four members. `perplexity` replaces the n-gram model if it is set."""

    rules: np.ndarray
    quality: Linear
    safety: Linear
    ngrams: NgramModel
    perplexity: Perplexity | None = None

    def scores(self, texts: list[str]) -> Scores:
        """Of every text, in order."""
        parts = [self._batch_scores(batch) for batch in by_size(texts)]
        if not parts:
            return Scores(np.zeros((0, len(MEMBERS))), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        return Scores(*map(np.concatenate, zip(*parts, strict=True)))

    def _batch_scores(self, texts: list[str]) -> Scores:
        batch = _batch(texts)
        usual = np.asarray(self.perplexity(texts), dtype=float) if self.perplexity else self.ngrams.surprise(batch)
        ngrams = grams(batch)
        rules = traits(batch) @ self.rules[:-1] + self.rules[-1]
        scores = [rules, self.quality.scores(batch, ngrams), self.safety.scores(batch, ngrams), usual]
        return Scores(np.stack(scores, axis=1), script_of(batch), batch.num_words)


def fit_members(texts: Sequence[str], label: np.ndarray, perplexity: Perplexity | None = None) -> Members:
    """Fit each member. Unfit prose may be well written, so only safety is fitted to unfit texts."""

    def select(chosen: np.ndarray) -> list[str]:
        return [texts[number] for number in np.flatnonzero(chosen).tolist()]

    is_prose = label != UNFIT
    dense = np.concatenate([traits(_batch(batch)) for batch in by_size(select(is_prose))])
    return Members(
        rules=fit_dense(dense, label[is_prose] == LOW),
        quality=fit(select(is_prose), label[is_prose] == LOW),
        safety=fit(texts, label == UNFIT, window=WINDOW, decay=3e-5),  # little decay: rare words decide
        ngrams=fit_ngrams(select(label == GOOD)),
        perplexity=perplexity,
    )


def traits(batch: Batch) -> np.ndarray:
    """What the published rules count, and how a text addresses its reader, as shares and logarithms [D, 2F + 1]: F
    columns for scripts with spaces, F for scripts without, and the script.

    Advertising can be good prose for n-grams and rules. But exclamation marks, prices, "you" and "free" are typical of
    it in sources that were not seen. Length is not a column: short texts are not worse, there is only less evidence.
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
        *(np.log1p(100 * batch.share(_number_of(batch, hashes), words)) for hashes in _word_lists()),
        batch.share(batch.per_document(batch.are("chinese stop")), np.maximum(words, 1)),
        batch.share(by_line(ends), lines),
        batch.share(by_line(batch.are("bullet")[batch.line_start]), lines),
        np.log1p(batch.share(by_line(batch.line_length), lines)),
        batch.share(repeated, by_line(batch.line_length)),
        batch.share(by_line(batch.line_length < 30), lines),
        np.log1p(100 * batch.share(batch.per_document(batch.codes == 0xFFFD), ink)),
    ]
    values = np.stack(columns, axis=1).astype(np.float64)
    unspaced = script_of(batch)[:, None] == 1
    return np.concatenate([np.where(unspaced, 0, values), np.where(unspaced, values, 0), unspaced], axis=1)


@functools.cache
def _word_lists() -> tuple[np.ndarray, ...]:
    """The sorted hashes of the words of each of PERSONS and SELLING."""
    return tuple(np.unique(Texts([words]).word_hash) for words in (*PERSONS, *SELLING))


def _number_of(batch: Batch, hashes: np.ndarray) -> np.ndarray:
    """The number of words of each text whose hash is among `hashes` [D]."""
    return np.bincount(batch.word_document, weights=np.isin(batch.word_hash, hashes), minlength=len(batch))


def _batch(texts: list[str]) -> Batch:
    """A batch without language and kind, which only the curation rules need."""
    return Batch(texts, ["und"] * len(texts), ["text"] * len(texts))
