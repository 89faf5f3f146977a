"""Messages in two languages."""

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
