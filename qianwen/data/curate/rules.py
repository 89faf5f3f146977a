"""Rules that drop a document, each with its name and its source; what they count is counted for a whole batch at once.

    rule(batch) → for each document whether it is to be dropped      [D] bool

Prose in languages written with spaces: Gopher (Rae et al., 2021, appendix A.1.1), C4 (Raffel et al., 2020, section 2.2)
and FineWeb (Penedo et al., 2024, section 3.6). Chinese: ChineseWebText (Chen et al., 2023, section 3.1) and ours. Code:
Codex (Chen et al., 2021, section 3.1) and StarCoder (Li et al., 2023, section 3.2). Where two published versions of a
rule differ, the paper's number stands here. Not here: lists of bad words, which the learned filters replace.

D documents; `text_statistics.py` does the counting.
"""

import functools
import re
from collections.abc import Callable, Sequence

import numpy as np

from qianwen.data.curate.text_statistics import Batch, again, covered_share, top_share
from qianwen.data.text_arrays import ALONE, Texts

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
Rule = Callable[[Batch], np.ndarray]


# ---- Gopher: quality ---------------------------------------------------------------------------------------------


def gopher_word_count(batch: Batch) -> np.ndarray:
    """Fewer than 50 or more than 100,000 words."""
    return batch.is_spaced & ((batch.num_tokens < 50) | (batch.num_tokens > 100_000))


def gopher_word_length(batch: Batch) -> np.ndarray:
    """Words of fewer than 3 or more than 10 characters in the mean."""
    mean = batch.share(batch.num_ink, batch.num_tokens)
    return batch.is_spaced & ((mean < 3) | (mean > 10))


def gopher_symbols(batch: Batch) -> np.ndarray:
    """More than one hash or ellipsis for ten words."""
    codes = batch.codes
    dots = codes == ord(".")
    ellipsis = codes == ord("…")
    ellipsis[:-2] |= dots[:-2] & dots[1:-1] & dots[2:]
    ellipsis[1:] &= ~(ellipsis[:-1] & dots[1:])  # four dots are one ellipsis
    hashes = batch.per_document(codes == ord("#"))
    limit = 0.1 * batch.num_tokens
    return batch.is_spaced & ((hashes > limit) | (batch.per_document(ellipsis) > limit))


def gopher_bullets(batch: Batch) -> np.ndarray:
    """More than 90 % of the lines begin with a bullet."""
    starts = batch.are("bullet")[batch.line_start]
    return batch.is_prose & (batch.share(batch.by_line(starts), batch.num_lines) > 0.9)


def gopher_ellipsis_lines(batch: Batch) -> np.ndarray:
    """More than 30 % of the lines end with an ellipsis."""
    last = batch.line_end - 1
    three = (batch.codes[last] == 46) & (batch.codes[last - 1] == 46) & (batch.codes[last - 2] == 46)
    ends = (batch.codes[last] == ord("…")) | (three & (batch.line_length >= 3))
    return batch.is_prose & (batch.share(batch.by_line(ends), batch.num_lines) > 0.3)


def gopher_letters(batch: Batch) -> np.ndarray:
    """Fewer than 80 % of the words hold a letter."""
    starts, ends = batch.tokens
    lettered = batch.per_span(batch.are("letter"), starts, ends) > 0
    document = np.searchsorted(batch.first_char, starts, side="right") - 1
    with_letter = np.bincount(document, weights=lettered, minlength=len(batch))
    return batch.is_spaced & (batch.share(with_letter, batch.num_tokens) < 0.8)


def gopher_stop_words(batch: Batch) -> np.ndarray:
    """Fewer than two of the eight commonest words of English."""
    found = np.zeros((len(batch), len(STOP_WORDS)), dtype=bool)
    if batch.is_english.any():
        for number, word in enumerate(_stop_words()):
            found[batch.word_document[batch.word_hash == word], number] = True
    return batch.is_english & (found.sum(axis=1) < 2)


# ---- Gopher: repetition ------------------------------------------------------------------------------------------


def gopher_repeated_lines(batch: Batch) -> np.ndarray:
    """More than 30 % of the lines, or 20 % of the characters, are in lines that were there before."""
    lines = batch.share(batch.by_line(batch.repeated_lines), batch.num_lines)
    return batch.is_prose & ((lines > 0.3) | (_repeated_share(batch) > 0.2))


def gopher_repeated_paragraphs(batch: Batch) -> np.ndarray:
    """The same of paragraphs, which end at a blank line."""
    if not (several := np.array(["\n\n" in text for text in batch.texts], dtype=bool)).any():
        return several
    drop = np.zeros(len(batch), dtype=bool)
    for document in np.flatnonzero(several & batch.is_prose).tolist():
        seen: set[str] = set()
        paragraphs = [part.strip() for part in batch.texts[document].split("\n\n")]
        again = [part for part in paragraphs if part in seen or seen.add(part)]
        size = max(sum(map(len, paragraphs)), 1)
        drop[document] = len(again) > 0.3 * len(paragraphs) or sum(map(len, again)) > 0.2 * size
    return drop


