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

    int64_t offset(int64_t sequence, int64_t position, int64_t head) const {
        const int64_t page = tables[sequence * table_size + position / page_size];
        return ((page * page_size + position % page_size) * kv_heads + head) * dim;
    }
    __m512 load(const void* from, int64_t at, __mmask16 lanes) const {
        if (!is_bfloat16) return _mm512_maskz_loadu_ps(lanes, (const float*)from + at);
        const __m256i half = _mm256_maskz_loadu_epi16(lanes, (const uint16_t*)from + at);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
};

struct Queries {
    const float* q;  // token t begins at q + t · stride: [heads][dim]
    int64_t stride, heads;
    float scale;
    int64_t window;  // 0: all keys before a token
    float* out;      // [tokens][heads][dim]
};

static inline void transpose(__m512 (&r)[16]) {
    __m512 t[16];
    repeat<8>([&](auto i) INLINE {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    });
    repeat<4>([&](auto i) INLINE {
        repeat<2>([&](auto j) INLINE {
            const __m512d a = _mm512_castps_pd(t[4 * i + j]), b = _mm512_castps_pd(t[4 * i + 2 + j]);
            r[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        });
    });
    repeat<4>([&](auto i) INLINE {
        repeat<2>([&](auto j) INLINE {
            t[8 * j + i] = _mm512_shuffle_f32x4(r[8 * j + i], r[8 * j + 4 + i], 0x88);
            t[8 * j + 4 + i] = _mm512_shuffle_f32x4(r[8 * j + i], r[8 * j + 4 + i], 0xDD);
        });
    });
    repeat<8>([&](auto i) INLINE {
        r[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xDD);
    });
}

// out [R][64] (+)= a [R][depth] · b [depth][64]; `b` and `out` rows lie `b_stride` and `out_stride` apart.
template <int R, bool ADD>
inline void product(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t depth, float* out,
                    int64_t out_stride) {
    __m512 sum[R][4];
    repeat<R>([&](auto r) INLINE {
        repeat<4>([&](auto p) INLINE {
            sum[r][p] = ADD ? _mm512_loadu_ps(out + r * out_stride + p * LANES) : _mm512_setzero_ps();
        });
    });
    for (int64_t k = 0; k < depth; k++) {
        __m512 v[4];
        repeat<4>([&](auto p) INLINE { v[p] = _mm512_loadu_ps(b + k * b_stride + p * LANES); });
        repeat<R>([&](auto r) INLINE {
            const __m512 value = _mm512_set1_ps(a[r * a_stride + k]);
            repeat<4>([&](auto p) INLINE { sum[r][p] = _mm512_fmadd_ps(value, v[p], sum[r][p]); });
        });
    }
    repeat<R>([&](auto r) INLINE {
        repeat<4>([&](auto p) INLINE { _mm512_storeu_ps(out + r * out_stride + p * LANES, sum[r][p]); });
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
            __m512 block[LANES];
            for (int i = 0; i < LANES; i++) {
                const __mmask16 lanes = at[i] < 0 ? 0 : first_lanes(cache.dim - d);
                block[i] = cache.load(cache.k, lanes ? at[i] + d : 0, lanes);
                _mm512_store_ps(tile.values + (first + i) * tile.width + d, cache.load(cache.v, lanes ? at[i] + d : 0, lanes));
            }
            transpose(block);
            for (int i = 0; i < LANES; i++) _mm512_store_ps(tile.keys + (d + i) * KEYS + first, block[i]);
        }
    }
}

// Scores of keys [start, start + 64) become weights e^(score − peak); what was gathered under a lower peak shrinks.
static inline void fold_scores(RowTile& tile, int64_t row, int64_t start, int64_t window) {
    const int64_t last = tile.position(row) + 1 - start, first = window ? last - window : 0;  // those the row may see
    float* scores = tile.scores + row * KEYS;
    const __m512 old = _mm512_set1_ps(tile.peaks[row]);
    __m512 v[4], peak = old, sum = _mm512_setzero_ps();
    __mmask16 seen[4];
    repeat<4>([&](auto p) INLINE {
        seen[p] = first_lanes(last - p * LANES) & ~first_lanes(first - p * LANES);
        v[p] = _mm512_load_ps(scores + p * LANES);
        peak = _mm512_mask_max_ps(peak, seen[p], peak, v[p]);
    });
    peak = _mm512_set1_ps(_mm512_reduce_max_ps(peak));
    repeat<4>([&](auto p) INLINE {
        v[p] = _mm512_maskz_mov_ps(seen[p], exp16(_mm512_sub_ps(v[p], peak)));
        sum = _mm512_add_ps(sum, v[p]);
        _mm512_store_ps(scores + p * LANES, v[p]);
    });
    const __m512 shrink = exp16(_mm512_sub_ps(old, peak));
    tile.weights[row] = tile.weights[row] * _mm512_cvtss_f32(shrink) + _mm512_reduce_add_ps(sum);
    tile.peaks[row] = _mm512_cvtss_f32(peak);
    for (float* to = tile.sums + row * tile.width; to < tile.sums + (row + 1) * tile.width; to += LANES)
        _mm512_store_ps(to, _mm512_mul_ps(_mm512_load_ps(to), shrink));
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

static inline void attend(const Cache& cache, const Queries& queries, const Piece& piece, Scratch& scratch) {
    const int64_t dim = cache.dim, width = ceil_div(dim, KEYS) * KEYS, group = queries.heads / cache.kv_heads;
    RowTile tile(scratch.get<float>(RowTile::floats(width)), width, piece.tokens * group, piece.position, group);
    for (int64_t row = 0; row < tile.rows; row++) {
        const float* from = queries.q + (piece.token + row / group) * queries.stride + (piece.head * group + row % group) * dim;
        for (int64_t d = 0; d < width; d++) tile.queries[row * width + d] = d < dim ? from[d] * queries.scale : 0.0f;
    }
    const int64_t end = piece.position + piece.tokens, window = queries.window;
    const int64_t begin = window ? std::max<int64_t>(0, piece.position + 1 - window) / KEYS * KEYS : 0;
    for (int64_t start = begin; start < end; start += KEYS) {
        load_keys(cache, piece.sequence, piece.head, start, std::min<int64_t>(KEYS, end - start), tile);
        in_tiles<6>(tile.rows, [&](int64_t row, auto size) {
            product<size(), false>(tile.queries + row * width, width, tile.keys, KEYS, dim, tile.scores + row * KEYS, KEYS);
        });
        for (int64_t row = 0; row < tile.rows; row++) fold_scores(tile, row, start, window);
        for (int64_t d = 0; d < width; d += KEYS)
            in_tiles<6>(tile.rows, [&](int64_t row, auto size) {
                product<size(), true>(tile.scores + row * KEYS, KEYS, tile.values + d, width, KEYS, tile.sums + row * width + d, width);
            });
    }
    for (int64_t row = 0; row < tile.rows; row++) {
        float* to = queries.out + ((piece.token + row / group) * queries.heads + piece.head * group + row % group) * dim;
        for (int64_t d = 0; d < dim; d++) to[d] = tile.sums[row * width + d] / tile.weights[row];
    }
}
