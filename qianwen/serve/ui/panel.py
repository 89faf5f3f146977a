"""The settings panel beside a conversation: model, system prompt and sampling parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.service import Service
from qianwen.serve.ui.conversation import Settings


class Panel:
    """One component for each field of `Settings`, created in the current Gradio block."""

    def __init__(self, service: Service) -> None:
        first = Settings.from_model(service.model(None))
        longest = max(served.context for served in service.models.values())
        names = list(service.models)
        self.parts: dict[str, Any] = {
            "model": gr.Dropdown(names, value=first.model, label=tr("Model"), visible=len(names) > 1, elem_id="model"),
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
        return Settings(**fields)

    def update(self, settings: Settings) -> dict[Any, Any]:
        """The Gradio update that shows `settings` in the components."""
        return {part: getattr(settings, name) for name, part in self.parts.items()}
