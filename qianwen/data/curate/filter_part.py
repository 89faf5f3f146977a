"""One part of a curation, document by document: read → repair → language → personal data → rules → keys.

    documents.parquet    documents that passed, with the keys for finding duplicates across all parts
    dropped.jsonl.zst    dropped documents, each with stage, reason and its first words
    counts.json          numbers by reason, language and corpus

Each part is one task: it runs in any process, on any machine that can read the files, and writes a verified folder.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from qianwen.data.arrow_columns import from_numbers, from_texts
from qianwen.data.curate.corpus import stage
from qianwen.data.curate.deduplication import fingerprint
from qianwen.data.curate.input_parts import Slice, read_part
from qianwen.data.curate.minhash import MinHashConfig, bands, signed
from qianwen.data.curate.rules import RULES, c4_lines, reasons
from qianwen.data.curate.tally import Tally
from qianwen.data.curate.text_statistics import Batch
from qianwen.data.documents.document import UNKNOWN, Document, Rejected
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.data.documents.exclusions import is_blocked, url_key
from qianwen.data.documents.extract import repair
from qianwen.data.documents.language_id import code_language, languages
from qianwen.data.documents.markup import KINDS as MARKUP
from qianwen.data.documents.markup import prose_of
from qianwen.data.documents.pii import scrub
from qianwen.data.text_arrays import BATCH, Texts
from qianwen.runtime.files import write_jsonl

LAYOUT = 3  # of a part's files; raise it when their bytes change, so that parts of an older version are regenerated
ROW_GROUP = 1 << 24  # characters in a row group of a shard
KEYED = 1 << 19  # characters whose keys are made at a time
PAGES = ("web", "text")  # kinds whose lines may speak of cookies and scripts to the visitor
TEXT_COLUMNS = ("text", "source", "url", "lang", "licence", "kind")
REPEATING = ("lang", "licence", "kind")  # columns whose values come again and again
KEY_COLUMNS = ("print_low", "print_high", "text_hash", "address", "word_key")


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """What a curation keeps."""

    rules: tuple[str, ...] = tuple(RULES)  # sets of rules; none: no rule drops anything
    languages: tuple[str, ...] = ()  # documents in these alone (code is in none of them); none named: all
    licences: tuple[str, ...] = ()  # documents that say they are under these alone; none named: all
    min_probability: float = 0.5  # of the language
    identify: bool = True  # tell the language; otherwise what the document says of itself stands
    scrub: bool = True  # take out personal data
    max_chars: int = 2_000_000  # of one document
    near: MinHashConfig = field(default_factory=MinHashConfig)  # when documents are near duplicates


@dataclass(frozen=True, kw_only=True)
class ScreenSettings:
    """What the bytes of a screened part depend on."""

    config: CurateConfig
    blocked: tuple[str, ...]  # hosts and URLs, sorted
    slices: tuple[Slice, ...]
    layout: int = LAYOUT


@dataclass(frozen=True, kw_only=True)
class ScreenTask:
    """One part to screen: what, and where its folder and the copies of remote files go."""

    settings: ScreenSettings
    folder: Path
    scratch: Path


def screen_part(task: ScreenTask) -> int:
    """Screen a part into its folder, unless that is there and sound; how many documents were read."""
    stage(task.folder, asdict(task.settings), lambda temporary: _screen(task, temporary))
    return json.loads((task.folder / "counts.json").read_text(encoding="utf-8"))["read"]


def _screen(task: ScreenTask, folder: Path) -> None:
    config, blocked = task.settings.config, frozenset(task.settings.blocked)
    tally = Tally()
    columns = schema(config)
    # Read again soon, so compressed lightly; hashes do not compress.
    packed = {name: "lz4" if name in TEXT_COLUMNS else "none" for name in columns.names}
    with parquet.ParquetWriter(
        folder / "documents.parquet", columns, compression=packed, use_dictionary=list(REPEATING)
    ) as writer:
        documents = read_part(task.settings.slices, task.scratch, blocked)
        tables = _tables(_batches(documents, config, blocked, tally), config, tally)
        for table in _joined(tables):
            writer.write_table(table, row_group_size=len(table))
    write_jsonl(folder / "dropped.jsonl.zst", tally.dropped)
    (folder / "counts.json").write_text(json.dumps(tally.counts(), ensure_ascii=False), encoding="utf-8")


def schema(config: CurateConfig) -> pa.Schema:
    """The columns of a screened shard."""
    keys = [*KEY_COLUMNS, *(f"band_{number}" for number in range(config.near.num_bands))]
    return pa.schema(
        [(name, pa.string()) for name in TEXT_COLUMNS]
        + [("lang_probability", pa.float32()), ("num_words", pa.int32())]
        + [(name, pa.uint64()) for name in keys]
    )


def _batches(
    documents: Iterable[Document | Rejected], config: CurateConfig, blocked: Collection[str], tally: Tally
) -> Iterator[list[Document]]:
    """What could be read and may be used, repaired, some BATCH characters at a time."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        tally.read += 1
        if isinstance(document, Rejected):
            where = f"{document.file}:{document.line}" if document.line else document.file
            tally.drop("read", document.reason, where, detail=document.detail)
            continue
        if unusable := _unusable(document, config, blocked):
            reason, detail = unusable
            tally.drop("read", reason, document["source"], detail=detail)  # without its text, which may not be kept
            continue
        document["text"] = repair(document["text"])
        if document["kind"] in PAGES and "c4" in config.rules:
            document["text"] = c4_lines(document["text"])
        if not document["text"].strip():
            tally.drop("read", DropReason.EMPTY, document["source"])
            continue
        batch.append(document)
        size += len(document["text"])
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _unusable(document: Document, config: CurateConfig, blocked: Collection[str]) -> tuple[DropReason, str] | None:
    """Reason and detail of a document that is left out before its text is looked at."""
    if len(document["text"]) > config.max_chars:
        return DropReason.DOCUMENT_TOO_LONG, f"> {config.max_chars:,}"
    if is_blocked(document.get("url", ""), blocked):
        return DropReason.BLOCKED, ""
    if config.licences and document["licence"] not in config.licences:
        return DropReason.OTHER_LICENCE, ""
    return None


