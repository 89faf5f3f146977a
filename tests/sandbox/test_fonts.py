"""Matplotlib inside finds a font with Chinese under every name that programs use."""

import json
from dataclasses import dataclass

import pytest

from qianwen.sandbox import fonts, visible


def listed() -> tuple[dict, str]:
    files = fonts.settings()
    (name,) = (name for name in files if name.endswith(".json"))
    return json.loads(files[name]), files[f"{fonts.FOLDER}/matplotlibrc"].decode()


def test_only_fonts_that_a_program_sees_are_listed():
    manager, _ = listed()
    shown = tuple(visible.readable())
    paths = {entry["fname"] for entry in manager["ttflist"] if entry["fname"].startswith("/")}
    assert manager["ttflist"] and all(path.startswith(shown) for path in paths)


def test_names_of_other_systems_are_those_of_our_chinese_font():
    if not fonts.has_chinese():
        pytest.skip("no font with Chinese is installed")
    manager, settings = listed()
    files: dict[str, set[str]] = {}
    for entry in manager["ttflist"]:
        files.setdefault(entry["name"], set()).add(entry["fname"])
    chosen = settings.split("font.sans-serif: ")[1].split(",")[0]
    assert files["SimHei"] == files["Microsoft YaHei"] == files[chosen] and files["SimSun"]
    assert "axes.unicode_minus: False" in settings


@dataclass(frozen=True)
class Entry:
    name: str


def test_the_best_fonts_are_chosen_by_name():
    names = ["Arial", "WenQuanYi Zen Hei", "SimHei", "Noto Serif CJK JP", "SimSun"]
    assert fonts.chinese_fonts([Entry(name) for name in names]) == ("WenQuanYi Zen Hei", "SimSun")
    assert fonts.chinese_fonts([Entry("Arial")]) == (None, None)


def test_an_installed_font_keeps_its_own_name():
    entries = [Entry("SimHei"), Entry("Noto Sans CJK SC")]
    made = fonts._aliases(entries, "Noto Sans CJK SC", ("SimHei", "PingFang SC"))
    assert made == [Entry("PingFang SC")]
    assert not fonts._aliases(entries, None, ("SimHei",))
