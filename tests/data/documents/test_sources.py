"""Named corpora, with the wheels replaced by files made here."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from qianwen.data.documents import sources
from qianwen.data.documents.document import Rejected
from qianwen.data.documents.sources import (
    COLLECTIONS,
    SOURCES,
    fetch,
    many_languages,
    named,
    source_documents,
    standard_library,
    wikipedia_leads,
)
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import read_jsonl


def test_quickstart_names_its_licences() -> None:
    assert [source.name for source in named("quickstart")] == list(COLLECTIONS["quickstart"])
    assert all(source.licence for source in SOURCES.values())
    assert [source.name for source in named("quickstart", ["PSF-2.0"])] == ["python-stdlib"]


def test_unknown_names_and_licences_are_refused() -> None:
    with pytest.raises(ConfigError, match="there is no corpus quikstart"):
        named("quikstart")
    with pytest.raises(ConfigError, match="quickstart has no source with the licence GPL"):
        named("quickstart", ["GPL"])


def test_standard_library_is_code_without_tests() -> None:
    documents = [found for found in standard_library() if not isinstance(found, Rejected)]
    modules = {document["source"] for document in documents}
    assert "python-stdlib:textwrap.py" in modules and "python-stdlib:json/decoder.py" in modules
    assert not any("/test" in module for module in modules)
    assert {document["kind"] for document in documents} == {"code"}


def test_wikipedia_tells_people_from_things(tmp_path: Path) -> None:
    articles = {
        "Pan": {"extract": "El pan es un alimento.", "topic": "Vida cotidiana"},
        "Ada": {"extract": "Ada fue una matemática.", "topic": "Personas"},
        "Nada": {"extract": " ", "topic": "Personas"},
    }
    (tmp_path / "summaries_es-es.json").write_text(json.dumps(articles))
    found = list(wikipedia_leads([tmp_path / "summaries_es-es.json"]))
    assert [(document["source"], document["kind"]) for document in found] == [
        ("wikipedia-es:Pan", "encyclopedia"),
        ("wikipedia-es:Ada", "biography"),
    ]


def test_lines_carry_their_language(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("de\tEin Satz.\nzh\t一句话。\nfr\t\n", encoding="utf-8")
    found = [(document["lang"], document["text"]) for document in many_languages([tmp_path / "lines.txt"])]
    assert found == [("de", "Ein Satz."), ("zh", "一句话。")]


def test_offline_takes_what_is_there_and_says_what_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(wheel: str, member: str, sha256: str) -> Path:
        raise DataError(f"{wheel} could not be downloaded: no network")

    monkeypatch.setattr(sources, "wheel_file", offline)
    small = replace(SOURCES["python-stdlib"], documents=lambda _: iter([*standard_library()][:3]))
    fetched, missing = fetch([small, SOURCES["many-languages"]], tmp_path)
    assert [(one.name, one.licence, one.num_documents) for one in fetched] == [("python-stdlib", "PSF-2.0", 3)]
    assert missing == {"many-languages": "eld==1.0.6 could not be downloaded: no network"}
    assert len(list(read_jsonl(tmp_path / "python-stdlib.jsonl"))) == 3
    with pytest.raises(DataError, match="no source could be downloaded"):
        fetch([SOURCES["many-languages"]], tmp_path)


def test_the_documents_of_a_source_are_read_after_its_files_were_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert next(source_documents(SOURCES["python-stdlib"]))["licence"] == "PSF-2.0"

    def fails(package: str, sha256: str) -> Path:
        raise DataError("no network")

    monkeypatch.setattr(sources, "npm_archive", fails)
    with pytest.raises(DataError, match="no network"):
        source_documents(SOURCES["moby-dick"])
