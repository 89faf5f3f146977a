"""A whole curation: every document is kept or dropped for a reason, and the result depends on the input alone."""

import dataclasses
import gzip
import hashlib
import json
import random
import shutil
import sys
import tracemalloc
import types
from collections.abc import Iterable
from pathlib import Path

import pytest
import zstandard
from pyarrow import parquet

pytest.importorskip("fasttext", reason="fastText comes with the extra `data`")
from qianwen.data.curate import input_parts
from qianwen.data.curate.curation import curate
from qianwen.data.curate.curation_report import write_report
from qianwen.data.curate.filter_part import CurateConfig
from qianwen.data.curate.quality_scorer import Scorer
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import atomic_folder, read_jsonl, verify_folder, write_jsonl

NOUNS = [
    "river",
    "mill",
    "farm",
    "boat",
    "harbour",
    "bridge",
    "market",
    "road",
    "storm",
    "village",
    "forest",
    "mountain",
]
VERBS = ["crossed", "passed", "reached", "followed", "found", "watched", "built", "kept", "opened", "carried"]
SMALL = ["the", "and", "of", "to", "that", "with", "a", "have", "from", "beyond", "under", "near"]


def essay(seed: int, sentences: int = 14) -> str:
    """English that every rule lets pass, and that is like no other."""
    pick = random.Random(seed)
    lines = []
    for number in range(sentences):
        words = [pick.choice(pick.choice([NOUNS, VERBS, SMALL])) + pick.choice(["", "", "s", "ing"]) for _ in range(12)]
        words[pick.randint(0, 5)] = "the"
        words[pick.randint(6, 11)] = pick.choice(["of", "and", "with"])
        words.insert(pick.randint(1, 10), "".join(pick.choices("bcdfglmnprstaeiou", k=5)) + chr(97 + number))
        lines.append(" ".join(words).capitalize() + ".")
    return "\n".join(lines)


ESSAYS = [essay(seed) for seed in range(60)]
TEST = "If a train leaves the old station at nine and travels for three hours how far does it go before noon"


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(input_parts, "SMALLEST", 20_000)
    folder = tmp_path / "in"
    folder.mkdir()
    rows = [
        {"text": text, "source": f"essays:{number}", "url": f"http://e.org/{number}"}
        for number, text in enumerate(ESSAYS)
    ]
    rows.append({"text": ESSAYS[3].upper(), "source": "copies:exact"})
    rows.append({"text": ESSAYS[4][: ESSAYS[4].rindex(" ")] + ".", "source": "copies:near"})
    rows.append({"text": essay(900), "source": "copies:address", "url": "https://www.e.org/5/"})
    rows.append({"text": essay(901, 20) + f"\n{TEST.upper()}!", "source": "leak:1"})
    rows.append({"text": essay(902) + "\nWrite to ann@mail.org.", "source": "mail:1"})
    rows.append({"text": "Hier kommt ein deutscher Satz, der kurz ist.", "source": "short:1"})
    write_jsonl(folder / "a.jsonl", rows)
    (folder / "bad.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "page.html").write_text(f"<html><body><nav>Home</nav><main><p>{essay(903)}</p></main></body></html>")
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": TEST}))
    return folder


def run(inputs: Path, output: Path, **options: object) -> dict:
    return curate(
        [str(inputs)], output, CurateConfig(), benchmarks=[str(inputs.parent / "test.jsonl")], workers=1, **options
    )


def texts(output: Path) -> dict[str, str]:
    files = sorted((output / "documents").glob("*.parquet"))
    rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
    return {row["source"]: row["text"] for row in rows}


def dropped(output: Path) -> list[dict]:
    return [row for file in sorted((output / "dropped").iterdir()) if file.suffix == ".zst" for row in read_jsonl(file)]


def digests(folders: Iterable[Path]) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for folder in folders
        for file in sorted(folder.iterdir())
    }


def test_every_document_is_kept_or_dropped_for_a_reason(inputs: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    counts = run(inputs, output)
    verify_folder(output / "documents")
    kept, gone = texts(output), dropped(output)
    assert counts["read"] == 68 == len(kept) + len(gone) and counts["kept"]["documents"] == len(kept)
    reasons = {row["source"]: (row["stage"], row["reason"]) for row in gone}
    assert reasons["bad.txt"] == ("read", "binary") and reasons["short:1"][0] == "rules"
    assert reasons["leak:1"] == ("benchmarks", "contaminated")
    pairs = {
        ("essays:3", "copies:exact"): "exact",
        ("essays:4", "copies:near"): "near",
        ("essays:5", "copies:address"): "address",
    }
    for pair, reason in pairs.items():
        (loser,) = set(pair) & reasons.keys()
        assert reasons[loser] == ("duplicates", reason)
        assert [row["detail"] for row in gone if row["source"] == loser] == [*({*pair} - {loser})]
    assert kept["mail:1"].endswith("Write to [EMAIL].") and counts["personal"] == {"EMAIL": 1}
    assert "Home" not in kept["page.html"] and counts["by_corpus"]["essays"]["documents"] == 60
    assert json.loads((output / "contamination.json").read_text()) == {"test.jsonl": {"test.jsonl:1": 1}}


def test_the_same_bytes_come_again_and_nothing_is_made_twice(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path / "one")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "one" / "work").rglob("*.parquet")}
    first = digests([tmp_path / "one" / "documents", tmp_path / "one" / "dropped"])
    run(inputs, tmp_path / "one")
    assert {file: file.stat().st_mtime_ns for file in before} == before and len(before) > 4
    run(inputs, tmp_path / "two")
    assert digests([tmp_path / "two" / "documents", tmp_path / "two" / "dropped"]) == first


