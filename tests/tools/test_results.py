"""The page of results: it is what its generator makes of the JSON files, and a person can read it."""

import importlib
import json
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/results.md"
FILES = sorted((ROOT / "benchmarks/results").glob("*.json"))
XEON = {"cpu": "Intel(R) Xeon(R) Processor, model 207 (avx512_bf16, amx_tile)", "cores": 2}


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "tools")
    return importlib.import_module("results")


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "tools")
    return importlib.import_module("result_values")


def keys(value: Any) -> set[str]:
    """Every key of a JSON value at any depth."""
    if not isinstance(value, dict):
        return set()
    return set(value).union(*map(keys, value.values()))


def named_rows(results: ModuleType) -> set[str]:
    """Every row name that the layout gives."""
    chapters = [results.tomllib.loads(file.read_text("utf-8")) for file in results.CHAPTERS.glob("*.toml")]
    tables = [table for chapter in chapters for section in chapter["section"] for table in section["table"]]
    return {name for table in tables for name in table["rows"].values()}


def test_the_page_is_what_the_generator_writes(results):
    assert PAGE.read_text("utf-8") == results.render(), "run `make results`"


def test_the_page_has_no_python_values_and_no_json_keys(results):
    page = PAGE.read_text("utf-8")
    assert "{'" not in page and "['" not in page and "None" not in page
    assert not re.search(r"\bnan\b", page, re.I)
    words = re.sub(r"\]\([^)]*\)", "", page)
    raw = {
        key
        for file in FILES
        for part in ("rows", "values", "ratios")
        for key in keys(json.loads(file.read_text())[part])
    }
    raw = {key for key in raw if re.search(r"[_:%/]", key)} - named_rows(results)
    assert len(raw) > 100
    assert not [key for key in raw if key in words]


def test_every_file_is_shown_and_every_table_links_its_script_and_numbers():
    page = PAGE.read_text("utf-8")
    assert not [file.name for file in FILES if f"(../benchmarks/results/{file.name})" not in page]
    assert not [link for link in re.findall(r"\]\((\.\./[^)]+)\)", page) if not (PAGE.parent / link).exists()]
    sections = page[page.index("\n## ") :]
    tables = re.findall(r"(?:^\|.*\n)+\n(.*)$", sections, re.M)
    assert len(tables) > 25
    assert all(re.match(r"Script: \[\w+\.py\]\(.*\) · numbers: \[", after) for after in tables)


def test_a_file_or_pair_that_no_table_shows_is_an_error(values):
    files = {"a.json": {"rows": {"x": {"ratio": 1}, "y": {"ratio": 2}}}, "b.json": {"rows": {}}}
    shown = values.Results(files)
    shown.value("a.json", ["rows", "x", "ratio"])
    assert shown.unused() == ["b.json", "a.json: y"]


@pytest.mark.parametrize("path", [["values", "absent"], ["values", "a*"]])
def test_a_path_that_is_absent_or_ambiguous_is_an_error(values, path):
    with pytest.raises(SystemExit, match="keys match"):
        values.Results({"a.json": {"values": {"ab": 1, "ac": 2}}}).value("a.json", path)


@pytest.mark.parametrize(
    ("value", "show", "text"),
    [
        (32933.66, "number", "32,900"),
        (9.996, "number", "10.0"),
        (0.00012345, "number", "0.000123"),
        (3.3009, "number", "3.30"),
        (8.3, "number", "8.3"),
        ([1.0, 5.0, 3.0], "number", "3"),
        (0, "number", "0"),
        (0.9666666, "percent", "96.7 %"),
        (0.57, "percent", "57 %"),
        (-0.004, "change", "0 %"),
        (-0.079, "change", "-0.08 %"),
        (10.322, "change", "+10.3 %"),
        ([0.3, 0.18, 0.44, 50], "interval", "30 % (18 to 44)"),
        (0.0006371, "thousandths", "0.637"),
        ([0.25, 0.5], "inverse", "2.67"),
        (math.nan, "number", "–"),
        (None, "percent", "–"),
        ({"ours": [4.0, 6.0, 5.0], "peer": [2.0, 2.0, 2.0]}, "range", "2 to 3"),
        ({"ours": [4.0], "peer": [2.0]}, "range", "one run"),
        ({"ours": [4.0, 6.0, 5.0], "peer": [2.0, 2.0, 5.0]}, "ratio", "2"),
    ],
)
def test_values_are_printed_for_people(values, value, show, text):
    assert values.cell(value, show) == text


@pytest.mark.parametrize(
    ("machine", "short", "long"),
    [
        (XEON, "Intel Xeon, AMX (model 207), 2 cores", "Intel Xeon, AMX (model 207), 2 cores"),
        (XEON | {"gpu": "NVIDIA H200"}, "NVIDIA H200", "NVIDIA H200; Intel Xeon, AMX (model 207), 2 cores"),
        (
            {"cpu": "AMD EPYC 9R14 96-Core Processor, model 17 (avx512_bf16, avx512_vnni)", "cores": 4},
            "AMD EPYC 9R14, AVX-512 (model 17), 4 cores",
            "AMD EPYC 9R14, AVX-512 (model 17), 4 cores",
        ),
    ],
)
def test_a_machine_has_a_short_name(values, machine, short, long):
    assert values.machine_name(machine, is_short=True) == short
    assert values.machine_name(machine) == long


@pytest.mark.parametrize(
    ("kind", "ours", "peer", "better", "verdict"),
    [
        ("speed", 2.0, 1.0, "higher", "faster"),
        ("speed", 0.97, 1.0, "higher", "equal"),
        ("time", 2.0, 1.0, "lower", "slower"),
        ("memory", 1.0, 2.0, "lower", "less memory"),
        ("accuracy", 0.97, 1.0, "higher", "worse"),
        ("loss", 1.005, 1.0, "lower", "equal"),
        ("deadline", 1.01, 1.0, "lower", "over the limit"),
    ],
)
def test_a_verdict_follows_the_better_direction(results, kind, ours, peer, better, verdict):
    files = {"a.json": {"machine": XEON, "values": {"x": ours, "y": peer}, "rows": {}}}
    claims = {"file": "a.json", "peer": "them", "kind": kind, "at": ["values"]}
    claims["values"] = [{"what": "this", "ours": ["x"], "beside": ["y"]}]
    (line,) = results.headlines(results.Results(files), claims)
    cells = line.split(" | ")
    assert cells[0] == "| this" and cells[2].endswith("(them)")
    assert cells[4:6] == [better, verdict]


def test_the_lowest_of_several_pairs_is_the_headline(results):
    pairs = {name: {"ours": [ours], "peer": [1.0], "ratio": ours} for name, ours in (("a", 3.0), ("b", 2.0))}
    claims = {"file": "a.json", "peer": "them", "kind": "speed", "rows": {"*": "slowest of {count}"}}
    (line,) = results.headlines(results.Results({"a.json": {"machine": XEON, "rows": pairs}}), claims)
    assert line.startswith("| slowest of 2 | 2 | 1 (them) | 2 | higher | faster |")