def gopher_top_ngrams(batch: Batch) -> np.ndarray:
    """The commonest run of 2, 3 or 4 words makes more than 20, 18 or 16 % of the characters."""
    drop = np.zeros(len(batch), dtype=bool)
    for size, limit in ((2, 0.20), (3, 0.18), (4, 0.16)):
        drop |= top_share(batch, batch.runs_again[size], size) > limit
    return batch.is_spaced & drop


def gopher_repeated_ngrams(batch: Batch) -> np.ndarray:
    """Runs of 5 to 10 words that are there more than once make more than 15 to 10 % of the characters."""
    drop = np.zeros(len(batch), dtype=bool)
    for size in range(5, 11):
        drop |= covered_share(batch, batch.runs_again[size], size) > 0.20 - 0.01 * size
    return batch.is_spaced & drop


# ---- C4 ----------------------------------------------------------------------------------------------------------


def c4_sentences(batch: Batch) -> np.ndarray:
    """Fewer than three sentences, in languages that mark their end."""
    ends = batch.are("sentence")
    followed = np.concatenate([~ends[1:], [True]])  # three dots end one sentence
    at_space = np.concatenate([batch.spaces[1:] | batch.are("quote")[1:], [True]]) | (batch.codes > 0x2FFF)
    return batch.is_marked & (batch.per_document(ends & followed & at_space) < 3)


def c4_lorem_ipsum(batch: Batch) -> np.ndarray:
    """Placeholder text."""
    return batch.is_prose & np.array(["lorem ipsum" in text.lower() for text in batch.texts], dtype=bool)


def c4_curly_bracket(batch: Batch) -> np.ndarray:
    """A curly bracket: program text among prose. (Documents in a markup pass: they have them for what they are.)"""
    return batch.is_prose & ~batch.is_markup & (batch.per_document(batch.are("curly")) > 0)


POLICY = (
    "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies", "javascript",
)  # fmt: skip
CITATION = re.compile(r"\[\d{1,3}\]|\[(?:citation needed|edit)\]", re.I)


def c4_lines(text: str) -> str:
    """The text without lines that speak of cookies, policies or JavaScript, and without Wikipedia's citation marks."""
    if _speaks_of_policy(text):
        text = "\n".join(line for line in text.split("\n") if not _speaks_of_policy(line))
    return CITATION.sub("", text) if "[" in text else text


def _speaks_of_policy(text: str) -> bool:
    lower = text.lower()
    return any(words in lower for words in POLICY)


# ---- FineWeb -----------------------------------------------------------------------------------------------------


def fineweb_line_ends(batch: Batch) -> np.ndarray:
    """At most 12 % of the lines end with a mark that ends a sentence (not of Thai and Lao, which have none)."""
    ends = batch.are("terminal")[batch.line_end - 1]
    return batch.is_marked & (batch.share(batch.by_line(ends), batch.num_lines) <= 0.12)


def fineweb_repeated_characters(batch: Batch) -> np.ndarray:
    """At least 10 % of the characters are in lines that were there before."""
    return batch.is_prose & (_repeated_share(batch) >= 0.1)


def fineweb_short_lines(batch: Batch) -> np.ndarray:
    """At least 67 % of the lines have fewer than 30 characters (15 where a character is a word)."""
    short = batch.line_length < np.where(batch.is_spaced | batch.is_code, 30, 15)[batch.line_document]
    return batch.is_prose & (batch.share(batch.by_line(short), batch.num_lines) >= 0.67)


# ---- Chinese -----------------------------------------------------------------------------------------------------


def chinese_length(batch: Batch) -> np.ndarray:
    """Fewer than 200 characters (ChineseWebText)."""
    return batch.is_chinese & (batch.num_ink < 200)


def chinese_line_length(batch: Batch) -> np.ndarray:
    """Lines of fewer than 10 characters in the mean (ChineseWebText)."""
    return batch.is_chinese & (batch.share(batch.by_line(batch.line_length), batch.num_lines) < 10)


def chinese_share(batch: Batch) -> np.ndarray:
    """Fewer than 30 % of the characters are Chinese (ChineseWebText)."""
    return batch.is_chinese & (batch.share(batch.per_document(batch.kinds == ALONE), batch.num_ink) < 0.3)


