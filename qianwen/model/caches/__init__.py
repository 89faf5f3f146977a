"""Key/value caches: contiguous for rows of equal length, paged for many sequences, and paged in eight bits."""
