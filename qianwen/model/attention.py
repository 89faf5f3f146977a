"""Causal attention with PyTorch's kernels, in the three forms that a language model needs.

    attend              queries for the last T of S tokens: a whole text, one new token, or a chunk after a cache
    attend, window      the same, but each token sees only the last `window` tokens
    DocumentAttention   several documents packed in a row; no document sees another

Square causal attention and single tokens need no mask, so the flash kernels can run. Other cases are cut into blocks of
queries, each with its own mask, so memory grows with block × keys and not with T × S. Short documents share a block.
Gradients flow through all of it.

On a CPU the 16-bit kernels are compiled for each new size, which takes several times as long as one run. So packed
documents are padded to a few sizes there. The padding is at the end, where causal attention never looks. If our own
kernels support the tensors (`kernels/dispatch.py`), packed documents use those; on a GPU in 16 bits they use PyTorch's
flash kernel for sequences of different lengths, in one call.

Shapes: B rows, T queries, S keys, h query heads, g key/value heads, d head_dim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from qianwen.kernels.dispatch import training_kernels
from qianwen.model.config import QwenConfig
from qianwen.model.long_context import AS_CONFIGURED, LongContext, TokenRopes, distinct_ropes, rope_state
from qianwen.model.rope_state import RopeState

BLOCK = 256  # queries that share one mask
GRAIN = 64  # on a CPU, packed documents are padded to a multiple of this number of tokens


def attend(q: Tensor, k: Tensor, v: Tensor, window: int = 0) -> Tensor:
    """Attention of q [B, T, h, d], at the last T positions of k and v [B, S, g, d]. Returns [B, T, h, d].

    Each token sees itself and all tokens before it, or only the last `window` of these.
    """
    num_queries, num_keys = q.size(1), k.size(1)
    window = window if 0 < window < num_keys else num_keys
    if num_queries == 1:
        return _attend_one(q, k[:, -window:], v[:, -window:])
    if num_queries == num_keys == window:
        return _sdpa(q, k, v, None)
    return torch.cat([_attend_block(q, k, v, start, window) for start in range(0, num_queries, BLOCK)], dim=1)


def _attend_block(q: Tensor, k: Tensor, v: Tensor, start: int, window: int) -> Tensor:
    """The queries [start, start + BLOCK) against the keys [first, last) that any of them can see."""
    q_block = q[:, start : start + BLOCK]
    rows = q_block.size(1)
    last = k.size(1) - q.size(1) + start + rows
    first = max(last - rows - window + 1, 0)
    ahead = last - first - rows  # index of the last key that the first query sees
    visible = torch.ones(rows, last - first, dtype=torch.bool, device=q.device).tril(ahead).triu(ahead - window + 1)
    return _sdpa(q_block, k[:, first:last], v[:, first:last], visible)


def _attend_one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One query per row [B, 1, h, d]: heads that share keys become a dimension of queries, so keys are read once."""
    q = q.unflatten(2, (k.size(2), -1)).squeeze(1)  # [B, g, h/g, d]
    out = scaled_dot_product(q, k.transpose(1, 2), v.transpose(1, 2))
    return out.flatten(1, 2).unsqueeze(1)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
    """PyTorch's attention for tensors [B, T, heads, d]; causal if there is no mask."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    is_grouped = q.size(1) != k.size(1)
    out = scaled_dot_product(q, k, v, visible, is_causal=visible is None, enable_gqa=is_grouped)
    return out.transpose(1, 2)


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, **options: bool) -> Tensor:
    """PyTorch's attention of q [B, h, T, d] and k, v [B, g, S, d], without the cuDNN kernels.

    cuDNN builds a plan for each new length, which takes milliseconds, and each generated token is a new length.
    """
    has_cudnn = q.is_cuda and torch.backends.cuda.cudnn_sdp_enabled()
    if has_cudnn:
        torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        return F.scaled_dot_product_attention(q, k, v, mask, **options)
    finally:
        if has_cudnn:
            torch.backends.cuda.enable_cudnn_sdp(True)


class DocumentAttention:
    """A `KVCache` that stores nothing, for training and scoring: each document of each row attends to itself.

    `positions` [B, T] restart at 0 where a document begins; None means that each row is one document. The boundaries
    are computed once, for all layers. `stretch` enables dynamic NTK and LogN, by the length of each document. Without
    it only a network that is trained with LogN has LogN.
    """

    length = 0

    def __init__(self, config: QwenConfig, num_tokens: int, positions: Tensor | None, *, stretch: bool) -> None:
        self.config = config
        self.lengths = [num_tokens] if positions is None else _document_lengths(positions)
        trained = LongContext(rope="none", logn=config.logn_in_training)
        self.rope = self._rope(positions, AS_CONFIGURED if stretch else trained)
        self._spans = _spans(self.lengths)
        self._masks: dict[tuple[int, int], Tensor] = {}  # (span, window) → its attention mask, for all layers
        self._first: dict[int, Tensor] = {}  # window → the first token that each token sees
        self._ends: Tensor | None = None

    def reserve(self, num_tokens: int) -> None:
        """Does nothing: no keys are stored."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [B, T, h, d], k and v [B, T, g, d] → attention [B, T, h, d]."""
        window = self.config.window(layer)
        if kernels := training_kernels(q):
            first = self._first_seen(window, q.size(0) * q.size(1))
            return kernels.attend_documents(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), first).view_as(q)
        if _has_flash(q):
            return self._attend_flash(window, q, k, v)
        if len(set(self.lengths)) == 1:
            return attend(*(x.reshape(-1, self.lengths[0], *x.shape[2:]) for x in (q, k, v)), window=window).view_as(q)
        flat = (x.flatten(0, 1).unsqueeze(0) for x in (q, k, v))  # [1, B·T, heads, d]
        spans = zip(*(x.split([sum(span) for span in self._spans], dim=1) for x in flat), strict=True)
        seen = [self._attend_span(i, window, *span) for i, span in enumerate(spans)]
        return torch.cat(seen, dim=1).view_as(q)

    def _first_seen(self, window: int, num_tokens: int) -> Tensor:
        """[num_tokens] int32: index of the first token that each token sees, over all rows."""
        if window not in self._first:
            lengths = torch.tensor(self.lengths * (num_tokens // sum(self.lengths)))
            first = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
            if window:
                first = first.maximum(torch.arange(1 - window, num_tokens + 1 - window))
            self._first[window] = first.int()
        return self._first[window]

    def _attend_flash(self, window: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn  # imports torch's compiler (one second), so only on a GPU

        ends, longest = self._ends_on(q.device, q.size(0) * q.size(1)), max(self.lengths)
        if (shared := q.size(2) // k.size(2)) > 1:
            k, v = k.repeat_interleave(shared, 2), v.repeat_interleave(shared, 2)
        q_rows, k_rows, v_rows = (x.flatten(0, 1) for x in (q, k, v))
        seen = (window - 1 if window else -1, 0)  # tokens that a token sees before it (-1: all), and after it
        out = varlen_attn(q_rows, k_rows, v_rows, ends, ends, longest, longest, window_size=seen)
        assert isinstance(out, Tensor)
        return out.view_as(q)

    def _ends_on(self, device: torch.device, num_tokens: int) -> Tensor:
        """[n + 1] int32: the start of each document over all rows, and the end of the last one."""
        if self._ends is None:
            lengths = torch.tensor([0, *self.lengths * (num_tokens // sum(self.lengths))])
            self._ends = lengths.cumsum(0).int().to(device)
        return self._ends

    def _attend_span(self, span: int, window: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        lengths, num_tokens = self._spans[span], q.size(1)
        padding = -num_tokens % GRAIN if q.device.type == "cpu" else 0
        if padding:
            q, k, v = (F.pad(x, (0, 0, 0, 0, 0, padding)) for x in (q, k, v))
        if len(lengths) == 1:
            return attend(q, k, v, window=window)[:, :num_tokens]
        if (span, window) not in self._masks:
            padded = [*lengths, padding] if padding else lengths
            self._masks[span, window] = _documents_mask(padded, window, q.device)
        return _sdpa(q, k, v, self._masks[span, window])[:, :num_tokens]

    def _rope(self, positions: Tensor | None, extension: LongContext) -> RopeState | TokenRopes:
        states, numbers = distinct_ropes([rope_state(self.config, length, extension) for length in self.lengths])
        if positions is None or len(states) == 1:
            return states[0]
        each = torch.from_numpy(numbers.repeat(self.lengths))
        return TokenRopes(states, each.view_as(positions).to(positions.device))


def _has_flash(q: Tensor) -> bool:
    """Whether PyTorch's flash kernels support such tensors."""
    is_half = q.dtype in (torch.bfloat16, torch.float16)
    return q.is_cuda and is_half and torch.cuda.get_device_capability(q.device) >= (8, 0)


def _spans(lengths: list[int]) -> list[list[int]]:
    """Groups of neighbouring documents that fit one block together: one masked call is faster than many small ones."""
    spans: list[list[int]] = []
    for length in lengths:
        if spans and sum(spans[-1]) + length <= BLOCK:
            spans[-1].append(length)
        else:
            spans.append([length])
    return spans


def _documents_mask(lengths: list[int], window: int, device: torch.device) -> Tensor:
    """[n, n], n the sum of `lengths`: a token sees itself and earlier tokens of its document, within the window."""
    document = torch.arange(len(lengths), device=device).repeat_interleave(torch.tensor(lengths, device=device))
    visible = (document[:, None] == document).tril()
    return visible.triu(1 - window) if window else visible


def _document_lengths(positions: Tensor) -> list[int]:
    """Lengths of the documents in positions [B, T], row after row; each row begins a new document."""
    begins = positions == 0
    begins[:, 0] = True
    starts = begins.flatten().nonzero().flatten()
    return starts.diff(append=starts.new_tensor([positions.numel()])).tolist()
