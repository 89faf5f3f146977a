"""Where faster loops for training are put in: `quantize/kernels` has them, for the processors they were written for.

use(kernels)        from now on, in this process
kernels_for(x)      what was put in, if it takes such tensors; else PyTorch's own operators do the work
"""

from typing import Protocol

from torch import Tensor


class TrainingKernels(Protocol):
    """The loops that can be replaced."""

    def takes(self, x: Tensor) -> bool:
        """Whether these kernels are for tensors of this type and device."""
        ...

    def attend_documents(self, q: Tensor, k: Tensor, v: Tensor, first: Tensor) -> Tensor:
        """q [T, h, d], k and v [T, g, d] → [T, h, d]: token t sees the tokens first[t] … t; differentiable."""
        ...

    def softmax_loss_(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Losses [n] of scores [n, V], which become their gradients; a target below 0 counts nothing."""
        ...


_in_use: list[TrainingKernels] = []


def use(kernels: TrainingKernels) -> None:
    """Let training run on `kernels`, wherever they take its tensors."""
    _in_use[:] = [kernels]


def kernels_for(x: Tensor) -> TrainingKernels | None:
    """The kernels in use, if they are for tensors like `x`."""
    return next((kernels for kernels in _in_use if kernels.takes(x)), None)
