"""From a folder of any text to the corpus a run learns from: read → deduplicate → choose → hold out.

    train/documents.jsonl       the documents to learn from
    held_out/documents.jsonl    documents nothing may learn from
    held_out.txt                the same texts as one file, on which models and compressors are compared
    rejected.jsonl              what was left out, each with its file, line and reason (a code, see `DropReason`)
    counts.json                 how many of each, by corpus

Which documents are chosen and which are held out is decided by hashes of their texts: the order and number of files
change nothing, and a text that comes back tomorrow falls on the same side.

`stage` is how every step of a longer run resumes: a folder made with the same settings, whose bytes still verify, is
kept; anything else is made anew.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qianwen.data.curate.deduplication import fingerprint, without_duplicates
from qianwen.data.documents.document import Document, Rejected
from qianwen.data.documents.drop_reasons import DropReason, reason_text
from qianwen.data.documents.outline import outline
from qianwen.data.documents.readers import read_documents
from qianwen.runtime.atomic import MANIFEST
from qianwen.runtime.errors import CheckpointError, DataError
from qianwen.runtime.files import atomic_folder, sha256_file, verify_folder, write_jsonl
from qianwen.runtime.translation import tr

SETTINGS = "settings.json"
SEPARATOR = "\n\n"  # between the documents of held_out.txt


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """How a corpus is put together."""

    held_out: float = 0.03  # share of the documents nothing learns from
    shares: dict[str, float] = field(default_factory=dict)  # corpus → share of its documents that is used; others: all
    outline_code: bool = False  # take of Python files only signatures and docstrings


def build_corpus(inputs: str | Path, folder: Path, config: CorpusConfig) -> dict[str, Any]:
    """Write the corpus of `inputs` to `folder` and return its counts.

    Raises DataError when nothing can be read, or too little to hold something out.
    """
    parts: dict[str, list[Document]] = {"train": [], "held_out": []}
    rejected: list[Rejected] = []
    documents = read_documents(inputs)
    for document in without_duplicates(map(_outlined, documents) if config.outline_code else documents):
        if isinstance(document, Rejected):
            rejected.append(document)
        elif chance(document["text"], "choose") < config.shares.get(corpus_of(document), 1.0):
            parts["held_out" if is_held_out(document["text"], config.held_out) else "train"].append(document)
    if not parts["train"] or not parts["held_out"]:
        count = len(parts["train"]) + len(parts["held_out"])
        reasons = "; ".join(
            f"{bad.file}, line {bad.line}: {reason_text(bad.reason)} {bad.detail}" for bad in rejected[:3]
        )
        message = tr(
            "{inputs}: only {found} training document{found:plural}, "
            "too few for a held-out set. Skipped: {count} {reasons}",
            inputs=inputs,
            found=count,
            count=len(rejected),
            reasons=reasons,
        )
        raise DataError(message)
    for name, documents in parts.items():
        (folder / name).mkdir()
        write_jsonl(folder / name / "documents.jsonl", documents)
    held_out = SEPARATOR.join(document["text"] for document in parts["held_out"])
    (folder / "held_out.txt").write_text(held_out, encoding="utf-8", newline="")
    write_jsonl(folder / "rejected.jsonl", (bad._asdict() for bad in rejected))
    counts = {name: _counted(documents) for name, documents in parts.items()} | {
        "rejected": dict(Counter(bad.reason for bad in rejected).most_common())
    }
    (folder / "counts.json").write_text(json.dumps(counts, indent=1, ensure_ascii=False), encoding="utf-8")
    return counts


def _outlined(document: Document | Rejected) -> Document | Rejected:
    """Python as its documentation; everything else as it is."""
    if isinstance(document, Rejected) or document["kind"] != "code":
        return document
    try:
        text = outline(document["text"])
    except (SyntaxError, ValueError, RecursionError):  # another language, or another Python
        return document
    return {**document, "text": text} if text else Rejected(document["source"], 0, DropReason.NO_DOCSTRINGS)


def corpus_of(document: Document) -> str:
    """`wikipedia-en:Bread` is of `wikipedia-en`, `notes/a.md` of `notes`, and a lone `a.md` of its kind, `docs`."""
    return corpus_at(document["source"], document["kind"])


def corpus_at(source: str, kind: str) -> str:
    """The corpus of a document of this source and kind."""
    corpus, colon, _ = source.partition(":")
    folder, slash, _ = corpus.partition("/")
    return folder if slash else corpus if colon else kind


def is_held_out(key: str, share: float) -> bool:
    """Whether what `key` stands for belongs to the `share` that nothing learns from."""
    return chance(key, "hold out") < share


def chance(key: str, purpose: str) -> float:
    """A number in [0, 1) that only the normalised text of `key` and the purpose decide.

    Two decisions about the same text need two purposes: with one, what is chosen would be what is held out.
    """
    digest = hashlib.blake2b(fingerprint(key), digest_size=8, key=purpose.encode("utf-8")).digest()
    return int.from_bytes(digest, "big") / 2**64


def stage(folder: Path, settings: Mapping[str, Any], make: Callable[[Path], object]) -> bool:
    """Let `make` fill `folder`, unless it is there, intact and made with these settings. Returns whether it was made.

    Put what a stage reads into its settings too, as `folder_hash`: then a changed input remakes all that follows.
    """
    wanted = json.loads(json.dumps(settings, default=str))
    if _settings_of(folder) == wanted:
        return False
    with atomic_folder(folder) as temporary:
        make(temporary)
        (temporary / SETTINGS).write_text(json.dumps(wanted, indent=1), encoding="ascii")  # a file name may be no UTF-8
    return True


def folder_hash(folder: Path) -> str:
    """A hash over everything in a folder that `atomic_folder` wrote."""
    return sha256_file(folder / MANIFEST)


def _settings_of(folder: Path) -> Any:
    try:
        verify_folder(folder)
        return json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (CheckpointError, OSError, ValueError):
        return None


def _counted(documents: Iterable[Document]) -> dict[str, dict[str, int]]:
    """Corpus → documents and bytes."""
    number: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for document in documents:
        corpus = corpus_of(document)
        number[corpus] += 1
        size[corpus] += len(document["text"].encode("utf-8"))
    return {corpus: {"documents": number[corpus], "bytes": size[corpus]} for corpus in sorted(number)}
