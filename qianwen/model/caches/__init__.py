"""Keys and values of tokens already seen: one text, many texts in pages of blocks, and pages in eight bits."""
