// Attention of a single token of a sequence: up to eight query rows share the keys, and the time is that of reading them.
//
// The arithmetic is that of attention.h to the last bit. Keys are transposed in registers and multiplied at once; values
// are multiplied where they are. While the keys of a tile are multiplied, its values come into the processor's cache;
// while these are multiplied, the keys of the next tile. The processor does not do this by itself: a head's keys lie
// apart, and its loads wait for each other.
#pragma once

#include "attention.h"

constexpr int64_t FEW_QUERIES = 8;

static inline bool goes_by_few_queries(const Cache& cache, int64_t rows) {
    return rows <= FEW_QUERIES && cache.dim % (TILE_VECTORS / 2 * LANES) == 0;
}

INLINE Floats load_number(const float* from) { return load(from); }
INLINE Floats load_number(const uint16_t* from) { return load_bfloat16(from); }

// Where the keys and values of up to 64 tokens are, in numbers from the first page on.
struct Places {
    int64_t at[KEYS], count = 0;

    Places(const Cache& cache, const Piece& piece, int64_t start, int64_t end) {
        for (int64_t position = start; position < std::min(start + KEYS, end);) {
            const int64_t first = cache.offset(piece.sequence, position, piece.head);
            const int64_t size = std::min(cache.page_size - position % cache.page_size, std::min(start + KEYS, end) - position);
            for (int64_t i = 0; i < size; i++) at[count++] = first + i * cache.stride();
            position += size;
        }
    }
    // Fetch the rows of LANES tokens from `first` on.
    template <class T> void fetch(const T* from, int64_t first, int64_t dim) const {
        for (int64_t i = first; i < std::min<int64_t>(first + LANES, count); i++)
            for (int64_t d = 0; d < dim; d += 64 / sizeof(T)) prefetch_far(from + at[i] + d);
    }
};

// Scores of R rows with LANES keys.
template <int R, class T>
static inline void score(const RowTile& tile, int64_t row, const T* keys, const Places& places, int64_t first, int64_t dim) {
    const float* queries = tile.queries + row * tile.width;
    Floats sum[R];
    repeat<R>([&](auto r) LAMBDA { sum[r] = zero(); });
    for (int64_t d = 0; d < dim; d += LANES) {
        Floats block[LANES];
        repeat<LANES>([&](auto i) LAMBDA {
            const int64_t key = std::min<int64_t>(first + i, places.count - 1);
            block[i] = load_number(keys + places.at[key] + d);
        });
        transpose(block);
        repeat<LANES>([&](auto i) LAMBDA {
            repeat<R>([&](auto r) LAMBDA { sum[r] = fma(all(queries[r * tile.width + d + i]), block[i], sum[r]); });
        });
    }
    repeat<R>([&](auto r) LAMBDA { store(tile.scores + (row + r) * KEYS + first, sum[r]); });
}

// The values of LANES tokens, each times its weight, are added to V vectors of what R rows have gathered.
template <int R, int V, class T>
static inline void add_values(const RowTile& tile, int64_t row, const T* values, const Places& places, int64_t first, int64_t d) {
    float* sums = tile.sums + row * tile.width + d;
    const float* weights = tile.scores + row * KEYS;
    Floats sum[R][V];
    repeat<R>([&](auto r) LAMBDA { repeat<V>([&](auto p) LAMBDA { sum[r][p] = load(sums + r * tile.width + p * LANES); }); });
    const int64_t last = std::min<int64_t>(first + LANES, places.count);
    for (int64_t key = first; key < last; key++) {
        const T* from = values + places.at[key] + d;
        Floats v[V];
        repeat<V>([&](auto p) LAMBDA { v[p] = load_number(from + p * LANES); });
        repeat<R>([&](auto r) LAMBDA {
            const Floats weight = all(weights[r * KEYS + key]);
            repeat<V>([&](auto p) LAMBDA { sum[r][p] = fma(weight, v[p], sum[r][p]); });
        });
    }
    repeat<R>([&](auto r) LAMBDA { repeat<V>([&](auto p) LAMBDA { store(sums + r * tile.width + p * LANES, sum[r][p]); }); });
}

template <class T>
static inline void pass_keys(const Cache& cache, const Piece& piece, int64_t window, RowTile& tile) {
    constexpr int V = TILE_VECTORS / 2;
    const T *keys = (const T*)cache.k, *values = (const T*)cache.v;
    const int64_t dim = cache.dim, begin = first_key(piece, window), end = piece.position + piece.tokens;
    Places places(cache, piece, begin, end);
    for (int64_t start = begin; start < end; start += KEYS) {
        for (int64_t first = 0; first < places.count; first += LANES) {
            places.fetch(values, first, dim);
            in_tiles<FEW_QUERIES>(tile.rows, [&](int64_t row, auto size) LAMBDA { score<size()>(tile, row, keys, places, first, dim); });
        }
        for (int64_t row = 0; row < tile.rows; row++) fold_scores(tile, row, start, window);
        const Places next(cache, piece, start + KEYS, end);
        for (int64_t first = 0; first < places.count; first += LANES) {
            next.fetch(keys, first, dim);
            for (int64_t d = 0; d < dim; d += V * LANES)
                in_tiles<FEW_QUERIES>(tile.rows, [&](int64_t row, auto size) LAMBDA {
                    add_values<size(), V>(tile, row, values, places, first, d);
                });
        }
        places = next;
    }
}

static inline void attend_few(const Cache& cache, const Queries& queries, const Piece& piece, Scratch& scratch) {
    RowTile tile = rows_of(cache, queries, piece, scratch);
    if (cache.is_bfloat16) pass_keys<uint16_t>(cache, piece, queries.window, tile);
    else pass_keys<float>(cache, piece, queries.window, tile);
    write_rows(tile, queries, cache, piece);
}
