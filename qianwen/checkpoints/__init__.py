"""Between the network and the disk: every format a model is read from or written to.

    load.py            MODEL (a folder, a GGUF file, a run, an adapter, a hub id) → a model that answers
    export.py          a model → a folder, GGUF or Ollama file for other programs, read back and compared
    hf_config.py  hf_weights.py  hf_folder.py  safetensors_file.py    Hugging Face folders, Qwen v1's included
    gguf/              GGUF files
    gptq_folder.py     GPTQ folders        nf4_network.py   any of these in NF4
    adapter_folder.py  PEFT adapters       head_file.py    heads of reward and value models
    packed_cache.py    packed copies that start in a second
    hub.py             models by name      parity.py  model_card.py   what an export says of itself

Not here: codes chosen from data (`quantize/`), checkpoints of a training run (`train/checkpoint.py`).
"""
