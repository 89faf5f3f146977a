// Attention of tokens of many sequences over keys and values in pages (Kwon et al. 2023; Dao et al. 2022).
//
// Work is cut into (sequence, up to 96 query rows, key/value head), a query row being one token and one of the query
// heads that share the keys. Keys come in tiles of 64 whose edges are multiples of 64 of the absolute position: the tile
// is turned on its side once, multiplied with all rows 6 × 64 at a time, and folded into running sums (online softmax).
// A row's arithmetic therefore depends on its own position alone: neither on the rows beside it, nor on how its text
// was cut into chunks, nor on the number of threads. Keys beyond a row contribute exact zeros.
#pragma once

#include <vector>

#include "elementwise.h"

constexpr int KEYS = 64, QUERY_ROWS = 96;

struct Cache {
    const void *k, *v;       // [pages][page_size][kv_heads][dim]
    int64_t is_bfloat16;     // else fp32
    int64_t page_size, kv_heads, dim;
    const int32_t* tables;   // [sequences][table_size]: the pages of each
    int64_t table_size;
    const int32_t *context_lens, *query_lens;  // [sequences]: tokens after this step, and those of this step
    int64_t sequences;

    int64_t stride() const { return kv_heads * dim; }  // from a token to the next one of its page
    int64_t offset(int64_t sequence, int64_t position, int64_t head) const {
        const int64_t page = tables[sequence * table_size + position / page_size];
        return ((page * page_size + position % page_size) * kv_heads + head) * dim;
    }
    template <class L> Floats load(const void* from, int64_t at, L lanes) const {
        if (is_bfloat16) return load_bfloat16((const uint16_t*)from + at, lanes);
        return ::load((const float*)from + at, lanes);
    }
};

struct Queries {
    const float* q;  // token t begins at q + t · stride: [heads][dim]
    int64_t stride, heads;
    float scale;
    int64_t window;  // 0: all keys before a token
    float* out;      // [tokens][heads][dim]
};

// out [R][V vectors] (+)= a [R][depth] · b [depth][V vectors]; rows of `b` and `out` are `b_stride` and `out_stride` apart.
template <int R, int V, bool ADD>
INLINE void product(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t depth, float* out,
                    int64_t out_stride) {
    Floats sum[R][V];
    repeat<R>([&](auto r) LAMBDA {
        repeat<V>([&](auto p) LAMBDA { sum[r][p] = ADD ? load(out + r * out_stride + p * LANES) : zero(); });
    });
    for (int64_t k = 0; k < depth; k++) {
        Floats v[V];
        repeat<V>([&](auto p) LAMBDA { v[p] = load(b + k * b_stride + p * LANES); });
        repeat<R>([&](auto r) LAMBDA {
            const Floats value = all(a[r * a_stride + k]);
            repeat<V>([&](auto p) LAMBDA { sum[r][p] = fma(value, v[p], sum[r][p]); });
        });
    }
    repeat<R>([&](auto r) LAMBDA {
        repeat<V>([&](auto p) LAMBDA { store(out + r * out_stride + p * LANES, sum[r][p]); });
    });
}

// The same for any number of rows and KEYS columns.
template <bool ADD>
static inline void product_of_rows(int64_t rows, const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t depth,
                                   float* out, int64_t out_stride) {
    for (int column = 0; column < KEYS; column += TILE_VECTORS * LANES)
        in_tiles<TILE_ROWS>(rows, [&](int64_t row, auto size) {
            product<size(), TILE_VECTORS, ADD>(a + row * a_stride, a_stride, b + column, b_stride, depth,
                                               out + row * out_stride + column, out_stride);
        });
}

// Query rows of one sequence and one key/value head, and what they have gathered so far. Heads are padded to `width`.
struct RowTile {
    float *queries, *sums;  // [rows][width]
    float *keys, *values;   // [width][64], that is on their side, and [64][width]
    float* scores;          // [rows][64]
    float *peaks, *weights; // [rows]
    int64_t width, rows, first_position, heads_per_group;

    static int64_t floats(int64_t width) { return 2 * (QUERY_ROWS + KEYS) * width + QUERY_ROWS * (KEYS + 2); }

    RowTile(float* memory, int64_t width, int64_t rows, int64_t first_position, int64_t heads_per_group)
        : queries(memory), sums(queries + QUERY_ROWS * width), keys(sums + QUERY_ROWS * width),
          values(keys + KEYS * width), scores(values + KEYS * width), peaks(scores + QUERY_ROWS * KEYS),
          weights(peaks + QUERY_ROWS), width(width), rows(rows), first_position(first_position),
          heads_per_group(heads_per_group) {
        std::fill(sums, sums + rows * width, 0.0f);
        std::fill(weights, weights + rows, 0.0f);
        std::fill(peaks, peaks + rows, -1e30f);  // not −∞, which would make the first shrinking a NaN
    }
    int64_t position(int64_t row) const { return first_position + row / heads_per_group; }
};

