"""Bytes as text, as browsers read them: the labels and decoders of the WHATWG Encoding Standard.

    encoding_of("gb2312")            "gb18030": the Python codec of a label, with the corrections below
    decode(data, "gb18030")          the text, with one U+FFFD for each byte or pair that cannot be decoded

Python has these codecs, with small differences that old pages are full of:

    gb2312, gbk            all of GB 18030; its 2022 edition moved 18 characters out of the private area; 0x80 is €
    shift_jis, euc-kr      Microsoft's tables (cp932, cp949), a superset of the standards
    big5                   the Hong Kong supplement, and Microsoft's table where that has nothing
    euc-jp, iso-2022-jp    with NEC's and IBM's characters (①, ㈱, 髙), which cp932 has
    windows-125x, 874      undefined bytes from 0x80 to 0x9F are control characters

Which encoding a text is in is decided in `encoding_choice.py`.
"""

import codecs
import functools
import re
from collections.abc import Mapping
from typing import Any

REPLACEMENT = "replacement"  # encodings that browsers refuse to read, because filters of markup can be evaded with them
USER_DEFINED = "x-user-defined"
REFUSED = frozenset(["replacement", "hz-gb-2312", "iso-2022-kr", "csiso2022kr", "iso-2022-cn", "iso-2022-cn-ext"])
CODECS = {"gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs", "iso8859-11": "cp874"}
# Labels of the standard that Resiliparse's table leaves out.
MORE_LABELS = {"x-mac-cyrillic": "mac-cyrillic", "x-mac-ukrainian": "mac-cyrillic", USER_DEFINED: USER_DEFINED}
UTF = frozenset({"utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"})
PAIRS = frozenset({"gb18030", "cp932", "cp949", "big5hkscs", "euc_jp", "johab"})  # of one or two bytes, or more
DIFFERENT = {  # bytes of single-byte tables that the standard maps in another way than Python
    "koi8-u": {0xAE: "ў", 0xBE: "Ў"},
    "mac-cyrillic": {0xA2: "Ґ", 0xB6: "ґ"},
    "cp1255": {0xCA: "\u05ba"},
}
GB_18030_2022 = dict(
    zip(
        "\ue78d\ue78e\ue78f\ue790\ue791\ue792\ue793\ue794\ue795\ue796\ue81e\ue826\ue82b\ue82c\ue832\ue843\ue854\ue864",
        "︐︒︑︓︔︕︖︗︘︙\u9fb4\u9fb5\u9fb6\u9fb7\u9fb8\u9fb9\u9fba\u9fbb",
        strict=True,
    )
)
JIS_AS_MICROSOFT = dict(zip("〜−‖¢£¬", "～－∥￠￡￢", strict=True))
MICROSOFT_ONLY = dict.fromkeys("\xa0\uf8f1\uf8f2\uf8f3", "\ufffd")  # single bytes of cp932 that Shift_JIS does not have
MOVED: dict[str, tuple[re.Pattern[str], Mapping[Any, str]]] = {
    "cp932": (re.compile("[\xa0\uf8f1-\uf8f3]"), MICROSOFT_ONLY),
    "gb18030": (re.compile("[\ue78d-\ue864]"), GB_18030_2022),
    "euc_jp": (re.compile("[〜−‖¢£¬]"), JIS_AS_MICROSOFT),
}
ESCAPE = re.compile(rb"\x1b(\([BJI]|\$[@B])")  # of ISO-2022-JP: another set of characters begins
UPPER_HALF = bytes(code | 0x80 if 0x21 <= code <= 0x7E else code for code in range(256))
KATAKANA = "".join(chr(code + 0xFF40) if 0x21 <= code <= 0x5F else chr(code) for code in range(128)) + "\ufffd" * 128
ROMAN = "".join({0x5C: "¥", 0x7E: "‾"}.get(code, chr(code)) for code in range(128)) + "\ufffd" * 128


