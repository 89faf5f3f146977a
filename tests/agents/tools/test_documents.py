"""The text of files of every kind that is read, and files that try to hurt."""

import inspect
import io
from collections.abc import Callable

import docx
import openpyxl
import pytest

from qianwen.agents.tools import document_reader
from qianwen.agents.tools.documents import KINDS, decode, document_text, text_of
from qianwen.runtime.errors import ConfigError, ToolError
from qianwen.sandbox.process import Sandbox


def excel() -> bytes:
    book = openpyxl.Workbook()
    book.active.title = "销售"
    book.active.append(["city", "sold", None])
    book.active.append(["北京", 1.5])
    book.create_sheet("empty")
    book.save(buffer := io.BytesIO())
    return buffer.getvalue()


def word() -> bytes:
    document = docx.Document()
    document.add_heading("Tea", 2)
    document.add_paragraph("From China, 茶.")
    table = document.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "a", "b, c"
    document.save(buffer := io.BytesIO())
    return buffer.getvalue()


def pdf(text: str = "Tea from China") -> bytes:
    """One page; readers rebuild the table of places that is missing."""
    stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode()
    return b"\n".join(
        [
            b"%PDF-1.4",
            b"1 0 obj <</Type/Catalog/Pages 2 0 R>> endobj",
            b"2 0 obj <</Type/Pages/Kids[3 0 R]/Count 1>> endobj",
            b"3 0 obj <</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R"
            b"/Resources<</Font<</F1 5 0 R>>>>>> endobj",
            b"4 0 obj <</Length %d>> stream\n%s\nendstream endobj" % (len(stream), stream),
            b"5 0 obj <</Type/Font/Subtype/Type1/BaseFont/Helvetica>> endobj",
            b"trailer <</Root 1 0 R>>",
            b"startxref\n0",
            b"%%EOF",
        ]
    )


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> None:
    try:
        Sandbox.open()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("a.xlsx", excel, ["--- sheet 销售 ---", "city,sold", "北京,1.5", "--- sheet empty ---"]),
        ("a.DOCX", word, ["## Tea", "From China, 茶.", 'a,"b, c"']),
        ("a.pdf", pdf, ["--- page 1 ---", "Tea from China"]),
    ],
)
def test_documents_are_read_in_the_sandbox(name: str, make: Callable[[], bytes], expected: list[str]):
    assert text_of(name, make(), 30.0).splitlines() == expected


@pytest.mark.parametrize("kind", sorted(set(KINDS.values())))
def test_damaged_documents_are_errors_with_a_reason(kind: str):
    with pytest.raises(ToolError, match=f"the {kind} file cannot be read: .+"):
        document_text(kind, b"PK\3\4 nothing", 10.0)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        ("北京".encode(), "北京"),
        ("北京天气".encode("gb18030"), "北京天气"),
        ("\ufeff北京".encode(), "北京"),
        ("北京".encode("utf-16"), "北京"),
        (b"caf\xe9", "café"),
        (b"", ""),
        (b"a\0b", None),
        (b"\x89PNG\r\n\0", None),
    ],
)
def test_text_is_decoded_in_any_usual_encoding(data: bytes, text: str | None):
    assert decode(data) == text


def test_what_is_not_text_is_named():
    with pytest.raises(ToolError, match="neither text"):
        text_of("a.zip", b"PK\0\0", 1.0)


def test_the_reader_runs_without_this_package():
    assert "import qianwen" not in (source := inspect.getsource(document_reader))
    assert "from qianwen" not in source
