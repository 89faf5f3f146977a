import threading

import pytest

from qianwen.align.request_log import in_order, logged


def test_results_come_in_order_and_so_many_run_at_the_same_time():
    barrier = threading.Barrier(3, timeout=20)

    def square(number: int) -> int:
        barrier.wait()  # three run together, else this times out
        return number * number

    assert list(in_order(square, range(9), 3)) == [n * n for n in range(9)]


def test_an_error_ends_the_iteration():
    def fail(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    results = in_order(fail, range(10), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        list(results)


def test_a_killed_run_asks_only_for_what_is_missing(tmp_path):
    path, asked = tmp_path / "log.jsonl", []

    def request(number: int) -> dict:
        asked.append(number)
        return {"number": number, "text": "好"}

    whole = list(logged(path, request, range(6), 2))
    content = path.read_bytes()
    for length in (0, 5, len(content) // 2, len(content) - 1, len(content)):
        path.write_bytes(content[:length])
        asked.clear()
        assert list(logged(path, request, range(6), 2)) == whole and path.read_bytes() == content
        assert len(asked) == 6 - content[:length].count(b"\n")