def encoding_of(label: str) -> str:
    """The codec of a label in any case, `replacement` for one that browsers refuse, empty for an unknown one."""
    from resiliparse.parse.encoding import map_encoding_to_html5

    label = label.strip("\t\n\f\r \"'").lower()
    if label in REFUSED:
        return REPLACEMENT
    codec = MORE_LABELS.get(label) or (map_encoding_to_html5(label, fallback_utf8=False) if label.isascii() else None)
    return CODECS.get(codec, codec) if codec else ""


def decode(data: bytes, codec: str) -> str:
    """The text of `data` in an encoding that `encoding_of` returned."""
    if codec in UTF:
        return data.decode(codec, "replace")
    if codec in PAIRS:
        text = data.decode(codec, _handler(codec))
        if codec not in MOVED:
            return text
        moved, characters = MOVED[codec]
        return moved.sub(lambda match: characters.get(match[0], match[0]), text)
    if codec == "iso2022_jp":
        return _iso_2022_jp(data)
    return _by_table(data, _table(codec))


def _by_table(data: bytes, table: str) -> str:
    return codecs.charmap_decode(data, "strict", table)[0]  # pyrefly: ignore  a text of 256 characters is a table too


@functools.cache
def _table(codec: str) -> str:
    """The characters of the 256 bytes of a single-byte encoding."""
    if codec == USER_DEFINED:
        return "".join(chr(code if code < 128 else code + 0xF700) for code in range(256))
    characters = []
    for code in range(256):
        try:
            character = bytes([code]).decode(codec)
        except UnicodeDecodeError:
            character = chr(code) if code < 0xA0 else "\ufffd"
        characters.append(DIFFERENT.get(codec, {}).get(code, character))
    return "".join(characters)


@functools.cache
def _handler(codec: str) -> str:
    """The name of the error handler of a codec: what Python cannot decode is looked up, else it is U+FFFD.

    A second byte below 0x80 is not taken with the first, so that a broken pair never hides a tag or a line end.
    """

    def decoded(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        pair = error.object[error.start : error.start + 2]
        if len(pair) == 2 and min(pair) > 0x80 and max(pair) < 0xFF:
            return _pair(codec, pair), error.start + 2
        return "€" if codec == "gb18030" and pair[0] == 0x80 else "\ufffd", error.start + 1

    name = f"qianwen.{codec}"
    codecs.register_error(name, decoded)
    return name


def _pair(codec: str, pair: bytes) -> str:
    """The character of a pair of bytes that Python's codec does not know."""
    try:
        if codec == "big5hkscs":
            return pair.decode("cp950")
        if codec == "euc_jp":
            return _shifted(pair).decode("cp932")
    except UnicodeDecodeError:
        pass
    return "\ufffd"


def _shifted(pair: bytes) -> bytes:
    """A character of EUC-JP in Shift_JIS, whose Microsoft form has more characters."""
    row, cell = pair[0] - 0xA0, pair[1] - 0xA0
    if row < 1 or cell < 1:
        return b"\xff\xff"
    first = (row + 1) // 2 + (0x80 if row <= 62 else 0xC0)
    return bytes([first, cell + 0x9E if row % 2 == 0 else cell + 0x3F + (cell >= 64)])


def _iso_2022_jp(data: bytes) -> str:
    """Seven-bit Japanese: escape sequences say which set of characters the bytes after them are of."""
    sections = ESCAPE.split(data)
    text = [sections[0].decode("ascii", "replace")]
    for escape, section in zip(sections[1::2], sections[2::2], strict=True):
        if escape[:1] == b"$":
            text.append(decode(section.translate(UPPER_HALF), "euc_jp"))
        elif escape == b"(B":
            text.append(section.decode("ascii", "replace"))
        else:
            text.append(_by_table(section, KATAKANA if escape == b"(I" else ROMAN))
    return "".join(text)
