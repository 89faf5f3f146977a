"""The categories of harm."""

import pytest

from qianwen.align.safety.taxonomy import LANGUAGES, categories, category_title


def test_every_category_has_a_name_and_reasons_in_both_languages():
    assert list(categories()) == ["violence", "bias", "sexual", "self_harm", "crime", "privacy", "jailbreak"]
    for category in categories().values():
        assert all(category.titles[language] and len(category.reasons[language]) >= 3 for language in LANGUAGES)


def test_titles_follow_the_language_and_other_names_stay(monkeypatch: pytest.MonkeyPatch):
    assert category_title("self_harm") == "self-harm" and category_title("homonyms") == "homonyms"
    monkeypatch.setenv("QIANWEN_LANG", "zh")
    assert category_title("self_harm") == "自我伤害"
