"""`qianwen tokenizer`: train, extend and compare vocabularies, show tokens, convert files."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from qianwen.cli.arguments import parse_subcommand
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.tokenizer.tokenizer import Tokenizer
    from qianwen.tokenizer.vocab import Vocabulary


@dataclass(frozen=True)
class Train:
    """Train a vocabulary on text with Qwen's splitting pattern: every digit is a token; Unicode in form NFC."""

    inputs: tyro.conf.Positional[str]
    """Input folder or file: text, Markdown, code, JSON lines (.gz, .zst), Parquet."""
    out: tyro.conf.Positional[str]
    """Output folder for qwen.tiktoken, tokenizer.json, vocab.json and merges.txt."""
    vocab_size: int = 8192
    """Number of ids, including the 208 control tokens."""
    base: str = ""
    """Vocabulary to continue: `qwen`, a model folder or a file. Its ids stay the same. By default none."""

    def run(self) -> None:
        import time

        from qianwen.data.documents.readers import readable_documents
        from qianwen.tokenizer.tokenizer import Tokenizer
        from qianwen.tokenizer.train import train_vocabulary

        sizes: list[int] = []

        def texts():
            for document in readable_documents(self.inputs):
                sizes.append(len(document["text"].encode()))
                yield document["text"]

        began = time.perf_counter()
        vocabulary = train_vocabulary(texts(), self.vocab_size, _vocabulary(self.base) if self.base else None)
        seconds = time.perf_counter() - began
        Tokenizer(vocabulary).save(self.out)
        learned = "{size:,} tokens from {documents:,} document{documents:plural}, {mb:.1f} MB, in {seconds:.1f} s"
        _say(learned, size=vocabulary.size, documents=len(sizes), mb=sum(sizes) / 1e6, seconds=seconds)
        _say("next: {command}", command=f"qianwen tokenizer encode 'Hello, 世界! 2024' --tokenizer {self.out}")


@dataclass(frozen=True)
class Extend:
    """Add words to a vocabulary. Existing ids do not change."""

    words: tyro.conf.Positional[str]
    """File with a word, a tab and its frequency on each line."""
    out: tyro.conf.Positional[str]
    """Output: `FILE.tiktoken` for only the new tokens, or a folder for the complete vocabulary."""
    tokenizer: str = "qwen"
    """Vocabulary: `qwen`, a model folder or a file."""
    start_id: int | None = None
    """First new id; by default the highest id + 1 (Qwen: 151851)."""

    def run(self) -> None:
        from qianwen.tokenizer.extend import extend_vocabulary, read_words
        from qianwen.tokenizer.vocab_files import save_vocabulary, write_tiktoken

        with open(self.words, encoding="utf-8", errors="replace") as lines:
            extension = extend_vocabulary(_vocabulary(self.tokenizer), read_words(lines), self.start_id)
        for word, pieces in extension.split.items():
            _say("left out, as the pattern splits it: {word} → {pieces}", word=word, pieces=pieces)
        for word in extension.existing:
            _say("a token already: {word}", word=word)
        for token, index in extension.tokens.items():
            console.print(f"{index}  {token.decode(errors='backslashreplace')}", markup=False)
        if self.out.endswith(".tiktoken"):
            write_tiktoken(extension.tokens, self.out)
        else:
            save_vocabulary(extension.vocabulary, self.out)
        grown = "{count} new tokens in {out}; the vocabulary now has {size:,} ids"
        _say(grown, count=len(extension.tokens), out=self.out, size=extension.vocabulary.size)


