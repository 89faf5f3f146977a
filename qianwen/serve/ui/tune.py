"""The fine-tuning page: drop a file, see the plan, start the run. `finetunes.py` does the work.

The page is for administrators: starting a run uses the machine's memory for minutes or hours. Where API keys are in
use, every call needs a key that was made with `qianwen keys add NAME --admin`.
"""

from __future__ import annotations

import asyncio
import html
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import gradio as gr
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from qianwen.align.before_after import MAX_SHOWN
from qianwen.align.finetune_plan import FinetunePlan
from qianwen.align.preview import labelled_pieces
from qianwen.runtime.errors import QianwenError, RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.exchange import read_body
from qianwen.serve.finetunes import Finetunes, Order
from qianwen.serve.gate import AccessRules, Key
from qianwen.serve.service import Service
from qianwen.serve.ui.panel import html_block

TUNE = "/tune"
MAX_DATA = 64 * 2**20  # bytes of an uploaded file
DATA_SECONDS = 120.0  # to send it
GB = 1e9


def check_admin(access: AccessRules, key: Key) -> None:
    """Raise a 403 unless the key may change what this server does."""
    if not access.is_admin(key):
        message = "this needs the key of an administrator (`qianwen keys add NAME --admin`)"
        raise RequestError(tr(message), status=403, code="forbidden")


def tune_routes(service: Service, access: AccessRules, finetunes: Finetunes) -> APIRouter:
    """`/pages/dialogues`: upload a file of dialogues."""
    router = APIRouter()
    limits = replace(service.admission.limits, max_body_bytes=MAX_DATA, body_timeout=DATA_SECONDS)

    @router.post("/pages/dialogues", include_in_schema=False)
    async def upload(http: Request) -> Response:
        check_admin(access, http.scope["key"])
        with service.admission.admit(http.scope["key"], 0):
            data = await read_body(http, limits)
            id, count = await asyncio.to_thread(finetunes.upload, data)
        return JSONResponse({"id": id, "text": tr("{count:,} dialogue{count:plural}", count=count)})

    return router


class TunePage:
    """The components of the page and their handlers."""

    def __init__(self, pages: gr.Blocks, access: AccessRules, finetunes: Finetunes) -> None:
        self.access, self.finetunes = access, finetunes
        gr.Navbar(visible=False)
        with gr.Column(elem_id="tune"):
            with gr.Row(elem_id="top"):
                gr.Markdown(f"# {tr('Fine-tune a model')}", elem_id="brand", container=False)
                gr.Button(tr("Chat"), link="/", link_target="_self", size="sm", scale=0, elem_id="to-chat")
                gr.Button(tr("Runs"), link="/runs", link_target="_self", size="sm", scale=0, elem_id="to-runs")
            html_block(_drop_html(), elem_id="drop", is_own=True)
            self.upload = gr.Textbox(label=tr("Dialogues"), show_label=False, container=False, elem_id="upload")
            with gr.Row():
                self.model = gr.Dropdown([], label=tr("Model"), elem_id="tune-model")
                self.name = gr.Textbox(label=tr("Name of the run"), max_length=60, elem_id="tune-name")
            with gr.Row():
                methods = [(tr("automatic"), ""), ("full", "full"), ("lora", "lora"), ("qlora", "qlora")]
                self.method = gr.Dropdown(methods, value="", label=tr("Method"), elem_id="tune-method")
                self.epochs = gr.Number(3, minimum=0.1, maximum=100, label=tr("Epochs"), elem_id="tune-epochs")
            self.view = html_block(elem_id="plan")
            self.start = gr.Button(tr("Start"), variant="primary", interactive=False, elem_id="tune-start")
        silent: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        inputs = [self.model, self.upload, self.name, self.method, self.epochs]
        pages.load(self.load, None, [self.model, self.name, self.view], **silent)
        gr.on(
            [self.upload.change, self.model.input, self.method.input, self.epochs.change, self.name.change],
            self.update, inputs, [self.view, self.start], trigger_mode="always_last", **silent,
        )  # fmt: skip
        self.start.click(self.begin, inputs, [self.view, self.start], **silent)

    def load(self, request: gr.Request) -> tuple[Any, Any, str]:
        """The models that can be fine-tuned; for others than administrators, why there are none."""
        try:
            check_admin(self.access, request.request.scope["key"])  # type: ignore[union-attr]
        except RequestError as error:
            return gr.skip(), gr.skip(), _alert(error)
        names = list(self.finetunes.sources())
        hint = "" if names else _alert(tr("no served model can be fine-tuned here; `qianwen demo` makes one"))
        return gr.update(choices=names, value=names[0] if names else None), _free_name(self.finetunes), hint

    async def update(self, request: gr.Request, *values: Any) -> tuple[str, Any]:
        """The plan of the run, or why it cannot be started. Nothing is displayed before a file was dropped."""
        if not values[1]:
            return "", gr.update(interactive=False)
        try:
            check_admin(self.access, request.request.scope["key"])  # type: ignore[union-attr]
            plan = await asyncio.to_thread(self.finetunes.plan, _order(values))
        except QianwenError as error:
            return _alert(error), gr.update(interactive=False)
        return plan_html(plan), gr.update(interactive=True)

    async def begin(self, request: gr.Request, *values: Any) -> tuple[Any, Any]:
        """Start the run, and lead to its page."""
        try:
            check_admin(self.access, request.request.scope["key"])  # type: ignore[union-attr]
            label = await asyncio.to_thread(self.finetunes.start, _order(values))
        except QianwenError as error:
            return _alert(error), gr.update(interactive=True)
        address = f"/runs?open={quote(label, safe='')}"
        return f'<p><a href="{address}">{_safe(label)}</a></p>', gr.update(interactive=False)


