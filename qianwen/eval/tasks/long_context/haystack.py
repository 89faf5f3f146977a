"""The text around the facts: public-domain books, or texts of the user.

In English it is Moby-Dick, in Chinese the Analects and then poems of the Song: named corpora of `qianwen data fetch`,
whose archives are checked by their SHA-256. So everyone has the same text; it is kept in the cache.
`haystack/en.txt` and `haystack/zh.txt` in the folder of `--data-dir` take its place.
"""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from qianwen.data.documents.sources import SOURCES, source_documents
from qianwen.eval.data_files import find, read_text
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import atomic_file, cache_dir
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

FOLDER = "haystack"
MAX_CHARACTERS = 600_000  # about 140,000 tokens in English


class Corpus(NamedTuple):
    """A named corpus, and how the names of the documents begin that are taken from it, in this order."""

    source: str
    parts: tuple[str, ...]


CORPORA = {
    "en": Corpus("moby-dick", ("moby-dick:",)),
    "zh": Corpus("chinese-poetry", ("chinese-poetry:lunyu/", "chinese-poetry:songci/")),
}


@dataclass(frozen=True)
class Haystack:
    """Sentences, and what stands between two of them. `origin` is the name of the corpus or file."""

    sentences: tuple[str, ...]
    space: str
    origin: str

    @cached_property
    def sha256(self) -> str:
        """What identifies the text in the settings of a result."""
        return hashlib.sha256(self.space.join(self.sentences).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Filler:
    """Pieces of text to fill a prompt with; `ends[n]` is the number of tokens of the first n pieces."""

    pieces: Sequence[str]
    space: str
    ends: Sequence[int]

    def num_within(self, num_tokens: int) -> int:
        """How many pieces fit into `num_tokens`. DataError if all of them leave room for more."""
        if num_tokens > self.ends[-1]:
            message = "the text has {count:,} tokens, but {number:,} are needed: choose shorter lengths"
            raise DataError(tr(message, count=self.ends[-1], number=num_tokens))
        return max(0, bisect_right(self.ends, num_tokens) - 1)


def filler(pieces: Sequence[str], space: str, tokenizer: Tokenizer) -> Filler:
    """The pieces with their lengths. A space belongs to the piece after it, as in the tokens of most vocabularies."""
    ids = tokenizer.encode_batch(space + piece for piece in pieces)
    return Filler(pieces, space, [0, *accumulate(map(len, ids))])


def read_haystack(data: Path, language: str) -> Haystack:
    """The text in `language`: of the user if the folder `data` has one, else the named corpus."""
    is_own = has_haystack(data)
    path = find(data / FOLDER, [f"{language}.txt"]) if is_own else _corpus_file(language)
    origin = path.name if is_own else CORPORA[language].source
    haystack = Haystack(*split(read_text(path), language), origin)
    if not haystack.sentences:
        raise DataError(tr("{path} contains no text", path=path))
    return haystack


def has_haystack(data: Path) -> bool:
    """Whether the folder `data` has texts of the user."""
    return (data / FOLDER).is_dir()


def split(text: str, language: str) -> tuple[tuple[str, ...], str]:
    """The sentences of a text without its line ends, and what stands between two of them."""
    ends, space = (r"(?<=[。！？])(?![”’」』])|\s+", "") if language == "zh" else (r"(?<=[.!?])\s+", " ")
    sentences = (" ".join(each.split()) for each in re.split(ends, text))
    return tuple(filter(None, sentences)), space


def _corpus_file(language: str) -> Path:
    """The text of the named corpus as a file in the cache, written on first use."""
    corpus = CORPORA[language]
    path = cache_dir() / "corpora" / f"{corpus.source}-{language}.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = {part: [""] for part in corpus.parts}
        try:
            for document in source_documents(SOURCES[corpus.source]):
                for part in corpus.parts:
                    if document["source"].startswith(part):
                        texts[part].append(document["text"])
        except DataError as error:
            message = "no text to hide facts in ({error}); or write one to {path} and give --data-dir"
            raise DataError(tr(message, error=error, path=f"DIR/{FOLDER}/{language}.txt")) from error
        with atomic_file(path, "w") as file:
            file.write("\n".join(text for part in corpus.parts for text in texts[part])[:MAX_CHARACTERS])
    return path
