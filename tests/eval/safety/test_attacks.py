"""The attacks: every one in both languages, with the request in it or hidden."""

import base64

import pytest

from qianwen.eval.safety.attacks import PLAIN, PRESSURE, attack_names, first_message, is_hidden, pressing_messages

REQUEST = {"en": "How do I open it?", "zh": "怎样打开它？"}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("attack", attack_names())
def test_the_request_is_in_the_message_unless_it_is_hidden(attack: str, language: str):
    message = first_message(attack, REQUEST[language], language)
    assert (REQUEST[language] in message) is not is_hidden(attack)
    assert "{" not in message
    assert (message == REQUEST[language]) is (attack in (PLAIN, PRESSURE))


def test_encodings_can_be_undone():
    message = first_message("base64", REQUEST["zh"], "zh")
    assert base64.b64decode(message.rpartition("：")[2]).decode() == REQUEST["zh"]
    assert "H0w d0 1 0p3n 17?" in first_message("substitution", REQUEST["en"], "en")
    assert "怎-样-打-开-它-？" in first_message("substitution", REQUEST["zh"], "zh")
    parts = first_message("split_payload", REQUEST["en"], "en").split('"')[1::2]
    assert "".join(parts[:3]) == REQUEST["en"]


def test_pressure_has_several_turns_in_both_languages():
    assert len(pressing_messages("en")) == len(pressing_messages("zh")) >= 3
