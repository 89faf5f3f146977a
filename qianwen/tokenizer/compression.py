"""Compression of a vocabulary by language: the figure of the memo (Qwen report, section 2.2, figure 3).

    bytes per token = UTF-8 bytes of the documents / tokens of the documents, each encoded separately

The report compares with XLM-R on a million documents of each language, which are not published, nor its numbers; here
the user chooses documents and reference vocabulary. Higher is better: the same text in fewer tokens.
"""

from __future__ import annotations

import base64
import json
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tiktoken

from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import read_jsonl
from qianwen.runtime.page import PALETTE
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab_files import load_vocabulary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# NTREX and FLORES name languages by ISO 639-3.
_CODES = {
    "eng": "en",
    "zho": "zh",
    "zho-CN": "zh",
    "tha": "th",
    "heb": "he",
    "arb": "ar",
    "kor": "ko",
    "vie": "vi",
    "jpn": "ja",
    "tur": "tr",
    "ind": "id",
    "pol": "pl",
    "rus": "ru",
    "nld": "nl",
    "por": "pt",
    "ita": "it",
    "deu": "de",
    "spa": "es",
    "fra": "fr",
}
LANGUAGES = ("en", "zh", "code", *list(dict.fromkeys(_CODES.values()))[2:])  # the memo's, in its order
CODE_BYTES = 2_000_000  # bytes of Python's standard library, if the input has no code

CountTokens = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class Row:
    """One language: its documents and bytes, and the number of tokens with each vocabulary."""

    language: str
    num_documents: int
    num_bytes: int
    num_tokens: dict[str, int]

    def bytes_per_token(self, name: str) -> float:
        return self.num_bytes / self.num_tokens[name]


def measure(texts: Mapping[str, Sequence[str]], vocabularies: Mapping[str, CountTokens]) -> Iterator[Row]:
    """Encode every language's documents with every vocabulary."""
    for language, documents in texts.items():
        num_tokens = {name: count(documents) for name, count in vocabularies.items()}
        yield Row(language, len(documents), sum(len(document.encode()) for document in documents), num_tokens)


def summary(rows: Sequence[Row], reference: str) -> dict[str, Any]:
    """All numbers, ready for JSON."""
    languages = {
        row.language: {
            "documents": row.num_documents,
            "bytes": row.num_bytes,
            "tokens": row.num_tokens,
            "bytes_per_token": {name: row.bytes_per_token(name) for name in row.num_tokens},
        }
        for row in rows
    }
    return {"reference": reference, "languages": languages}


