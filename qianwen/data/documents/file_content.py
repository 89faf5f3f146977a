"""What bytes hold, by what they begin with: a binary format, a packed file, a crawl, a page, JSON lines.

A name is not reliable: `README`, `copyright` and `changelog.gz` are text, and a download called `page.html` may be a
PDF. So the content decides where it can be recognised; `readers.py` asks the name only where it cannot.
"""

import json
import re

from qianwen.data.documents.drop_reasons import DropReason

HEAD = 1 << 16  # bytes of a file that are looked at
WARC, PARQUET, ZIP = b"WARC/", b"PAR1", b"PK\x03\x04"
STARTS = {
    DropReason.PDF: (b"%PDF-", b"%!PS-Adobe", b"\x04%!PS", b"AT&TFORM"),
    DropReason.IMAGE: (
        b"\x89PNG", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*", b"\x00\x00\x01\x00", b"8BPS\x00",
        b"\x00\x00\x00\x0cjP  ", b"\xff\x0a", b"gimp xcf", b"qoif\x00",
    ),
    DropReason.SOUND_OR_VIDEO: (
        b"ID3\x02", b"ID3\x03", b"ID3\x04", b"OggS\x00", b"fLaC\x00", b"MThd\x00", b"\xff\xfb", b"\xff\xf3",
        b"\x1aE\xdf\xa3", b"FLV\x01", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"0&\xb2u\x8ef\xcf\x11",
    ),
    DropReason.FONT: (b"wOFF\x00", b"wOFF\x4f", b"wOF2\x00", b"OTTO\x00", b"ttcf\x00", b"\x00\x01\x00\x00\x00"),
    DropReason.OFFICE_DOCUMENT: (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"{\\rtf"),
    DropReason.PROGRAM: (
        b"\x7fELF", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe",
        b"\xcf\xfa\xed\xfe", b"\x00asm", b"dex\n0", b"BC\xc0\xde", b"MZ\x90\x00", b"MZ\x00",
    ),
    DropReason.ARCHIVE: (
        b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"!<arch>\n", b"070701", b"070707", b"\x1f\x9d", b"\x1f\xa0",
        b"\x04\x22\x4d\x18", b"LZIP\x01", b"xar!\x00", b"MSCF\x00", b"\xed\xab\xee\xdb", b"PK\x05\x06", ZIP,
        b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00",
    ),
    DropReason.DATABASE: (
        b"SQLite format 3\x00", b"\x89HDF\r\n", b"ARROW1\x00", b"Obj\x01", b"\x93NUMPY", b"GGUF\x02", b"GGUF\x03",
        b"\xde\x12\x04\x95", b"\x95\x04\x12\xde", b"PAR1\x15",
    ),
}  # fmt: skip
_PATTERNS = [(kind, re.compile(b"|".join(map(re.escape, starts)))) for kind, starts in STARTS.items()]
_FIRST_BYTES = frozenset(start[0] for starts in STARTS.values() for start in starts)
CONTAINERS = {  # format by the type that is written inside the file
    b"WEBP": DropReason.IMAGE, b"avif": DropReason.IMAGE, b"heic": DropReason.IMAGE, b"mif1": DropReason.IMAGE,
    b"WAVE": DropReason.SOUND_OR_VIDEO, b"AVI ": DropReason.SOUND_OR_VIDEO,
}  # fmt: skip
TAR = b"ustar"  # at byte 257
BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
PAGE = re.compile(
    rb"(?:\s|<\?xml[^>]{0,300}>|<!--.{0,4000}?-->){0,20}"
    rb"<(?:!doctype\s+html|html|head|body|title|script|meta|style)[\s/>]",
    re.I | re.S,
)
TEXT_FIELD = re.compile(rb'\s*\{[^\n]{0,8000}?"(?:text|content)"\s*:\s*"')
WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")  # of UTF-16 and UTF-32
LONG_LINE = 1000  # bytes of a line whose end is not in the head
UTF_8_MARK = b"\xef\xbb\xbf"


def binary_kind(head: bytes) -> DropReason | None:
    """The binary format that bytes begin as, None for text and what is not known."""
    if not head or (head[0] not in _FIRST_BYTES and not head.startswith((b"RIFF", b"BZh")) and head[4:8] != b"ftyp"):
        return DropReason.ARCHIVE if head[257:262] == TAR else None
    if head.startswith(WIDE_MARKS) and not head.startswith(b"\xff\xfe\xff"):
        return None
    if head.startswith(b"RIFF"):
        return CONTAINERS.get(head[8:12])
    if head[4:8] == b"ftyp":
        return CONTAINERS.get(head[8:12], DropReason.SOUND_OR_VIDEO)
    if BZIP2.match(head):
        return DropReason.ARCHIVE
    kind = next((kind for kind, starts in _PATTERNS if starts.match(head)), None)
    return kind or (DropReason.ARCHIVE if head[257:262] == TAR else None)


def is_html(head: bytes) -> bool:
    """Whether text begins as a page does, also in UTF-16."""
    if b"\x00" in head[:400]:
        head = head[:4000].replace(b"\x00", b"")
        head = head.removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff")
    return PAGE.match(head.removeprefix(UTF_8_MARK)) is not None


def is_json_lines(head: bytes) -> bool:
    """Whether the first line is a JSON object with a text, or the beginning of one."""
    line, end, _ = head.removeprefix(UTF_8_MARK).lstrip().partition(b"\n")
    if not line.startswith(b"{"):
        return False
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return not end and len(line) > LONG_LINE and TEXT_FIELD.match(line) is not None
    return isinstance(row, dict) and isinstance(row.get("text", row.get("content")), str)
