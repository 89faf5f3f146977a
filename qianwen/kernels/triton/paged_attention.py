"""Attention over pages of keys and values on an NVIDIA GPU, in Triton, for prompts and answers alike (Dao 2023).

A program takes some queries of one sequence with all heads that share a key/value head, and goes through the keys in
tiles with a running softmax, so no score and no gathered key is ever written to memory. Rows of a tile are pairs of
query and head. Tiles before the first query's window and after the last query are left out.

When every sequence has one new token there are few programs, so the keys of a sequence are cut into shares. The shares
are merged in their order. With `is_invariant` nothing is cut and every tile has the same shape, so the bits of a
token's result depend neither on the batch nor on the chunks of its text.

Keys before a window may lie in blocks that were freed; their scores are masked.
Shapes: T tokens of all sequences, S sequences, N pages, b page size, h query heads, g key/value heads, d head_dim.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, FEW_ROWS = 64, 16  # pairs of query and head in a tile: of prompts, of answers
KEYS = 32  # in a tile
PROGRAMS = 528  # that fill a GPU of 132 multiprocessors
LEAST_KEYS = 256  # in a share
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _sequence_of(tile, starts_ptr, num_sequences, QUERIES: tl.constexpr):
    """The sequence of a tile: the last whose first tile, starts // QUERIES + sequence, is not after it."""
    low, high = 0, num_sequences - 1
    while low < high:
        middle = (low + high + 1) // 2
        if tl.load(starts_ptr + middle) // QUERIES + middle <= tile:
            low = middle
        else:
            high = middle - 1
    return low


