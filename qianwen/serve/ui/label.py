"""The page of `qianwen data label`: read, mark, edit and rank the rows of a file.

A plain form, without Gradio: the number of texts differs from row to row, keys and screen readers work as on any form,
and the [ui] extra is not needed. It listens on loopback only, behind the same gate as the other pages: requests with
another Host, or from pages of other sites, are refused. Every text of the data is escaped; the policy allows no script
but our own file. Every button saves the whole row before it does anything else.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from urllib.parse import parse_qs, urlencode

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from qianwen.align.abilities import ABILITIES
from qianwen.align.choosing.labels import MARKS, PREFERENCES, Label, LabelFile, LabelledRow
from qianwen.align.choosing.parts import parts_of
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.admission import Limits
from qianwen.serve.exchange import read_body
from qianwen.serve.gate import AccessRules, Gate
from qianwen.serve.prometheus import Metrics
from qianwen.serve.protocol import error_body
from qianwen.serve.ui.label_page import SIDES, Filter, label_page, matches

MAX_FIELDS = 2000
LIMITS = Limits(max_body_bytes=16 * 2**20)


def label_app(labels: LabelFile) -> Gate:
    """The application: `/`, `/save`, and two files."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    async def show(http: Request) -> Response:
        return _show(labels, http)

    @app.post("/save")
    async def save(http: Request) -> Response:
        return _save(labels, await _form(http))

    files = resources.files("qianwen.serve.ui")
    style = resources.files("qianwen.runtime").joinpath("page.css").read_bytes()
    style += files.joinpath("label.css").read_bytes()
    script = files.joinpath("label.js").read_bytes()
    app.add_api_route("/label.css", lambda: Response(style, media_type="text/css"))
    app.add_api_route("/label.js", lambda: Response(script, media_type="text/javascript"))

    @app.exception_handler(RequestError)
    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        return JSONResponse(error_body(str(error), code=error.code), error.status)

    return Gate(app, access=AccessRules(), metrics=Metrics())


def _show(labels: LabelFile, http: Request) -> Response:
    """The row in the address; if the filter does not show it, the next one that it shows."""
    query = http.query_params
    wanted = Filter(query.get("show", ""), query.get("ability", ""))
    index = _number(query.get("row"), len(labels.rows))
    if index is None or ("stay" not in query and not matches(labels.rows[index], wanted)):
        index = _step(labels, -1 if index is None else index, 1, wanted)
    return label_page(labels, index, wanted, notice=query.get("notice", ""))


def _save(labels: LabelFile, form: dict[str, str]) -> Response:
    """Save the row, then go to the row that the action leads to."""
    index = _number(form.get("row"), len(labels.rows))
    if index is None or labels.rows[index].key != form.get("key"):
        return JSONResponse(error_body(tr("the row changed; load the page again")), 409)
    row, action = labels.rows[index], form.get("action", "")
    label = _label(row, form, action)
    if label != row.label:
        labels.save(row, label)
    wanted = Filter(form.get("show", ""), form.get("ability-filter", ""))
    if action == "export":
        counts = labels.export()
        return _redirect(index, wanted, ", ".join(f"{path.name} ({count})" for path, count in counts.items()))
    is_wrong = action in MARKS and "arguments" in row.checks and any(_is_call(row, number) for number in label.texts)
    if action in ("save", "clear") or is_wrong:
        return _redirect(index, wanted)
    following = _step(labels, index, -1 if action == "previous" else 1, wanted)
    return _redirect(index if following is None else following, wanted)


async def _form(http: Request) -> dict[str, str]:
    body = (await read_body(http, LIMITS)).decode("utf-8", "replace")
    try:
        fields = parse_qs(body, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise RequestError(tr("the form has too many fields"), status=400) from error
    return {name: values[-1] for name, values in fields.items()}


def _label(row: LabelledRow, form: dict[str, str], action: str) -> Label:
    """The label after an action. Values that the page does not offer are ignored; a client can send any."""
    old, texts = row.label, {}
    for number, part in enumerate(parts_of(row.original)):
        text = form.get(f"text-{number}")
        if text is None:
            if number in old.texts:
                texts[number] = old.texts[number]
        elif (text := text.replace("\r\n", "\n")) != part.text.replace("\r\n", "\n"):
            texts[number] = text
    mark = action if action in MARKS else old.mark
    ability = form.get("ability", old.ability)
    preference = SIDES[row.is_swapped].get(action, old.preference) if row.is_pair else ""
    return replace(
        old, mark="" if action == "clear" else mark, note=form.get("note", old.note)[:4000].replace("\r\n", "\n"),
        ability=ability if ability in (*ABILITIES, "", old.ability) else old.ability,
        preference=preference if preference in PREFERENCES and action != "clear" else "", texts=texts,
    )  # fmt: skip


def _is_call(row: LabelledRow, number: int) -> bool:
    return parts_of(row.original)[number].kind in ("action", "input")


def _step(labels: LabelFile, index: int, direction: int, wanted: Filter) -> int | None:
    """The nearest row after (or before) `index` that the filter shows, else None."""
    places = range(index + direction, len(labels.rows) if direction > 0 else -1, direction)
    return next((place for place in places if matches(labels.rows[place], wanted)), None)


def _number(text: str | None, size: int) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 and int(text) < size else None


def _redirect(index: int, wanted: Filter, notice: str = "") -> Response:
    query = {"row": index, "show": wanted.show, "ability": wanted.ability, "stay": 1, "notice": notice}
    return RedirectResponse("/?" + urlencode({name: value for name, value in query.items() if value != ""}), 303)
