"""Text for the data benchmarks, made of what is on every machine: sentences of the standard library's documentation.

    documents    JSON lines of shuffled sentences, a fifth of them edits of others whose likeness is known
    pages        a WARC file of web pages, with navigation and footers around such text, some doubled, some bad

The same arguments give the same bytes.
"""

from __future__ import annotations

import ast
import gzip
import json
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Edit(NamedTuple):
    """Document `edited` is an edit of `original`; they share `likeness` of their runs of five words (Jaccard)."""

    original: int
    edited: int
    likeness: float


def sentences() -> list[str]:
    """Sentences of docstrings, each once."""
    found: dict[str, None] = {}
    for file in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if {"test", "tests", "site-packages", "lib2to3", "idle_test"} & set(file.parts):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                tree = ast.parse(file.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError, ValueError):
                continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) and (said := ast.get_docstring(node)):
                for sentence in re.split(r"(?<=[.!?])\s+", " ".join(said.split())):
                    if 40 <= len(sentence) <= 300 and sentence[0].isupper() and sentence[-1] in ".!?":
                        found.setdefault(sentence)
    return list(found)


def shingles(text: str) -> set[tuple[str, ...]]:
    """Runs of five words, whatever their case and punctuation."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + 5]) for start in range(max(len(words) - 4, 1))}


def documents(count: int, seed: int = 0) -> tuple[list[str], list[Edit]]:
    """`count` texts of some 150 words, every fifth an edit of another, and the edits."""
    pick = random.Random(seed)
    lines = sentences()
    texts: list[str] = []
    edits: list[Edit] = []
    originals = count - count // 5
    for _ in range(originals):
        chosen = pick.choices(lines, k=pick.randint(5, 12))
        rare = ["".join(pick.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in chosen]
        texts.append("\n".join(f"{line[:-1]} {word}{line[-1]}" for line, word in zip(chosen, rare, strict=True)))
    for original in pick.sample(range(originals), count // 5):
        words = texts[original].split(" ")
        for place in pick.sample(range(len(words)), min(pick.randint(0, 6), len(words))):
            words[place] = pick.choice(["however", "", words[place].upper(), "one two"])
        edits.append(Edit(original, len(texts), 0.0))
        texts.append(" ".join(word for word in words if word))
    pairs = []
    for original, edited, _ in edits:
        one, other = shingles(texts[original]), shingles(texts[edited])
        pairs.append(Edit(original, edited, len(one & other) / len(one | other)))
    return texts, pairs


def write_documents(folder: Path, texts: list[str], files: int) -> None:
    """JSON lines in the form both sides read, spread over `files`; the ids are places in the list."""
    folder.mkdir(parents=True, exist_ok=True)
    order = list(range(len(texts)))
    random.Random(1).shuffle(order)
    for number in range(files):
        with (folder / f"{number:03d}.jsonl").open("w", encoding="utf-8") as file:
            for place in order[number::files]:
                file.write(json.dumps({"text": texts[place], "id": str(place), "source": str(place)}) + "\n")


def write_pages(folder: Path, megabytes: int, files: int = 4) -> int:
    """WARC files of so many megabytes of HTML together; how many pages. Packed as crawls are, record by record."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = sentences()
    total = pages = 0
    for number in range(files):
        pick = random.Random(number)
        with (folder / f"{number:03d}.warc.gz").open("wb") as file:
            size = 0
            for page in _pages(pick, lines):
                if size >= megabytes * 1_000_000 / files:
                    break
                body = page.encode()
                head = (
                    f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
                )
                record = head.encode() + body
                fields = (
                    "WARC/1.0\r\nWARC-Type: response\r\n"
                    f"WARC-Target-URI: http://host{pages % 977}.example.org/{pages}\r\n"
                    f"WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:{pages:032x}>\r\n"
                    f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(record)}\r\n\r\n"
                )
                file.write(gzip.compress(fields.encode() + record + b"\r\n\r\n", 1))
                size += len(body)
                pages += 1
            total += size
    return pages


def _pages(pick: random.Random, lines: list[str]) -> Iterator[str]:
    """Pages: three in four articles, the others link lists, stubs and copies of an earlier page."""
    menu = "".join(f'<li><a href="/{place}">Section {place}</a></li>' for place in range(30))
    last = ""
    while True:
        kind = pick.random()
        if kind < 0.1 and last:
            yield last.replace("Section 1<", "Section 0<")
            continue
        count = pick.randint(15, 60) if kind < 0.85 else pick.randint(1, 3)
        paragraphs = []
        for _ in range(max(count // 5, 1)):
            rare = "".join(pick.choices("abcdefghijklmnopqrstuvwxyz", k=7))
            paragraphs.append(f"<p>{' '.join(pick.choices(lines, k=min(count, 5)))} See {rare} as well.</p>")
        body = "\n".join(paragraphs) if kind < 0.95 else f"<ul>{menu}</ul>"
        last = (
            f"<html><head><title>Page</title><script>var x = {pick.random()};</script></head><body>"
            f'<nav><ul>{menu}</ul></nav><div class="sidebar"><ul>{menu}</ul></div>'
            f"<main><article><h1>On the subject</h1>{body}</article></main>"
            f'<footer><p>Copyright. <a href="/privacy">Privacy policy</a></p></footer></body></html>'
        )
        yield last
