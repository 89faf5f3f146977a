"""The text of PDF files, read in a process with limits. The files are written here, object by object."""

import asyncio
import sys
import zlib

import pytest

from qianwen.runtime.errors import RequestError
from qianwen.serve.ui import pdf


def make_pdf(*pages: str, extra: bytes = b"") -> bytes:
    """A PDF with one line of text on each page."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    for number, text in enumerate(pages):
        stream = zlib.compress(f"BT /F 12 Tf 50 700 Td ({text}) Tj ET".encode("latin-1"))
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Resources<</Font<</F 3 0 R>>>>"
            f"/Contents {5 + 2 * number} 0 R>>".encode()
        )
        head = f"<</Length {len(stream)}/Filter/FlateDecode>>stream\n".encode()
        objects.append(head + stream + b"\nendstream")
    out, offsets = b"%PDF-1.4\n" + extra, []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj".encode() + body + b"endobj\n"
    table = b"".join(f"{offset:010d} 00000 n \n".encode() for offset in offsets)
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n".encode() + b"0000000000 65535 f \n" + table
    return out + f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF".encode()


def text_of(data: bytes) -> str:
    return asyncio.run(pdf.pdf_text(data))


class TestWithPypdf:
    @pytest.fixture(autouse=True)
    def _pypdf(self):
        pytest.importorskip("pypdf", reason="reading PDF needs pypdf, of the [ui] extra")

    @pytest.mark.parametrize("pages", [["Hello world"], ["one", "two", "three"], ["caf\xe9"]])
    def test_the_text_of_all_pages(self, pages):
        assert text_of(make_pdf(*pages)).split() == " ".join(pages).split()

    @pytest.mark.parametrize(
        "data",
        [
            b"%PDF-1.4\n",
            b"%PDF-1.7 nonsense",
            make_pdf("Hello")[:200],
            make_pdf("Hello").replace(b"/Kids[4 0 R]", b"/Kids[2 0 R]"),  # a page tree that contains itself
            b"%PDF-1.4\n" + bytes(range(256)) * 40,
        ],
    )
    def test_a_damaged_file_is_refused_in_one_sentence(self, data):
        with pytest.raises(RequestError, match="cannot be read|contains no text"):
            text_of(data)

    @pytest.mark.parametrize("pages", [[], [""], [" ", ""]])
    def test_a_file_without_text_is_refused(self, pages):
        with pytest.raises(RequestError, match="cannot be read|contains no text"):
            text_of(make_pdf(*pages))

    def test_a_file_that_takes_too_long_is_given_up(self, monkeypatch):
        monkeypatch.setattr(pdf, "MAX_SECONDS", 0.01)
        with pytest.raises(RequestError, match="takes longer"):
            text_of(make_pdf("Hello"))


def test_without_pypdf_the_message_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "pypdf.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *filter(None, sys.path)]))
    with pytest.raises(RequestError, match=r"pip install 'qianwen\[ui\]'"):
        text_of(make_pdf("Hello"))
