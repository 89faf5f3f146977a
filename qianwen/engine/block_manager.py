"""Which sequences use which blocks of the paged cache (Kwon et al. 2023, "PagedAttention").

The cache is divided into blocks of `block_size` tokens. A sequence has a table of its blocks, so no memory is reserved
for text that does not exist yet. A full block is identified by a hash of its tokens and of all tokens before them:

    hash_0 = root        hash_i = blake2b(hash_{i-1}, tokens of block i)

Sequences with the same prefix therefore share its blocks. A freed block can be reused until its space is needed (least
recently used first). The root is the hash of the request's context (`request.py`): a request with another salt, adapter
or features never matches these blocks, so response times reveal nothing about the prompts of others. The hash is
cryptographic because a collision would give one user the keys and values of another user's text.

Layers with the same window are one kind. Each kind has its own pool of blocks, and each sequence has one table for each
kind. Blocks behind the window are freed while the sequence runs, so a windowed kind holds no more than the window and
the current chunk. A prefix of m blocks matches if each kind holds those of its blocks that the next token sees: all m
with full attention, the last ones with a window. The longest such prefix is used.

So a windowed kind should keep the blocks before the points where later texts continue. These are the end of each prompt
(the answer is generated again), the end of each answer (the conversation continues), and each branch: a block that was
followed by two different blocks, like the end of a system prompt. `BlockPool` says what that means for its blocks.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Collection
from collections.abc import Sequence as Items
from itertools import pairwise

import numpy as np

from qianwen.engine.block_pool import BlockPool, Keep
from qianwen.engine.sequence import Sequence
from qianwen.model.caches.paged import ABSENT

REMEMBERED = 1 << 16  # blocks of text whose following block is remembered; about 10 MB
SEVERAL = b""  # instead of a hash: followed by different blocks


class BlockManager:
    """Allocates blocks, counts their users, matches prefixes, and frees blocks behind a window."""

    def __init__(
        self,
        num_blocks: int | Items[int],
        block_size: int,
        prefix_caching: bool = True,
        windows: Items[int] = (0,),
        boundary_ids: Collection[int] = (),
    ) -> None:
        """`windows`: one for each kind (`QwenConfig.distinct_windows`); `num_blocks`: one for all, or one for each."""
        counts = [num_blocks] * len(windows) if isinstance(num_blocks, int) else num_blocks
        self.pools = [BlockPool(count, window, block_size) for count, window in zip(counts, windows, strict=True)]
        self.block_size, self.prefix_caching = block_size, prefix_caching
        self.boundary_ids, self.has_windows = boundary_ids, any(windows)
        self.following: OrderedDict[bytes, bytes] = OrderedDict()  # hash of a block → hash of the next, or `SEVERAL`

    @property
    def num_blocks(self) -> int:
        """Number of blocks of all kinds together."""
        return sum(pool.num_blocks for pool in self.pools)

    @property
    def num_free_blocks(self) -> int:
        """Number of blocks without users, of all kinds together; some may still be in the prefix cache."""
        return sum(pool.num_free for pool in self.pools)

    def num_blocks_for(self, num_tokens: int) -> int:
        """Number of blocks that `num_tokens` need."""
        return -(-num_tokens // self.block_size)

    def match_prefix(self, seq: Sequence) -> int:
        """Number of blocks of the longest cached prefix of `seq`. Its last token is always left to compute."""
        is_reported = seq.num_output_tokens > 0  # the scores and the embedding of the prompt are complete
        if not self.prefix_caching or (seq.request.pooling == "mean" and not is_reported):  # it needs all states
            return 0
        limit, score_from = seq.num_tokens - 1, seq.request.score_from
        if (
            score_from is not None and not is_reported
        ):  # the state before each scored token must be computed, for its log-probability
            limit = min(limit, max(score_from, 1) - 1)
        self._extend_hashes(seq, seq.num_tokens)
        longest, runs = 0, [0] * len(self.pools)  # for each kind, the consecutive cached blocks that end here
        for count, block_hash in enumerate(seq.block_hashes[: limit // self.block_size], start=1):
            runs = [run + 1 if block_hash in pool.block_of else 0 for pool, run in zip(self.pools, runs, strict=True)]
            missing = [
                self._first_needed(pool, count) < count - run for pool, run in zip(self.pools, runs, strict=True)
            ]
            if not any(missing):
                longest = count
            elif any(is_missing and not pool.window for pool, is_missing in zip(self.pools, missing, strict=True)):
                break  # full attention needs every block, so no longer prefix can match; a windowed kind may recover
        return longest

    def can_admit(self, seq: Sequence, num_shared: int, num_tokens: int, spare: int = 0) -> bool:
        """Whether `seq`, which shares its first `num_shared` blocks, fits in the free blocks and leaves `spare` free.

        Kinds with full attention must hold all its known tokens. Windowed kinds must hold the first `num_tokens`, up to
        the end of its first chunk: later chunks use the blocks that are freed as the window moves.
        """
        for pool in self.pools:
            # a shared block without users is still on the free list, so sharing it uses up a free block
            hashes = seq.block_hashes[self._first_needed(pool, num_shared) : num_shared]
            revived = sum(pool.users[pool.block_of[block_hash]] == 0 for block_hash in hashes)
            total = self.num_blocks_for(num_tokens if pool.window else seq.num_tokens)
            if total - num_shared + revived + spare > pool.num_free:
                return False
        return True

    def share(self, seq: Sequence, num_shared: int) -> None:
        """Give `seq`, which has no blocks yet, those of its first `num_shared` cached blocks that it still sees."""
        assert not seq.block_tables
        seq.branches, seq.num_registered = self._branches(seq), num_shared
        for pool in self.pools:
            first = self._first_needed(pool, num_shared)
            blocks = [pool.share(block_hash) for block_hash in seq.block_hashes[first:num_shared]]
            seq.block_tables.append([ABSENT] * first + blocks)

    def allocate(self, seq: Sequence, num_tokens: int) -> bool:
        """Extend the tables of `seq` to hold `num_tokens`. Returns False and changes nothing if blocks are lacking."""
        seq.block_tables = seq.block_tables or [[] for _ in self.pools]
        missing = self.num_blocks_for(num_tokens) - len(seq.block_tables[0])
        if any(missing > pool.num_free for pool in self.pools):
            return False
        for pool, table in zip(self.pools, seq.block_tables, strict=True):
            table += [pool.take() for _ in range(missing)]
        return True

    def register(self, seq: Sequence, num_tokens: int) -> None:
        """Enter the full blocks of the first `num_tokens` tokens of `seq` in the prefix cache.

        This is correct as soon as the tokens are scheduled. In a step, each layer stores the keys of all tokens before
        it reads any, so a sequence that is admitted to the same step can already share these blocks.
        """
        if not self.prefix_caching or seq.is_rerotated:
            return
        num_full = num_tokens // self.block_size
        self._extend_hashes(seq, num_full * self.block_size)
        for index in range(seq.num_registered, num_full):
            for pool, table in zip(self.pools, seq.block_tables, strict=True):
                pool.register(table[index], seq.block_hashes[index])
            if index and self.has_windows:
                self._remember(seq.block_hashes[index - 1], seq.block_hashes[index])
        seq.num_registered = max(seq.num_registered, num_full)

    def detach(self, seq: Sequence) -> list[list[int]] | None:
        """Make all blocks of `seq` its own, for a change of their content, and return its old tables.

        Blocks of other sequences are replaced by new ones. Returns None and changes nothing if blocks are lacking.
        """
        before = seq.block_tables
        for pool, table in zip(self.pools, before, strict=True):
            if sum(block != ABSENT and pool.users[block] > 1 for block in table) > pool.num_free:
                return None
        seq.block_tables = [
            [block if block == ABSENT else pool.own(block) for block in table]
            for pool, table in zip(self.pools, before, strict=True)
        ]
        return before

    def free_behind_windows(self, seq: Sequence) -> None:
        """Free the blocks that no later token of `seq` sees."""
        for pool, table in zip(self.pools, seq.block_tables, strict=False):
            # backwards from the edge of the window to the first block that was freed before: each is freed once
            index = min(pool.first_visible(seq.num_computed_tokens) // self.block_size, len(table)) - 1
            while index >= 0 and table[index] != ABSENT:
                pool.release(table[index], self._keep(pool, seq, index))
                table[index] = ABSENT
                index -= 1

    def free(self, seq: Sequence) -> None:
        """Free all blocks of `seq`, the last first, so that the beginning of a text stays longest in the cache."""
        for pool, table in zip(self.pools, seq.block_tables, strict=False):
            for block in reversed(table):
                if block != ABSENT:
                    pool.release(block, Keep.END)
            if pool.window:
                for point in reversed(seq.branches):
                    pool.touch(seq.block_hashes[self._first_needed(pool, point) : point])
        seq.block_tables, seq.num_registered = [], 0

    def reset(self) -> None:
        """Empty the prefix cache, as after a change of the weights."""
        for pool in self.pools:
            pool.reset()
        self.following.clear()

    def _branches(self, seq: Sequence) -> list[int]:
        """Numbers of blocks after which other texts continued in another way, or are likely to."""
        if not self.prefix_caching or not self.has_windows:  # full attention keeps all text anyway
            return []
        branches = [
            count
            for count, (block_hash, following) in enumerate(pairwise(seq.block_hashes), start=1)
            if self.following.get(block_hash, following) != following
        ]
        ends = (position for position, token in enumerate(seq.token_ids) if position and token in self.boundary_ids)
        return [*branches, next(ends, 0) // self.block_size]

    def _remember(self, block_hash: bytes, following: bytes) -> None:
        """Record which block follows a block of text; the oldest records are dropped."""
        is_first = self.following.setdefault(block_hash, following) == following
        if not is_first:
            self.following[block_hash] = SEVERAL
        self.following.move_to_end(block_hash)
        if len(self.following) > REMEMBERED:
            self.following.popitem(last=False)

    def _keep(self, pool: BlockPool, seq: Sequence, index: int) -> Keep:
        """How likely it is that another text sees block `index` of `seq`, which is behind the window."""
        if any(self._first_needed(pool, point) <= index < point for point in seq.branches):
            return Keep.BRANCH
        end = seq.num_prompt_tokens // self.block_size
        # a second answer to the same prompt sees one block less of it
        return Keep.END if self._first_needed(pool, end - 1) <= index < end else Keep.BEHIND

    def _first_needed(self, pool: BlockPool, num_shared: int) -> int:
        """Index of the first block that the token after `num_shared` blocks sees."""
        return pool.first_visible(num_shared * self.block_size) // self.block_size

    def _extend_hashes(self, seq: Sequence, num_tokens: int) -> None:
        hashes, size = seq.block_hashes, self.block_size
        for index in range(len(hashes), num_tokens // size):
            tokens = np.asarray(seq.token_ids[index * size : (index + 1) * size], dtype=np.int64)
            before = hashes[-1] if hashes else seq.context.root
            hashes.append(hashlib.blake2b(before + tokens.tobytes(), digest_size=16).digest())