def test_shards_and_their_order_change_no_document(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(inputs, tmp_path / "one")
    rows = list(read_jsonl(inputs / "a.jsonl"))
    (inputs / "a.jsonl").unlink()
    random.Random(1).shuffle(rows)
    for number in range(3):
        write_jsonl(inputs / f"{2 - number}.jsonl.gz", rows[number::3])
    monkeypatch.setattr(input_parts, "SMALLEST", 3000)
    run(inputs, tmp_path / "two")
    assert texts(tmp_path / "one") == texts(tmp_path / "two")


def test_a_damaged_shard_is_made_again(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path / "out")
    wanted = texts(tmp_path / "out")
    victim = tmp_path / "out" / "work" / "screened" / "00000" / "documents.parquet"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    run(inputs, tmp_path / "out")
    assert texts(tmp_path / "out") == wanted


def test_a_changed_input_or_setting_remakes_what_follows(inputs: Path, tmp_path: Path) -> None:
    run(inputs, tmp_path / "out")
    with (inputs / "a.jsonl").open("a") as file:
        file.write(json.dumps({"text": essay(999), "source": "new:1"}) + "\n")
    run(inputs, tmp_path / "out")
    assert "new:1" in texts(tmp_path / "out")
    curate([str(inputs)], tmp_path / "out", CurateConfig(scrub=False), workers=1)
    kept = texts(tmp_path / "out")
    assert "ann@mail.org" in kept["mail:1"] and "leak:1" in kept


def test_licences_and_the_blocklist_hold_for_every_record(tmp_path: Path) -> None:
    rows = [
        {"text": ESSAYS[0], "source": "a", "licence": "CC0-1.0", "url": "http://good.org/1"},
        {"text": ESSAYS[1], "source": "b", "licence": "CC0-1.0", "url": "http://sub.bad.org/1"},
        {"text": ESSAYS[2], "source": "c", "licence": "all rights reserved"},
        {"text": ESSAYS[3], "source": "d"},
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    config = CurateConfig(licences=("CC0-1.0",))
    counts = curate([str(tmp_path / "a.jsonl")], tmp_path / "out", config, blocked={"bad.org"}, workers=1)
    assert list(texts(tmp_path / "out")) == ["a"]
    assert counts["dropped"]["read"] == {"other_licence": 2, "blocked": 1}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert 'license: ["CC0-1.0"]' in card and "on the blocklist" in card and "duplicates 0.8" in card


def test_what_is_wrong_is_said_before_anything_is_read(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is inside the input"):
        curate([str(inputs)], inputs / "out", CurateConfig(), workers=1)
    with pytest.raises(DataError, match="no such file"):
        curate([str(inputs)], tmp_path / "out", CurateConfig(), benchmarks=["none.jsonl"], workers=1)
    wrong = Scorer(name="none", function="no_such_module:f")
    with pytest.raises(ConfigError, match="no_such_module"):
        curate([str(inputs)], tmp_path / "out", CurateConfig(), scorers=[wrong], workers=1)
    assert not (tmp_path / "out").exists() and not (inputs / "out").exists()


def mentions_of(word: str):
    """A scorer: 0.1 for texts that hold the word, 0.9 for the others."""
    return lambda given: [0.1 if word in text else 0.9 for text in given]


def test_a_scorer_drops_by_name_and_leaves_its_numbers(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("a_users_filters")
    module.mentions_of = mentions_of  # pyrefly: ignore
    monkeypatch.setitem(sys.modules, "a_users_filters", module)
    scorer = Scorer(name="no_mail", function="a_users_filters:mentions_of", model="[EMAIL]")
    counts = run(inputs, tmp_path / "out", scorers=[scorer])
    (gone,) = [row for row in dropped(tmp_path / "out") if row["stage"] == "scores"]
    assert (gone["source"], gone["reason"], gone["detail"]) == ("mail:1", "no_mail", "0.100")
    assert counts["dropped"]["scores"] == {"no_mail": 1} and counts["scorers"]["no_mail"]["below"] == 1
    assert sum(counts["scorers"]["no_mail"]["scores"]) == counts["kept"]["documents"] + 2  # and the one contaminated
    files = sorted((tmp_path / "out" / "documents").glob("*.parquet"))
    rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
    assert all(row["score_no_mail"] == pytest.approx(0.9) and "no_mail 0.5" in row["passed"] for row in rows)
    assert "below the threshold" in write_report(tmp_path / "out").read_text(encoding="utf-8")
    strict = dataclasses.replace(scorer, threshold=0.95)
    with pytest.raises(DataError, match="all documents were dropped"):
        run(inputs, tmp_path / "out", scorers=[strict])


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_another_model_under_the_same_name_judges_anew(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A scorer's settings name its model by a path; what is at the path decides."""
    module = types.ModuleType("a_users_filters")
    module.from_file = lambda path: mentions_of(next(Path(path).rglob("word"), Path(path)).read_text())  # pyrefly: ignore
    monkeypatch.setitem(sys.modules, "a_users_filters", module)
    model = tmp_path / "model"

    def train(word: str) -> None:
        if kind == "file":
            model.write_text(word)
            return
        with atomic_folder(model) as folder:
            (folder / "word").write_text(word)

    scorer = Scorer(name="words", function="a_users_filters:from_file", model=str(model))
    for word, loser in (("[EMAIL]", "mail:1"), (TEST.upper(), "leak:1"), ("[EMAIL]", "mail:1")):
        train(word)
        run(inputs, tmp_path / "out", scorers=[scorer])
        assert [row["source"] for row in dropped(tmp_path / "out") if row["stage"] == "scores"] == [loser]


def test_nothing_left_is_an_error_that_says_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("short")
    with pytest.raises(DataError, match="counts.json"):
        curate([str(tmp_path / "in")], tmp_path / "out", CurateConfig(), workers=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="contains no documents"):
        curate([str(tmp_path / "empty")], tmp_path / "out2", CurateConfig(), workers=1)


REPORTS = ("report.html", "README.md")  # what people read, in their language


def all_bytes(output: Path) -> dict[str, str]:
    """The hash of every file that a curation leaves but its reports, `work/` included."""
    files = [file for file in output.rglob("*") if file.is_file() and file.name not in (*REPORTS, ".lock")]
    return {str(file.relative_to(output)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_language_of_the_user_changes_the_reports_alone(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inputs / "too_deep.html").write_bytes(b"<div>" * 5000)
    (inputs / "more.jsonl").write_text('{"text": 7}\n' + json.dumps({"text": "a " * 30_000}) + "\n")
    config = CurateConfig(max_chars=50_000, languages=("en",))
    for language in ("en", "zh"):
        monkeypatch.setenv("QIANWEN_LANG", language)
        curate([str(inputs)], tmp_path / language, config, workers=1)
        write_report(tmp_path / language)
    english, chinese = all_bytes(tmp_path / "en"), all_bytes(tmp_path / "zh")
    assert english == chinese and len(english) > 20
    codes = {row["reason"] for row in dropped(tmp_path / "zh") if row["stage"] in ("read", "language")}
    assert codes >= {"binary", "nested_too_deep", "no_text_field", "document_too_long", "other_language"}
    for name in REPORTS:
        texts_ = [(tmp_path / language / name).read_text(encoding="utf-8") for language in ("en", "zh")]
        assert "binary data" in texts_[0] and "二进制数据" in texts_[1]
        assert "nested_too_deep" not in texts_[0] + texts_[1]


def test_a_run_goes_on_in_another_language(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(inputs, tmp_path / "whole")
    output = tmp_path / "stopped"
    run(inputs, output)
    parts = sorted((output / "work" / "screened").iterdir())
    (before,) = {(part / "documents.parquet").stat().st_mtime_ns for part in parts[:1]}
    for folder in (parts[-1], output / "work" / "duplicates", output / "work" / "finished", output / "documents"):
        shutil.rmtree(folder)
    monkeypatch.setenv("QIANWEN_LANG", "zh")
    run(inputs, output)
    assert len(parts) > 1 and (parts[0] / "documents.parquet").stat().st_mtime_ns == before, "it was not made again"
    assert all_bytes(output) == all_bytes(tmp_path / "whole")


BROKEN: dict[str, tuple[str, bytes]] = {  # name → why it is set aside, and its bytes
    "cut.jsonl.gz": ("unreadable", gzip.compress(b'{"text": "a"}\n' * 1000)[:-20]),
    "not.jsonl.gz": ("not_json", b"no gzip"),
    "cut.jsonl.zst": ("unreadable", zstandard.compress(b"{}\n" * 99)[:-4]),
    "noise.txt": ("binary", bytes(range(1, 256))),
    "program.txt": ("program", b"\x7fELF\x02\x01"),
    "nul.txt": ("nul_bytes", b"a\x00b"),
    "empty.txt": ("empty", b""),
    "blank.md": ("empty", b" \n\n"),
    "utf8.jsonl": ("not_json", b'{"text": "\xff"}\n'),
    "nul.jsonl": ("nul_bytes", b'{"text": "a\\u0000b"}\n'),
    "surrogate.jsonl": ("half_surrogate", b'{"text": "\\ud800"}\n'),
    "nested.jsonl": ("not_json", b"[" * 100000 + b"]" * 100000),
    "deep.jsonl": ("not_json", b'{"a":' * 100000),
    "list.jsonl": ("not_an_object", b"[1, 2]\n"),
    "number.jsonl": ("not_an_object", b"7\n"),
    "string.jsonl": ("not_an_object", b'"text"\n'),
    "null.jsonl": ("not_an_object", b"null\n"),
    "notext.jsonl": ("no_text_field", b'{"body": "x"}\n'),
    "wrong.jsonl": ("no_text_field", b'{"text": 7}\n'),
    "half.jsonl": ("not_json", b'{"text": "a'),
    "nan.jsonl": ("no_text_field", b'{"text": NaN}\n'),
    "none.jsonl": ("no_text_field", b'{"text": null}\n'),
    "spaces.jsonl": ("empty", b'{"text": "  "}\n'),
    "comma.jsonl": ("not_json", b'{"text": "a",}\n'),
    "quotes.jsonl": ("not_json", b"{'text': 'a'}\n"),
    "big.jsonl": ("not_json", b'{"text": ' + b"9" * 5000 + b"}\n"),
    "not.parquet": ("unreadable", b"PAR1 no PAR1"),
    "empty.parquet": ("unreadable", b""),
    "cut.parquet": ("unreadable", b"PAR1"),
    "not.warc": ("unreadable", b"no crawl"),
    "not.warc.gz": ("unreadable", b"no crawl"),
    "empty.warc.gz": ("no_pages", b""),
    "cut.warc": ("no_pages", b"WARC/1.0\r\nContent-Length: 99\r\n\r\nx"),
    "empty.html": ("empty", b""),
    "nothing.html": ("empty_page", b"<html><script>x</script></html>"),
    "deep.html": ("nested_too_deep", b"<div>" * 50000),
    "bytes.html": ("gopher_word_count", bytes(range(256))),
    "unknown.xyz": ("pdf", b"%PDF-1.4\n"),
    "noname": ("database", b"SQLite format 3\x00"),
    "picture.png": ("image", b"\x89PNG\r\n"),
}


def test_broken_files_are_set_aside_each_with_its_reason(tmp_path: Path) -> None:
    """R16: forty of them, beside one that is good. (Bombs are in test_readers.py and below.)"""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, (_, data) in BROKEN.items():
        (folder / name).write_bytes(data)
    (folder / "crlf.txt").write_bytes(b"\xef\xbb\xbf" + essay(1).replace("\n", "\r\n").encode())
    curate([str(folder)], tmp_path / "out", CurateConfig(), workers=1)
    assert list(texts(tmp_path / "out")) == ["crlf.txt"] and "\r" not in texts(tmp_path / "out")["crlf.txt"]
    reasons: dict[str, set[str]] = {}
    for row in dropped(tmp_path / "out"):
        reasons.setdefault(row["source"].partition(":")[0], set()).add(row["reason"])
    assert len(BROKEN) == 40 and reasons.keys() == BROKEN.keys()
    assert not {name: reasons[name] for name, (reason, _) in BROKEN.items() if reason not in reasons[name]}


def test_long_lines_and_bombs_do_not_fill_the_memory(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "long.jsonl").write_bytes(b'{"text": "' + b"a" * 100_000_000 + b'"}\n')
    (folder / "bomb.txt.gz").write_bytes(gzip.compress(bytes(1 << 20) * 300, 9))
    (folder / "page.html").write_bytes(b"<p>" + b"x " * 6_000_000)
    (folder / "wide.jsonl").write_text(json.dumps({"text": "word " * 500_000}) + "\n")
    (folder / "good.txt").write_text(essay(1))
    tracemalloc.start()
    try:
        curate([str(folder)], tmp_path / "out", CurateConfig(), workers=1)
        assert tracemalloc.get_traced_memory()[1] < 200e6, "less than the bomb, and twice what may be read at once"
    finally:
        tracemalloc.stop()
    assert list(texts(tmp_path / "out")) == ["good.txt"]
    assert {row["source"]: row["reason"] for row in dropped(tmp_path / "out")} == {
        "long.jsonl:1": "line_too_long",
        "bomb.txt.gz": "file_too_long",
        "page.html": "page_too_long",
        "wide.jsonl:1": "document_too_long",
    }
