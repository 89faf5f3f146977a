"""GGUF, the file format of llama.cpp: the container (`file.py`), models in parts, the vocabulary, the network."""
