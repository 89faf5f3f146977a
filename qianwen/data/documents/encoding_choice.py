"""Which encoding a text is in: a byte order mark, what is declared, else a guess.

    decoded(data, "gb2312", …)     the text, by the first declaration that holds

The order is the browsers': a byte order mark, the HTTP header, the page's own declaration. In one point this differs
from them: a declaration by which most of what is not ASCII cannot be decoded is a mistake (a page in Windows-1252 that
says UTF-8), and the next one is tried. A few bad bytes are no such mistake; each becomes one U+FFFD.

What declares nothing is UTF-8 if it can be (but for few bytes), UTF-16 by the places of its NUL bytes, ISO-2022-JP by
its escapes, else what uchardet finds by statistics, else Windows-1252.
"""

import codecs
import re
import unicodedata
from typing import NamedTuple

from qianwen.data.documents.encodings import REPLACEMENT, decode, encoding_of

MARKS = (  # UTF-32 before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
SAMPLE = 1 << 16  # bytes looked at for a guess
FEW = 8  # bytes that may be undecodable before a declaration is doubted
GOOD_FOR_BAD = 4  # characters in UTF-8 for each bad byte, from which on a text is UTF-8 with bad bytes
MARKUP = re.compile(rb"\s*<[!?a-zA-Z]{2}")
JAPANESE = re.compile(rb"\x1b\$[@B]")
NUL = b"\x00"
NOT_OF_THE_WEB = {  # names of uchardet's that are no labels of the standard
    "cp949": "cp949",
    "uhc": "cp949", "johab": "johab", "ibm850": "cp850", "ibm852": "cp852", "ibm855": "cp855", "ibm862": "cp862",
    "ibm865": "cp865", "mac-centraleurope": "mac-latin2",
}  # fmt: skip
PRINTED = 0.95  # share of characters with a meaning from which on bytes are UTF-16


class Decoded(NamedTuple):
    """A text and the encoding it was read in."""

    text: str
    encoding: str


def decoded(data: bytes, *declared: str) -> Decoded | None:
    """The text of `data` without a byte order mark; `declared` are labels, the strongest first.

    None for an encoding that browsers refuse (ISO-2022-KR, HZ).
    """
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return Decoded(decode(data[len(mark) :], encoding), encoding)
    for label in declared:
        encoding = encoding_of(label) if label else ""
        if encoding == REPLACEMENT:
            return None
        if encoding.startswith("utf-16") and MARKUP.match(data):
            encoding = "utf-8"  # its tags are ASCII, so the text cannot be UTF-16
        if encoding and _holds(text := decode(data, encoding)):
            return Decoded(text, encoding)
    encoding = guessed(data)
    return Decoded(decode(data, encoding), encoding)


def _holds(text: str) -> bool:
    """Whether at least half of what is not ASCII could be decoded, or all but a few bytes."""
    bad = text.count("\ufffd")
    return bad < FEW or 2 * bad <= len(text) - len(text.encode("ascii", "ignore"))


def guessed(data: bytes) -> str:
    """The encoding that bytes without a declaration are most likely in."""
    sample = data[:SAMPLE]
    if NUL in sample and (wide := _utf_16(sample)):
        return wide
    if data.isascii():
        return "iso2022_jp" if JAPANESE.search(data) else "utf-8"
    try:
        codecs.utf_8_decode(data, "strict", False)  # the last character may be cut
        return "utf-8"
    except UnicodeDecodeError:
        text = sample.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    if len(text) - len(text.encode("ascii", "ignore")) - bad > GOOD_FOR_BAD * bad:
        return "utf-8"
    return _by_statistics(data)


def _utf_16(sample: bytes) -> str:
    """UTF-16 has its NULs, the high bytes of ASCII, all at even or all at odd places. Empty if not."""
    even, odd = sample[::2].count(NUL), sample[1::2].count(NUL)
    if min(even, odd) * 20 > max(even, odd):
        return ""
    encoding = "utf-16-be" if even > odd else "utf-16-le"
    text = sample[:4000].decode(encoding, "replace")
    printed = sum(character in "\t\n\r" or unicodedata.category(character)[0] != "C" for character in text)
    return encoding if printed - text.count("\ufffd") >= PRINTED * len(text) else ""


def _by_statistics(data: bytes) -> str:
    """What uchardet takes the text for, if it can be decoded as that."""
    from resiliparse.parse.encoding import detect_encoding

    name = (detect_encoding(data, html5_compatible=False) or "").lower()
    encoding = NOT_OF_THE_WEB.get(name) or encoding_of(name)
    if not encoding or encoding in (REPLACEMENT, "utf-8") or decode(data[:SAMPLE], encoding).count("\ufffd") >= FEW:
        return "cp1252"
    return encoding
