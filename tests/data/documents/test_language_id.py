"""Languages of people and of programs."""

import pytest

pytest.importorskip("fasttext", reason="fastText comes with the extra `data`")
from qianwen.data.documents.language_id import SIMPLIFIED, TRADITIONAL, code_language, is_traditional, languages

# The report's languages (figure 3), one sentence each, written for this test.
SENTENCES = {
    "th": "เมื่อวานนี้ฝนตกหนักมากจนถนนหน้าบ้านน้ำท่วม",
    "he": "אתמול ירד גשם כבד והרחוב שלפני הבית הוצף",
    "ar": "هطل المطر أمس بغزارة حتى غمرت المياه الشارع أمام البيت",
    "ko": "어제 비가 많이 와서 집 앞 길이 물에 잠겼습니다",
    "vi": "Hôm qua trời mưa to đến nỗi con đường trước nhà bị ngập nước",
    "zh": "昨天雨下得很大，家门前的路都被水淹了，我们没有出门",
    "zh-Hant": "昨天雨下得很大，家門前的路都被水淹了，我們沒有出門",
    "ja": "昨日は雨がひどく降って、家の前の道が水に浸かりました",
    "tr": "Dün o kadar çok yağmur yağdı ki evin önündeki yolu su bastı",
    "id": "Kemarin hujan turun sangat deras sehingga jalan di depan rumah tergenang air",
    "pl": "Wczoraj padał tak mocny deszcz, że woda zalała ulicę przed domem",
    "ru": "Вчера шёл такой сильный дождь, что улицу перед домом затопило",
    "nl": "Gisteren regende het zo hard dat de straat voor het huis onder water stond",
    "pt": "Ontem choveu tanto que a rua em frente de casa ficou inundada",
    "it": "Ieri ha piovuto così forte che la strada davanti alla casa si è allagata",
    "de": "Gestern regnete es so stark, dass die Straße vor dem Haus überflutet wurde",
    "es": "Ayer llovió tanto que la calle delante de la casa quedó inundada",
    "fr": "Hier il a plu si fort que la rue devant la maison était inondée",
    "en": "Yesterday it rained so hard that the street in front of the house was flooded",
    "uk": "Вчора йшов такий сильний дощ, що вулицю перед будинком затопило",
}  # fmt: skip


def test_the_languages_of_the_report_are_told_apart() -> None:
    found = languages(list(SENTENCES.values()))
    assert [one.code for one in found] == list(SENTENCES)
    assert all(0.5 < one.probability <= 1 for one in found)


def test_what_holds_no_letter_has_no_language() -> None:
    assert [(one.code, one.probability) for one in languages(["", "  \n", "12 + 30 = 42", "\x00"])] == [
        ("unknown", 0.0)
    ] * 4


def test_the_two_scripts_of_chinese_are_pairs() -> None:
    assert len(SIMPLIFIED) == len(TRADITIONAL) and len(set(SIMPLIFIED)) > 600
    assert is_traditional("這是") and not is_traditional("这是") and not is_traditional("人山人海")


@pytest.mark.parametrize(
    ("name", "text", "language"),
    [
        ("a/b.py", "", "python"), ("x.CPP", "", "c++"), ("Makefile", "", "makefile"),
        ("run", "#!/usr/bin/env bash\nls", "shell"),
        ("run", "#!/usr/bin/python3 -u\n", "python"), ("letter", "Dear Sir,\nimport duties rose.\nYours", ""),
        ("x", "package main\n\nimport (\n\t\"fmt\"\n)\n\nfunc main() {\n}\n", "go"),
        ("x", "import os\n\ndef f(x):\n    return x\n\nclass A:\n    pass\n", "python"),
        ("x", "#include <stdio.h>\n#define N 3\nint main(void) {\n}\n", "c"),
        ("x", "use std::io;\nfn main() {\n    let mut x = 1;\n}\n", "rust"),
    ],
)  # fmt: skip
def test_programming_languages(name: str, text: str, language: str) -> None:
    assert code_language(name, text) == language
