"""One process, one engine, many clients."""
