"""Model files: all formats that models are read from and written to.

    load.py            MODEL (a folder, a GGUF file, a run, an adapter, a hub id) → a network and its tokenizer
    export.py          a model → a folder, GGUF or Ollama file for other programs, read back and compared
    hf_config.py  hf_weights.py  tensor_names.py  hf_folder.py  safetensors_file.py
                       Hugging Face folders, including Qwen v1
    generation_config.py  recommended_sampling.py    the sampling of a model: of its files, or of its family
    gguf/              GGUF files
    gptq_folder.py     GPTQ folders        nf4_network.py   any of these loaded in NF4
    adapter_folder.py  adapter_settings.py    PEFT adapters        head_file.py    heads of reward and value models
    packed_cache.py    packed copies on disk, which load in a second
    cached_models.py  model_facts.py          the models on this disk, described without loading them
    hub.py             models of hubs      parity.py  model_card.py   the check and the description of an export

Quantisation with calibration data is in `quantize/`, checkpoints of a training run are in `train/checkpoint.py`.
"""
