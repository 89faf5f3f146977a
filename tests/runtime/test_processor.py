"""The names of processor features."""

import platform
import sys
from pathlib import Path

import pytest

from qianwen.kernels.cpu.build import FAMILIES
from qianwen.runtime.processor import cpu_features, macos_features

# As an M2 answers `sysctl hw.optional`, shortened.
M2 = """hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_SME: 0
hw.optional.AdvSIMD: 1
hw.optional.floatingpoint: 1
"""


def test_an_apple_processor_has_the_arm_families() -> None:
    features = macos_features(M2)
    assert [each.name for each in FAMILIES if each.features <= features] == ["neon_i8mm", "neon"]
    assert "asimd" in features and "sme" not in features


def test_an_apple_processor_without_matrix_products_has_one_family() -> None:
    features = macos_features(M2.replace("I8MM: 1", "I8MM: 0"))
    assert [each.name for each in FAMILIES if each.features <= features] == ["neon"]


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="reads /proc/cpuinfo")
def test_linux_names_the_vectors_of_this_processor() -> None:
    expected = {"x86_64": "sse2", "aarch64": "asimd"}.get(platform.machine())
    assert sys.platform != "linux" or expected is None or expected in cpu_features()
