"""Texts to measure fewer bits on, and others of the same corpus to calibrate on, for `quantization.py`.

    python benchmarks/texts.py --corpus FILE_OR_FOLDER --to FOLDER [--pieces 64]

`--corpus` is anything that `qianwen data` reads. One document in seven, by a hash of its source, is held out: of those
come english.txt, chinese.txt and code.txt, pieces of 1,500 characters of so many documents, their kinds in turn. All
other documents are in rest.jsonl.zst, from which `quantization.py --calibration` and `qianwen quantize --data` draw.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from pathlib import Path

from pairs import arguments, console

from qianwen.cli.calibration_data import draw
from qianwen.data.documents.document import Document
from qianwen.data.documents.readers import readable_documents
from qianwen.runtime.files import write_jsonl

HELD_OUT = 7  # one document in so many
PIECE = 1500  # characters of a document that are measured
NAMES = {"en": "english", "zh": "chinese", "code": "code"}


def is_held_out(document: Document) -> bool:
    return hashlib.sha256(document["source"].encode()).digest()[0] % HELD_OUT == 0


def piece(document: Document, chance: random.Random) -> str:
    """Some of the document, from anywhere in it."""
    text = document["text"]
    start = chance.randrange(max(len(text) - PIECE, 0) + 1)
    return text[start : start + PIECE]


def main() -> None:
    options = arguments(__doc__, corpus="", to="", pieces=64)
    if not options.corpus or not options.to:
        raise SystemExit("--corpus names a corpus, --to a folder")
    folder, chance = Path(options.to), random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    held_out: defaultdict[str, list[Document]] = defaultdict(list)
    rest: list[Document] = []
    for document in readable_documents(options.corpus):
        if not is_held_out(document):
            rest.append(document)
        elif name := NAMES.get(document["kind"]) or NAMES.get(document["lang"]):
            held_out[name].append(document)
    for name, found in held_out.items():
        chosen = draw(((document["kind"], document) for document in found), options.pieces, chance)
        (folder / f"{name}.txt").write_text("\n\n".join(piece(document, chance) for document in chosen), "utf-8")
        console.print(f"{folder / name}.txt: {len(chosen)} of {len(found)} documents held out")
    count = write_jsonl(folder / "rest.jsonl.zst", rest)
    console.print(f"{folder / 'rest.jsonl.zst'}: {count} documents to calibrate on")


if __name__ == "__main__":
    main()
