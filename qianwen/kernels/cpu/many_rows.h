// Many rows: weights become bytes once, 64 outputs at a time, and meet all rows in tiles of results that stay in
// registers, or on AMX.
//
// A byte tile is a span of a panel whose codes are 128 + weight / scale, with one scale for the 128 inputs of an output;
// without the 128, as signed bytes, where the family multiplies signed ones. `Int8` weights are such tiles in memory
// already, so they go this way whatever the number of rows.
// Where products of bytes are summed in 16 bits, eight bits of weights would leave no room: bytes become 16-bit integers,
// of which two products are summed in 32, those of inputs 0 and 2 and of 1 and 3 of each four.
#pragma once

#include "amx_bytes.h"

constexpr int WIDE = 4, OUTPUTS = WIDE * PANEL, ROW_BLOCK = 48, BYTE_TILE = SPAN * PANEL;

// 128 + (code · step − low) per byte, where `step` and `low` are in units of the tile's scale: 8.8 fixed point, rounded.
template <int BITS> struct Rescale {
    Rescale(Floats step, Floats low) {
        const Floats one = all(256.0f), middle = all(128 * 256 + 128);
        if constexpr (BITS == 8) {  // step ≤ 1: as a fraction of 2¹⁵, so that the product of (code − 128) · 2⁸ keeps 16 bits
            factor = in_both_halves(to_ints(min(step * all(32768.0f), all(32767.0f))));
            offset = all_shorts((short)(128 * 256 + 128));
        } else {
            factor = in_both_halves(to_ints(step * one));
            offset = in_both_halves(to_ints(fnma(low, one, middle)));
        }
    }
    Bytes operator()(Bytes codes) const {
        const Bytes low_byte = all_shorts(0xFF);
        Bytes even, odd;
        if constexpr (BITS == 8) {
            codes = xor_bits(codes, all_bytes(-128));
            even = multiply_fractions(shorts_left<8>(codes), factor);
            odd = multiply_fractions(and_not_bits(low_byte, codes), factor);
        } else {
            even = multiply_shorts(and_bits(codes, low_byte), factor);
            odd = multiply_shorts(shorts_right<8>(codes), factor);
        }
        even = shorts_right<8>(add_shorts(even, offset));
        return or_bits(even, and_not_bits(low_byte, add_shorts(odd, offset)));
    }
    Bytes factor, offset;
};

// Step and low edge of each group of a span: code · step − low is the weight.
template <class F> struct Steps {
    static constexpr int GROUPS = SPAN / GROUP, TOP = (1 << F::BITS) - 1;
    Floats step[GROUPS][F::SUBGROUPS], low[GROUPS][F::SUBGROUPS];

    Steps() = default;
    explicit Steps(const Span<F>& w) {
        repeat<GROUPS * F::SUBGROUPS>([&](auto i) LAMBDA {
            constexpr int g = i / F::SUBGROUPS, sub = i % F::SUBGROUPS;
            step[g][sub] = w.scales.scale(w.group + g, sub);
            if constexpr (F::Scales::HAS_MINIMUM) low[g][sub] = w.scales.minimum(w.group + g);
            else low[g][sub] = step[g][sub] * all(F::MIDDLE);
        });
    }
    // What no weight's magnitude exceeds.
    Floats largest() const {
        Floats most = all(1e-30f);
        repeat<GROUPS * F::SUBGROUPS>([&](auto i) LAMBDA {
            const Floats l = low[i / F::SUBGROUPS][i % F::SUBGROUPS];
            Floats edge = absolute(l);
            if constexpr (F::Scales::HAS_MINIMUM)
                edge = max(edge, absolute(fms(step[i / F::SUBGROUPS][i % F::SUBGROUPS], all(TOP), l)));
            most = max(most, edge);
        });
        return most;
    }
};

#if SUMS_BY_SHORTS
constexpr int CODE_BYTES = 2;

// A block of rows over one span: [row][32], two 16-bit integers each.
struct RowBlock {
    int32_t even[ROW_BLOCK][SPAN / 4], odd[ROW_BLOCK][SPAN / 4];

