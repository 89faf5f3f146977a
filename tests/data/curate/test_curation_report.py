"""The report of a curation: every section has its content, and nothing in it acts."""

import html
import json
import re
from pathlib import Path

import pytest

from qianwen.data.curate.curation_report import CLUSTERS, SAMPLES, documents_left, write_report
from qianwen.data.curate.quality_scorer import BINS
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import write_jsonl


def cell(documents: int, size: int, passed: int, kept: int, kept_bytes: int) -> dict[str, int]:
    return {"documents": documents, "bytes": size, "passed": passed, "kept": kept, "kept_bytes": kept_bytes}


COUNTS = {
    "read": 200,
    "bytes": 7_000_000,
    "dropped": {
        "read": {"not_json": 10, "blocked": 7},
        "language": {"uncertain_language": 21},
        "rules": {"gopher_symbols": 33},
        "duplicates": {"near": 12},
        "scores": {"quality": 5},
        "benchmarks": {"contaminated": 2},
    },
    "kept": {"documents": 110, "bytes": 3_000_000},
    "personal": {"EMAIL": 41, "PHONE": 13},
    "scorers": {"quality": {"scores": [0] * (BINS - 1) + [119], "below": 5}},
    "pairs": {"candidates": 4321, "pairs": 987},
    "benchmarks": {"texts": 1319, "too_short": 17, "found": 3},
    "by_lang": {"fr": cell(60, 2_000_000, 40, 30, 1_250_000)},
    "by_corpus": {"letters": cell(61, 2_100_000, 41, 31, 1_350_000)},
    "by_licence": {"CC0-1.0": cell(62, 2_200_000, 42, 32, 1_450_000)},
    "by_length": {"9": cell(1, 600, 1, 1, 600), "12": cell(2, 9000, 2, 0, 0)},
}


def row(stage: str, reason: str, source: str, head: str, detail: str = "", lang: str = "en") -> dict[str, str]:
    return {"stage": stage, "reason": reason, "source": source, "detail": detail, "lang": lang, "head": head}


DROPPED = [
    row("read", "not_json", "bad.txt:3", "", "byte 0xff"),
    *(row("rules", "gopher_symbols", f"web:{number}", f"# sample {number} #") for number in range(SAMPLES + 3)),
    row("duplicates", "near", "copy:1", "the copied words", "original:1"),
    row("duplicates", "near", "copy:2", "the copied words", "original:1"),
    *(row("duplicates", "near", f"one:{n}", f"words {n}", f"single:{n:03d}") for n in range(CLUSTERS)),
    row("scores", "quality", "attack:1", "<script>alert(1)</script>", "0.031"),
    row("benchmarks", "contaminated", "leak:1", "a question of a test", "gsm8k.jsonl:7"),
]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "dropped").mkdir()
    write_jsonl(tmp_path / "dropped" / "part-00000.jsonl.zst", DROPPED[:4])
    write_jsonl(tmp_path / "dropped" / "screened-00000.jsonl.zst", DROPPED[4:])
    (tmp_path / "counts.json").write_text(json.dumps(COUNTS))
    contamination = {"gsm8k.jsonl": {"gsm8k.jsonl:7": 1, "gsm8k.jsonl:9": 4}}
    (tmp_path / "contamination.json").write_text(json.dumps(contamination))
    return tmp_path


def sections(output: Path) -> dict[str, str]:
    """The HTML of every section of the report, by its title; the headline is under ""."""
    page = write_report(output).read_text(encoding="utf-8")
    assert page == (output / "report.html").read_text(encoding="utf-8")
    blocks = re.findall(r"<section>(.*?)</section>", page, re.S)
    titled = [re.fullmatch(r"(?:<h2[^>]*>(.*?)</h2>)?(.*)", block, re.S) for block in blocks]
    return {html.unescape(match[1] or ""): match[2] for match in titled if match}


def rows(section: str) -> list[list[str]]:
    """The cells of every table row, headers left out."""
    found = [re.findall(r"<td[^>]*>(.*?)</td>", line, re.S) for line in re.findall(r"<tr>(.*?)</tr>", section, re.S)]
    return [[html.unescape(value) for value in line] for line in found if line]


