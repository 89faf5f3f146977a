"""Personal data is taken out; other numbers stay."""

import pytest

from qianwen.data.documents.pii import is_card, is_chinese_id, is_iban, scrub


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("mail jo.hn+x@foo.co.uk.", "mail [EMAIL]."),
        ("联系：zhang_san@163.com，电话13812345678。", "联系：[EMAIL]，电话[PHONE]。"),
        ("call +44 20 7946 0958 or (415) 555-2671 or 415-555-2671", "call [PHONE] or [PHONE] or [PHONE]"),
        ("+86 138 1234 5678, 010-62345678", "[PHONE], [PHONE]"),
        ("13812345678 13912345678", "[PHONE] [PHONE]"),
        ("id 11010519491231002X.", "id [ID]."),
        ("card 4111 1111 1111 1111 and 4111-1111-1111-1111", "card [CARD] and [CARD]"),
        ("6222021234567890128", "[CARD]"),
        ("GB82 WEST 1234 5698 7654 32 or DE89370400440532013000", "[IBAN] or [IBAN]"),
    ],
)
def test_what_is_taken_out(text: str, scrubbed: str) -> None:
    assert scrub(text).text == scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "user@example.com and @decorator and a @ b",
        "π = 3.14159265358979323846, 1,234,567,890 and 6.02214076e23",
        "ISBN 978-3-16-148410-0, 192.168.100.200, 2020-01-01 10:00:00",
        "0x1234567890abcdef 1234567890 98765432109876543210",
        "49 49 99 40 17 81 18 57 60 87 17 40 98 43 69",
        "4111 1111 1111 1112 and 11010519491231002Y and GB82 WEST 1234 5698 7654 33",
        "id=13812345678901 and v1.13812345678",
        "",
    ],
)
def test_what_stays(text: str) -> None:
    assert scrub(text) == (text, {})


def test_what_was_found_is_counted() -> None:
    assert scrub("a@b.cn 13812345678 c@d.cn").counts == {"EMAIL": 2, "PHONE": 1}


def test_checksums() -> None:
    assert is_chinese_id("11010519491231002X") and not is_chinese_id("110105194912310021")
    assert not is_chinese_id("110105194913310028")  # no thirteenth month
    assert is_card("4111111111111111") and is_card("378282246310005") and not is_card("4111111111111112")
    assert is_iban("GB82WEST12345698765432") and not is_iban("GB82WEST12345698765433")