    RowBlock(const Activations& x, int64_t span, int64_t first, int64_t rows) {
        for (int64_t row = 0; row < rows; row++)
            for (int j = 0; j < SPAN / 4; j += LANES) {
                const Bytes codes = load_codes(x.code(span, first + row) + 4 * j);
                store_codes(even[row] + j, even_shorts(codes));
                store_codes(odd[row] + j, odd_shorts(codes));
            }
    }
    template <int R, int V> MEMBER void dot(const uint8_t* const* w, int64_t row, Ints (&dot)[R][V]) const {
        for (int j = 0; j < SPAN / 4; j++)
            repeat<2>([&](auto half) LAMBDA {
                Bytes v[V];
                repeat<V>([&](auto p) LAMBDA { v[p] = load_codes(w[p] + (2 * j + half) * LINE_BYTES); });
                repeat<R>([&](auto r) LAMBDA {
                    const Bytes pair = all_quads(half ? &odd[row + r][j] : &even[row + r][j]);
                    repeat<V>([&](auto p) LAMBDA { add_products_of_shorts(dot[r][p], v[p], pair); });
                });
            });
    }
};

INLINE void store_line(uint8_t* tile, int line, Bytes codes) {
    store_codes(tile + 2 * line * LINE_BYTES, even_shorts(codes));
    store_codes(tile + (2 * line + 1) * LINE_BYTES, odd_shorts(codes));
}

#else
constexpr int CODE_BYTES = 1;

struct RowBlock {
    const Activations& x;
    int64_t span, first;

    RowBlock(const Activations& x, int64_t span, int64_t first, int64_t) : x(x), span(span), first(first) {}
    template <int R, int V> MEMBER void dot(const uint8_t* const* w, int64_t row, Ints (&dot)[R][V]) const {
        const int8_t* quads = x.code(span, first + row);
        for (int j = 0; j < SPAN / 4; j++) {
            Bytes v[V];
            repeat<V>([&](auto p) LAMBDA { v[p] = load_codes(w[p] + LINE_BYTES * j); });
            repeat<R>([&](auto r) LAMBDA {
                const Bytes quad = all_quads(quads + r * SPAN + 4 * j);
                repeat<V>([&](auto p) LAMBDA { add_products(dot[r][p], v[p], quad); });
            });
        }
    }
};

INLINE void store_line(uint8_t* tile, int line, Bytes codes) { store_codes(tile + line * LINE_BYTES, codes); }
#endif

// Writes a span of a part of a panel into a byte tile whose scale is `largest` / 127; signed bytes lack the 128.
template <bool SIGNED, class F> void to_bytes(const Span<F>& w, const Steps<F>& steps, Floats largest, uint8_t* tile) {
    const Floats inverse = all(127.0f) / largest;
    const Bytes flip = all_bytes(SIGNED ? -128 : 0);
    tile += w.part * VECTOR_BYTES;
    repeat<SPAN / GROUP>([&](auto g) LAMBDA {
        Bytes codes[LINES];
        unpack<F::BITS>(w.codes + g * F::GROUP_BYTES, w.part, codes);
        repeat<F::SUBGROUPS>([&](auto sub) LAMBDA {
            const Rescale<F::BITS> rescale(steps.step[g][sub] * inverse, steps.low[g][sub] * inverse);
            repeat<LINES / F::SUBGROUPS>([&](auto i) LAMBDA {
                constexpr int j = sub * LINES / F::SUBGROUPS + i;
                store_line(tile, g * LINES + j, xor_bits(rescale(codes[j]), flip));
            });
        });
    });
}

// WIDE tiles of one span and their scales.
struct Tiles {
    const uint8_t* codes[WIDE];
    float scales[OUTPUTS];
};

// result [R][64] += R rows × V vectors of outputs, from the `first` of the tiles' vectors on.
template <int R, int V>
INLINE void multiply(const Tiles& w, int first, const RowBlock& rows, const Activations& x, int64_t span, int64_t first_row,
                     int64_t row, float* result) {
    Ints dot[R][V];
    repeat<R>([&](auto r) LAMBDA {
        const Ints offset = EIGHT_BITS_ARE_SIGNED ? no_ints() : all_ints(*x.sum(span, first_row + row + r));
        repeat<V>([&](auto p) LAMBDA { dot[r][p] = offset; });
    });
    const uint8_t* codes[V];
    repeat<V>([&](auto p) LAMBDA {
        codes[p] = w.codes[(first + p) / PARTS_OF_PANEL] + (first + p) % PARTS_OF_PANEL * VECTOR_BYTES;
    });
    rows.template dot<R, V>(codes, row, dot);
    repeat<V>([&](auto p) LAMBDA {
        const Floats scales = load(w.scales + (first + p) * LANES);
        repeat<R>([&](auto r) LAMBDA {
            float* to = result + (row + r) * OUTPUTS + (first + p) * LANES;
            store(to, fma(to_floats(dot[r][p]), scales * all(*x.scale(span, first_row + row + r)), load(to)));
        });
    });
}

