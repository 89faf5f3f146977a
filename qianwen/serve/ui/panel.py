"""The settings of a conversation: the menu of models above it, and the panel beside it with all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.service import Service
from qianwen.serve.ui.conversation import Settings, can_think


def html_block(value: str = "", *, elem_id: str, is_own: bool = False, visible: bool = True) -> gr.Markdown:
    """A component for HTML on one line. (`gr.HTML` evaluates its value as code, which the security policy forbids.)

    Gradio removes everything active from it, unless it `is_own`: controls of ours, without any text of users or models.
    """
    return gr.Markdown(
        value, elem_id=elem_id, container=False, latex_delimiters=[], sanitize_html=not is_own, visible=visible
    )


def model_menu(service: Service) -> gr.Dropdown:
    """The menu of the served models and adapters; hidden if there is only one."""
    options = menu_options(service)
    return gr.Dropdown(
        **options, value=service.model(None).name, label=tr("Model"), show_label=False, container=False,
        elem_id="model", min_width=120, scale=0,
    )  # fmt: skip


def menu_options(service: Service) -> dict[str, Any]:
    """The choices of the menu of models. They change when the model of a run is added."""
    labels = {
        served.name: tr("{name} (adapter of {parent})", name=served.name, parent=served.parent)
        for served in service.models.values()
        if served.parent
    }
    choices = [(labels.get(name, name), name) for name in service.models]
    return {"choices": choices, "visible": len(choices) > 1}


def compare_options(service: Service) -> dict[str, Any]:
    """The choices of the second model."""
    options = menu_options(service)
    return {**options, "choices": [(tr("no other model"), ""), *options["choices"]]}


class Panel:
    """One component for each field of `Settings`. All but the menu of models are created in the current block."""

    def __init__(self, service: Service, menu: gr.Dropdown) -> None:
        first = Settings.from_model(service.model(None))
        longest = max(served.context for served in service.models.values())
        self.parts: dict[str, Any] = {
            "model": menu,
            "system": gr.Textbox(
                label=tr("System prompt"), lines=4, max_lines=12, elem_id="system",
                placeholder=tr("The role of the model and how it should answer"),
            ),
            "temperature": gr.Slider(
                0, 2, first.temperature, step=0.05, label=tr("Temperature"), buttons=[], elem_id="temperature",
                info=tr("0 gives the same answer every time; higher values give more varied answers"),
            ),
            "top_p": gr.Slider(
                0.05, 1, first.top_p, step=0.05, label=tr("Top p"), buttons=[], elem_id="top_p",
                info=tr("sample from the most likely tokens whose probabilities add up to this value"),
            ),
            "top_k": gr.Slider(
                0, 200, first.top_k, step=1, label=tr("Top k"), buttons=[], elem_id="top_k",
                info=tr("sample from this many of the most likely tokens; 0 means all"),
            ),
            "repetition_penalty": gr.Slider(
                1, 2, first.repetition_penalty, step=0.01, label=tr("Repetition penalty"), buttons=[],
                elem_id="repetition_penalty", info=tr("above 1, tokens that were already used become less likely"),
            ),
            "max_tokens": gr.Slider(
                1, longest, first.max_tokens, step=1, label=tr("Maximum answer length in tokens"), buttons=[],
                elem_id="max_tokens",
            ),
            "seed": gr.Number(
                None, precision=0, label=tr("Seed"), elem_id="seed", placeholder=tr("random each time"),
                info=tr("the same seed gives the same answer again"),
            ),
            "compare": gr.Dropdown(
                **compare_options(service), value="", label=tr("Compare with"), elem_id="compare",
                info=tr("a second model that answers the same questions, side by side"),
            ),
            "thinking": gr.Checkbox(
                first.thinking, label=tr("Think before answering"), elem_id="thinking",
                visible=any(map(can_think, service.models.values())),
                info=tr("for models that were trained to; the thoughts are folded above the answer"),
            ),
        }  # fmt: skip

    @property
    def components(self) -> list[gr.components.Component]:
        return list(self.parts.values())

    def settings(self, values: Sequence[Any]) -> Settings:
        """The values of the components. A client can send any values; the request made from them is validated."""
        fields: dict[str, Any] = dict(zip(self.parts, values, strict=True))
        try:
            fields |= {name: int(fields[name]) for name in ("top_k", "max_tokens", "seed") if fields[name] is not None}
        except (ValueError, TypeError, OverflowError):
            raise RequestError(tr("top k, the answer length and the seed must be numbers")) from None
        fields |= {"thinking": bool(fields["thinking"]), "compare": fields["compare"] or ""}
        return Settings(**fields)

    def update(self, settings: Settings) -> dict[Any, Any]:
        """The Gradio update that shows `settings` in the components."""
        return {part: getattr(settings, name) for name, part in self.parts.items()}
