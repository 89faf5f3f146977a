"""The shape of the repository: sizes, names, mirrors, and that documents and translations tell the truth."""

import ast
import functools
import re
import string
import subprocess
import tomllib
from datetime import date
from pathlib import Path

import pytest

from qianwen.cli import COMMANDS
from qianwen.runtime.translation import chinese

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 400
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "base", "core", "manager"}
UNMIRRORED = {"parity", "faults", "e2e", "gpu", "outside"}  # by kind of test, not by source file
MIRRORED_ROOT = {"test_structure.py", "test_supply_chain.py", "test_init.py"}
# Of one machine, a registry or unfinished work. Written in pieces, because this file is searched too.
FORBIDDEN_WORDS = [
    "/wo" + "rk/",
    "/ro" + "ot/",
    "pypi." + "org",
    "files.python" + "hosted",
    "TO" + "DO",
    "FIX" + "ME",
    "NotImpl" + "ementedError",
]
TEXT = {".py", ".md", ".toml", ".txt", ".yml", ".css", ".sh", ".lock", ".cfg", ""}


@functools.cache
def tracked() -> list[Path]:
    """Every file of the project that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout: what belongs to the project is unknown")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def python_files(folder: str) -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py" and path.is_relative_to(ROOT / folder)]


def test_no_file_is_longer_than_a_reader_can_hold():
    long = {
        str(p.relative_to(ROOT)): n for p in python_files(".") if (n := len(p.read_text().splitlines())) > MAX_LINES
    }
    assert not long


def test_no_file_or_folder_has_a_name_that_says_nothing():
    named = {part.removesuffix(".py") for path in tracked() for part in path.relative_to(ROOT).parts}
    assert not named & FORBIDDEN_NAMES


def test_every_module_says_what_it_is():
    silent = [
        str(p.relative_to(ROOT)) for p in python_files("qianwen") if not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert not silent


def test_every_test_mirrors_a_source_file():
    strays = []
    for path in python_files("tests"):
        chapter, name = path.relative_to(ROOT / "tests").parts[:-1], path.name
        if name == "conftest.py" or (chapter and chapter[0] in UNMIRRORED) or (not chapter and name in MIRRORED_ROOT):
            continue
        sources = (ROOT if chapter[:1] == ("tools",) else ROOT / "qianwen") / Path(*chapter)
        stem = name.removeprefix("test_").removesuffix(".py")
        is_chapter_wide = stem == "invariance" or chapter[-1:] == (stem,) or (sources / stem).is_dir()
        if not is_chapter_wide and not (sources / f"{'__init__' if stem == 'init' else stem}.py").exists():
            strays.append(str(path.relative_to(ROOT)))
    assert not strays


def imports_of(path: Path) -> set[str]:
    """Every module of this package that a file imports."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def test_agents_get_what_they_need_handed_in():
    """They talk to any `ChatModel`: whatever computes one is below them and handed to them."""
    below = ("engine", "train", "quantize", "checkpoints", "model", "kernels")
    forbidden = tuple(f"qianwen.{chapter}" for chapter in below)
    assert imports_of(ROOT / "qianwen/align/sft.py") & {"qianwen.model.transformer"}, "imports are seen"
    strays = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in python_files("qianwen/agents")
        for name in imports_of(path)
        if name.startswith(forbidden)
    }
    assert not strays


def test_nothing_names_one_machine_or_promises_later_work():
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked()
        if path.suffix in TEXT
        for word in FORBIDDEN_WORDS
        if word in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert not found


def commands_in(document: Path) -> set[str]:
    """Names after `qianwen` in code, whether inline or in a block."""
    text = document.read_text(encoding="utf-8")
    code = re.findall(r"```(?:bash|sh|console)?\n(.*?)```", text, re.S) + re.findall(r"`([^`\n]+)`", text)
    return {name for block in code for name in re.findall(r"(?:^|[\s/])qianwen ([a-z][a-z|]*)", block)}


def documents() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def test_every_command_in_the_documents_exists():
    named = {(doc.name, name) for doc in documents() for names in commands_in(doc) for name in names.split("|")}
    assert not {(doc, name) for doc, name in named if name not in COMMANDS}


def test_every_make_target_in_the_documents_exists():
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {name for doc in documents() for name in re.findall(r"`make ([a-z0-9]+)", doc.read_text(encoding="utf-8"))}
    assert named <= targets


def test_the_readme_starts_with_a_command_and_stays_short():
    for name in ("README.md", "README.zh.md"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        assert lines.index("make demo") < 20
        assert len(lines) <= 150


def test_both_readmes_show_the_same_commands_and_code():
    english, chinese_ = (ROOT / "README.md", ROOT / "README.zh.md")
    assert commands_in(english) == commands_in(chinese_)
    python = [
        re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.S) for path in (english, chinese_)
    ]
    assert python[0] == python[1]


