"""From files of any kind to documents: sources, readers, and what is done to one text at a time."""