def _tables(batches: Iterable[list[Document]], config: CurateConfig, tally: Tally) -> Iterator[pa.Table]:
    """What passes, with its keys, some KEYED characters at a time."""
    passed: list[Document] = []
    probabilities: list[np.ndarray] = []
    size = 0
    for batch, sure in _screened(batches, config, tally):
        passed += batch
        probabilities.append(sure)
        size += sum(len(document["text"]) for document in batch)
        if size >= KEYED:
            yield _table(passed, np.concatenate(probabilities), config)
            passed, probabilities, size = [], [], 0
    if passed:
        yield _table(passed, np.concatenate(probabilities), config)


def _screened(
    batches: Iterable[list[Document]], config: CurateConfig, tally: Tally
) -> Iterator[tuple[list[Document], np.ndarray]]:
    """The documents that pass, and how sure their languages are."""
    for batch in batches:
        if config.scrub:
            for document in batch:
                document["text"], replaced = scrub(document["text"])
                tally.personal += replaced
        prose = [prose_of(document["text"]) if document["kind"] in MARKUP else document["text"] for document in batch]
        is_code = np.array([d["kind"] == "code" or not text for d, text in zip(batch, prose, strict=True)], dtype=bool)
        probabilities = _identify(batch, prose, is_code, config)
        kept = _kept(batch, prose, is_code, probabilities, config, tally)
        yield [document for document, keep in zip(batch, kept, strict=True) if keep], probabilities[kept]


def _identify(batch: list[Document], prose: list[str], is_code: np.ndarray, config: CurateConfig) -> np.ndarray:
    """Put the language into each document; how sure it is, 1 for program text [D]."""
    if not config.identify:
        return np.ones(len(batch), dtype=np.float32)
    spoken = languages(["" if code else text for text, code in zip(prose, is_code, strict=True)])
    for document, language, code in zip(batch, spoken, is_code, strict=True):
        name = code_language(document["source"], document["text"]) if code else language.code
        document["lang"] = name or UNKNOWN
    probabilities = [1.0 if code else language.probability for language, code in zip(spoken, is_code, strict=True)]
    return np.array(probabilities, dtype=np.float32)


def _kept(
    batch: list[Document],
    prose: list[str],
    is_code: np.ndarray,
    probabilities: np.ndarray,
    config: CurateConfig,
    tally: Tally,
) -> np.ndarray:
    """Which documents pass language and rules [D]; the others are in the tally with their first reason."""
    drops: dict[str, np.ndarray] = {}
    if config.rules:
        texts = [text or document["text"] for document, text in zip(batch, prose, strict=True)]
        kinds = ["code" if code else document["kind"] for document, code in zip(batch, is_code, strict=True)]
        drops = reasons(Batch(texts, [document["lang"] for document in batch], kinds), config.rules)
    kept = np.ones(len(batch), dtype=bool)
    for number, document in enumerate(batch):
        language = "" if is_code[number] else _language_reason(document["lang"], float(probabilities[number]), config)
        reason = language or next((name for name, dropped in drops.items() if dropped[number]), "")
        kept[number] = not reason
        tally.add(document, passes=bool(kept[number]))
        if reason:
            stage_ = "language" if language else "rules"
            tally.drop(stage_, reason, document["source"], document["text"], lang=document["lang"])
    return kept


def _language_reason(lang: str, probability: float, config: CurateConfig) -> str:
    if config.identify and probability < config.min_probability:
        return DropReason.UNCERTAIN_LANGUAGE
    return DropReason.OTHER_LANGUAGE if config.languages and lang not in config.languages else ""


def _table(batch: list[Document], probabilities: np.ndarray, config: CurateConfig) -> pa.Table:
    """The documents with their keys."""
    texts = [document["text"] for document in batch]
    minhash = signed(Texts(texts), config.near)
    hashes = bands(minhash.signatures, config.near)
    prints = np.frombuffer(b"".join(map(fingerprint, texts)), dtype="<u8").reshape(-1, 2)
    numbers = {"lang_probability": probabilities, "num_words": minhash.num_words.astype(np.int32)}
    numbers |= {"print_low": prints[:, 0], "print_high": prints[:, 1], "word_key": minhash.word_keys}
    text_hashes = [_hash(document["text"] + "\0" + document["source"]) for document in batch]
    addresses = [_hash(url_key(document["url"])) if document.get("url") else 0 for document in batch]
    numbers |= {"text_hash": np.array(text_hashes, "<u8"), "address": np.array(addresses, "<u8")}
    numbers |= {f"band_{number}": hashes[:, number] for number in range(hashes.shape[1])}
    columns = {name: from_texts([str(document.get(name, "")) for document in batch]) for name in TEXT_COLUMNS}
    columns |= {name: from_numbers(values) for name, values in numbers.items()}
    wanted = schema(config)
    return pa.Table.from_arrays([columns[name] for name in wanted.names], schema=wanted)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def _joined(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Tables of about ROW_GROUP characters."""
    waiting: list[pa.Table] = []
    size = 0
    for table in tables:
        waiting.append(table)
        size += table.nbytes
        if size >= ROW_GROUP:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting, size = [], 0
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()
