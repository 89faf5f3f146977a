"""Who owns which block of the paged cache (Kwon et al. 2023, "PagedAttention").

The cache is cut into blocks of `block_size` tokens; a sequence holds a table of them, so no memory is reserved for text
that is not written. A full block is known by a hash of its tokens and all before them:

    hash_0 = root        hash_i = blake2b(hash_{i-1}, tokens of block i)

so sequences with a common beginning share its blocks, and a freed block is found again until its space is needed (least
recently used first). The root is the hash of the request's context (`request.py`): with another salt, adapter or
features nobody hits, or times, another's prompt. The hash is cryptographic because a collision would show one user the
keys and values of another's text.

Layers with the same window are of one kind, and each kind has a pool of blocks and a table for each sequence. A block
that is behind the window of its kind is returned while the sequence runs, so a windowed kind holds no more than the
window and the chunk under way. A prefix of m blocks is found if each kind has the blocks of it that the next token
sees: all m in a kind with full attention, the last ones in a windowed kind. The longest such prefix is taken.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence as Items

import numpy as np

from qianwen.engine.sequence import Sequence
from qianwen.model.caches.paged import ABSENT


class BlockPool:
    """The blocks of one kind of layers: who uses them, and what text those that nobody uses still hold."""

    def __init__(self, num_blocks: int, window: int = 0) -> None:
        self.num_blocks, self.window = num_blocks, window
        self.free: OrderedDict[int, None] = OrderedDict((block, None) for block in range(num_blocks))
        self.users = [0] * num_blocks
        self.block_of: dict[bytes, int] = {}
        self.hash_of: list[bytes | None] = [None] * num_blocks

    def first_visible(self, position: int) -> int:
        """The first token that the token at `position` sees."""
        return max(position - self.window + 1, 0) if self.window else 0

    def take(self) -> int:
        """A block for new text."""
        block, _ = self.free.popitem(last=False)
        self.forget(block)
        self.users[block] = 1
        return block

    def share(self, block_hash: bytes) -> int:
        """The block that holds a known text, with one user more."""
        block = self.block_of[block_hash]
        self.free.pop(block, None)
        self.users[block] += 1
        return block

    def release(self, block: int) -> None:
        """One user less.

        Blocks that nobody can find are the next to be handed out: their memory is there, while that of a block never
        used has yet to be cleared by the system, which slows a prompt by a fifth.
        """
        self.users[block] -= 1
        assert self.users[block] >= 0
        if self.users[block] == 0:
            self.free[block] = None
            self.free.move_to_end(block, last=self.hash_of[block] is not None)

    def register(self, block: int, block_hash: bytes) -> None:
        """Make a block findable, unless it, or another with the same text, is."""
        if self.hash_of[block] is None and block_hash not in self.block_of:
            self.hash_of[block] = block_hash
            self.block_of[block_hash] = block

    def forget(self, block: int) -> None:
        """Nobody finds it any more."""
        block_hash = self.hash_of[block]
        if block_hash is not None:
            del self.block_of[block_hash]
            self.hash_of[block] = None


class BlockManager:
    """Hands out blocks, counts their users, finds shared beginnings, returns what is behind a window."""

    def __init__(
        self,
        num_blocks: int | Items[int],
        block_size: int,
        prefix_caching: bool = True,
        windows: Items[int] = (0,),
    ) -> None:
        """`windows` of the kinds, as `QwenConfig.distinct_windows`; `num_blocks` of all kinds, or of each."""
        counts = [num_blocks] * len(windows) if isinstance(num_blocks, int) else num_blocks
        self.pools = [BlockPool(count, window) for count, window in zip(counts, windows, strict=True)]
        self.block_size, self.prefix_caching = block_size, prefix_caching

    @property
    def num_blocks(self) -> int:
        """Of all kinds together."""
        return sum(pool.num_blocks for pool in self.pools)

    @property
    def num_free_blocks(self) -> int:
        """Blocks nobody uses, of all kinds together; some may still hold text worth finding."""
        return sum(len(pool.free) for pool in self.pools)

    def num_blocks_for(self, num_tokens: int) -> int:
        """Blocks that hold `num_tokens`."""
        return -(-num_tokens // self.block_size)

    def match_prefix(self, seq: Sequence) -> int:
        """How many blocks of the beginning of `seq` the cache holds; its last token is always left to compute."""
        if not self.prefix_caching or seq.request.pooling == "mean":  # which needs the states of all tokens
            return 0
        limit, score_from = seq.num_tokens - 1, seq.request.score_from
        if score_from is not None:
            limit = min(limit, max(score_from, 1) - 1)
        self._extend_hashes(seq, seq.num_tokens)
        longest, runs = 0, [0] * len(self.pools)  # of each kind, how many blocks up to here are held in a row
        for count, block_hash in enumerate(seq.block_hashes[: limit // self.block_size], start=1):
            runs = [run + 1 if block_hash in pool.block_of else 0 for pool, run in zip(self.pools, runs, strict=True)]
            missing = [
                self._first_needed(pool, count) < count - run for pool, run in zip(self.pools, runs, strict=True)
            ]
            if not any(missing):
                longest = count
            elif any(is_missing and not pool.window for pool, is_missing in zip(self.pools, missing, strict=True)):
                break
        return longest

    def can_admit(self, seq: Sequence, num_shared: int, num_tokens: int, spare: int = 0) -> bool:
        """Whether `seq`, which shares its first `num_shared` blocks, fits beside what is used, and `spare` remain.

        Kinds with full attention must hold all its known tokens, windowed ones the first `num_tokens`, which come to
        its first chunk: what later chunks need comes back as the window moves on.
        """
        for pool in self.pools:
            hashes = seq.block_hashes[self._first_needed(pool, num_shared) : num_shared]
            revived = sum(pool.users[pool.block_of[block_hash]] == 0 for block_hash in hashes)
            total = self.num_blocks_for(num_tokens if pool.window else seq.num_tokens)
            if total - num_shared + revived + spare > len(pool.free):
                return False
        return True

    def share(self, seq: Sequence, num_shared: int) -> None:
        """Give `seq`, which has none, the first `num_shared` blocks of its text, those that it still sees."""
        assert not seq.block_tables
        for pool in self.pools:
            first = self._first_needed(pool, num_shared)
            blocks = [pool.share(block_hash) for block_hash in seq.block_hashes[first:num_shared]]
            seq.block_tables.append([ABSENT] * first + blocks)

    def allocate(self, seq: Sequence, num_tokens: int) -> bool:
        """Grow the tables of `seq` to hold `num_tokens`; False, and nothing changed, if blocks are short."""
        seq.block_tables = seq.block_tables or [[] for _ in self.pools]
        missing = self.num_blocks_for(num_tokens) - len(seq.block_tables[0])
        if any(missing > len(pool.free) for pool in self.pools):
            return False
        for pool, table in zip(self.pools, seq.block_tables, strict=True):
            table += [pool.take() for _ in range(missing)]
        return True

    def register(self, seq: Sequence, num_tokens: int) -> None:
        """Make the full blocks of the first `num_tokens` tokens of `seq` findable.

        May be called as soon as this step will compute them: within a step every layer stores all keys before any is
        read, so a sequence admitted to the same step can already share them.
        """
        if not self.prefix_caching:
            return
        num_full = num_tokens // self.block_size
        self._extend_hashes(seq, num_full * self.block_size)
        for pool, table in zip(self.pools, seq.block_tables, strict=True):
            for block, block_hash in zip(table[:num_full], seq.block_hashes, strict=False):
                if block != ABSENT:
                    pool.register(block, block_hash)

    def free_behind_windows(self, seq: Sequence) -> None:
        """Return the blocks that no token of `seq` after the computed ones sees."""
        for pool, table in zip(self.pools, seq.block_tables, strict=False):
            index = min(pool.first_visible(seq.num_computed_tokens) // self.block_size, len(table)) - 1
            while index >= 0 and table[index] != ABSENT:
                pool.release(table[index])
                table[index] = ABSENT
                index -= 1

    def free(self, seq: Sequence) -> None:
        """Take the blocks of `seq` back; the end of a text is forgotten before its beginning."""
        for pool, table in zip(self.pools, seq.block_tables, strict=False):
            for block in reversed(table):
                if block != ABSENT:
                    pool.release(block)
        seq.block_tables = []

    def reset(self) -> None:
        """Forget every text, as after a change of the weights."""
        for pool in self.pools:
            for block in range(pool.num_blocks):
                pool.forget(block)

    def _first_needed(self, pool: BlockPool, num_shared: int) -> int:
        """The first block that the token behind `num_shared` blocks sees."""
        return pool.first_visible(num_shared * self.block_size) // self.block_size

    def _extend_hashes(self, seq: Sequence, num_tokens: int) -> None:
        hashes, size = seq.block_hashes, self.block_size
        for index in range(len(hashes), num_tokens // size):
            tokens = np.asarray(seq.token_ids[index * size : (index + 1) * size], dtype=np.int64)
            before = hashes[-1] if hashes else seq.context.root
            hashes.append(hashlib.blake2b(before + tokens.tobytes(), digest_size=16).digest())
