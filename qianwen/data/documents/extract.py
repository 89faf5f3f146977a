"""Web pages as text, and text that was decoded wrongly put right.

The main text is found by Resiliparse (Bevendorff et al., 2018), eight times as fast as the next. A page whose author
opted out (`exclusions.py`) is set aside. Not here: rendering scripts, PDF.
"""

import codecs
import io
import re

from qianwen.data.documents.document import UNKNOWN, Document, Rejected, clean
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.data.documents.encoding_choice import decoded
from qianwen.data.documents.exclusions import opts_out
from qianwen.data.documents.file_content import binary_kind
from qianwen.data.documents.tags import Tags, declared_encodings

MAX_PAGE = 8 * 2**20  # bytes of one page; parsing takes many times that
MAX_DEPTH = 1000  # of elements; browsers stop at 512
HEAD = 1024  # bytes in which UTF-16 has a NUL
MISREAD = re.compile("[ÂÃâäåæçèéðÐÑ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]")  # UTF-8 read as Windows-1252
UNWANTED = {
    code: None
    for code in (*range(9), 11, *range(14, 32), *range(127, 133), *range(134, 160), 0xFEFF, 0xAD, 0xFFFE, 0xFFFF)
}
SPACES = {0x0C: "\n", 0x85: "\n", 0x2028: "\n", 0x2029: "\n", 0xA0: " ", 0x202F: " "}
CLEANED = UNWANTED | SPACES
SILENT = bytes((*range(9), 11, *range(12, 32), 127)).replace(b"\r", b"")
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # of ASCII; the next is slower, and for other texts
RARE = re.compile("[" + re.escape("".join(map(chr, CLEANED))) + "\ud800-\udfff]")


def repair(text: str) -> str:
    """`text` in NFC without control characters, byte-order marks and soft hyphens, and decoded rightly.

    "cafÃ©" is "café" in UTF-8 read as Windows-1252; lines in which that explains every odd character are read again.
    """
    if text.isascii():
        kept = text.encode("ascii").translate(None, SILENT)
        return clean(text if len(kept) == len(text) else CONTROLS.sub(_cleaned, text))
    if MISREAD.search(text):
        text = "\n".join(_read_again(line) if MISREAD.search(line) else line for line in text.split("\n"))
    return clean(RARE.sub(_cleaned, text))


def _cleaned(match: re.Match[str]) -> str:
    """Nothing for what is unwanted, the plain form of a space, U+FFFD for half a character."""
    return CLEANED.get(ord(match[0]), "\ufffd") or ""


def _read_again(line: str) -> str:
    """The line as UTF-8, if all of it can be that. Windows-1252 leaves five bytes undefined; browsers keep them."""
    try:
        data = b"".join(_byte(character) for character in line)
        return data.decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return line


def _byte(character: str) -> bytes:
    return bytes([ord(character)]) if ord(character) < 0xA0 else character.encode("cp1252")


def page_text(data: bytes, charset: str = "") -> str | Rejected:
    """The main text of an HTML page, or why there is none. `charset` is what the server said."""
    from resiliparse.extract.html2text import extract_plain_text

    if len(data) > MAX_PAGE:
        return Rejected("", 0, DropReason.PAGE_TOO_LONG, f"> {MAX_PAGE // 2**20} MB")
    if kind := binary_kind(data):
        return Rejected("", 0, kind)
    page = _ascii_tags(data, charset)
    tags = Tags(page)
    if tags.depth(MAX_DEPTH) > MAX_DEPTH:
        return Rejected("", 0, DropReason.NESTED_TOO_DEEP)
    metas = list(tags.metas())
    if opts_out((), metas):
        return Rejected("", 0, DropReason.OPTED_OUT)
    labels = (charset, *declared_encodings(metas, page)) if page is data else ("utf-8",)
    read = decoded(page, *labels)
    if read is None:
        return Rejected("", 0, DropReason.REFUSED_ENCODING, ", ".join(filter(None, labels)))
    try:
        main = extract_plain_text(read.text, main_content=True, alt_texts=False, preserve_formatting=True)
    except Exception as error:  # the parser has kinds of its own, not one of them documented as the root
        return Rejected("", 0, DropReason.NOT_HTML, str(error))
    main = repair("\n".join(line.rstrip() for line in main.split("\n")))
    return main if main.strip() else Rejected("", 0, DropReason.EMPTY_PAGE)


def _ascii_tags(data: bytes, charset: str) -> bytes:
    """The page itself, or in UTF-8 if it is in UTF-16, in which no tag would be recognised."""
    if not (data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\x00" in data[:HEAD]):
        return data
    read = decoded(data, charset)
    return read.text.encode("utf-8", "replace") if read and read.encoding.startswith("utf-") else data


def html_page(handle: io.BufferedIOBase, name: str) -> Document | Rejected:
    """An open file that is one page."""
    text = page_text(handle.read(MAX_PAGE + 1))
    if isinstance(text, Rejected):
        return text._replace(file=name)
    return Document(text=text, source=name, lang=UNKNOWN, licence=UNKNOWN, kind="web")
