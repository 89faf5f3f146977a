"""Why a document was dropped: a code in every file, a sentence only where a person reads it.

Codes do not depend on the user's language, so neither do the bytes of a curation. `reason_text` translates a code for
reports, the console and dataset cards. Rules and scorers drop documents under their own names, which are codes too.
"""

from enum import StrEnum

from qianwen.runtime.translation import tr


class DropReason(StrEnum):
    """The reasons of reading, languages, duplicates and benchmarks."""

    # files and records that could not be read
    PDF = "pdf"
    IMAGE = "image"
    SOUND_OR_VIDEO = "sound_or_video"
    FONT = "font"
    OFFICE_DOCUMENT = "office_document"
    PROGRAM = "program"
    ARCHIVE = "archive"
    DATABASE = "database"
    BINARY = "binary"
    UNREADABLE = "unreadable"
    MISSING_PACKAGE = "missing_package"
    FILE_TOO_LONG = "file_too_long"
    LINE_TOO_LONG = "line_too_long"
    NUL_BYTES = "nul_bytes"
    REFUSED_ENCODING = "refused_encoding"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    NO_TEXT_FIELD = "no_text_field"
    HALF_SURROGATE = "half_surrogate"
    EMPTY = "empty"
    # web pages
    PAGE_TOO_LONG = "page_too_long"
    NESTED_TOO_DEEP = "nested_too_deep"
    NOT_HTML = "not_html"
    EMPTY_PAGE = "empty_page"
    TRUNCATED_RECORD = "truncated_record"
    NO_PAGES = "no_pages"
    NOT_OK = "not_ok"
    OTHER_CONTENT_TYPE = "other_content_type"
    CONTENT_ENCODING = "content_encoding"
    OPTED_OUT = "opted_out"
    # documents that may not or should not be used
    BLOCKED = "blocked"
    OTHER_LICENCE = "other_licence"
    DOCUMENT_TOO_LONG = "document_too_long"
    UNCERTAIN_LANGUAGE = "uncertain_language"
    OTHER_LANGUAGE = "other_language"
    NO_DOCSTRINGS = "no_docstrings"
    # duplicates and benchmarks
    DUPLICATE = "duplicate"
    EXACT = "exact"
    ADDRESS = "address"
    NEAR = "near"
    CONTAMINATED = "contaminated"


def reason_text(reason: str) -> str:
    """A reason in the user's language; the name of a rule or a scorer is itself."""
    return _texts().get(reason, reason)


def stage_text(stage: str) -> str:
    """A stage of a curation in the user's language."""
    texts = {
        "read": tr("read"), "language": tr("language"), "rules": tr("rules"), "duplicates": tr("duplicates"),
        "scores": tr("scores"), "benchmarks": tr("benchmarks"),
    }  # fmt: skip
    return texts.get(stage, stage)


def _texts() -> dict[str, str]:
    return {
        DropReason.PDF: tr("PDF or PostScript"),
        DropReason.IMAGE: tr("image"),
        DropReason.SOUND_OR_VIDEO: tr("sound or video"),
        DropReason.FONT: tr("font"),
        DropReason.OFFICE_DOCUMENT: tr("office document or e-book"),
        DropReason.PROGRAM: tr("compiled program"),
        DropReason.ARCHIVE: tr("archive"),
        DropReason.DATABASE: tr("database or array file"),
        DropReason.BINARY: tr("binary data"),
        DropReason.UNREADABLE: tr("unreadable"),
        DropReason.MISSING_PACKAGE: tr("the package that reads this file is not installed"),
        DropReason.FILE_TOO_LONG: tr("file is too long"),
        DropReason.LINE_TOO_LONG: tr("line is too long"),
        DropReason.NUL_BYTES: tr("contains NUL bytes"),
        DropReason.REFUSED_ENCODING: tr("an encoding that browsers do not read"),
        DropReason.NOT_JSON: tr("not JSON in UTF-8"),
        DropReason.NOT_AN_OBJECT: tr("not a JSON object"),
        DropReason.NO_TEXT_FIELD: tr("no field `text`"),
        DropReason.HALF_SURROGATE: tr("contains half a surrogate pair"),
        DropReason.EMPTY: tr("empty"),
        DropReason.PAGE_TOO_LONG: tr("page is too long"),
        DropReason.NESTED_TOO_DEEP: tr("nested too deep"),
        DropReason.NOT_HTML: tr("not HTML"),
        DropReason.EMPTY_PAGE: tr("no text on the page"),
        DropReason.TRUNCATED_RECORD: tr("record is incomplete"),
        DropReason.NO_PAGES: tr("file contains no page"),
        DropReason.NOT_OK: tr("not an answer with status 200"),
        DropReason.OTHER_CONTENT_TYPE: tr("neither HTML nor plain text"),
        DropReason.CONTENT_ENCODING: tr("the body cannot be decompressed"),
        DropReason.OPTED_OUT: tr("opted out of text mining"),
        DropReason.BLOCKED: tr("on the blocklist"),
        DropReason.OTHER_LICENCE: tr("another licence"),
        DropReason.DOCUMENT_TOO_LONG: tr("document is too long"),
        DropReason.UNCERTAIN_LANGUAGE: tr("language uncertain"),
        DropReason.OTHER_LANGUAGE: tr("another language"),
        DropReason.NO_DOCSTRINGS: tr("without docstrings"),
        DropReason.DUPLICATE: tr("duplicate"),
        DropReason.EXACT: tr("exact duplicate"),
        DropReason.ADDRESS: tr("duplicate of the same address"),
        DropReason.NEAR: tr("near duplicate"),
        DropReason.CONTAMINATED: tr("contains a benchmark text"),
    }
