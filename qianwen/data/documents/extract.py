"""Web pages as text: HTML, and the WARC and WET files of crawls; and text that was decoded wrongly put right.

The main text is found by Resiliparse (Bevendorff et al., 2018), eight times as fast as the next. A page whose author
opted out of text mining (`noai` for robots, or TDMRep's `tdm-reservation: 1`) is set aside; so is one whose host
is on a list handed in. Not here: rendering scripts, PDF.
"""

import re
import unicodedata
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from qianwen.data.documents.document import MAX_BYTES, UNKNOWN, WHOLE_FILE, Document, FilePart, Rejected, clean
from qianwen.data.documents.drop_reasons import DropReason

MAX_PAGE = 8 * 2**20  # bytes of one page; parsing takes many times that
MAX_DEPTH = 1000  # of elements; browsers stop at 512
TAG = re.compile(rb"<(/?)([a-zA-Z]\w*)")
UNENDED = frozenset(
    b"p li td tr th dd dt option br img hr input meta link area base col embed source track wbr".split()
)
PAGES = ("text/html", "application/xhtml+xml")
CHARSET = re.compile(rb"""charset=["']?([\w-]+)""", re.I)
ROBOTS = re.compile(rb"<meta[^>]{1,200}>", re.I)
OPTED_OUT = re.compile(
    rb"""(?=[^>]*name=["']?robots)[^>]*\bnoai\b|(?=[^>]*name=["']?tdm-reservation)[^>]*content=["']?1""", re.I
)
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
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    if len(data) > MAX_PAGE:
        return Rejected("", 0, DropReason.PAGE_TOO_LONG, f"> {MAX_PAGE // 2**20} MB")
    if _depth(data) > MAX_DEPTH:
        return Rejected("", 0, DropReason.NESTED_TOO_DEEP)
    head = data[:4096]
    if any(OPTED_OUT.search(tag) for tag in ROBOTS.findall(head)):
        return Rejected("", 0, DropReason.OPTED_OUT)
    declared = CHARSET.search(head)
    encoding = charset or (declared[1].decode("ascii", "replace") if declared else "") or detect_encoding(data)
    try:
        text = bytes_to_str(data, encoding or "utf-8")
    except LookupError:  # an encoding nobody knows
        text = bytes_to_str(data, detect_encoding(data) or "utf-8")
    try:
        main = extract_plain_text(text, main_content=True, alt_texts=False, preserve_formatting=True)
    except Exception as error:  # the parser has kinds of its own, not one of them documented as the root
        return Rejected("", 0, DropReason.NOT_HTML, str(error))
    main = repair("\n".join(line.rstrip() for line in main.split("\n")))
    return main if main.strip() else Rejected("", 0, DropReason.EMPTY_PAGE)


def _depth(data: bytes) -> int:
    """How deep elements are nested at most, not less: the parser's time grows with its square."""
    marks = np.frombuffer(data + b" ", dtype=np.uint8)
    after = marks[np.flatnonzero(marks[:-1] == ord("<")) + 1]
    steps = ((after | 32) - ord("a") < 26).astype(np.int64) - (after == ord("/"))
    roughly = int(np.cumsum(steps).max(initial=0))
    if roughly <= MAX_DEPTH:  # counts elements that need no end, too
        return roughly
    depth = deepest = 0
    for match in TAG.finditer(data):
        if match[2].lower() not in UNENDED:
            depth += -1 if match[1] else 1
            deepest = max(deepest, depth)
    return deepest


def html_file(file: Path, name: str) -> Document | Rejected:
    """A file that is one page."""
    with file.open("rb") as handle:
        text = page_text(handle.read(MAX_PAGE + 1))
    if isinstance(text, Rejected):
        return text._replace(file=name)
    return Document(text=text, source=name, lang=UNKNOWN, licence=UNKNOWN, kind="web")


