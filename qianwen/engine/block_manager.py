"""Who owns which block of the paged cache (Kwon et al. 2023, "PagedAttention").

The cache is cut into blocks of `block_size` tokens; a sequence holds a table of them, so no memory is reserved for text
that is not written. A full block is known by a hash of its tokens and all before them:

    hash_0 = root        hash_i = blake2b(hash_{i-1}, tokens of block i)

so sequences with a common beginning share its blocks, and a freed block is found again until its space is needed (least
recently used first). The root holds the caller's salt: without the same salt nobody hits, or times, another's prompt.
The hash is cryptographic because a collision would show one user the keys and values of another's text.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np

from qianwen.engine.sequence import Sequence


class BlockManager:
    """Hands out blocks, counts their users, finds shared beginnings."""

    def __init__(self, num_blocks: int, block_size: int, prefix_caching: bool = True) -> None:
        self.num_blocks, self.block_size, self.prefix_caching = num_blocks, block_size, prefix_caching
        self._free: OrderedDict[int, None] = OrderedDict((block, None) for block in range(num_blocks))
        self._users = [0] * num_blocks
        self._hash_of: list[bytes | None] = [None] * num_blocks
        self._block_of: dict[bytes, int] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks nobody uses; some may still hold text worth finding."""
        return len(self._free)

    def num_blocks_for(self, num_tokens: int) -> int:
        """Blocks that hold `num_tokens`."""
        return -(-num_tokens // self.block_size)

    def match_prefix(self, seq: Sequence) -> list[int]:
        """Blocks that already hold the beginning of `seq`; its last token is always left to compute."""
        if not self.prefix_caching or seq.pooling == "mean":  # which needs the states of all tokens
            return []
        limit = seq.num_tokens - 1 if seq.score_from is None else min(seq.num_tokens, max(seq.score_from, 1)) - 1
        self._extend_hashes(seq, seq.num_tokens)
        blocks = []
        for block_hash in seq.block_hashes[: limit // self.block_size]:
            if block_hash not in self._block_of:
                break
            blocks.append(self._block_of[block_hash])
        return blocks

    def can_admit(self, seq: Sequence, matched: list[int], spare: int = 0) -> bool:
        """Whether all known tokens of `seq` fit beside what is used, given the blocks it shares, and `spare` remain."""
        revived = sum(self._users[block] == 0 for block in matched)
        return self.num_blocks_for(seq.num_tokens) - len(matched) + revived + spare <= self.num_free_blocks

    def share(self, seq: Sequence, blocks: list[int]) -> None:
        """Give `seq`, which has none, the blocks of its beginning."""
        assert not seq.block_table
        for block in blocks:
            if self._users[block] == 0:
                del self._free[block]
            self._users[block] += 1
        seq.block_table = list(blocks)

    def allocate(self, seq: Sequence, num_tokens: int) -> bool:
        """Grow the table of `seq` to hold `num_tokens`; False, and nothing changed, if blocks are short."""
        missing = self.num_blocks_for(num_tokens) - len(seq.block_table)
        if missing > len(self._free):
            return False
        for _ in range(missing):
            block, _ = self._free.popitem(last=False)
            self._forget(block)
            self._users[block] = 1
            seq.block_table.append(block)
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
        for block, block_hash in zip(seq.block_table[:num_full], seq.block_hashes, strict=False):
            if self._hash_of[block] is None and block_hash not in self._block_of:
                self._hash_of[block] = block_hash
                self._block_of[block_hash] = block

    def free(self, seq: Sequence) -> None:
        """Take the blocks of `seq` back; the end of a text is forgotten before its beginning.

        Those that nobody can find are the next to be handed out: their memory is there, while that of a block never
        used has yet to be cleared by the system, which slows a prompt by a fifth.
        """
        for block in reversed(seq.block_table):
            self._users[block] -= 1
            assert self._users[block] >= 0
            if self._users[block] == 0:
                self._free[block] = None
                self._free.move_to_end(block, last=self._hash_of[block] is not None)
        seq.block_table = []

    def reset(self) -> None:
        """Forget every text, as after a change of the weights."""
        for block in range(self.num_blocks):
            self._forget(block)

    def _forget(self, block: int) -> None:
        block_hash = self._hash_of[block]
        if block_hash is not None:
            del self._block_of[block_hash]
            self._hash_of[block] = None

    def _extend_hashes(self, seq: Sequence, num_tokens: int) -> None:
        hashes, size = seq.block_hashes, self.block_size
        for index in range(len(hashes), num_tokens // size):
            tokens = np.asarray(seq.token_ids[index * size : (index + 1) * size], dtype=np.int64)
            before = hashes[-1] if hashes else seq.root
            hashes.append(hashlib.blake2b(before + tokens.tobytes(), digest_size=16).digest())