@dataclass(frozen=True)
class Compression:
    """Measure bytes per token by language and vocabulary; write a table, JSON and a figure like the memo's."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Input files or folders: JSON lines with `lang` and `text` or `lines`, or text files named by language."""
    out: str = "compression"
    """Output folder for compression.json and compression.png."""
    tokenizers: tuple[str, ...] = ("qwen", "cl100k", "o200k")
    """Vocabularies to compare: `qwen`, `cl100k`, `o200k`, a path, or NAME=PATH."""
    reference: str = ""
    """Name of the vocabulary that the figure divides by; by default the last one."""
    languages: tuple[str, ...] = ()
    """Languages to measure; by default the memo's nineteen, those with documents."""

    def run(self) -> None:
        from rich.table import Table

        from qianwen.runtime.errors import ConfigError, DataError
        from qianwen.runtime.files import atomic_file
        from qianwen.runtime.log import progress
        from qianwen.tokenizer.compression import LANGUAGES, draw, measure, open_vocabulary, read_texts, summary

        vocabularies = {}
        for spec in self.tokenizers:
            try:
                vocabularies |= [open_vocabulary(spec)]
            except DataError as error:  # no network
                _say("left out: {error}", error=error)
        reference = self.reference or next(reversed(vocabularies), "")
        if reference not in vocabularies:
            known = ", ".join(vocabularies)
            raise ConfigError(
                tr("there is no reference vocabulary {name}; choose one of {known}", name=reference, known=known)
            )
        texts = read_texts(self.inputs, self.languages or LANGUAGES)
        rows = list(progress(measure(texts, vocabularies), len(texts), tr("languages encoded")))
        table = Table(box=None, header_style="dim", pad_edge=False, title=tr("bytes per token"), title_justify="left")
        table.add_column("")
        for heading in (tr("documents"), tr("bytes"), *vocabularies):
            table.add_column(heading, justify="right")
        for row in rows:
            values = (f"{row.bytes_per_token(name):.2f}" for name in vocabularies)
            table.add_row(row.language, f"{row.num_documents:,}", f"{row.num_bytes:,}", *values)
        console.print(table)
        out = Path(self.out)
        with atomic_file(out / "compression.json", "w") as file:
            json.dump(summary(rows, reference), file, indent=1)
        with atomic_file(out / "compression.png") as file:
            draw(rows, reference).savefig(file, format="png", dpi=150)
        _say("written: {path}", path=out / "compression.json")
        _say("written: {path}", path=out / "compression.png")


@dataclass(frozen=True)
class Encode:
    """Show the tokens of a text."""

    text: tyro.conf.Positional[str] = "-"
    """The text; `-`: read standard input."""
    tokenizer: str = "qwen"
    """Vocabulary: `qwen`, a model folder or a file."""

    def run(self) -> None:
        from qianwen.tokenizer.tokenizer import Tokenizer

        chosen = Tokenizer(_vocabulary(self.tokenizer), fast=False)
        text = sys.stdin.read() if self.text == "-" else self.text
        ids = chosen.encode(text)
        for index in ids:
            console.print(f"{index:>7}  {_token_text(chosen, index)}", markup=False)
        size = len(text.encode(errors="replace"))
        summary = "{tokens} tokens, {bytes} bytes: {ratio:.2f} bytes per token"
        _say(summary, tokens=len(ids), bytes=size, ratio=size / max(len(ids), 1))


@dataclass(frozen=True)
class Convert:
    """Write a vocabulary in every format: qwen.tiktoken, tokenizer.json, vocab.json with merges.txt."""

    tokenizer: tyro.conf.Positional[str]
    """Vocabulary: `qwen`, a model folder or a file."""
    out: tyro.conf.Positional[str]
    """Output folder."""

    def run(self) -> None:
        from qianwen.tokenizer.vocab_files import save_vocabulary

        vocabulary = _vocabulary(self.tokenizer)
        save_vocabulary(vocabulary, self.out)
        written = "{out}: {regular:,} tokens and {special} special ones, in every form"
        _say(written, out=self.out, regular=len(vocabulary.ranks), special=len(vocabulary.special_tokens))


def tokenizer(argv: list[str]) -> int:
    """Run the chosen subcommand."""
    commands = {"train": Train, "extend": Extend, "compression": Compression, "encode": Encode, "convert": Convert}
    parse_subcommand(commands, "qianwen tokenizer", argv).run()
    return 0


def _vocabulary(name: str) -> "Vocabulary":
    from qianwen.tokenizer.vocab_files import load_vocabulary, qwen_vocabulary

    return qwen_vocabulary() if name == "qwen" else load_vocabulary(name)


def _token_text(chosen: "Tokenizer", index: int) -> str:
    """A token as a Python literal, so that spaces and incomplete characters are visible."""
    token = chosen.token_bytes(index)
    try:
        return repr(token.decode())
    except UnicodeDecodeError:
        return repr(token)


def _say(text: str, **values: object) -> None:
    console.print(tr(text, **values), markup=False)