def warc_file(
    file: Path, name: str, *, part: FilePart = WHOLE_FILE, blocked: Collection[str] = ()
) -> Iterator[Document | Rejected]:
    """The pages of a WARC or WET file, packed or not; the k-th of n parts has the k-th of every n runs of 64 records.

    Records that are no page (requests, metadata, images, answers other than 200) are passed over.
    """
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    wanted = WarcRecordType.response | WarcRecordType.conversion | WarcRecordType.resource
    number = pages = 0
    try:
        with file.open("rb") as stream:
            for number, record in enumerate(ArchiveIterator(stream, record_types=wanted), start=1):
                pages += 1
                if (number - 1) // 64 % part.n == part.k and (page := _page(record, name, number, blocked)):
                    yield page
    except (OSError, ValueError, RuntimeError, EOFError, zlib.error) as error:
        yield Rejected(name, number + 1, DropReason.UNREADABLE, str(error))
        return
    if not pages and part.k == 0:
        yield Rejected(name, 0, DropReason.NO_PAGES)


def _page(record, name: str, number: int, blocked: Collection[str]) -> Document | Rejected | None:  # noqa: ANN001  fastwarc's
    url = record.headers.get("WARC-Target-URI") or ""
    kind, charset, headers = record.headers.get("Content-Type", ""), "", {}
    if record.is_http:
        if record.http_headers is None or record.http_headers.status_code is None:
            return Rejected(name, number, DropReason.TRUNCATED_RECORD, url)
        if record.http_headers.status_code != 200:
            return None
        headers = {key.lower(): value for key, value in record.http_headers.items()}
        kind, charset = record.http_content_type or "", record.http_charset or ""
    is_text = kind.startswith("text/plain")
    if "Content-Length" not in record.headers or (record.is_http and not kind):
        return Rejected(name, number, DropReason.TRUNCATED_RECORD, url)
    if not is_text and not kind.startswith(PAGES):
        return None
    if is_blocked(url, blocked):
        return Rejected(name, number, DropReason.BLOCKED, url)
    if "noai" in headers.get("x-robots-tag", "").lower() or headers.get("tdm-reservation", "").strip() == "1":
        return Rejected(name, number, DropReason.OPTED_OUT, url)
    data = record.reader.read(MAX_PAGE + 1)
    if len(data) < min(record.content_length, MAX_PAGE + 1):
        return Rejected(name, number, DropReason.TRUNCATED_RECORD, url)
    text = _plain(data) if is_text else page_text(data, charset)
    if isinstance(text, Rejected):
        return text._replace(file=name, line=number, detail=url)
    return Document(text=text, source=f"{name}:{number}", lang=UNKNOWN, licence=UNKNOWN, kind="web", url=url)


def _plain(data: bytes) -> str | Rejected:
    if len(data) > min(MAX_PAGE, MAX_BYTES):
        return Rejected("", 0, DropReason.PAGE_TOO_LONG, f"> {MAX_PAGE // 2**20} MB")
    text = repair(data.decode("utf-8", "replace"))
    return text if text.strip() else Rejected("", 0, DropReason.EMPTY_PAGE)


def blocklist(path: Path) -> frozenset[str]:
    """Hosts and beginnings of URLs, one a line; `#` begins a comment. A hosts file is one, too."""
    entries = set()
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if words := line.partition("#")[0].split():
            entries.add(url_key(words[-1] if "://" in words[-1] else f"http://{words[-1]}"))
    return frozenset(entries)


def is_blocked(url: str, blocked: Collection[str]) -> bool:
    """Whether a page, a folder above it, its host or a domain above that is on the list; the scheme and www. are not
    looked at.
    """
    if not url or not blocked:
        return False
    host, _, path = url_key(url).partition("?")[0].partition("/")
    labels = host.partition(":")[0].split(".")
    if any(".".join(labels[start:]) in blocked for start in range(len(labels))):
        return True
    steps = path.split("/")
    return any(f"{host}/{'/'.join(steps[:number])}" in blocked for number in range(1, len(steps) + 1))


def url_key(url: str) -> str:
    """What URLs of the same page share: no scheme, `www.`, fragment, default port or slash at the end."""
    try:
        parts = urlsplit(unicodedata.normalize("NFC", url.strip()))
        port = f":{parts.port}" if parts.port not in (None, 80, 443) else ""
    except ValueError:
        return url
    host = (parts.hostname or "").removeprefix("www.")
    query = f"?{parts.query}" if parts.query else ""
    return f"{host}{port}{parts.path.rstrip('/')}{query}"
