"""Tokenizer: text ↔ ids (Qwen report, section 2.2)."""
