"""Tools that come with the package, and tools from functions and schemas."""
