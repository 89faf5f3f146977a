"""A program that runs in the sandbox: `python document_reader.py KIND` reads the file `document` and prints its text.

It uses nothing of this package, because the sandbox has only the installed packages. What it cannot read ends it with
one line on standard error.
"""

import csv
import io
import sys
from collections.abc import Iterable

NAME = "document"
MAX_PAGES = 1000  # of a PDF
MAX_ROWS = 50_000  # of a sheet


def pdf() -> None:
    from pypdf import PdfReader

    for number, page in zip(range(1, MAX_PAGES + 1), PdfReader(NAME).pages, strict=False):
        print(f"--- page {number} ---\n{page.extract_text().strip()}")


def docx() -> None:
    from docx import Document
    from docx.table import Table

    for part in Document(NAME).iter_inner_content():
        if isinstance(part, Table):
            _print_rows([cell.text for cell in row.cells] for row in part.rows)
        else:
            heading = (part.style.name or "") if part.style else ""
            level = heading.removeprefix("Heading ") if heading.startswith("Heading ") else ""
            print(f"{'#' * int(level)} {part.text}" if level.isdecimal() else part.text)


def xlsx() -> None:
    from openpyxl import load_workbook

    with open(NAME, "rb") as file:  # by its name alone, openpyxl refuses it
        for sheet in load_workbook(file, read_only=True, data_only=True).worksheets:
            print(f"--- sheet {sheet.title} ---")
            _print_rows(sheet.iter_rows(values_only=True, max_row=MAX_ROWS))


def _print_rows(rows: Iterable[Iterable[object]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for row in rows:
        values = ["" if value is None else str(value).replace("\n", " ") for value in row]
        while values and not values[-1]:
            values.pop()
        writer.writerow(values)


KINDS = {"pdf": pdf, "docx": docx, "xlsx": xlsx}


def main() -> int:
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, "utf-8", "replace", line_buffering=True)
    try:
        KINDS[sys.argv[1]]()
    except Exception as error:  # of any kind: the file is a stranger's
        print(f"{type(error).__name__}: {error}".replace("\n", " ")[:300], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
