"""The runs page: the list of runs under `runs/`, and one run with its curves, updated while it trains.

Every update reads the run folders again, as `qianwen runs` does, so the page always agrees with them. A run whose files
have not changed is not sent again. All text of a run is escaped, its curves are images, and its report is served
unchanged in a sandbox.
"""

from __future__ import annotations

import asyncio
import base64
import html
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from qianwen.align.before_after import FILE, read_rows
from qianwen.runtime import runs as registry
from qianwen.runtime.errors import QianwenError, RequestError
from qianwen.runtime.files import RunFolder, flat_config, runs_dir
from qianwen.runtime.log import displayed_metrics
from qianwen.runtime.translation import tr
from qianwen.runtime.trend import is_number, points_of, smoothed, trend
from qianwen.serve.finetunes import LOG, Finetunes, can_resume, is_new_name, is_starting, log_tail
from qianwen.serve.gate import AccessRules
from qianwen.serve.run_models import RunModels, model_path
from qianwen.serve.ui.curve import curve_svg
from qianwen.serve.ui.panel import html_block
from qianwen.serve.ui.tune import TUNE, before_after_html, check_admin

RUNS = "/runs"
TICK_SECONDS = 2.0  # between two updates
FIRST = ("loss", "held_out", "lr", "grad_norm", "tokens_per_second")  # curves whose names start with these come first
SMOOTHED = ("loss", "grad_norm")  # curves that are drawn smoothed, before the raw ones
MAX_CURVES, MAX_SAMPLES, MAX_SAMPLE_LEN = 12, 5, 2000
NOT_MEASURED = frozenset({"step", "time", "eta"})
SANDBOX = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
Seen = tuple[object, ...] | None


@dataclass(frozen=True)
class RunActions:
    """What administrators can do with a run; `models` is None if the server cannot load more models."""

    access: AccessRules
    finetunes: Finetunes
    models: RunModels | None


def runs_page(pages: gr.Blocks, actions: RunActions) -> None:
    """Build the current page of `pages`."""
    seen = gr.State(None)
    gr.Navbar(visible=False)
    with gr.Sidebar(elem_id="left", width=280):
        with gr.Row(elem_id="top"):
            gr.Markdown("# qianwen", elem_id="brand", container=False)
            gr.Button(tr("Chat"), link="/", link_target="_self", size="sm", scale=0, elem_id="to-chat")
        gr.Button(tr("Fine-tune a model"), link=TUNE, link_target="_self", variant="primary", elem_id="to-tune")
        names = gr.Radio([], label=tr("Runs"), elem_id="history")
    with gr.Column(elem_id="run"):
        with gr.Row(elem_id="acts"):
            talk = gr.Button(tr("Talk to this run"), size="sm", scale=0, visible=False, elem_id="talk")
            stop = gr.Button(tr("Stop"), size="sm", scale=0, visible=False, elem_id="stop-run")
            resume = gr.Button(tr("Continue"), size="sm", scale=0, visible=False, elem_id="resume-run")
        result = html_block(elem_id="result")
        view = gr.Markdown(elem_id="run-view", container=False, latex_delimiters=[])
    silent: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    outputs = [names, view, seen, talk, stop, resume]
    load, update = _checked_handlers(actions.access)
    pages.load(load, None, outputs, **silent)
    names.input(update, [names, seen], outputs, **silent)
    names.change(lambda: "", None, [result], **silent)
    gr.Timer(TICK_SECONDS).tick(update, [names, seen], outputs, trigger_mode="once", **silent)

    def act(button: gr.Button, effect: Callable[[str], Awaitable[str]]) -> None:
        async def handle(request: gr.Request, chosen: str | None) -> str:
            try:
                check_admin(actions.access, request.request.scope["key"])  # type: ignore[union-attr]
                return await effect(chosen or "")
            except QianwenError as error:
                return f'<p class="problem" role="alert">{_safe(error)}</p>'

        button.click(handle, [names], [result], **silent)

    async def talk_to(label: str) -> str:
        if actions.models is None:
            raise RequestError(tr("this server cannot load more models"))
        name = await actions.models.serve(label)
        return f'<p><a href="/?model={_safe(quote(name, safe=""))}">{_safe(name)}</a></p>'

    async def stop_run(label: str) -> str:
        await asyncio.to_thread(actions.finetunes.stop, label)
        return f"<p>{_safe(tr('The run saves a checkpoint and stops.'))}</p>"

    async def resume_run(label: str) -> str:
        await asyncio.to_thread(actions.finetunes.resume, label)
        return f"<p>{_safe(tr('The run continues from its last checkpoint.'))}</p>"

    act(talk, talk_to)
    act(stop, stop_run)
    act(resume, resume_run)


