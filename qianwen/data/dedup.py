"""Documents that are there twice (Qwen report, section 2.1: "exact-match deduplication after normalization").

Two texts are the same when they differ only in case, spacing and Unicode form. The first one stays.
Not here: texts that are nearly the same.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator

from qianwen.data.readers import Document, Rejected
from qianwen.runtime.language import tr


def fingerprint(text: str) -> bytes:
    """16 bytes that texts share when they are the same after normalisation."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.blake2b(plain.encode("utf-8"), digest_size=16).digest()


def without_duplicates(documents: Iterable[Document | Rejected]) -> Iterator[Document | Rejected]:
    """The documents, each repeated one turned into `Rejected` naming the first."""
    sources: dict[bytes, str] = {}
    for document in documents:
        if not isinstance(document, Rejected):
            mark, source = fingerprint(document["text"]), document["source"]
            if mark in sources:
                document = Rejected(source, 0, tr("duplicate"), sources[mark])
            else:
                sources[mark] = source
        yield document
