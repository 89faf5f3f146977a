"""Checks of the compiled code: kernels and text loops in C++ run once on small inputs, compared with Python.

`ok` is None if a check does not apply to this machine or is switched off; the text says why.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from qianwen.data.curate import shingler
from qianwen.data.curate.minhash import MinHashConfig, shingles
from qianwen.data.text_arrays import Texts
from qianwen.kernels import self_test
from qianwen.kernels.cpu import build
from qianwen.kernels.dispatch import on_gpu
from qianwen.runtime.compiler import NativeLibrary
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr
from qianwen.tokenizer import learner
from qianwen.tokenizer.train import learn_tokens, learn_tokens_with_rustbpe

TEXTS = ["the cat sat on the mat, and the cat ate the rat that sat on the mat; 通义千问，通义千问！", "a short one", ""]


class Check(NamedTuple):
    """One line of the output. `ok`: None if the part is optional and absent, or does not apply."""

    what: str
    ok: bool | None
    result: str


def compiled() -> Iterator[Check]:
    """One line for each part in C++ or Triton."""
    library = build.library()
    name = build.family_name()
    yield _check(tr("inference kernels"), library, lambda: _summary(self_test.on_cpu(), name))
    yield _check(tr("training kernels"), library, lambda: _summary(self_test.for_training(), name))
    yield _gpu()
    yield _check(tr("tokenizer trainer"), learner.library(), _learner)
    yield _check(tr("shingler for deduplication"), shingler.library(), _shingler)


def _check(what: str, library: NativeLibrary, run: Callable[[], str]) -> Check:
    """Run one check. It fails if the library cannot be compiled or loaded, or computes wrong numbers."""
    if library.path is None:
        return Check(what, False if library.is_failure else None, library.reason)
    try:
        return Check(what, True, run())
    except (OSError, AttributeError, ConfigError) as error:  # a library that cannot be loaded, or lacks a function
        return Check(what, False, str(error))


def _summary(outcomes: Iterable[self_test.Outcome], family: str) -> str:
    """How many kernels agree with PyTorch. Raises ConfigError with the names of those that do not."""
    begin = time.perf_counter()
    done = list(outcomes)
    milliseconds = 1e3 * (time.perf_counter() - begin)
    if wrong := [f"{each.loop} ({each.error:.2g})" for each in done if not each.is_right]:
        raise ConfigError(tr("results differ from PyTorch: {loops}", loops=", ".join(wrong)))
    message = "{family}: {count} kernels agree with PyTorch ({milliseconds:.0f} ms)"
    return tr(message, family=family, count=len(done), milliseconds=milliseconds)


def _gpu() -> Check:
    what = tr("GPU kernels")
    if not torch.cuda.is_available():
        return Check(what, None, tr("no CUDA device"))
    kernels = on_gpu(torch.empty(0, device="cuda"))
    if kernels is None:
        return Check(what, None, tr("Triton is not installed: PyTorch computes"))
    try:
        return Check(what, True, _summary(self_test.on_gpu(kernels), "Triton"))
    except Exception as error:  # whatever Triton's compiler raises is the result
        return Check(what, False, str(error).strip().splitlines()[0])


def _learner() -> str:
    number = 256 + 40
    learned, expected = learn_tokens(TEXTS, number), learn_tokens_with_rustbpe(TEXTS, number)
    if learned != expected:
        raise ConfigError(tr("its merges differ from those of rustbpe"))
    return tr("{count} merges, the same as rustbpe's", count=len(learned) - 256)


def _shingler() -> str:
    config, texts = MinHashConfig(), Texts(TEXTS)
    hashes, counts = shingles(texts, config)
    expected = [np.unique(part) for part in np.split(hashes, np.cumsum(counts)[:-1])]
    values, sizes = shingler.sets(texts, config.shingle)
    if sizes.tolist() != [len(part) for part in expected] or not np.array_equal(values, np.concatenate(expected)):
        raise ConfigError(tr("its shingles differ from those of NumPy"))
    return tr("{count} shingles, the same as NumPy's", count=len(values))