def _checked_handlers(access: AccessRules) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The handlers that open and update the page, for keys that may see it."""

    def update(request: gr.Request, chosen: str | None, seen: Seen) -> tuple[Any, ...]:
        _check_sees_runs(access, request.request)
        return refresh(chosen, seen)

    def load(request: gr.Request) -> tuple[Any, ...]:
        """The run in the address, else the newest."""
        return update(request, request.query_params.get("open"), None)

    return load, update


def refresh(chosen: str | None, seen: Seen) -> tuple[Any, ...]:
    """The list of runs, the chosen run (else the newest), a stamp of what was sent, and which buttons it has.

    `seen` is the stamp of the last update; if nothing has changed since, nothing is sent.
    """
    by_label = {registry.label(run): run for run in registry.all_runs()}
    hidden = tuple(gr.update(visible=False) for _ in range(3))
    starting = chosen if chosen and is_new_name(chosen) and is_starting(runs_dir() / chosen) else None
    chosen = chosen if chosen in by_label else next(iter(by_label), None)
    states = {label: registry.state(run) for label, run in by_label.items()}
    now = (chosen, tuple(states.items()), _stamp(by_label[chosen]) if chosen else None)
    if now == seen and not starting:
        return (gr.skip(),) * 6
    choices = [(f"{label} · {registry.state_text(run)}", label) for label, run in by_label.items()]
    if starting:
        choices = [(f"{starting} · {tr('starting')}", starting), *choices]
        return gr.update(choices=choices, value=starting), _starting(starting), None, *hidden
    listing = gr.update(choices=choices, value=chosen)
    if chosen is None:
        return listing, _no_runs(), now, *hidden
    run = by_label[chosen]
    has = (states[chosen] == "finished" and model_path(run) is not None, states[chosen] == "running", can_resume(run))
    return listing, run_html(run), now, *(gr.update(visible=each) for each in has)


def run_html(run: RunFolder) -> str:
    """One run as HTML on a single line, so that the Markdown renderer leaves it unchanged."""
    rows = displayed_metrics(run.metrics_path)
    last = {name: value for row in rows for name, value in row.items()}
    parts = [f"<h2>{_safe(registry.label(run))}</h2>", _headline(run, last)]
    parts += [f"<p>{_safe(text)}</p>" for text in (run.record.get("error"), trend(rows)) if text]
    if (run.path / "report.html").is_file():
        link = f"/runs/report?run={quote(registry.label(run), safe='')}"
        parts.append(f'<p><a href="{_safe(link)}">{_safe(tr("Open the report"))}</a></p>')
    parts += [_curves(rows), before_after_html(read_rows(run.path)), _samples(rows), _configuration(run)]
    parts.append(_log(run.path, is_open=registry.state(run) == "failed"))
    return f'<div class="run">{"".join(parts)}</div>'


def _check_sees_runs(access: AccessRules, request: Any) -> None:
    """Raise a 404 for a key that may not see the runs. A client can call the handlers without opening the page."""
    if not access.sees_runs(request.scope["key"]):
        raise RequestError("Not Found", status=404)


def run_routes(access: AccessRules) -> APIRouter:
    """`/runs/report`: the HTML report in a run folder."""
    router = APIRouter()

    @router.get("/runs/report", include_in_schema=False)
    def report(run: str, request: Request) -> Response:
        _check_sees_runs(access, request)
        path = next((r.path / "report.html" for r in registry.all_runs() if registry.label(r) == run), None)
        if path is None or not path.is_file():
            raise HTTPException(404, tr("this run has no report (report.html) yet"))
        return FileResponse(path, media_type="text/html", headers={"content-security-policy": SANDBOX})

    return router


def _stamp(run: RunFolder) -> tuple[object, ...]:
    files = (run.metrics_path, *(run.path / name for name in ("run.json", "report.html", LOG, FILE)))
    return tuple((s.st_mtime_ns, s.st_size) for file in files if file.exists() and (s := file.stat()))


def _no_runs() -> str:
    text = tr("no runs in {folder} yet: `qianwen demo` makes the first", folder=runs_dir())
    return f'<div class="run"><h2>{_safe(tr("Runs"))}</h2><p>{_safe(text)}</p></div>'


def _starting(label: str) -> str:
    text = "The run has no record yet: the model is being loaded, or the start failed. The output below says more."
    log = _log(runs_dir() / label, is_open=True)
    return f'<div class="run"><h2>{_safe(label)}</h2><p>{_safe(tr(text))}</p>{log}</div>'


def _log(folder: Path, *, is_open: bool) -> str:
    """The end of what the process printed, of a run that was started on the page."""
    text = log_tail(folder)
    opened = " open" if is_open else ""
    title = _safe(tr("Output"))
    return f"<details{opened}><summary>{title}</summary><pre>{_safe(text)}</pre></details>" if text else ""


def _headline(run: RunFolder, last: dict[str, Any]) -> str:
    facts = {tr("stage"): run.record["stage"], tr("state"): registry.state_text(run)}
    facts |= {title: last[name] for name, title in (("step", tr("step")), ("loss", tr("loss"))) if name in last}
    if registry.state(run) == "running" and "eta" in last:
        facts[tr("time left")] = last["eta"]
    items = (f"<div><dt>{_safe(name)}</dt><dd>{_safe(_number(value))}</dd></div>" for name, value in facts.items())
    return f"<dl>{''.join(items)}</dl>"


def _curves(rows: Sequence[dict[str, Any]]) -> str:
    names = dict.fromkeys(name for row in rows for name, value in row.items() if is_number(value))
    ranked = sorted(names.keys() - NOT_MEASURED, key=lambda name: (_rank(name), list(names).index(name)))
    figures = []
    for name in ranked[:MAX_CURVES]:
        points = points_of(rows, name)
        if len(points) > 1:
            drawing = curve_svg(points, smoothed(points) if name in SMOOTHED else ())
            picture = base64.b64encode(drawing.encode()).decode()
            description = tr("{name} over steps; last value {value}", name=name, value=_number(points[-1][1]))
            caption = f"{_safe(name)} <b>{_safe(_number(points[-1][1]))}</b>"
            image = f'<img alt="{_safe(description)}" src="data:image/svg+xml;base64,{picture}">'
            figures.append(f"<figure><figcaption>{caption}</figcaption>{image}</figure>")
    no_curve = f"<p>{_safe(tr('No curves yet: a curve needs two logged steps.'))}</p>"
    return f'<div class="curves">{"".join(figures)}</div>' if figures else no_curve


def _rank(name: str) -> int:
    return next((i for i, beginning in enumerate(FIRST) if name.startswith(beginning)), len(FIRST))


def _samples(rows: Sequence[dict[str, Any]]) -> str:
    """Texts that the model generated during training: the string values in the metrics, newest first."""
    texts = [
        (row.get("step"), name, value)
        for row in reversed(rows)
        for name, value in row.items()
        if isinstance(value, str) and name not in NOT_MEASURED
    ][:MAX_SAMPLES]
    if not texts:
        return ""
    items = (
        f"<h4>{_safe(name)} · {_safe(tr('step'))} {_safe(step)}</h4><pre>{_safe(text[:MAX_SAMPLE_LEN])}</pre>"
        for step, name, text in texts
    )
    return f"<h3>{_safe(tr('Samples'))}</h3>{''.join(items)}"


def _configuration(run: RunFolder) -> str:
    rows = (
        f'<tr><th scope="row">{_safe(name)}</th><td>{_safe(_number(value))}</td></tr>'
        for name, value in flat_config(run.config).items()
    )
    table = f"<table><tbody>{''.join(rows)}</tbody></table>"
    return f"<details><summary>{_safe(tr('Configuration'))}</summary>{table}</details>"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if is_number(value) else str(value)


def _safe(text: object) -> str:
    """Escaped for HTML and on one line: line breaks become character references."""
    return html.escape(str(text)).replace("\r", "").replace("\n", "&#10;")
