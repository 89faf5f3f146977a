"""Every benchmark runs with `--quick` on real weights and prints its ratios, or says which peer it lacks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
WEIGHTS = Path(os.environ.get("QIANWEN_TEST_WEIGHTS", "~/.cache/qianwen-weights")).expanduser()
RATIO = re.compile(r"^ratio \S+ -?[\d.]+$", re.MULTILINE)
