"""The Qwen system in one package: from raw text to an aligned, tool-using chat model.

Each folder is one chapter of the Qwen report; imports only go down:

    cli > recipes > demo > serve | eval > align | agents > quantize > train | engine
        > checkpoints > chat | data | model > tokenizer | kernels | sandbox > runtime

Read `runtime/` first if you want the ground everything stands on, `model/transformer.py` if you want the network.

    from qianwen import LLM, Message

    llm = LLM.load("Qwen/Qwen2.5-0.5B-Instruct")
    for delta in llm.chat([Message("user", "What is a comet?")]):
        print(delta.text, end="")
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qianwen.chat.messages import Message
    from qianwen.checkpoints.load import load_model
    from qianwen.engine.llm import LLM
    from qianwen.engine.sampling_params import SamplingParams

__version__ = "0.1.0"
__all__ = ["LLM", "Message", "SamplingParams", "load_model"]

# Imported at first use: torch takes a second, and most commands need none of these.
_FRONT_DOOR = {
    "LLM": "qianwen.engine.llm",
    "Message": "qianwen.chat.messages",
    "SamplingParams": "qianwen.engine.sampling_params",
    "load_model": "qianwen.checkpoints.load",
}


def __getattr__(name: str) -> Any:
    if name not in _FRONT_DOOR:
        raise AttributeError(f"module 'qianwen' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_FRONT_DOOR[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


# No network call that the user did not ask for: the libraries we build on read these before their first import.
for _switch, _off in {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
}.items():
    os.environ.setdefault(_switch, _off)