def chinese_repeated_ngrams(batch: Batch) -> np.ndarray:
    """Runs of 13 characters that are there more than once make more than half of it (ChineseWebText)."""
    if not batch.is_chinese.any():
        return batch.is_chinese
    words = np.flatnonzero(batch.is_chinese[batch.word_document])
    runs = again(batch, again(batch, words, 5).begin, 13)
    return batch.is_chinese & (covered_share(batch, runs, 13) > 0.5)


def chinese_stop_words(batch: Batch) -> np.ndarray:
    """Fewer than 2 % particles and pronouns: a list of names or keywords (ours, after Gopher's stop words)."""
    stops = batch.per_document(batch.are("chinese stop"))
    return batch.is_chinese & (batch.share(stops, batch.per_document(batch.kinds == ALONE)) < 0.02)


def chinese_punctuation(batch: Batch) -> np.ndarray:
    """Fewer than one mark of punctuation for 100 characters (ours): keywords, or speech never punctuated."""
    marks = batch.per_document(batch.are("chinese mark"))
    return batch.is_chinese & (batch.share(marks, batch.num_ink) < 0.01)


MISREAD = ("锟斤拷", "烫烫烫", "屯屯屯", "ï»¿", "Ã©", "â€™")


def misread(batch: Batch) -> np.ndarray:
    """More than one replacement character for 1000, or what wrong decoding makes of Chinese (ours)."""
    lost = batch.per_document(batch.codes == 0xFFFD) > 0.001 * batch.num_ink
    return lost | np.array([any(mark in text for mark in MISREAD) for text in batch.texts], dtype=bool)


# ---- code --------------------------------------------------------------------------------------------------------


def code_line_length(batch: Batch) -> np.ndarray:
    """Lines longer than 100 characters in the mean, or one of more than 1000 (Codex; StarCoder)."""
    mean = batch.share(batch.by_line(batch.line_length), batch.num_lines)
    return batch.is_code & ((mean > 100) | (batch.longest_line > 1000))


def code_letters(batch: Batch) -> np.ndarray:
    """Fewer than 25 % of the characters are letters (StarCoder), white space left out."""
    return batch.is_code & (batch.share(batch.per_document(batch.are("letter")), batch.num_ink) < 0.25)


GENERATED = re.compile(
    r"auto-?generated|generated (?:by|from|file)|do not (?:edit|modify)|@generated|machine generated", re.I
)


def code_generated(batch: Batch) -> np.ndarray:
    """Its first lines say that a program wrote it (Codex)."""
    said = [
        code and GENERATED.search(text[:500]) is not None for text, code in zip(batch.texts, batch.is_code, strict=True)
    ]
    return np.array(said, dtype=bool)


def code_data(batch: Batch) -> np.ndarray:
    """Half of the words are numbers, or it is JSON or YAML of more than 5000 characters (StarCoder): data, not code."""
    starts = batch.word_start
    numeric = np.bincount(batch.word_document, weights=batch.are("digit")[starts], minlength=len(batch))
    table = np.array([lang in ("json", "yaml", "xml") for lang in batch.langs], dtype=bool) & (batch.lengths > 5000)
    return batch.is_code & (table | (batch.share(numeric, batch.num_words) > 0.5))


def code_short(batch: Batch) -> np.ndarray:
    """Fewer than 50 characters that are not white space (ours): a stub."""
    return batch.is_code & (batch.num_ink < 50)


RULES: dict[str, tuple[Rule, ...]] = {
    "gopher": (
        gopher_word_count, gopher_word_length, gopher_symbols, gopher_bullets, gopher_ellipsis_lines, gopher_letters,
        gopher_stop_words, gopher_repeated_lines, gopher_repeated_paragraphs, gopher_top_ngrams, gopher_repeated_ngrams,
    ),
    "c4": (c4_sentences, c4_lorem_ipsum, c4_curly_bracket),
    "fineweb": (fineweb_line_ends, fineweb_repeated_characters, fineweb_short_lines),
    "chinese": (
        chinese_length, chinese_line_length, chinese_share, chinese_repeated_ngrams, chinese_stop_words,
        chinese_punctuation,
    ),
    "code": (code_line_length, code_letters, code_generated, code_data, code_short),
    "text": (misread,),
}  # fmt: skip


def reasons(batch: Batch, sets: Sequence[str]) -> dict[str, np.ndarray]:
    """Each rule of the sets named → whether it drops each document [D]; the first one is its reason."""
    return {rule.__name__: rule(batch) for name in sets for rule in RULES[name]}


@functools.cache
def _stop_words() -> np.ndarray:
    return Texts([" ".join(STOP_WORDS)]).word_hash


def _repeated_share(batch: Batch) -> np.ndarray:
    """Share of the characters of lines that are in lines that were there before [D]."""
    total = batch.by_line(batch.line_length)
    return batch.share(batch.by_line(batch.line_length * batch.repeated_lines), total)