def plan_html(plan: FinetunePlan) -> str:
    """The plan as a table, and the first dialogue with its labels."""
    choice, config = plan.choice, plan.config
    methods = {
        "full": tr("all weights"),
        "lora": tr("a small adapter beside the frozen weights"),
        "qlora": tr("a small adapter beside weights of four bits"),
    }
    memory = tr("about {need:.1f} GB of {free:.1f} GB free", need=choice.bytes_needed / GB, free=plan.free_bytes / GB)
    rows = {
        tr("Dialogues"): f"{plan.num_dialogues:,}",
        tr("Method"): f"{choice.method}: {methods[choice.method]}",
        tr("Memory"): memory,
        tr("Time"): tr("about {time}", time=duration_text(plan.seconds)),
        tr("Steps"): tr(
            "{steps:,}, each of {count} × {size:,} tokens",
            steps=plan.steps,
            count=config.loop.sequences_per_step,
            size=config.seq_len,
        ),
        tr("Learning rate"): f"{choice.lr:g}",
    }
    table = "".join(
        f'<tr><th scope="row">{_safe(name)}</th><td>{_safe(value)}</td></tr>' for name, value in rows.items()
    )
    pieces = labelled_pieces(plan.first, plan.tokenizer)
    text = "".join(f"<mark>{_safe(piece)}</mark>" if is_learned else _safe(piece) for piece, is_learned in pieces)
    hint = _safe(tr("The first dialogue. The model learns to write what is marked; the rest is context."))
    return f"<table><tbody>{table}</tbody></table><p>{hint}</p><pre>{text}</pre>"


def duration_text(seconds: float) -> str:
    """A duration as one number with its unit."""
    if seconds < 90:
        return tr("{count:.0f} s", count=max(seconds, 1))
    if seconds < 90 * 60:
        return tr("{count:.0f} min", count=seconds / 60)
    return tr("{count:.1f} h", count=seconds / 3600)


def before_after_html(rows: list[dict[str, str]]) -> str:
    """The answers before and after a run, as a table; on a narrow page each row is a card."""
    if not rows:
        return ""
    names = {
        "question": tr("question"),
        "expected": tr("in the data"),
        "before": tr("before training"),
        "after": tr("after training"),
    }
    head = "".join(f'<th scope="col">{_safe(title)}</th>' for title in names.values())
    # on a narrow page each cell has its title in front of it, and the head is not displayed
    cells = (
        "".join(
            f"<td><small>{_safe(title)}</small>{_safe(_cut(row.get(name, '…')))}</td>" for name, title in names.items()
        )
        for row in rows
    )
    body = "".join(f"<tr>{cell}</tr>" for cell in cells)
    title = _safe(tr("Before and after"))
    return f'<h3>{title}</h3><table class="wide"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cut(text: str) -> str:
    return text if len(text) <= 3 * MAX_SHOWN else f"{text[: 3 * MAX_SHOWN]}…"


def _order(values: tuple[Any, ...]) -> Order:
    model, upload, name, method, epochs = values
    if not all(isinstance(each, str) for each in (model, upload, name, method)) or not isinstance(epochs, (int, float)):
        raise RequestError(tr("choose a model, a name, a method and the number of epochs"))
    return Order(model=model, upload=upload, name=name.strip(), method=method, epochs=float(epochs))


def _free_name(finetunes: Finetunes) -> str:
    taken = finetunes.taken_names()
    return next(name for number in range(1, len(taken) + 2) if (name := f"finetune-{number}") not in taken)


def _drop_html() -> str:
    title = _safe(tr("Drop a file of dialogues here, or choose one"))
    hint = _safe(
        tr("JSON lines or a JSON list: messages, conversations (ShareGPT), or instruction and output (Alpaca)")
    )
    return (
        f'<label id="dialogues"><input type="file" accept=".jsonl,.json,.txt" aria-label="{title}">'
        f'<b aria-hidden="true">{title}</b><span>{hint}</span><output aria-live="polite"></output></label>'
    )


def _alert(problem: object) -> str:
    return f'<p class="problem" role="alert">{_safe(problem)}</p>'


def _safe(text: object) -> str:
    return html.escape(str(text)).replace("\n", "&#10;")