def samples(section: str) -> list[str]:
    return [html.unescape(text) for text in re.findall(r"<pre[^>]*>(.*?)</pre>", section, re.S)]


def test_the_headline_is_what_went_in_and_came_out(output: Path) -> None:
    assert re.findall(r"<dd>(.*?)</dd>", sections(output)[""]) == ["200", "110", "7", "3"]


def test_the_funnel_has_a_row_for_every_reason_and_a_figure(output: Path) -> None:
    funnel = sections(output)["Funnel"]
    assert rows(funnel) == [
        ["read", "not JSON in UTF-8", "10", "5"],
        ["read", "on the blocklist", "7", "3.5"],
        ["language", "language uncertain", "21", "10.5"],
        ["rules", "gopher_symbols", "33", "16.5"],
        ["duplicates", "near duplicate", "12", "6"],
        ["scores", "quality", "5", "2.5"],
        ["benchmarks", "contains a benchmark text", "2", "1"],
    ]
    assert funnel.count("<figure>") == 1
    assert documents_left(COUNTS) == [200, 183, 162, 129, 117, 112, COUNTS["kept"]["documents"]]


@pytest.mark.parametrize(
    ("title", "line"),
    [
        ("By language", ["fr", "60", "40", "30", "2", "1.25"]),
        ("By source", ["letters", "61", "41", "31", "2.1", "1.35"]),
        ("By licence", ["CC0-1.0", "62", "42", "32", "2.2", "1.45"]),
    ],
)
def test_documents_are_counted_by_where_they_are_from(output: Path, title: str, line: list[str]) -> None:
    assert rows(sections(output)[title]) == [line]


def test_lengths_and_scores_are_drawn(output: Path) -> None:
    found = sections(output)
    assert found["Lengths"].count("<figure>") == 1 and rows(found["Lengths"]) == [["EMAIL", "41"], ["PHONE", "13"]]
    assert found["Scores"].count("<figure>") == 1 and rows(found["Scores"]) == [["quality", "119", "5"]]


def test_every_reason_has_samples_to_read(output: Path) -> None:
    section = sections(output)["What was dropped"]
    titles = [html.unescape(text) for text in re.findall(r"<p[^>]*>(.*?)</p>", section)]
    assert titles == [
        "benchmarks: contains a benchmark text", "duplicates: near duplicate", "read: not JSON in UTF-8",
        "rules: gopher_symbols", "scores: quality",
    ]  # fmt: skip
    texts = samples(section)
    assert "leak:1 en → gsm8k.jsonl:7\na question of a test" in texts and "bad.txt:3 en → byte 0xff\n" in texts
    assert sum(text.startswith("web:") for text in texts) == SAMPLES
    again = samples(sections(output)["What was dropped"])
    assert texts == again, "the samples are the same ones until the drops change"


def test_the_largest_groups_of_duplicates_come_first(output: Path) -> None:
    found = rows(sections(output)["Duplicates"])
    assert found[0] == ["original:1", "2", "copy:1, copy:2", "the copied words"]
    assert len(found) == CLUSTERS and all(line[1] == "1" for line in found[1:])
    assert "4,321" in sections(output)["Duplicates"] and "987" in sections(output)["Duplicates"]


def test_benchmarks_are_told_by_file(output: Path) -> None:
    section = sections(output)["Benchmarks"]
    assert rows(section) == [["gsm8k.jsonl", "2", "5"]] and "1,319" in section and "17 were too short" in section


def test_what_did_not_happen_has_no_section(output: Path) -> None:
    (output / "counts.json").write_text(
        json.dumps(COUNTS | {"scorers": {}, "benchmarks": {"texts": 0, "too_short": 0, "found": 0}})
    )
    assert not {"Scores", "Benchmarks"} & sections(output).keys()


def test_nothing_in_it_acts(output: Path) -> None:
    page = write_report(output).read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page


def test_a_folder_without_a_curation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not an output folder"):
        write_report(tmp_path)