// The results of rows [first, last) × 64 outputs.
template <bool ON_AMX>
void row_block(const Job& job, const Tiles* tiles, int64_t output, int64_t first, int64_t last) {
    alignas(64) float result[AMX_ROW_BLOCK * OUTPUTS];
    std::memset(result, 0, (last - first) * OUTPUTS * sizeof(float));
    for (int64_t span = 0; span < job.spans; span++) {
        const Tiles& w = tiles[span];
#if HAS_AMX
        if constexpr (ON_AMX) multiply_span(w.codes, w.scales, job.x, span, first, last, result);
#endif
        if constexpr (!ON_AMX) {
            const RowBlock rows(job.x, span, first, last - first);
            for (int v = 0; v < OUTPUTS / LANES; v += TILE_VECTORS)
                in_tiles<TILE_ROWS>(last - first, [&](int64_t row, auto size) {
                    multiply<size(), TILE_VECTORS>(w, v, rows, job.x, span, first, row, result);
                });
        }
    }
    for (int64_t row = first; row < last; row++)
        for (int v = 0; v < OUTPUTS / LANES; v++)
            job.take(row, output + v * LANES, load(result + (row - first) * OUTPUTS + v * LANES));
}

// One span of 64 outputs. Weights that are byte tiles already are used in place, unless their bytes must become signed.
template <class F> void make_tiles(const Job& job, int64_t column, int64_t span, Tiles& to, uint8_t* memory) {
    for (int p = 0; p < WIDE; p++, memory += CODE_BYTES * BYTE_TILE) {
        const uint8_t* panel = job.linear.packed + (column * WIDE + p) * F::panel_bytes(job.spans * SPAN);
        to.codes[p] = memory;
        for (int part = 0; part < PARTS_OF_PANEL; part++) {
            const Span<F> w(panel, span, job.spans, part);
            float* scales = to.scales + p * PANEL + part * LANES;
            if constexpr (std::is_same_v<F, Int8>) {
                store(scales, w.scales.scale(w.group, 0));
                if constexpr (EIGHT_BITS_ARE_SIGNED)
                    for (int line = 0; line < SPAN / 4; line++) {
                        const uint8_t* from = w.codes + line * LINE_BYTES + part * VECTOR_BYTES;
                        store_line(memory + part * VECTOR_BYTES, line, xor_bits(load_codes(from), all_bytes(-128)));
                    }
                else to.codes[p] = w.codes;
            } else {
                const Steps<F> steps(w);
                const Floats largest = steps.largest();
                to_bytes<EIGHT_BITS_ARE_SIGNED>(w, steps, largest, memory);
                store(scales, largest * all(1 / 127.0f));
            }
        }
    }
}

template <class F, bool ON_AMX> void by_byte_tiles(const Job& job, Scratch& scratch) {
    constexpr int ROWS = ON_AMX ? AMX_ROW_BLOCK : ROW_BLOCK;
#if HAS_AMX
    [[maybe_unused]] std::optional<TileRegisters> registers;
    if constexpr (ON_AMX) registers.emplace();
#endif
    const int64_t columns = ceil_div(job.linear.outputs, OUTPUTS);
    Tiles* tiles = scratch.get<Tiles>(job.spans + ceil_div(job.spans * WIDE * CODE_BYTES * BYTE_TILE, sizeof(Tiles)) + 1);
    uint8_t* memory = (uint8_t*)(((uintptr_t)(tiles + job.spans) + 63) / 64 * 64);
    share_dynamically(columns, eighths(columns), [&](int64_t column) LAMBDA {
        for (int64_t span = 0; span < job.spans; span++)
            make_tiles<F>(job, column, span, tiles[span], memory + span * WIDE * CODE_BYTES * BYTE_TILE);
        for (int64_t row = 0; row < job.rows; row += ROWS)
            row_block<ON_AMX>(job, tiles, column * OUTPUTS, row, std::min(row + ROWS, job.rows));
    });
}
