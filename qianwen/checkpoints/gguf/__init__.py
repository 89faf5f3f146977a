"""GGUF, the file format of llama.cpp: the container (`file.py`), files in parts, the vocabulary, the network."""
