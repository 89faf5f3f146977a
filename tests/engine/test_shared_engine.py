"""Many threads use one engine: nobody waits for another's answer, and cancelled requests wake their readers."""

import gc
import threading
import time

import pytest

from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import RequestError

LONG = SamplingParams(max_tokens=None, ignore_eos=True)


def in_threads(functions: list) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a thread was never woken"


@pytest.mark.parametrize("num_threads", [2, 7, 32])
def test_an_answer_is_read_while_longer_ones_go_on(make_llm, num_threads: int) -> None:
    """Each thread asks again as soon as its answer has ended; the engine never runs fewer than are asked."""
    llm = make_llm(block_size=8, max_num_seqs=4, max_num_batched_tokens=64)
    running: list[int] = []
    step = llm.engine.step

    def counted():
        outputs = step()
        running.append(len(llm.engine.scheduler.running) + sum(output.finish_reason is not None for output in outputs))
        return outputs

    llm.engine.step = counted

    def ask(number: int) -> None:
        for round in range(5):
            params = SamplingParams(temperature=0, max_tokens=3 + (number * 7 + round) % 11, ignore_eos=True)
            llm.generate([f"question {number} {round}"], params)

    in_threads([lambda number=number: ask(number) for number in range(num_threads)])
    assert llm.shared.num_open == 0
    if num_threads == 32:  # twice as many as run at a time and more: no place stays empty but at the end
        busy = running[len(running) // 4 : len(running) // 2]
        assert sum(busy) / len(busy) > 3.5


def test_a_request_is_added_while_a_step_runs(make_llm) -> None:
    llm = make_llm()
    step, is_inside, may_end = llm.engine.step, threading.Event(), threading.Event()

    def slow():
        is_inside.set()
        may_end.wait(30)
        return step()

    llm.engine.step = slow
    reader = threading.Thread(target=llm.generate, args=(["x"], SamplingParams(max_tokens=1)))
    reader.start()
    assert is_inside.wait(30)
    began = time.monotonic()
    stream = llm.stream("y", SamplingParams(max_tokens=1))
    with pytest.raises(RequestError, match="max_tokens|empty|tokens"):
        llm.stream("")  # what is wrong with a request is said at once too
    assert time.monotonic() - began < 5
    may_end.set()
    assert stream.result().outputs[0].finish_reason
    reader.join(30)


def test_cancelling_all_wakes_every_reader(make_llm) -> None:
    llm = make_llm(max_num_seqs=2)
    errors: list[RequestError] = []
    has_begun = threading.Barrier(9)

    def read() -> None:
        stream = llm.stream("hello", LONG)
        has_begun.wait(30)
        try:
            stream.result()
        except RequestError as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    has_begun.wait(30)
    for thread in threads:
        while thread.is_alive():
            llm.cancel_all()
            thread.join(0.05)
    assert [error.code for error in errors] == ["cancelled"] * 8
    assert llm.generate(["x"], SamplingParams(max_tokens=1))[0].outputs[0].finish_reason, "it goes on afterwards"


def test_an_error_in_a_step_does_not_leave_others_asleep(make_llm) -> None:
    llm = make_llm(max_num_seqs=4)
    step, num_steps, failed = llm.engine.step, [0], []

    def failing():
        num_steps[0] += 1
        if num_steps[0] % 5 == 0:
            raise ZeroDivisionError
        return step()

    llm.engine.step = failing

    def ask(number: int) -> None:
        try:
            llm.generate([f"q {number}"], SamplingParams(temperature=0, max_tokens=8, ignore_eos=True))
        except ZeroDivisionError:
            failed.append(number)

    in_threads([lambda number=number: ask(number) for number in range(12)])
    assert failed and len(failed) < 12 and llm.shared.num_open == 0


def test_streams_deleted_in_any_thread_leave_nothing(make_llm) -> None:
    llm = make_llm(max_num_seqs=3)

    def leave(number: int) -> None:
        for length in range(4):
            stream = llm.stream(f"{number} {length}", LONG)
            for _, _ in zip(range(length), stream, strict=False):
                pass
            del stream
        gc.collect()

    in_threads([lambda number=number: leave(number) for number in range(4)])
    llm.generate(["x"], SamplingParams(max_tokens=1))
    blocks = llm.engine.blocks
    assert llm.shared.num_open == 0 and blocks.num_free_blocks == blocks.num_blocks
