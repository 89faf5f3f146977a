"""Fewer bits, and the way of models in and out of this package (Qwen report, section 2 and the quantised releases).

    load.py      `load_model(MODEL)`: the one reader of folders, GGUF files, run folders and hub names
    export.py    the one writer of folders, GGUF and Ollama files, each with a model card and a parity check

This chapter knows weights and number formats. It does not know requests, training or evaluation.
"""
