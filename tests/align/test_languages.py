import pytest

from qianwen.align.languages import is_in_language


@pytest.mark.parametrize("text", ["天空是蓝色的。", "我用的是iPhone手机。", "GPS是一种定位系统，用卫星确定位置。"])
def test_chinese(text):
    assert is_in_language(text, "zh") and not is_in_language(text, "en")


@pytest.mark.parametrize("text", ["The sky is blue.", "Café", "The word 好 means good in Chinese, as you know."])
def test_english(text):
    assert is_in_language(text, "en") and not is_in_language(text, "zh")


def test_numbers_are_in_both_and_mixed_text_is_in_none():
    assert is_in_language("42", "en") and is_in_language("42", "zh")
    assert not is_in_language("OK 没问题 yes", "en") and not is_in_language("OK yes 好 fine", "zh")
