"""Messages in two languages."""

import re

import pytest

from qianwen.runtime import translation
from qianwen.runtime.translation import tr


@pytest.mark.parametrize(
    ("setting", "found"), [("zh", "zh"), ("zh_CN.UTF-8", "zh"), ("ZH", "zh"), ("en", "en"), ("", "en")]
)
def test_the_setting_decides(monkeypatch, setting, found):
    monkeypatch.setenv("QIANWEN_LANG", setting)
    assert translation.language() == found


def test_chinese_where_there_is_some_and_english_where_not(monkeypatch):
    monkeypatch.setattr(translation, "chinese", lambda: {"no file {path}": "没有文件 {path}"})
    assert tr("no file {path}", path="a{b}") == "no file a{b}"
    monkeypatch.setenv("QIANWEN_LANG", "zh")
    assert tr("no file {path}", path="a{b}") == "没有文件 a{b}"
    assert tr("never translated {n:.1f}", n=1.25) == "never translated 1.2"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 rows read"), (1, "1 row read"), (2, "2 rows read"), (1000, "1,000 rows read"), (1.0, "1.0 row read")],
)
def test_one_thing_is_not_called_by_its_plural(count, text):
    assert tr("{count:,} row{count:plural} read", count=count) == text


COUNTED = "dialogues|rows|messages|requests|answers|items|cores|documents read|documents kept"


def test_no_message_counts_one_thing_in_the_plural():
    """Of these there can be one, so a message with their number uses the format `plural`."""
    assert not [text for text in translation.chinese() if re.search(rf"\{{\w+(:,)?\}} ({COUNTED})\b", text)]
