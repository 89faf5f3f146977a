"""Options of the commands that run a model, for texts beyond the trained length."""

from dataclasses import dataclass

import tyro

from qianwen.model.long_context import AS_CONFIGURED, Extension, LongContext, OnGrowth
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

FULL = "full"


@dataclass(frozen=True, kw_only=True)
class LongContextOptions:
    """Reading texts beyond the trained length."""

    rope: Extension = AS_CONFIGURED.rope
    """Method for texts beyond the trained length; auto: that of the model's files; none: no text may be longer."""
    rope_factor: float | None = None
    """For yarn and linear: longest text / trained length. Default: 4."""
    logn: tyro.conf.DisallowNone[bool | None] = AS_CONFIGURED.logn
    """LogN scaling of the queries beyond the trained length. Default: as in the model's files."""
    on_growth: OnGrowth = AS_CONFIGURED.on_growth
    """If an answer grows into another rotation: exact: compute its text again; rerotate: turn the stored keys, which is
    approximate; fixed: keep the rotation."""
    windows: str = ""
    """Attention windows in tokens, from low to high layers in equal groups, such as 2048,4096,full. Default: as in the
    model's files."""

    @property
    def extension(self) -> LongContext:
        """How requests extend the trained length."""
        if self.rope_factor is not None and self.rope not in ("yarn", "linear"):
            raise ConfigError(
                tr("--rope-factor is for --rope yarn and linear; with {rope} it has no effect", rope=self.rope)
            )
        factor = AS_CONFIGURED.factor if self.rope_factor is None else self.rope_factor
        return LongContext(rope=self.rope, factor=factor, logn=self.logn, on_growth=self.on_growth)

    @property
    def window_sizes(self) -> tuple[int, ...]:
        """The windows in tokens, 0 for full attention; empty: as in the model's files."""
        return window_sizes(self.windows)


AS_STORED = LongContextOptions()


def window_sizes(windows: str) -> tuple[int, ...]:
    """`2048,full` → (2048, 0). ConfigError for anything else than positive integers and `full`."""
    return tuple(_window(part.strip(), windows) for part in windows.split(",")) if windows else ()


def _window(part: str, windows: str) -> int:
    if part == FULL:
        return 0
    if not part.isascii() or not part.isdecimal() or int(part) < 1:
        message = "--windows {windows}: {part!r} is neither a number of tokens above 0 nor `full`, as in 2048,4096,full"
        raise ConfigError(tr(message, windows=windows, part=part))
    return int(part)
