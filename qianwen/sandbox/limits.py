"""How much a program may use."""

from dataclasses import asdict, dataclass

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that one run may use: the program with all processes that it starts."""

    cpu_seconds: float = 10.0  # processor time
    wall_seconds: float = 30.0
    memory_bytes: int = 1 << 30  # address space of each process, and memory of all
    processes: int = 32  # processes and threads at the same time
    file_bytes: int = 64 << 20  # size of one file
    folder_bytes: int = 64 << 20  # size of all files
    folder_entries: int = 4096  # number of files and folders
    output_bytes: int = 1 << 20  # standard output and standard error together

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value < 1 << 60:
                raise ConfigError(tr("limit {name} must be a positive number; it is {value}", name=name, value=value))