def draw(rows: Sequence[Row], reference: str) -> Figure:
    """A group of bars for each language: bytes per token relative to `reference`."""
    from matplotlib.figure import Figure

    names = [name for name in rows[0].num_tokens if name != reference]
    figure = Figure(figsize=(2 + 0.5 * len(rows), 4), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / max(len(names), 1)
    for i, name in enumerate(names):
        heights = [row.bytes_per_token(name) / row.bytes_per_token(reference) for row in rows]
        places = [x + (i + 0.5) * width - 0.4 for x in range(len(rows))]
        axes.bar(places, heights, width, label=name, color=PALETTE[i % len(PALETTE)])
    axes.axhline(1, color="gray", linewidth=1, label=f"{reference} = 1")
    axes.set_xticks(range(len(rows)), [row.language for row in rows])
    axes.set_ylabel(tr("bytes per token, relative"))
    axes.legend(frameon=False, ncols=len(names) + 1)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


# ---- texts ------------------------------------------------------------------------------------------------------


def read_texts(paths: Iterable[str | Path], languages: Sequence[str] = LANGUAGES) -> dict[str, list[str]]:
    """Documents by language, in the order of `languages`; those without documents are left out.

    A record of a JSONL file is a document (`text`) or many (`lines`) in its `lang`; every line of a text file is one,
    in the language its name holds (`ja.txt`, `newstest.jpn.txt`). Code is Python's standard library if none is given.
    """
    by_language: dict[str, list[str]] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(tr("{path}: no such file or folder", path=path))
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            for language, text in _read(file):
                if text := text.strip("\r\n"):
                    by_language.setdefault(_CODES.get(language, language), []).append(text)
    if "code" in languages:
        by_language.setdefault("code", _standard_library())
    chosen = {language: by_language[language] for language in languages if language in by_language}
    if not chosen:
        known = ", ".join(sorted(by_language)) or tr("none")
        raise DataError(tr("no documents in {languages}; found {known}", languages=" ".join(languages), known=known))
    return chosen


def _read(file: Path) -> Iterator[tuple[str, str]]:
    parts = file.name.split(".")
    named = next((part for part in reversed(parts) if part in _CODES or part in LANGUAGES), parts[0])
    if ".jsonl" in file.suffixes:
        for row in read_jsonl(file):
            language = "code" if row.get("kind") == "code" else str(row.get("lang") or named)
            for text in row.get("lines") or [row.get("text", "")]:
                yield language, str(text)
    elif file.suffix == ".txt":
        for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
            yield named, line


def _standard_library() -> list[str]:
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts, size = [], 0
    for file in files:
        texts.append(file.read_text(encoding="utf-8", errors="replace"))
        size += len(texts[-1])
        if size > CODE_BYTES:
            break
    return texts


# ---- vocabularies -----------------------------------------------------------------------------------------------


def open_vocabulary(spec: str) -> tuple[str, CountTokens]:
    """The name and counter of `qwen`, `cl100k`, `o200k`, `PATH` or `NAME=PATH`.

    A path is anything `load_vocabulary` reads, a JSON file of npm's `tiktoken` package, or, through gigatoken, any
    other tokenizer.json or SentencePiece model. OpenAI's two come from tiktoken's cache or the network otherwise.
    """
    name, _, path = spec.rpartition("=")
    if path == "qwen":
        return name or path, _counter(Tokenizer.qwen().encode_arrays)
    if path in ("cl100k", "o200k"):
        return name or path, _counter(_openai(path).encode_ordinary_batch)
    file = Path(path)
    name = name or (file.parent.name if file.name in ("tokenizer.json", "vocab.json") else file.stem)
    if file.suffix == ".json" and file.is_file() and "bpe_ranks" in (data := json.loads(file.read_bytes())):
        return name, _counter(_npm(data).encode_ordinary_batch)
    try:
        return name, _counter(Tokenizer(load_vocabulary(file)).encode_arrays)
    except ConfigError:
        if not file.exists():
            raise
        return name, _counter(_other(file))


def _counter(encode_all: Callable[[list[str]], Iterable[Any]]) -> CountTokens:
    return lambda texts: sum(map(len, encode_all(list(texts))))


def _openai(name: str) -> tiktoken.Encoding:
    try:
        return tiktoken.get_encoding(f"{name}_base")
    except OSError as error:
        remedy = (
            "{name} could not be downloaded ({error}); give {name}=PATH, encoders/{name}_base.json of npm's tiktoken"
        )
        raise DataError(tr(remedy, name=name, error=type(error).__name__)) from error


def _npm(data: dict[str, Any]) -> tiktoken.Encoding:
    """Lines `! first_rank base64 base64 …`."""
    ranks: dict[bytes, int] = {}
    for line in data["bpe_ranks"].split("\n"):
        _, first, *tokens = line.split(" ")
        ranks |= {base64.b64decode(token): int(first) + i for i, token in enumerate(tokens)}
    return tiktoken.Encoding("npm", pat_str=data["pat_str"], mergeable_ranks=ranks, special_tokens={})


def _other(file: Path) -> Callable[[list[str]], Iterable[Any]]:
    from gigatoken import Tokenizer as Gigatoken

    tokenizer = Gigatoken(file)
    return lambda texts: [tokenizer.encode(text.encode(errors="replace")) for text in texts]
