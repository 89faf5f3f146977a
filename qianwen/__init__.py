"""The Qwen system in one package: from raw text to an aligned, tool-using chat model.

Each folder is one chapter of the Qwen report; imports only go down:

    cli > recipes > serve | eval > align > train | engine | agents > quantize
        > chat | data | model > tokenizer | sandbox > runtime

Read `runtime/` first if you want the ground everything stands on, `model/transformer.py` if you want the network.
"""

import os

__version__ = "0.1.0"

# No network call that the user did not ask for: the libraries we build on read these before their first import.
for _switch, _off in {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
}.items():
    os.environ.setdefault(_switch, _off)
