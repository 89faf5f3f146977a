"""Texts of `memo_long_context.py`: what is held out, the vocabulary, token files, and passkeys.

    texts/train.jsonl.zst       documents to learn from
    texts/held_out.jsonl.zst    long documents that are read at the end, an amount of them in LaTeX
    vocabulary/                 learned on the first
    tokens/                     token files of the first, and of passkeys: one in `KEY_SHARE` sequences hides one
    held_out.json               per held-out document: its column, its name and its first tokens

A passkey is a number of five digits in a text of other documents, and a question at its end. One number in ten is never
in a training text; those are asked.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pairs import console

from qianwen.data.curate.corpus import chance, corpus_of
from qianwen.data.documents.document import Document
from qianwen.data.documents.readers import readable_documents
from qianwen.data.tokens.pack import tokenized_documents, write_tokens
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import atomic_file, atomic_folder, write_jsonl
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.train import train_vocabulary
from qianwen.tokenizer.vocab_files import load_vocabulary, save_vocabulary

LATEX = re.compile(r"\\(?:begin\{(?:document|theorem|lemma|proof|definition|proposition)\}|section\{|chapter\{)")
KEY_SHARE = 25  # one training sequence in so many is a passkey
FACT, QUESTION = (
    "\nThe pass key is {key}. Remember it. {key} is the pass key.\n",
    "\nWhat is the pass key? The pass key is",
)
NUM_KEYS = 10**5
HELD_OUT = "held_out.json"
SAMPLE = 60_000  # characters


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes of the texts."""

    corpus: str
    vocab_size: int
    train_len: int  # tokens; passkeys have this length
    extended_len: int  # tokens; and this one
    longest: int  # tokens of each held-out document that are read
    min_characters: int  # of a document that may be held out
    num_latex: int
    num_other: int


def column_of(document: Document) -> str:
    """LaTeX sources, as those of arXiv, are a column of their own."""
    return "LaTeX" if LATEX.search(document["text"]) else corpus_of(document)


def prepare(folder: Path, plan: Plan) -> None:
    """Make what is not there yet; each part appears as a whole or not at all."""
    texts, train = folder / "texts", folder / "texts" / "train.jsonl.zst"
    if not texts.exists():
        with atomic_folder(texts) as to:
            split(plan, to)
    if not (folder / "vocabulary").exists():
        learned = train_vocabulary((document["text"] for document in readable_documents(train)), plan.vocab_size)
        with atomic_folder(folder / "vocabulary") as to:
            save_vocabulary(learned, to)
    tokenizer = open_tokenizer(folder)
    for name, length in (("tokens", plan.train_len), ("long_tokens", plan.extended_len)):
        if not (folder / name).exists():
            ids = (np.asarray(tokens.ids) for tokens in tokenized_documents(train, tokenizer.encode_arrays))
            counts = write_tokens(with_passkeys(ids, tokenizer, length), folder / name, tokenizer.eod_id)
            console.print(f"{name}: {counts}", highlight=False)
    if not (folder / HELD_OUT).exists():
        write_held_out(folder, tokenizer, plan.longest)


def split(plan: Plan, to: Path) -> None:
    """Hold out the long documents with the smallest hashes."""
    documents = list(readable_documents(plan.corpus))
    long = [document for document in documents if len(document["text"]) >= plan.min_characters]
    long.sort(key=lambda document: chance(document["text"], "hold out"))
    held_out: list[Document] = []
    for is_latex, number in ((True, plan.num_latex), (False, plan.num_other)):
        kind = [document for document in long if (column_of(document) == "LaTeX") == is_latex]
        if len(kind) < number:
            kinds = "LaTeX" if is_latex else "other"
            raise DataError(f"{plan.corpus}: {len(kind)} long {kinds} documents, but {number} are to be held out")
        held_out += kind[:number]
    names = {document["source"] for document in held_out}
    write_jsonl(to / "held_out.jsonl.zst", held_out)
    write_jsonl(to / "train.jsonl.zst", (document for document in documents if document["source"] not in names))


def open_tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer(load_vocabulary(folder / "vocabulary"))


def write_held_out(folder: Path, tokenizer: Tokenizer, longest: int) -> None:
    """The first `longest` tokens of each held-out document."""
    rows: list[dict[str, Any]] = []
    for document in readable_documents(folder / "texts" / "held_out.jsonl.zst"):
        ids = tokenizer.encode(document["text"])[:longest]
        if len(ids) < longest:
            raise DataError(f"{document['source']} has {len(ids)} tokens, but {longest} are read")
        rows.append({"column": column_of(document), "source": document["source"], "ids": ids})
    with atomic_file(folder / HELD_OUT, "w") as file:
        file.write(json.dumps(rows))


def held_out_sample(folder: Path) -> Path:
    """The beginnings of every tenth held-out document, to see what a longer training forgets."""
    path = folder / "sample.jsonl"
    if not path.exists():
        documents = list(readable_documents(folder / "texts" / "held_out.jsonl.zst"))[::10]
        write_jsonl(path, ({**document, "text": document["text"][:SAMPLE]} for document in documents))
    return path


def is_held_out_key(key: int) -> bool:
    return key % 10 == 7


def with_passkeys(documents: Iterable[np.ndarray], tokenizer: Tokenizer, length: int) -> Iterator[np.ndarray]:
    """The documents, and passkeys of `length` tokens with their end, as many as one sequence in `KEY_SHARE`.

    The text of a passkey is that of the document before it.
    """
    draw, sequences, made = random.Random(length), 0, 0
    for ids in documents:
        yield ids
        sequences += len(ids) // length
        while len(ids) >= length and made * KEY_SHARE < sequences:
            made += 1
            key = draw.randrange(NUM_KEYS)
            places = {"depth": draw.random(), "start": draw.random()}
            yield passkey(tokenizer, ids, key + is_held_out_key(key), length - 1, answered=True, **places)


def passkey(
    tokenizer: Tokenizer, filler: Sequence[int] | np.ndarray, key: int, length: int, *,
    answered: bool, depth: float, start: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """Token ids of a text of `length` tokens that hides a key at a depth from 0 to 1, and asks for it at its end."""
    fact = tokenizer.encode(FACT.format(key=f"{key:05d}"))
    question = tokenizer.encode(QUESTION)
    if answered:
        question += tokenizer.encode(f" {key:05d}.")
    room = length - len(fact) - len(question)
    first = int(start * (len(filler) - room))
    text = np.asarray(filler[first : first + room])
    at = int(depth * room)
    return np.concatenate([text[:at], fact, text[at:], question]).astype(np.int64)
