"""Random weights in every packed format."""

from ...kernels.conftest import random_weight  # noqa: F401
