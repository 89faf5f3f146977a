// Dense weights in bfloat16, multiplied in fp32; by the processor's own products of bfloat16 for many rows, where it has
// them.
//
// A panel holds its 16 outputs input by input, two inputs to a 32-bit lane: the first of a pair by a shift, the second by a
// mask. Every result is one chain of fused multiply-adds over the inputs in order, so its bits do not depend on the number
// of rows either.
#pragma once

#include "linear.h"

constexpr int DENSE_PANELS = 4, DENSE_VECTORS = DENSE_PANELS * PARTS_OF_PANEL;

// The weights of vector `v` of a tile of DENSE_PANELS panels.
INLINE const uint8_t* dense_vector(const Job& job, int64_t panel, int v) {
    const int64_t pairs = ceil_div(job.linear.inputs, 2);
    return job.linear.packed + (panel + v / PARTS_OF_PANEL) * pairs * LINE_BYTES + v % PARTS_OF_PANEL * VECTOR_BYTES;
}

// R rows × V vectors of outputs from the `first` of the tile's on.
template <int R, int V> void dense_tile(const Job& job, int64_t panel, int first, int64_t row) {
    const int64_t inputs = job.linear.inputs, pairs = ceil_div(inputs, 2);
    const float* x = job.dense + row * inputs;
    const uint8_t* from[V];
    repeat<V>([&](auto p) LAMBDA { from[p] = dense_vector(job, panel, first + p); });
    Floats sum[R][V];
    repeat<R>([&](auto r) LAMBDA { repeat<V>([&](auto p) LAMBDA { sum[r][p] = zero(); }); });
    for (int64_t pair = 0; pair < pairs; pair++) {
        Bytes pairs_of[V];
        repeat<V>([&](auto p) LAMBDA {
            prefetch(from[p] + pair * LINE_BYTES + 2048);
            pairs_of[p] = load_codes(from[p] + pair * LINE_BYTES);
        });
        repeat<2>([&](auto half) LAMBDA {
            const int64_t k = 2 * pair + half;
            if (half && k == inputs) return;
            Floats weights[V];
            repeat<V>([&](auto p) LAMBDA { weights[p] = half ? second_of_pairs(pairs_of[p]) : first_of_pairs(pairs_of[p]); });
            repeat<R>([&](auto r) LAMBDA {
                const Floats value = all(x[r * inputs + k]);
                repeat<V>([&](auto p) LAMBDA { sum[r][p] = fma(weights[p], value, sum[r][p]); });
            });
        });
    }
    repeat<R>([&](auto r) LAMBDA {
        repeat<V>([&](auto p) LAMBDA { job.take(row + r, panel * PANEL + (first + p) * LANES, sum[r][p]); });
    });
}

static inline void by_dense_tiles(const Job& job) {
    const int64_t tiles = ceil_div(job.linear.outputs, DENSE_PANELS * PANEL);
    share_dynamically(tiles, eighths(tiles), [&](int64_t tile) LAMBDA {
        for (int first = 0; first < DENSE_VECTORS; first += TILE_VECTORS)
            in_tiles<TILE_ROWS>(job.rows, [&](int64_t row, auto size) {
                dense_tile<size(), TILE_VECTORS>(job, tile * DENSE_PANELS, first, row);
            });
    });
}

#if HAS_BFLOAT16_PRODUCTS

// The rows as pairs of bfloat16, rounded to nearest even: [row][pair]. For all threads of a team.
static inline void take_pairs(const Job& job, uint32_t* to) {
    const int64_t inputs = job.linear.inputs, pairs = ceil_div(inputs, 2);
    share(job.rows, [&](int64_t row) LAMBDA {
        const float* x = job.dense + row * inputs;
        uint16_t* at = (uint16_t*)(to + row * pairs);
        by_lanes(inputs, [&](int64_t i, auto lanes) LAMBDA { store_bfloat16(at + i, load(x + i, lanes), lanes); });
        if (inputs % 2) at[inputs] = 0;
    });
}

// R rows × V vectors of outputs from the `first` of the tile's on, over the pairs [begin, end).
template <int R, int V>
void pair_tile(const Job& job, const uint32_t* x, int64_t panel, int first, int64_t row, int64_t begin, int64_t end) {
    const int64_t pairs = ceil_div(job.linear.inputs, 2);
    const uint8_t* from[V];
    repeat<V>([&](auto p) LAMBDA { from[p] = dense_vector(job, panel, first + p); });
    Floats sum[R][V];
    repeat<R>([&](auto r) LAMBDA { repeat<V>([&](auto p) LAMBDA { sum[r][p] = zero(); }); });
    for (int64_t pair = begin; pair < end; pair++) {
        Bytes weights[V];
        repeat<V>([&](auto p) LAMBDA { weights[p] = load_codes(from[p] + pair * LINE_BYTES); });
        repeat<R>([&](auto r) LAMBDA {
            repeat<V>([&](auto p) LAMBDA { add_pairs(sum[r][p], weights[p], x + (row + r) * pairs + pair); });
        });
    }
    repeat<R>([&](auto r) LAMBDA {
        repeat<V>([&](auto p) LAMBDA { job.take_part(row + r, panel * PANEL + (first + p) * LANES, sum[r][p], begin == 0); });
    });
}

// Many rows. The weights of a tile over PAIR_CHUNK pairs stay in the first cache while all rows pass.
static inline void by_pair_tiles(const Job& job, uint32_t* x) {
    constexpr int64_t PAIR_CHUNK = 768;
    take_pairs(job, x);
    const int64_t tiles = ceil_div(job.linear.outputs, DENSE_PANELS * PANEL), pairs = ceil_div(job.linear.inputs, 2);
    share_dynamically(tiles, eighths(tiles), [&](int64_t tile) LAMBDA {
        for (int64_t begin = 0; begin < pairs; begin += PAIR_CHUNK)
            for (int first = 0; first < DENSE_VECTORS; first += TILE_VECTORS)
                in_tiles<TILE_ROWS>(job.rows, [&](int64_t row, auto size) {
                    pair_tile<size(), TILE_VECTORS>(job, x, tile * DENSE_PANELS, first, row, begin, std::min(begin + PAIR_CHUNK, pairs));
                });
    });
}

#endif
