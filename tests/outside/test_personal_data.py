"""Personal data is replaced; program text and mathematics stay. The labelled strings are those of the benchmark."""

import importlib.util
import sys
from pathlib import Path

import pytest

from qianwen.data.documents.pii import scrub

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():  # noqa: ANN201  a module
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("personal_data", BENCHMARKS / "personal_data.py")
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        yield module
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("half", [0, 1])
def test_precision_and_recall(benchmark, half: int) -> None:
    counts, _ = benchmark.measure(benchmark.labelled(1000, 7, half=half))
    precision, recall = benchmark.precision_recall(counts)
    assert precision >= 0.99 and recall >= 0.96


@pytest.mark.parametrize(
    "text",
    [
        "y = x@self.weight.T + b",
        "z = y@np.linalg.inv(w)",
        "h = a@model.lm_head",
        "(q@k.mT)/d",
        "x@w.to(device)",
        "git clone git@github.com:o/r",
        "git@gitlab.example:group/p.git",
        "scp a me@host.org:/tmp/x",
        "ssh://git@host.org/x",
        "docs/heads@2x.png",
        "icon@3x.webp",
        "LIMIT = 17179869184",
        "17179869184",
        "There are 17179869184 bytes.",
        "2^34 = 17179869184",
        "+1.2345678",
        "[+41.2691667, -69.75]",
        "+20240101",
        "+20250101T101010",
        "13743895347 / 2",
        "[15012345678, 3]",
        "x=13812345678+y",
        "π ≈ 3.14159265358979",
        "+12 345 678 901",
        "2024-01-02 10:11:12",
        "192.168.100.200",
        "order 1234567890123",
        "0.13812345678",
        "dial tcp 172.17.0.2:8262",
        "+2024-01-01 12:00",
        "lodash@4.17.21",
        "tools@v0.1.12",
        "getty@tty1.service",
        "user@example.com",
        "app@sha256:0123456789abcdef",
        "共有15123456789个",
    ],
)
def test_what_stays(text: str) -> None:
    assert scrub(text).text == text


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("müller@web.de schreibt", "[EMAIL] schreibt"),
        ("联系zhang@163.com(请注明)", "联系[EMAIL](请注明)"),
        ("a@b.com/c@d.org", "[EMAIL]/[EMAIL]"),
        ("ANN@FOO.COM", "[EMAIL]"),
        ("mailto:ann@foo.co.jp?subject=x", "mailto:[EMAIL]?subject=x"),
        ("# Author: A. <ann@lab.ai>", "# Author: A. <[EMAIL]>"),
        ("电话:13812345678", "电话:[PHONE]"),
        ("张三(13812345678)", "张三([PHONE])"),
        ("?phone=13812345678&x=1", "?phone=[PHONE]&x=1"),
        ("+8613812345678", "[PHONE]"),
        ("+81 90-1234-5678", "[PHONE]"),
        ("Tél. 01 42 34 56 78", "Tél. [PHONE]"),
        ("+44 (0)20 7946 0958", "[PHONE]"),
        ("tel +7 (495) 123-45-67", "tel [PHONE]"),
        ("010-1234-5678", "[PHONE]"),
        ("+9477-3283048", "[PHONE]"),
        ("(02) 9374 4000", "[PHONE]"),
    ],
)
def test_what_is_replaced(text: str, scrubbed: str) -> None:
    assert scrub(text).text == scrubbed
