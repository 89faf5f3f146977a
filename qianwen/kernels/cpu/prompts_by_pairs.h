// Attention of prompts over pages by the processor's products of bfloat16, where it has no AMX: the fast way, in which a
// row's bits may depend on whether it is part of a prompt.
//
// The blocks are those of attention.h. Keys, values and weights are rounded to bfloat16 and multiplied in pairs: two
// neighbouring numbers of a head for the scores, two neighbouring keys for the sums. Sums and softmax are in fp32.
#pragma once

#include "attention.h"

#if HAS_BFLOAT16_PRODUCTS

constexpr int64_t PAIR_ROWS = 192;  // query rows of a piece

// What a piece of work keeps beside its RowTile.
struct PairMemory {
    uint32_t *queries, *keys, *values, *weights;  // [rows][width / 2], [width / 2][64], [64 / 2][width], [rows][64 / 2]
    uint16_t* rows;                               // [LANES][width]

    static int64_t bytes(int64_t width) {
        return 2 * (PAIR_ROWS * (width + KEYS) + 2 * KEYS * width + LANES * width) + RowTile::floats(width, PAIR_ROWS) * 4;
    }
    PairMemory(uint8_t* memory, int64_t width)
        : queries((uint32_t*)memory), keys(queries + PAIR_ROWS * width / 2), values(keys + KEYS * width / 2),
          weights(values + KEYS * width / 2), rows((uint16_t*)(weights + PAIR_ROWS * KEYS / 2)) {}
    float* rest(int64_t width) const { return (float*)(rows + LANES * width); }
};

// out [R][V vectors] (+)= a [R][depth] · b [depth][V vectors], both in pairs.
template <int R, int V, bool ADD>
INLINE void pair_product(const uint32_t* a, int64_t a_stride, const uint32_t* b, int64_t b_stride, int64_t depth, float* out,
                         int64_t out_stride) {
    Floats sum[R][V];
    repeat<R>([&](auto r) LAMBDA {
        repeat<V>([&](auto p) LAMBDA { sum[r][p] = ADD ? load(out + r * out_stride + p * LANES) : zero(); });
    });
    for (int64_t k = 0; k < depth; k++) {
        Bytes v[V];
        repeat<V>([&](auto p) LAMBDA { v[p] = load_codes(b + k * b_stride + p * LANES); });
        repeat<R>([&](auto r) LAMBDA { repeat<V>([&](auto p) LAMBDA { add_pairs(sum[r][p], v[p], a + r * a_stride + k); }); });
    }
    repeat<R>([&](auto r) LAMBDA {
        repeat<V>([&](auto p) LAMBDA { store(out + r * out_stride + p * LANES, sum[r][p]); });
    });
}

template <bool ADD>
static inline void pair_product_of_rows(int64_t rows, const uint32_t* a, int64_t a_stride, const uint32_t* b, int64_t b_stride,
                                        int64_t depth, float* out, int64_t out_stride) {
    for (int column = 0; column < KEYS; column += TILE_VECTORS * LANES)
        in_tiles<TILE_ROWS>(rows, [&](int64_t row, auto size) {
            pair_product<size(), TILE_VECTORS, ADD>(a + row * a_stride, a_stride, b + column, b_stride, depth,
                                                    out + row * out_stride + column, out_stride);
        });
}

// `dim` numbers of a page as bfloat16, then zeros up to `width`.
static inline void copy_row(const Cache& cache, const void* from, int64_t at, int64_t width, uint16_t* to) {
    if (cache.is_bfloat16) std::memcpy(to, (const uint16_t*)from + at, cache.dim * sizeof(uint16_t));
    else by_lanes(cache.dim, [&](int64_t i, auto lanes) LAMBDA { store_bfloat16(to + i, load((const float*)from + at + i, lanes), lanes); });
    std::fill(to + cache.dim, to + width, 0);
}

// Keys [start, start + count) of a sequence as pairs, zeros up to 64.
static inline void load_pairs(const Cache& cache, int64_t sequence, int64_t head, int64_t start, int64_t count, int64_t width,
                              PairMemory& m) {
    for (int64_t first = 0; first < KEYS; first += LANES) {
        Floats block[LANES];
        for (int i = 0; i < LANES; i++) {
            uint16_t* row = m.rows + i * width;
            if (first + i < count) copy_row(cache, cache.k, cache.offset(sequence, start + first + i, head), width, row);
            else std::fill(row, row + width, 0);
        }
        for (int64_t pair = 0; pair < width / 2; pair += LANES) {
            for (int i = 0; i < LANES; i++) block[i] = load((const float*)(m.rows + i * width) + pair);
            transpose(block);
            for (int i = 0; i < LANES; i++) store((float*)m.keys + (pair + i) * KEYS + first, block[i]);
        }
    }
    for (int64_t key = 0; key < KEYS; key += 2) {
        for (int i = 0; i < 2; i++) {
            uint16_t* row = m.rows + i * width;
            if (key + i < count) copy_row(cache, cache.v, cache.offset(sequence, start + key + i, head), width, row);
            else std::fill(row, row + width, 0);
        }
        uint32_t* to = m.values + key / 2 * width;
        for (int64_t d = 0; d < width; d++) to[d] = m.rows[d] | (uint32_t)m.rows[width + d] << 16;
    }
}

static inline void attend_by_pairs(const Cache& cache, const Queries& queries, const Piece& piece, Scratch& scratch) {
    const int64_t dim = cache.dim, width = ceil_div(dim, KEYS) * KEYS, group = queries.heads / cache.kv_heads;
    PairMemory m(scratch.get<uint8_t>(PairMemory::bytes(width)), width);
    RowTile tile(m.rest(width), width, piece.tokens * group, piece.position, group, PAIR_ROWS);
    for (int64_t row = 0; row < tile.rows; row++) {
        const float* from = queries.q + (piece.token + row / group) * queries.stride + (piece.head * group + row % group) * dim;
        uint16_t* to = (uint16_t*)m.queries + row * width;
        by_lanes(dim, [&](int64_t i, auto lanes) LAMBDA { store_bfloat16(to + i, load(from + i, lanes) * all(queries.scale), lanes); });
        std::fill(to + dim, to + width, 0);
    }
    const int64_t end = piece.position + piece.tokens, window = queries.window;
    const int64_t begin = window ? std::max<int64_t>(0, piece.position + 1 - window) / KEYS * KEYS : 0;
    for (int64_t start = begin; start < end; start += KEYS) {
        load_pairs(cache, piece.sequence, piece.head, start, std::min<int64_t>(KEYS, end - start), width, m);
        pair_product_of_rows<false>(tile.rows, m.queries, width / 2, m.keys, KEYS, width / 2, tile.scores, KEYS);
        for (int64_t row = 0; row < tile.rows; row++) {
            fold_scores(tile, row, start, window);
            by_lanes(KEYS, [&](int64_t i, auto lanes) LAMBDA {
                store_bfloat16((uint16_t*)m.weights + row * KEYS + i, load(tile.scores + row * KEYS + i, lanes), lanes);
            });
        }
        for (int64_t d = 0; d < width; d += KEYS)
            pair_product_of_rows<true>(tile.rows, m.weights, KEYS / 2, m.values + d, width, KEYS / 2, tile.sums + d, width);
    }
    write_rows(tile, queries, cache, piece);
}

#endif
