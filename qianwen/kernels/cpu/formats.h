// How weights lie in memory.
//
// A linear of N outputs and K inputs is cut into panels of 16 outputs, a panel into blocks of 256 inputs (the last one
// may have 128). Each panel is one stream, read once from front to back:
//
//     panel = block, block, …          block = scales of all its groups | codes of group 0 | codes of group 1 | …
//
// A group is 32 inputs of the 16 outputs, 8 vectors of 64 bytes once unpacked. Byte 4c + i of vector j is the code of
// output c and input 4j + i, which is what `vpdpbusd` wants: lane c sums over four inputs of output c.
// Codes are unsigned. Their low four bits come first (vector j in the low halves of 64 bytes, vector j + 4 in the high
// ones), then the fifth bit (one 64-bit mask a vector) or the fifth and sixth (two bits of four vectors in a byte).
//
//     Affine    w = d·s · code − e·t     d, e float16 per block, s, t uint8 per group       GGUF's Q4_K, Q5_K; our grids
//     Half      w = d · (code − middle)  d float16 per group of 32 or 128                   Q4_0, Q5_0, Q8_0; our int8
//     Signed    w = d·s · (code − middle)  d float16 per block, s int8 per 16 inputs        Q6_K
#pragma once

#include "vectors.h"

constexpr int BLOCK = 256, SPAN = 128, GROUP = 32, VECTORS = 8;

template <int BITS> [[gnu::always_inline]] static inline void unpack(const uint8_t* p, __m512i (&w)[VECTORS]) {
    if constexpr (BITS == 8) {
        repeat<VECTORS>([&](auto j) INLINE { w[j] = _mm512_loadu_si512(p + 64 * j); });
        return;
    }
    const __m512i low = _mm512_set1_epi8(15);
    repeat<4>([&](auto j) INLINE {
        const __m512i pair = _mm512_loadu_si512(p + 64 * j);
        w[j] = _mm512_and_si512(pair, low);
        w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(pair, 4), low);
    });
    if constexpr (BITS == 5)
        repeat<VECTORS>([&](auto j) INLINE {
            const __mmask64 fifth = _load_mask64((__mmask64*)(p + 256 + 8 * j));
            w[j] = _mm512_mask_add_epi8(w[j], fifth, w[j], _mm512_set1_epi8(16));
        });
    if constexpr (BITS == 6)
        repeat<VECTORS>([&](auto j) INLINE {
            const __m512i four = _mm512_loadu_si512(p + 256 + 64 * (j / 4));
            constexpr int shift = 4 - 2 * (j % 4);  // to bits 4 and 5
            const __m512i high = shift >= 0 ? _mm512_slli_epi16(four, shift) : _mm512_srli_epi16(four, -shift);
            w[j] = _mm512_or_si512(w[j], _mm512_and_si512(high, _mm512_set1_epi8(0x30)));
        });
}

// The scales of one block. `load(g, i)` gives those of sub-group i of group g for 16 outputs.
struct Affine {
    static constexpr bool HAS_MINIMUM = true;
    static constexpr int INPUTS = GROUP;
    static int bytes(int groups) { return 64 + 32 * groups; }

    explicit Affine(const uint8_t* block) : d(load_half(block)), e(load_half(block + 32)), bytes_(block + 64) {}
    __m512 scale(int group, int) const { return _mm512_mul_ps(d, load_bytes(bytes_ + 32 * group)); }
    __m512 minimum(int group) const { return _mm512_mul_ps(e, load_bytes(bytes_ + 32 * group + 16)); }

    __m512 d, e;
    const uint8_t* bytes_;
};

template <int INPUTS_> struct Half {
    static constexpr bool HAS_MINIMUM = false;
    static constexpr int INPUTS = INPUTS_;
    static int bytes(int groups) { return 32 * groups * GROUP / INPUTS; }

    explicit Half(const uint8_t* block) : block_(block) {}
    __m512 scale(int group, int) const { return load_half(block_ + 32 * (group * GROUP / INPUTS)); }

    const uint8_t* block_;
};

struct Signed {
    static constexpr bool HAS_MINIMUM = false;
    static constexpr int INPUTS = 16;
    static int bytes(int groups) { return 32 + 32 * groups; }

    explicit Signed(const uint8_t* block) : d(load_half(block)), scales_((const int8_t*)block + 32) {}
    __m512 scale(int group, int part) const { return _mm512_mul_ps(d, load_bytes(scales_ + 32 * group + 16 * part)); }

    __m512 d;
    const int8_t* scales_;
};

template <int BITS_, class Scales_> struct Format {
    using Scales = Scales_;
    static constexpr int BITS = BITS_;
    static constexpr int MIDDLE = Scales::HAS_MINIMUM ? 0 : 1 << (BITS - 1);
    static constexpr int PARTS = Scales::INPUTS < GROUP ? GROUP / Scales::INPUTS : 1;  // scales within a group
    static constexpr int GROUP_BYTES = 64 * BITS;

    static int groups(int64_t inputs_left) { return inputs_left >= BLOCK ? BLOCK / GROUP : SPAN / GROUP; }
    static int block_bytes(int groups) { return Scales::bytes(groups) + groups * GROUP_BYTES; }
    static int64_t panel_bytes(int64_t inputs) {  // a multiple of 128
        int64_t bytes = inputs / BLOCK * block_bytes(BLOCK / GROUP);
        return inputs % BLOCK ? bytes + block_bytes(SPAN / GROUP) : bytes;
    }
};

// Where a span of a panel lies: the scales of its block, its codes, and the number of its first group in that block.
template <class F> struct Span {
    Span(const uint8_t* panel, int64_t span, int64_t spans)
        : block(panel + span / 2 * F::block_bytes(BLOCK / GROUP)),
          group(span % 2 * (SPAN / GROUP)),
          scales(block),
          codes(block + F::Scales::bytes(F::groups((spans - span / 2 * 2) * SPAN)) + group * F::GROUP_BYTES) {}

    const uint8_t* block;
    int group;
    typename F::Scales scales;
    const uint8_t* codes;
};

using Int4 = Format<4, Affine>;
using Int5 = Format<5, Affine>;
using Q4_0 = Format<4, Half<32>>;
using Q5_0 = Format<5, Half<32>>;
using Q6_K = Format<6, Signed>;
using Q8_0 = Format<8, Half<32>>;
using Int8 = Format<8, Half<128>>;
struct Dense {};  // bfloat16, see dense.h
constexpr int DENSE = 7;  // its number

// Calls `f` with the format that `code` names; the order is that of `FORMATS` in packing.py.
template <class F> static inline void with_format(int64_t code, F f) {
    switch (code) {
        case 0: return f(Int4{});
        case 1: return f(Int5{});
        case 2: return f(Q4_0{});
        case 3: return f(Q5_0{});
        case 4: return f(Q6_K{});
        case 5: return f(Q8_0{});
        case 6: return f(Int8{});
        case DENSE: return f(Dense{});
    }
}
