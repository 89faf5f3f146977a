"""Chinese is whole: chosen by the locale, and every help of every command is translated."""

import os
import re
import subprocess
import sys

import pytest

from qianwen.cli import COMMANDS
from qianwen.cli.arguments import _chinese
from qianwen.runtime import translation

SUBCOMMANDS = {
    "data": [
        *("fetch", "curate", "report", "trace", "build", "train-filter", "reject", "ablate", "mix"),
        *("safety", "service", "self-instruct", "system-prompts", "select", "label"),
    ],
    "tokenizer": ["train", "extend", "compression", "encode", "convert"],
    "runs": ["list", "follow", "compare", "delete"],
    "keys": ["list", "add", "revoke"],
    "sft": ["tiny", "some/model"],
    "pretrain": ["tiny"],
    "extend": ["tiny"],
}
WALK = """
import contextlib, io, sys
from qianwen.cli import main
for line in sys.stdin:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(line.split())
        except SystemExit:
            pass
    print("=== " + line.strip() + "\\n" + out.buffer.getvalue().decode())
"""


def walk(lines: list[str], columns: int = 100) -> dict[str, str]:
    """What each command prints, in one process whose locale is Chinese."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "QIANWEN_LANG"))}
    environment |= {"LANG": "zh_CN.UTF-8", "PYTHONIOENCODING": "utf-8", "COLUMNS": str(columns)}
    done = subprocess.run([sys.executable, "-c", WALK], input="\n".join(lines), capture_output=True, text=True,
                          env=environment, encoding="utf-8", check=True)  # fmt: skip
    pages = done.stdout.split("=== ")[1:]
    return {page.partition("\n")[0]: page.partition("\n")[2] for page in pages}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    lines = ["--help", *(f"{command} --help" for command in COMMANDS)]
    lines += [f"{command} {name} --help" for command, names in SUBCOMMANDS.items() for name in names]
    return walk(lines)


def english_sentences(page: str) -> list[str]:
    """Runs of three English words, apart from code, names, defaults and choices."""
    text = re.sub(r"^用法：.*$|[│╭╮╰╯─•]+|\s+", " ", page, flags=re.M)
    text = re.sub(r"qianwen(?: [a-z-]+)+|en zh zh-Hant", "|", text)
    text = re.sub(r"`[^`]*`|\{[^}]*\}|\[[^\]]*\]|\(默认：[^)]*\)|--[\w.-]+|[A-Za-z]+(?:-[a-z]+)+", "|", text)
    text = re.sub(r"\b(?:JSON Lines|GGUF|Markdown|Jaccard|torch compile|git)\b", "|", text)
    return re.findall(r"\b[A-Za-z][a-z']*(?: [a-z']{2,}){2,}", text)


def test_no_help_has_an_english_sentence(pages):
    assert len(pages) > 40
    english = {name: found for name, page in pages.items() if (found := english_sentences(page))}
    assert not english
    assert all(len(re.findall(r"[\u4e00-\u9fff]", page)) > 20 for page in pages.values())


def test_every_chinese_help_text_is_shown_somewhere(pages):
    """A translation that no page shows is of a text that nobody says any more."""
    shown = re.sub(r"[│\s]+", "", "".join(pages.values()))
    unused = [english for english, chinese in _chinese()["help"].items() if re.sub(r"\s+", "", chinese) not in shown]
    assert not unused


def test_boxes_are_straight(pages):
    from rich.cells import cell_len

    for name, page in pages.items():
        box = [line for line in page.splitlines() if line[:1] in "│╭╰" and line[:1]]
        widths = {cell_len(line) for line in box}
        assert all(line.endswith(("│", "╮", "╯")) for line in box), name
        assert max(widths, default=0) - min(widths, default=0) <= 1, (name, widths)


def test_errors_of_arguments_are_chinese():
    lines = ["chat --temperatur 1", "chat --temperature x", "generate", "data", "keys add", "runs compare a --metrc x",
             "export a --format zip --to b", "serve --port"]  # fmt: skip
    for name, page in walk(lines).items():
        assert re.search(r"[\u4e00-\u9fff]{3}", page) and "For full helptext" not in page, (name, page)
        assert "could not convert" not in page and "invalid literal" not in page


def test_states_and_headings_of_runs_are_chinese(tmp_path, monkeypatch):
    from qianwen.runtime.files import RunFolder

    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))
    for state in ("finished", "failed", "interrupted"):
        RunFolder.create(state, "sft", {}).set_state(state)
    [page] = walk(["runs"]).values()
    assert all(word in page for word in ("状态", "已完成", "失败", "已中断")) and not re.search("finished\\s+20", page)


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({}, "en"), ({"LANG": "zh_CN.UTF-8"}, "zh"), ({"LANG": "zh_TW.Big5"}, "zh"), ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, "zh"), ({"LANG": "zh_CN", "LC_MESSAGES": "fr_FR"},
        "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"), ({"LC_MESSAGES": "en_US", "LC_ALL": "zh_HK.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, "zh"), ({"LANG": "zh_CN.UTF-8", "QIANWEN_LANG": "en"}, "en"),
        ({"LANG": "en_US.UTF-8", "QIANWEN_LANG": "zh"}, "zh"), ({"LANG": "zh_CN.UTF-8", "QIANWEN_LANG": ""}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_CTYPE": "en_US.UTF-8"}, "zh"),
    ],
)  # fmt: skip
def test_the_locale_chooses_the_language(monkeypatch, variables, language):
    for name in translation.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert translation.language() == language