static inline void load_keys(const Cache& cache, int64_t sequence, int64_t head, int64_t start, int64_t count, RowTile& tile) {
    for (int64_t first = 0; first < KEYS; first += LANES) {
        int64_t at[LANES];  // divisions take longer than loads
        for (int i = 0; i < LANES; i++) at[i] = first + i < count ? cache.offset(sequence, start + first + i, head) : -1;
        for (int64_t d = 0; d < tile.width; d += LANES) {
            Floats block[LANES];
            for (int i = 0; i < LANES; i++) {
                Floats k = zero(), v = zero();
                if (at[i] >= 0 && d < cache.dim) {
                    const auto take = [&](auto lanes) LAMBDA {
                        k = cache.load(cache.k, at[i] + d, lanes);
                        v = cache.load(cache.v, at[i] + d, lanes);
                    };
                    d + LANES <= cache.dim ? take(AllLanes{}) : take(first_lanes(cache.dim - d));
                }
                block[i] = k;
                store(tile.values + (first + i) * tile.width + d, v);
            }
            transpose(block);
            for (int i = 0; i < LANES; i++) store(tile.keys + (d + i) * KEYS + first, block[i]);
        }
    }
}

// Scores of keys [start, start + 64) become weights e^(score − peak); what was gathered under a lower peak shrinks.
static inline void fold_scores(RowTile& tile, int64_t row, int64_t start, int64_t window) {
    constexpr int VECTORS = KEYS / LANES;
    const int64_t last = tile.position(row) + 1 - start, first = window ? last - window : 0;  // those the row may see
    float* scores = tile.scores + row * KEYS;
    const Floats old = all(tile.peaks[row]);
    Floats v[VECTORS], peak = old, sum = zero();
    Lanes seen[VECTORS];
    repeat<VECTORS>([&](auto p) LAMBDA {
        seen[p] = only_first(first_lanes(last - p * LANES), first_lanes(first - p * LANES));
        v[p] = load(scores + p * LANES);
        peak = select(seen[p], max(peak, v[p]), peak);
    });
    peak = all(largest_of(peak));
    repeat<VECTORS>([&](auto p) LAMBDA {
        v[p] = select(seen[p], exponential(v[p] - peak), zero());
        sum = sum + v[p];
        store(scores + p * LANES, v[p]);
    });
    const Floats shrink = exponential(old - peak);
    tile.weights[row] = tile.weights[row] * first_of(shrink) + sum_of(sum);
    tile.peaks[row] = first_of(peak);
    for (float* to = tile.sums + row * tile.width; to < tile.sums + (row + 1) * tile.width; to += LANES)
        store(to, load(to) * shrink);
}

// One piece of work: `tokens` of a sequence, the first being the `token`-th of the step, for one key/value head.
struct Piece {
    int64_t sequence, head, token, position, tokens;
};

static inline std::vector<Piece> pieces(const Cache& cache, int64_t heads_per_group, int64_t rows) {
    std::vector<Piece> all;
    const int64_t most = std::max<int64_t>(1, rows / heads_per_group);
    int64_t begin = 0;
    for (int64_t s = 0; s < cache.sequences; begin += cache.query_lens[s++])
        for (int64_t done = 0; done < cache.query_lens[s]; done += most)
            for (int64_t head = 0; head < cache.kv_heads; head++) {
                const int64_t tokens = std::min<int64_t>(most, cache.query_lens[s] - done);
                all.push_back({s, head, begin + done, cache.context_lens[s] - cache.query_lens[s] + done, tokens});
            }
    return all;
}

static inline void write_rows(const RowTile& tile, const Queries& queries, const Cache& cache, const Piece& piece) {
    const int64_t group = queries.heads / cache.kv_heads;
    for (int64_t row = 0; row < tile.rows; row++) {
        float* to = queries.out + ((piece.token + row / group) * queries.heads + piece.head * group + row % group) * cache.dim;
        for (int64_t d = 0; d < cache.dim; d++) to[d] = tile.sums[row * tile.width + d] / tile.weights[row];
    }
}

// The rows of a piece before they have seen a key.
static inline RowTile rows_of(const Cache& cache, const Queries& queries, const Piece& piece, Scratch& scratch) {
    const int64_t dim = cache.dim, width = ceil_div(dim, KEYS) * KEYS, group = queries.heads / cache.kv_heads;
    RowTile tile(scratch.get<float>(RowTile::floats(width)), width, piece.tokens * group, piece.position, group);
    for (int64_t row = 0; row < tile.rows; row++) {
        const float* from = queries.q + (piece.token + row / group) * queries.stride + (piece.head * group + row % group) * dim;
        for (int64_t d = 0; d < width; d++) tile.queries[row * width + d] = d < dim ? from[d] * queries.scale : 0.0f;
    }
    return tile;
}

// The first key of the first tile that a piece sees.
static inline int64_t first_key(const Piece& piece, int64_t window) {
    return window ? std::max<int64_t>(0, piece.position + 1 - window) / KEYS * KEYS : 0;
}

static inline void attend(const Cache& cache, const Queries& queries, const Piece& piece, Scratch& scratch) {
    RowTile tile = rows_of(cache, queries, piece, scratch);
    const int64_t width = tile.width, end = piece.position + piece.tokens, window = queries.window;
    for (int64_t start = first_key(piece, window); start < end; start += KEYS) {
        load_keys(cache, piece.sequence, piece.head, start, std::min<int64_t>(KEYS, end - start), tile);
        product_of_rows<false>(tile.rows, tile.queries, width, tile.keys, KEYS, cache.dim, tile.scores, KEYS);
        for (int64_t row = 0; row < tile.rows; row++) fold_scores(tile, row, start, window);
        for (int64_t d = 0; d < width; d += KEYS)
            product_of_rows<true>(tile.rows, tile.scores, KEYS, tile.values + d, width, KEYS, tile.sums + d, width);
    }
    write_rows(tile, queries, cache, piece);
}
