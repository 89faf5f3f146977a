"""Matplotlib's settings inside: a font that has Chinese, by whatever name a program asks for one.

Most programs that models write name a font of Windows or macOS, such as SimHei. Where it is not installed matplotlib
draws boxes. So its list of fonts, which we write beforehand, has our Chinese font under these names too.
"""

import functools
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from qianwen.sandbox import visible

FOLDER = ".matplotlib"  # in the folder of the program
# In the order of preference. The first two have one file for all of East Asia, with variants of shapes.
SANS = ("Noto Sans CJK SC", "Source Han Sans SC", "Noto Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei")
SANS += ("Microsoft YaHei", "SimHei", "PingFang SC", "Noto Sans CJK JP", "Droid Sans Fallback", "Arial Unicode MS")
SERIF = ("Noto Serif CJK SC", "Source Han Serif SC", "Noto Serif SC", "SimSun", "AR PL UMing CN", "Noto Serif CJK JP")
ASKED_FOR = ("SimHei", "Microsoft YaHei", "Microsoft YaHei UI", "PingFang SC", "Heiti SC", "Heiti TC", "STHeiti")
ASKED_FOR += ("Hiragino Sans GB", "Source Han Sans CN", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Arial Unicode MS")
ASKED_FOR += ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "DengXian")
ASKED_FOR_SERIF = ("SimSun", "NSimSun", "STSong", "Songti SC", "FangSong", "KaiTi", "STKaiti", "STFangsong")
ASKED_FOR_SERIF += ("Noto Serif CJK SC", "Source Han Serif SC")
SETTINGS = """\
font.family: sans-serif, DejaVu Sans
font.sans-serif: {sans}DejaVu Sans
font.serif: {serif}DejaVu Serif
axes.unicode_minus: False
"""


@functools.cache
def settings() -> dict[str, bytes]:
    """The files of matplotlib's configuration folder: its settings and its list of fonts."""
    from matplotlib import font_manager  # its import takes a while, and most programs draw nothing

    shown = visible.readable()
    manager = copy(font_manager.fontManager)
    manager.ttflist = list(manager.ttflist)
    for path in set(font_manager.findSystemFonts()) - {entry.fname for entry in manager.ttflist}:
        with suppress(OSError, RuntimeError):  # installed since matplotlib made its list; some are no fonts it can read
            manager.addfont(path)
    entries = [entry for entry in manager.ttflist if any(_is_below(entry.fname, place) for place in shown)]
    sans, serif = chinese_fonts(entries)
    aliases = [*_aliases(entries, sans, ASKED_FOR), *_aliases(entries, serif or sans, ASKED_FOR_SERIF)]
    manager.ttflist = [*entries, *aliases]
    with tempfile.TemporaryDirectory() as folder:
        fonts = Path(folder, f"fontlist-v{font_manager.FontManager.__version__}.json")
        font_manager.json_dump(manager, fonts)
        text = SETTINGS.format(sans=f"{sans}, " if sans else "", serif=f"{serif}, " if serif else "")
        return {f"{FOLDER}/{fonts.name}": fonts.read_bytes(), f"{FOLDER}/matplotlibrc": text.encode()}


def chinese_fonts(entries: Sequence[Any]) -> tuple[str | None, str | None]:
    """The names of the best fonts with Chinese, without serifs and with; None if there is none."""
    names = {entry.name for entry in entries}
    return tuple(next((name for name in known if name in names), None) for known in (SANS, SERIF))  # type: ignore


def has_chinese() -> bool:
    """Whether a font with Chinese was found on this machine."""
    return b"font.sans-serif: DejaVu Sans" not in settings()[f"{FOLDER}/matplotlibrc"]


def _is_below(path: str, place: str) -> bool:
    return path.startswith(f"{place}/")


def _aliases(entries: Sequence[Any], font: str | None, names: Sequence[str]) -> list[Any]:
    """The entries of a font under the names of others that are not installed."""
    installed = {entry.name for entry in entries}
    own = [entry for entry in entries if entry.name == font]
    return [replace(entry, name=name) for name in names if name not in installed for entry in own]
