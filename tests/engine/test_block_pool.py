"""Which block is reused first, and how much memory and reuse that leaves to layers with windows."""

import random

import pytest

from qianwen.engine.block_manager import BlockManager
from qianwen.engine.block_pool import BlockPool, Keep
from qianwen.engine.kv_cache import blocks_of_kinds
from qianwen.engine.scheduler import Scheduler

from .test_block_manager import new_sequence

SIZE = 32
SYSTEM_END = 1


def filled(pool: BlockPool, keep: Keep, name: bytes) -> int:
    """A block that held text and has no user any more."""
    block = pool.take()
    if name:
        pool.register(block, name)
    pool.release(block, keep)
    return block


def test_text_that_cannot_be_matched_is_overwritten_first_and_text_at_a_branch_last():
    pool = BlockPool(6, window=64, block_size=32)
    held = [pool.take() for _ in range(5)]
    for block, name in zip(held, (b"branch", b"end", b"behind", b"", b"used"), strict=True):
        if name:
            pool.register(block, name)
    branch, end, behind, spare, _ = held
    for block, keep in ((branch, Keep.BRANCH), (end, Keep.END), (behind, Keep.BEHIND), (spare, Keep.BEHIND)):
        pool.release(block, keep)
    assert pool.num_free == 5
    assert [pool.take() for _ in range(5)] == [spare, 5, behind, end, branch]
    assert pool.num_free == 0 and set(pool.block_of) == {b"used"}


def test_text_behind_a_window_is_overwritten_before_new_memory_is_used():
    pool = BlockPool(20, window=64, block_size=32)
    first = [pool.take() for _ in range(5)]
    for number, block in enumerate(first):
        pool.register(block, bytes([number]))
        pool.release(block, Keep.BEHIND)
    assert [pool.take() for _ in range(4)] == [*first[:3], 5]  # until no more is behind than in use, or in a window


def test_shared_text_is_kept_as_its_last_user_leaves_it():
    pool = BlockPool(4, window=64, block_size=32)
    block = filled(pool, Keep.BRANCH, b"a")
    assert pool.share(b"a") == block and pool.num_in_use == 1
    pool.release(block, Keep.BEHIND)
    assert block in pool.idle[Keep.BEHIND] and block not in pool.idle[Keep.BRANCH]


def run(
    requests: list[tuple[list[int], int]], windows: tuple[int, ...], num_blocks: int
) -> tuple[int, list[int], BlockManager]:
    """Tokens that were reused, the largest number of blocks in use of each kind, and the manager at the end."""
    counts = blocks_of_kinds(windows, num_blocks, SIZE, 8, 512)
    blocks = BlockManager(counts, SIZE, windows=windows, boundary_ids=(SYSTEM_END,))
    scheduler = Scheduler(blocks, 8, 512)
    reused, most = 0, [0] * len(windows)
    for prompt, num_answer in requests:
        seq = new_sequence(prompt)
        scheduler.add(seq)
        while scheduler.has_work:
            for chunk in scheduler.schedule():
                most = [max(*pair) for pair in zip(most, (pool.num_in_use for pool in blocks.pools), strict=True)]
                scheduler.complete(seq, min(chunk.end, seq.num_tokens))
                if chunk.num_rows:
                    seq.token_ids.append(2 + seq.num_output_tokens)
                    if seq.num_output_tokens == num_answer:
                        scheduler.finish(seq, "length")
        reused += seq.num_cached_tokens
    return reused, most, blocks


def test_a_text_of_32k_holds_two_fifths_of_the_tokens_with_windows_in_two_thirds_of_the_layers():
    length, windows = 32_768, (2048, 4096, 0)
    _, most, blocks = run([(list(range(5, length - 763)), 768)], windows, length // SIZE)
    expected = (2048 + 4096 + length) / 3  # 12,971 tokens a layer
    slack = 512 + 2 * SIZE  # the chunk that is read, and the blocks at both ends
    assert [abs(count * SIZE - size) <= slack for count, size in zip(most, (2048, 4096, length), strict=True)]
    assert expected <= sum(most) * SIZE / 3 <= expected + slack
    # memory that was ever touched: text behind the window is matched for a while, up to another window of it
    touched = [pool.num_touched * SIZE for pool in blocks.pools]
    assert touched[0] <= 2 * 2048 + 2 * slack and touched[1] <= 2 * 4096 + 2 * slack


def conversations(seed: int) -> list[tuple[list[int], int]]:
    """Turns of many conversations in random order; each begins with one of four system prompts."""
    chance = random.Random(seed)
    systems = [[*(chance.randrange(5, 10**6) for _ in range(size)), SYSTEM_END] for size in (300, 1000, 2500, 5000)]
    live, turns = [list(chance.choice(systems)) for _ in range(12)], []
    for _ in range(60):
        text = chance.choice(live)
        text += [chance.randrange(5, 10**6) for _ in range(chance.randint(50, 600))]
        num_answer = chance.randint(20, 200)
        turns.append((list(text), num_answer))
        text += [2 + number for number in range(num_answer)]
    return turns


@pytest.mark.parametrize("windows", [(2048, 4096, 0), (512, 0), (2048,)])
@pytest.mark.parametrize("seed", [0, 1])
def test_windows_reuse_nearly_all_prefixes_that_full_attention_reuses(windows, seed):
    turns = conversations(seed)
    reused, *_ = run(turns, (0,), 1024)
    assert reused > 0.5 * sum(len(prompt) for prompt, _ in turns)
    assert run(turns, windows, 1024)[0] >= 0.95 * reused
