"""Tasks for agents with real weights, and the checks of their results."""