def test_every_path_in_the_documents_exists():
    missing = []
    names = ("README.md", "README.zh.md", "CONTRIBUTING.md", "SECURITY.md", "docs/paper_map.md", "docs/architecture.md")
    for document in [*(ROOT / name for name in names), *sorted((ROOT / "docs/guides").glob("*.md"))]:
        text = document.read_text(encoding="utf-8")
        paths = set(re.findall(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|h|cpp|toml))(?::\w+)?`", text)) | set(
            re.findall(r"\]\(([\w./-]+)\)", text)
        )
        for path in paths:
            homes = (ROOT, ROOT / "qianwen", document.parent)
            if not any((home / path).exists() for home in homes):
                missing.append(f"{document.name}: {path}")
    assert not missing


def layers_in(document: Path) -> list[str]:
    """The layers a document names, from the top: a line each in a picture, or in backticks in CONTRIBUTING.md."""
    text = document.read_text(encoding="utf-8").replace("│", "|")
    if document.name == "CONTRIBUTING.md":
        sentence = re.search(r"^\* \*\*Imports only go down.*?:(.*?`runtime`)", text, re.S | re.M)
        return re.findall(r"`([^`]+)`", sentence[1]) if sentence else []
    picture = re.search(r"^```\n((?:[\d ]*) cli  .*?)^```", text, re.S | re.M)
    lines = picture[1].splitlines() if picture else []
    return [re.split(r"  +", re.sub(r"^[\d ]+", "", line), maxsplit=1)[0] for line in lines]


@pytest.mark.parametrize("name", ["README.md", "README.zh.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_the_layers_in_the_documents_are_those_of_the_contract(name):
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = [contract["layers"] for contract in contracts["contracts"] if contract["type"] == "layers"]
    assert layers_in(ROOT / name) == layers


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_log_entry_has_a_date_and_a_status_and_is_in_the_contents():
    contents, *entries = re.split(r"^## (?=\d)", (ROOT / "docs" / "log.md").read_text(encoding="utf-8"), flags=re.M)
    assert entries and not re.findall(r"^## (?!\d|Contents$).*", contents + "".join(entries), re.M)
    anchors = [anchor(entry.partition("\n")[0]) for entry in entries]
    expected = []
    for number, entry in enumerate(entries):
        form = r"(\d{4}-\d\d-\d\d) (\S.*)\n\nStatus: (?:(kept|negative)(?: \(.+\))?|(superseded) by \[.+)\n"
        match = re.match(form, entry)
        assert match, f"no date, title or allowed status: {entry[:100]!r}"
        date.fromisoformat(match[1])
        expected.append((match[1], match[2], anchors[number], match[3] or match[4]))
        targets = re.findall(r"\]\(#([^)]+)\)", match[0])
        assert all(target in anchors[number + 1 :] for target in targets), f"not a later entry: {targets}"
        assert bool(targets) == ("superseded by" in match[0])
        assert set(re.findall(r"\]\(#([^)]+)\)", entry)) <= set(anchors), f"a link of {match[2]!r} has no target"
    listed = re.findall(r"^\| (\S+) \| \[(.+)\]\(#(.+)\) \| (\w+) \|$", contents, re.M)
    assert sorted(listed) == sorted(expected)
    assert [row[0] for row in expected] == sorted(row[0] for row in expected), "entries are in date order"


def test_every_guide_and_example_is_run_by_e2e():
    runner = "\n".join(path.read_text() for path in python_files("tests/e2e"))
    for folder, pattern in (("docs/guides", "*.md"), ("examples", "*.py")):
        if list((ROOT / folder).glob(pattern)):
            assert f'"{folder}"' in runner and f'"{pattern}"' in runner, f"tests/e2e must run every file of {folder}"


def spoken_in(path: Path) -> set[str]:
    """Every template a file gives to `tr`: a literal, or a name that a literal was assigned to."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    given = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "tr"]
    names = {argument.id for argument in given if isinstance(argument, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in names:
            given.append(node.value)
    branches = [
        part for node in given for part in ([node.body, node.orelse] if isinstance(node, ast.IfExp) else [node])
    ]
    return {part.value for part in branches if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def spoken() -> set[str]:
    """Every template of the package, and the command table's descriptions."""
    return {about for _, about in COMMANDS.values()}.union(*map(spoken_in, python_files("qianwen")))


def placeholders(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def test_every_message_has_a_chinese_form_with_the_same_placeholders():
    missing = sorted(spoken() - chinese().keys())
    assert not missing, f"{len(missing)} messages have no line in runtime/zh.toml"
    assert not [text for text in chinese() if placeholders(text) != placeholders(chinese()[text])]
    assert not sorted(chinese().keys() - spoken()), "nobody says this any more"
