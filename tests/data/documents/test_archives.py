"""Corpora in archives: each speech, chapter and poem is a document, and nothing else is."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from qianwen.data.documents.archives import chapters, poems, speeches


def archive(path: Path, files: dict[str, Any]) -> list[Path]:
    with tarfile.open(path, "w:gz") as packed:
        for name, content in files.items():
            data = json.dumps(content, ensure_ascii=False).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return [path]


def test_speeches_and_chapters(tmp_path: Path) -> None:
    speech = {"year": 1790, "name": "Someone", "text": "Fellow citizens."}
    given = archive(tmp_path / "a.tgz", {"data/1790_a.json": speech, "data/meta.json": [1], "package.json": {}})
    (found,) = speeches(given)
    assert (found["source"], found["text"], found["licence"]) == (
        "state-of-the-union:1790_a", "Fellow citizens.", "CC0-1.0",
    )  # fmt: skip
    book = {"data/chapter_2.json": {"title": "Two", "text": "Text."}, "data/contents.json": [{"title": "Two"}]}
    (chapter,) = chapters(archive(tmp_path / "b.tgz", book))
    assert chapter["text"] == "Two\n\nText." and chapter["source"] == "moby-dick:chapter_2"


def test_poems_have_lines_and_authors_and_notes_are_left_out(tmp_path: Path) -> None:
    files = {
        "dist/tang/poet.1.json": [
            {
                "title": "靜夜思",
                "author": "李白",
                "paragraphs": ["床前看月光，疑是地上霜。", "舉頭望山月，低頭思故鄉。"],
            },
            {"title": "無", "author": "無", "paragraphs": []},
        ],
        "dist/tang/authors.tang.json": [{"name": "李白", "paragraphs": ["not a poem"]}],
        "dist/tang/error/poet.1.json": [{"title": "x", "paragraphs": ["wrong"]}],
        "dist/shijing/shijing.json": [{"title": "关雎", "content": ["关关雎鸠，在河之洲。"]}],
        "dist/daxue/daxue.json": {"chapter": "大學", "paragraphs": ["大學之道，在明明德。"]},
        "package.json": {"name": "x"},
    }
    found = {poem["source"]: poem for poem in poems(archive(tmp_path / "a.tgz", files))}
    assert sorted(found) == [
        "chinese-poetry:daxue/daxue#0", "chinese-poetry:shijing/shijing#0", "chinese-poetry:tang/poet.1#0",
    ]  # fmt: skip
    tang = found["chinese-poetry:tang/poet.1#0"]
    assert tang["text"].startswith("靜夜思　李白\n床前") and tang["lang"] == "zh-Hant"
    assert found["chinese-poetry:shijing/shijing#0"]["lang"] == "zh"