@triton.jit
def _attend(  # noqa: PLR0913, PLR0915 (a kernel has no objects)
    q_ptr, k_ptr, v_ptr, out_ptr, largest_ptr, total_ptr, tables_ptr, contexts_ptr, starts_ptr,
    num_sequences, table_size, scale, window, tiles_each,
    HEADS: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr, PADDED: tl.constexpr, PAGE: tl.constexpr,
    ROWS: tl.constexpr, KEYS: tl.constexpr, HAS_WINDOW: tl.constexpr, IS_SHARED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    tile, head, share = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    queries = ROWS // GROUP
    sequence = _sequence_of(tile, starts_ptr, num_sequences, queries)
    start, end = tl.load(starts_ptr + sequence), tl.load(starts_ptr + sequence + 1)
    first_token = start + (tile - start // queries - sequence) * queries
    if first_token < end:
        context = tl.load(contexts_ptr + sequence)
        row, key, dim = tl.arange(0, ROWS), tl.arange(0, KEYS), tl.arange(0, PADDED)
        token = first_token + row // GROUP
        is_row = (row < queries * GROUP) & (token < end)
        position = context - end + token
        at = (token * (HEADS * GROUP) + head * GROUP + row % GROUP).to(tl.int64)
        is_dim = dim < SIZE
        inside = is_row[:, None] & is_dim[None, :]
        q = tl.load(q_ptr + at[:, None] * SIZE + dim[None, :], inside, 0)
        last_key = min(context - end + first_token + queries, context)  # after the last that a row of this tile sees
        first_key = 0
        if HAS_WINDOW:
            first_key = max(context - end + first_token - window + 1, 0)
        first_tile = max(first_key // KEYS, share * tiles_each)
        last_tile = min(tl.cdiv(last_key, KEYS), (share + 1) * tiles_each)
        largest = tl.full((ROWS,), float("-inf"), tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        weighted = tl.zeros((ROWS, PADDED), tl.float32)
        for number in range(first_tile, last_tile):
            keys = number * KEYS + key
            is_key = keys < last_key
            block = tl.load(tables_ptr + sequence * table_size + keys // PAGE, is_key, 0).to(tl.int64)
            slot = (block * PAGE + keys % PAGE) * HEADS + head
            stored = is_key[:, None] & is_dim[None, :]
            k = tl.load(k_ptr + slot[:, None] * SIZE + dim[None, :], stored, 0).to(q.dtype)
            v = tl.load(v_ptr + slot[:, None] * SIZE + dim[None, :], stored, 0).to(q.dtype)
            scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * (scale * LOG2_E)
            is_seen = (keys[None, :] <= position[:, None]) & is_key[None, :]
            if HAS_WINDOW:
                is_seen = is_seen & (keys[None, :] > position[:, None] - window)
            scores = tl.where(is_seen, scores, float("-inf"))
            new_largest = tl.maximum(largest, tl.max(scores, 1))
            finite = tl.where(new_largest == float("-inf"), 0.0, new_largest)  # a row that has seen no key yet
            weights = tl.exp2(scores - finite[:, None])
            fade = tl.exp2(largest - finite)
            total = total * fade + tl.sum(weights, 1)
            weighted = weighted * fade[:, None]
            weighted += tl.dot(weights.to(q.dtype), v, input_precision=PRECISION)
            largest = new_largest
        if IS_SHARED:
            at = at * tl.num_programs(2) + share
            tl.store(largest_ptr + at, largest, is_row)
            tl.store(total_ptr + at, total, is_row)
        else:
            weighted = weighted / tl.where(is_row, total, 1.0)[:, None]
        tl.store(out_ptr + at[:, None] * SIZE + dim[None, :], weighted.to(out_ptr.dtype.element_ty), inside)


@triton.jit
def _merge(weighted_ptr, largest_ptr, total_ptr, out_ptr, shares, SIZE: tl.constexpr, PADDED: tl.constexpr):
    """Merge the shares of one query and head."""
    row, dim = tl.program_id(0).to(tl.int64), tl.arange(0, PADDED)
    largest = float("-inf")
    for share in range(shares):
        largest = max(largest, tl.load(largest_ptr + row * shares + share))
    total, weighted = 0.0, tl.zeros((PADDED,), tl.float32)
    for share in range(shares):
        at = row * shares + share
        fade = tl.exp2(tl.load(largest_ptr + at) - largest)
        total += tl.load(total_ptr + at) * fade
        weighted += tl.load(weighted_ptr + at * SIZE + dim, dim < SIZE, 0) * fade
    tl.store(out_ptr + row * SIZE + dim, (weighted / total).to(out_ptr.dtype.element_ty), dim < SIZE)


def paged_attention(  # noqa: PLR0913 (the signature of `AttentionKernel` and an option)
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    tables: Tensor,
    contexts: Tensor,
    lengths: Tensor,
    scale: float,
    window: int | None = None,
    *,
    is_invariant: bool = False,
) -> Tensor:
    """q [T, h, d], pages [N, b, g, d], tables [S, n], contexts and lengths int32 [S] → [T, h, d] in the type of q.

    A sequence has `lengths` new tokens, the last of its `contexts`; `tables` are its pages, in order.
    """
    tokens, heads, size = q.shape
    sequences, page, groups = len(lengths), k_pages.size(1), k_pages.size(2)
    is_answers = tokens == sequences and not is_invariant
    group = heads // groups
    rows = max(FEW_ROWS if is_answers else ROWS, triton.next_power_of_2(group))
    starts = torch.zeros(sequences + 1, dtype=torch.int32, device=q.device)
    torch.cumsum(lengths, 0, dtype=torch.int32, out=starts[1:])
    most_tiles = -(-tables.size(1) * page // KEYS)
    shares = _num_shares(sequences * groups, most_tiles) if is_answers else 1
    each = -(-most_tiles // shares)
    shares = -(-most_tiles // each)
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    parts, sums = out, (out, out)
    if shares > 1:
        parts = torch.empty(tokens, heads, shares, size, device=q.device)
        sums = parts.new_empty(2, tokens, heads, shares).unbind()
    padded = max(triton.next_power_of_2(size), 16)
    tiles = tokens // (rows // group) + sequences
    _attend[tiles, groups, shares](
        q.contiguous(), k_pages, v_pages, parts, *sums, tables, contexts, starts,
        sequences, tables.size(1), scale, window or 0, each,
        HEADS=groups, GROUP=group, SIZE=size, PADDED=padded, PAGE=page, ROWS=rows, KEYS=KEYS,
        HAS_WINDOW=bool(window), IS_SHARED=shares > 1, PRECISION="ieee" if q.dtype == torch.float32 else "tf32",
    )  # fmt: skip
    if shares > 1:
        _merge[(tokens * heads,)](parts, *sums, out, shares, SIZE=size, PADDED=padded)
    return out


def _num_shares(programs: int, most_tiles: int) -> int:
    """Into how many shares the keys are cut, so that the programs fill the GPU and none has too little to do."""
    return max(min(PROGRAMS // programs, most_tiles * KEYS // LEAST_KEYS), 1)
