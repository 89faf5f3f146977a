"""The blocks of one kind of layer: how many sequences use each, which text it holds, and which is reused first.

A block without users keeps its text, so that a later prompt with the same beginning can share it, until `take` hands
the block out for new text. `take` chooses in this order:

    spare        blocks whose text cannot be matched; their memory is mapped, which that of a new block is not
    behind       text that a window has left, if there is more of it than text in use
    unused       blocks that never held text; on a CPU they take no memory
    behind       the rest of it
    kept         text at a point where other texts continue, least recently used first

With full attention all text is kept. With a window of w tokens a prefix matches only if the w tokens before its end are
there. So text is kept if it is at most w tokens before a point where another text is likely to continue
(`block_manager.py`). Other text behind the window is still matched for a while, but it neither displaces kept text nor
lets a long prompt use the memory of the whole pool.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from enum import IntEnum


class Keep(IntEnum):
    """How likely it is that a later text continues where a block is visible."""

    BEHIND = 0
    END = 1
    BRANCH = 2


class BlockPool:
    """The blocks of one kind of layer: the number of users of each, and the hash of the text it holds."""

    def __init__(self, num_blocks: int, window: int = 0, block_size: int = 1) -> None:
        self.num_blocks, self.window = num_blocks, window
        self.window_blocks = -(-window // block_size)
        self.spare: list[int] = []
        self.idle: dict[Keep, OrderedDict[int, None]] = {keep: OrderedDict() for keep in Keep}
        self.num_touched = 0  # blocks that ever held text: 0 … num_touched − 1
        self.users = [0] * num_blocks
        self.keep = [Keep.BEHIND] * num_blocks
        self.block_of: dict[bytes, int] = {}
        self.hash_of: list[bytes | None] = [None] * num_blocks

    @property
    def num_in_use(self) -> int:
        return self.num_touched - len(self.spare) - sum(map(len, self.idle.values()))

    @property
    def num_free(self) -> int:
        """Number of blocks without users; some may still hold text that can be matched."""
        return self.num_blocks - self.num_in_use

    def first_visible(self, position: int) -> int:
        """The first token that the token at `position` sees."""
        return max(position - self.window + 1, 0) if self.window else 0

    def take(self) -> int:
        """Take a free block for new text."""
        block = self._next()
        self.unregister(block)
        self.users[block] = 1
        return block

    def _next(self) -> int:
        if self.spare:
            return self.spare.pop()
        behind, ends, branches = (self.idle[keep] for keep in Keep)
        if self.num_touched < self.num_blocks and len(behind) <= max(self.num_in_use, self.window_blocks):
            self.num_touched += 1
            return self.num_touched - 1
        order = (behind, branches, ends) if len(branches) > self.num_blocks // 2 else (behind, ends, branches)
        return next(blocks for blocks in order if blocks).popitem(last=False)[0]

    def share(self, block_hash: bytes) -> int:
        """Add a user to the block with this hash and return the block. Its new user decides how it is kept."""
        block = self.block_of[block_hash]
        if self.users[block] == 0:
            del self.idle[self.keep[block]][block]
        self.users[block] += 1
        self.keep[block] = Keep.BEHIND
        return block

    def release(self, block: int, keep: Keep) -> None:
        """Remove one user of a block."""
        self.users[block] -= 1
        assert self.users[block] >= 0
        self.keep[block] = max(keep, self.keep[block])
        if self.users[block] == 0:
            if self.hash_of[block] is None:
                self.spare.append(block)
            else:
                self.idle[self.keep[block]][block] = None

    def touch(self, hashes: Iterable[bytes]) -> None:
        """Make text at a branch the most recently used."""
        branches = self.idle[Keep.BRANCH]
        for block_hash in hashes:
            if (block := self.block_of.get(block_hash)) in branches:
                branches.move_to_end(block)

    def own(self, block: int) -> int:
        """A block in place of `block` for one of its users alone, outside of the prefix cache: itself or a new one."""
        if self.users[block] == 1:
            self.unregister(block)
            return block
        new = self.take()
        self.release(block, Keep.BEHIND)
        return new

    def register(self, block: int, block_hash: bytes) -> None:
        """Enter a full block in the prefix cache, unless the block or its text is already there."""
        if self.hash_of[block] is None and block_hash not in self.block_of:
            self.hash_of[block] = block_hash
            self.block_of[block_hash] = block

    def unregister(self, block: int) -> None:
        """Remove a block from the prefix cache."""
        block_hash = self.hash_of[block]
        if block_hash is not None:
            del self.block_of[block_hash]
            self.hash_of[block] = None
        self.keep[block] = Keep.BEHIND

    def reset(self) -> None:
        """Empty the prefix cache."""
        for block in range(self.num_touched):
            self.unregister(block)
        for blocks in self.idle.values():
            self.spare += blocks
            blocks.clear()
