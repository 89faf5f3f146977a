"""Pages and texts in the encodings of the web: every character comes through, a bad byte costs one U+FFFD."""

from pathlib import Path

import pytest

pytest.importorskip("resiliparse", reason="Resiliparse comes with the extra `data`")
from qianwen.data.documents.document import Rejected
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.data.documents.encoding_choice import decoded
from qianwen.data.documents.encodings import decode, encoding_of
from qianwen.data.documents.extract import page_text
from qianwen.data.documents.readers import read_file

CHINESE = (
    "朱镕基在会议上谈到了河边老城的历史，人们多年来以捕鱼和与内地村庄的小规模贸易为生。那年春天，议会决定重建市场大厅。"
)
TRADITIONAL = "圖書館保存著第一任港務長的信件，他三十年來每天早晨都記錄天氣，孩子們在河邊收集果實，賣給從城裡來的遊客。"
JAPANESE = "図書館には最初の港長の手紙が保存されていて、彼は三十年間毎朝天気を記録していた。①㈱髙橋さんの電話。"
KOREAN = "도서관에는 첫 번째 항만장의 편지가 보관되어 있는데, 그는 삼십 년 동안 매일 아침 날씨를 기록했다. 똠방각하"
RUSSIAN = "В библиотеке хранятся письма первого начальника порта, который тридцать лет каждое утро записывал погоду."
FRENCH = "Le café du port était fermé depuis l’été précédent, mais les habitués se retrouvaient encore là."
POLISH = "W bibliotece znajdują się listy pierwszego kapitana portu; żółte liście spadały na ścieżkę."
GREEK = "Η βιβλιοθήκη φυλάσσει τις επιστολές του πρώτου λιμενάρχη, που έγραφε τον καιρό κάθε πρωί."
HEBREW = "הספרייה שומרת את מכתביו של מנהל הנמל הראשון, שרשם את מזג האוויר בכל בוקר."
THAI = "ห้องสมุดเก็บรักษาจดหมายของนายท่าเรือคนแรก เขาจดบันทึกสภาพอากาศทุกเช้า"


def page(head: str, body: str) -> str:
    return f"<html><head>{head}<title>x</title></head><body><article><p>{body}</p><p>{body}</p></article></body></html>"


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("gb2312", "gbk", CHINESE),
        ("GBK", "gb18030", CHINESE + "㐀𠀀€"),
        ("x-gbk", "gbk", CHINESE),
        ("gb18030", "gb18030", CHINESE),
        ("big5", "big5hkscs", TRADITIONAL + "嘅啲喺"),
        ("Big5-HKSCS", "big5hkscs", TRADITIONAL),
        ("shift_jis", "cp932", JAPANESE),
        ("x-sjis", "cp932", JAPANESE),
        ("windows-31j", "cp932", JAPANESE),
        ("ks_c_5601-1987", "cp949", KOREAN),
        ("euc-kr", "cp949", KOREAN),
        ("koi8-r", "koi8-r", RUSSIAN),
        ("windows-1251", "cp1251", RUSSIAN),
        ("ibm866", "cp866", RUSSIAN),
        ("x-mac-cyrillic", "mac-cyrillic", RUSSIAN),
        ("latin1", "cp1252", FRENCH),
        ("iso-8859-1", "cp1252", FRENCH + "€"),
        ("us-ascii", "cp1252", FRENCH),
        ("iso-8859-2", "iso8859-2", POLISH),
        ("iso-8859-7", "iso8859-7", GREEK),
        ("iso-8859-8-i", "iso8859-8", HEBREW),
        ("tis-620", "cp874", THAI),
        ("utf-8", "utf-8", CHINESE + FRENCH),
        ("utf-16", "utf-8", FRENCH),
        ("unicode", "utf-8", FRENCH),
    ],
)
def test_a_declared_page_comes_through_whole(label: str, codec: str, text: str) -> None:
    read = page_text(page(f"<meta charset = '{label}'>", text).encode(codec))
    assert isinstance(read, str) and text in read


@pytest.mark.parametrize("codec", ["euc_jp", "iso2022_jp"])
def test_characters_of_companies_in_japanese(codec: str) -> None:
    """Python's codecs lack ①, ㈱ and 髙, which browsers read in every Japanese encoding."""
    row_13 = {"①": b"\xad\xa1", "㈱": b"\xad\xea", "髙": b"\xfc\xe2"}
    body = b""
    for character in JAPANESE:
        data = row_13.get(character) or character.encode("euc_jp")
        body += data if codec == "euc_jp" else b"\x1b$B" + bytes(code & 0x7F for code in data) + b"\x1b(B"
    assert decode(body, codec) == JAPANESE
    declared = page("<meta http-equiv=Content-Type content='text/html; charset=%s'>", "@")
    data = declared.replace("%s", codec.replace("_", "-").replace("2022-", "-2022-")).encode().replace(b"@", body)
    assert isinstance(read := page_text(data), str) and JAPANESE in read


@pytest.mark.parametrize(
    ("codec", "text", "bad"),
    [
        ("utf-8", FRENCH, b"\xe9 "),
        ("utf-8", CHINESE, b"\xff"),
        ("gb18030", CHINESE, b"\xff"),
        ("big5", TRADITIONAL, b"\xff"),
        ("shift_jis", JAPANESE, b"\xfd\xff"[1:]),
        ("euc-kr", KOREAN, b"\x80"),
        ("windows-1253", GREEK, b"\xff"),
    ],
)
def test_a_bad_byte_costs_one_character(codec: str, text: str, bad: bytes) -> None:
    python = {"shift_jis": "cp932", "euc-kr": "cp949", "big5": "big5hkscs"}.get(codec, codec)
    data = page(f"<meta charset={codec}>", "@").encode().replace(b"@", text.encode(python) + bad + text.encode(python))
    read = page_text(data)
    assert isinstance(read, str) and read.count("\ufffd") == 2 and read.count(text) == 4  # the paragraph is there twice


