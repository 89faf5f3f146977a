"""The panel beside a conversation: its model, its system prompt, and how answers are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.service import Service
from qianwen.serve.ui.conversation import Settings


class Panel:
    """One component for each field of `Settings`, made inside the Gradio block that is open."""

    def __init__(self, service: Service) -> None:
        first = Settings.of(service.model(None))
        longest = max(served.context for served in service.models.values())
        names = list(service.models)
        self.parts: dict[str, Any] = {
            "model": gr.Dropdown(names, value=first.model, label=tr("Model"), visible=len(names) > 1, elem_id="model"),
            "system": gr.Textbox(
                label=tr("System prompt"), lines=4, max_lines=12, elem_id="system",
                placeholder=tr("Who the model is, and how it should answer"),
            ),
            "temperature": gr.Slider(
                0, 2, first.temperature, step=0.05, label=tr("Temperature"), buttons=[], elem_id="temperature",
                info=tr("0 gives the same answer every time; more gives more varied ones"),
            ),
            "top_p": gr.Slider(
                0.05, 1, first.top_p, step=0.05, label=tr("Top p"), buttons=[], elem_id="top_p",
                info=tr("only the likeliest words that make up this share"),
            ),
            "top_k": gr.Slider(
                0, 200, first.top_k, step=1, label=tr("Top k"), buttons=[], elem_id="top_k",
                info=tr("only so many of the likeliest words; 0 for all"),
            ),
            "repetition_penalty": gr.Slider(
                1, 2, first.repetition_penalty, step=0.01, label=tr("Repetition penalty"), buttons=[],
                elem_id="repetition_penalty", info=tr("above 1, words already said become less likely"),
            ),
            "max_tokens": gr.Slider(
                1, longest, first.max_tokens, step=1, label=tr("Longest answer, in tokens"), buttons=[],
                elem_id="max_tokens",
            ),
            "seed": gr.Number(
                None, precision=0, label=tr("Seed"), elem_id="seed", placeholder=tr("a new one each time"),
                info=tr("the same number draws the same answer again"),
            ),
        }  # fmt: skip

    @property
    def components(self) -> list[gr.components.Component]:
        return list(self.parts.values())

    def settings(self, values: Sequence[Any]) -> Settings:
        """What the components say. A client can make them say anything; the request they become is checked in full."""
        said: dict[str, Any] = dict(zip(self.parts, values, strict=True))
        try:
            said |= {name: int(said[name]) for name in ("top_k", "max_tokens", "seed") if said[name] is not None}
        except (ValueError, TypeError, OverflowError):
            raise RequestError(tr("a setting beside the conversation is not a number")) from None
        return Settings(**said)

    def showing(self, settings: Settings) -> dict[Any, Any]:
        """The update after which the components say `settings`."""
        return {part: getattr(settings, name) for name, part in self.parts.items()}
