// How weights are laid out in memory.
//
// A linear of N outputs and K inputs is cut into panels of 16 outputs, a panel into blocks of 256 inputs (the last one
// may have 128). Each panel is one stream, read once from front to back:
//
//     panel = block, block, …          block = scales of all its groups | codes of group 0 | codes of group 1 | …
//
// A group is 32 inputs of the 16 outputs, 8 lines of 64 bytes once unpacked. Byte 4c + i of line j is the code of
// output c and input 4j + i: a lane sums over four inputs of one output. Where a vector is shorter than a line, it holds
// PARTS_OF_PANEL-th of the outputs, and `part` says which.
// Codes are unsigned. Their low four bits come first (line j in the low halves of 64 bytes, line j + 4 in the high
// ones), then the fifth bit (one 64-bit mask a line) or the fifth and sixth (two bits of four lines in a byte).
//
//     Affine    w = d·s · code − e·t     d, e float16 per block, s, t uint8 per group       GGUF's Q4_K, Q5_K; our grids
//     Half      w = d · (code − middle)  d float16 per group of 32 or 128                   Q4_0, Q5_0, Q8_0; our int8
//     Signed    w = d·s · (code − middle)  d float16 per block, s int8 per 16 inputs        Q6_K
#pragma once

#include "../vectors/vectors.h"

constexpr int BLOCK = 256, SPAN = 128, GROUP = 32, LINES = 8, LINE_BYTES = 4 * PANEL;

// The codes of a group, one byte each, for the outputs of one part of the panel.
template <int BITS> INLINE void unpack(const uint8_t* p, int part, Bytes (&w)[LINES]) {
    p += part * VECTOR_BYTES;
    if constexpr (BITS == 8) {
        repeat<LINES>([&](auto j) LAMBDA { w[j] = load_codes(p + LINE_BYTES * j); });
        return;
    }
    const Bytes low = all_bytes(15);
    repeat<4>([&](auto j) LAMBDA {
        const Bytes pair = load_codes(p + LINE_BYTES * j);
        w[j] = and_bits(pair, low);
        w[j + 4] = and_bits(shorts_right<4>(pair), low);
    });
    if constexpr (BITS == 5)
        repeat<LINES>([&](auto j) LAMBDA {
            const uint8_t* masks = p - part * VECTOR_BYTES + 4 * LINE_BYTES + part * (VECTOR_BYTES / 8);
            w[j] = or_bits(w[j], expand_bits(masks + 8 * j, 16));
        });
    if constexpr (BITS == 6)
        repeat<LINES>([&](auto j) LAMBDA {
            const Bytes four = load_codes(p + 4 * LINE_BYTES + LINE_BYTES * (j / 4));
            constexpr int shift = 4 - 2 * (j % 4);  // to bits 4 and 5
            Bytes high;
            if constexpr (shift >= 0) high = shorts_left<shift>(four);
            else high = shorts_right<-shift>(four);
            w[j] = or_bits(w[j], and_bits(high, all_bytes(0x30)));
        });
}

// The scales of one block, for the outputs of one part of the panel. `scale(g, i)`: of sub-group i of group g.
struct Affine {
    static constexpr bool HAS_MINIMUM = true;
    static constexpr int INPUTS = GROUP;
    static int bytes(int groups) { return 64 + 32 * groups; }

    Affine(const uint8_t* block, int part)
        : d(load_half(block + 2 * LANES * part)), e(load_half(block + 32 + 2 * LANES * part)), bytes_(block + 64 + LANES * part) {}
    Floats scale(int group, int) const { return d * load_bytes(bytes_ + 32 * group); }
    Floats minimum(int group) const { return e * load_bytes(bytes_ + 32 * group + 16); }

    Floats d, e;
    const uint8_t* bytes_;
};

template <int INPUTS_> struct Half {
    static constexpr bool HAS_MINIMUM = false;
    static constexpr int INPUTS = INPUTS_;
    static int bytes(int groups) { return 32 * groups * GROUP / INPUTS; }

    Half(const uint8_t* block, int part) : block_(block + 2 * LANES * part) {}
    Floats scale(int group, int) const { return load_half(block_ + 32 * (group * GROUP / INPUTS)); }

    const uint8_t* block_;
};

struct Signed {
    static constexpr bool HAS_MINIMUM = false;
    static constexpr int INPUTS = 16;
    static int bytes(int groups) { return 32 + 32 * groups; }

    Signed(const uint8_t* block, int part)
        : d(load_half(block + 2 * LANES * part)), scales_((const int8_t*)block + 32 + LANES * part) {}
    Floats scale(int group, int sub) const { return d * load_bytes(scales_ + 32 * group + 16 * sub); }

    Floats d;
    const int8_t* scales_;
};

template <int BITS_, class Scales_> struct Format {
    using Scales = Scales_;
    static constexpr int BITS = BITS_;
    static constexpr int MIDDLE = Scales::HAS_MINIMUM ? 0 : 1 << (BITS - 1);
    // What sums of products with the codes lack: nothing, where eight bits are taken as signed.
    static constexpr int OFFSET = BITS == 8 && EIGHT_BITS_ARE_SIGNED ? 0 : MIDDLE;
    static constexpr int SUBGROUPS = Scales::INPUTS < GROUP ? GROUP / Scales::INPUTS : 1;  // with scales of their own
    static constexpr int GROUP_BYTES = 64 * BITS;

    static int groups(int64_t inputs_left) { return inputs_left >= BLOCK ? BLOCK / GROUP : SPAN / GROUP; }
    static int block_bytes(int groups) { return Scales::bytes(groups) + groups * GROUP_BYTES; }
    static int64_t panel_bytes(int64_t inputs) {  // a multiple of 128
        int64_t bytes = inputs / BLOCK * block_bytes(BLOCK / GROUP);
        return inputs % BLOCK ? bytes + block_bytes(SPAN / GROUP) : bytes;
    }
};

// Where a span of a panel is: the scales of its block, its codes, and the number of its first group in that block.
template <class F> struct Span {
    Span(const uint8_t* panel, int64_t span, int64_t spans, int part)
        : block(panel + span / 2 * F::block_bytes(BLOCK / GROUP)),
          group(span % 2 * (SPAN / GROUP)),
          part(part),
          scales(block, part),
          codes(block + F::Scales::bytes(F::groups((spans - span / 2 * 2) * SPAN)) + group * F::GROUP_BYTES) {}

    const uint8_t* block;
    int group, part;
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