def test_a_broken_pair_does_not_hide_what_follows() -> None:
    assert decode(b"\xc4<b>\xc4\xe3", "gb18030") == "\ufffd<b>你"
    assert decode(b"\xa4\xff\xa4\xe9", "big5hkscs").startswith("\ufffd")
    assert decode("日本".encode("cp932") + b"\x81", "cp932") == "日本\ufffd"
    assert decode(b"\x80\xfe\x59", "gb18030") == "€\u9fb4"  # moved by the edition of 2022
    assert decode(b"\x93yes\x94 \x81", "cp1252") == "“yes” \x81"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbf" + page("<meta charset=gb2312>", FRENCH).encode(), FRENCH),
        (b"\xff\xfe" + page("<meta charset=gb2312>", CHINESE).encode("utf-16-le"), CHINESE),
        (b"\xfe\xff" + page("", RUSSIAN).encode("utf-16-be"), RUSSIAN),
        (page("", GREEK).encode("utf-16-le"), GREEK),
        (b"\xff\xfe\x00\x00" + page("", THAI).encode("utf-32-le"), THAI),
    ],
)
def test_a_byte_order_mark_is_stronger_than_any_declaration(data: bytes, text: str) -> None:
    read = page_text(data, "windows-1251" if data.startswith(b"\xef") else "")
    assert isinstance(read, str) and text in read


@pytest.mark.parametrize(
    "head",
    [
        "<meta http-equiv='refresh' content='0;url=/?charset=gb2312'><meta charset=utf-8>",
        "<!-- <meta charset=gb2312> --><meta charset=utf-8>",
        "<script>var x = '<meta charset=gb2312>'</script><meta charset=UTF8>",
        "<meta charset=no-such-thing><meta charset=utf-8>",
        "<meta content='text/html; charset=utf-8' http-equiv=CONTENT-TYPE>",
        "<style>" + "a{b:c}" * 2000 + "</style><meta charset=utf-8>",
        "",
    ],
)
def test_what_is_no_declaration_declares_nothing(head: str) -> None:
    read = page_text(page(head, FRENCH + CHINESE).encode())
    assert isinstance(read, str) and FRENCH + CHINESE in read


def test_the_order_of_declarations() -> None:
    data = page("<meta charset=iso-8859-1>", CHINESE).encode("gbk")
    assert CHINESE in str(page_text(data, "gb2312"))
    xml = "<?xml version='1.0' encoding='windows-1251'?>" + page("", RUSSIAN)
    assert RUSSIAN in str(page_text(xml.encode("cp1251")))
    false = page("<meta charset=utf-8>", FRENCH).encode("cp1252")  # most of it cannot be UTF-8
    assert FRENCH in str(page_text(false))


@pytest.mark.parametrize("label", ["iso-2022-kr", "HZ-GB-2312", "iso-2022-cn", "replacement"])
def test_what_browsers_refuse_is_set_aside(label: str) -> None:
    found = page_text(page(f"<meta charset={label}>", FRENCH).encode("ascii", "ignore"))
    assert isinstance(found, Rejected) and found.reason == DropReason.REFUSED_ENCODING


def test_labels() -> None:
    assert encoding_of(" ISO-8859-9\n") == "cp1254" and encoding_of("x-x-big5") == "big5hkscs"
    assert encoding_of("dos-874") == "cp874" and encoding_of("utf-7") == "" and encoding_of("日本") == ""
    assert decode(b"a\x80\xff", encoding_of("x-user-defined")) == "a\uf780\uf7ff"


LONG = 6  # times a text, so that statistics have something to count


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ("gbk", CHINESE),
        ("big5", TRADITIONAL),
        ("cp932", JAPANESE.replace("①㈱髙橋さんの", "")),
        ("euc_jp", JAPANESE.replace("①㈱髙橋さんの", "")),
        ("iso2022_jp", JAPANESE.replace("①㈱髙橋さんの", "")),
        ("euc_kr", KOREAN.replace(" 똠방각하", "")),
        ("cp1251", RUSSIAN),
        ("koi8-r", RUSSIAN),
        ("cp1252", FRENCH),
        ("cp1253", GREEK),
        ("utf-16", CHINESE),
        ("utf-16-le", FRENCH),
        ("utf-32", KOREAN),
        ("utf-8-sig", THAI),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "README", "a.html"])
def test_what_declares_nothing_is_recognised(tmp_path: Path, codec: str, text: str, name: str) -> None:
    text = page("", text * LONG) if name.endswith("html") else "\n".join([text] * LONG)
    (tmp_path / name).write_bytes(text.encode(codec))
    (found,) = read_file(tmp_path / name, name)
    assert not isinstance(found, Rejected) and (found["text"] == text or found["text"].split("\n")[0] in text)
    assert "\ufffd" not in found["text"]


def test_a_coding_line_is_a_declaration(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes("# -*- coding: koi8-r -*-\nx = 'Ж'\n".encode("koi8-r"))
    (found,) = read_file(tmp_path / "a.py", "a.py")
    assert not isinstance(found, Rejected) and "'Ж'" in found["text"]


def test_nothing_but_utf_8_needs_a_package() -> None:
    assert decoded(b"plain") == ("plain", "utf-8")
