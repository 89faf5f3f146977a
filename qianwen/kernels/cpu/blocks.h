// What attention in bfloat16 is made of, in blocks of 64 queries by 64 keys: documents.h for training, prompts.h for pages.
//
// Scores are computed on their side, Sᵀ = K · Qᵀ: a lane is a query. Its peak, its sum and its mask are then vectors,
// and Pᵀ comes out in pairs, as the right operand for Oᵀ += Vᵀ · Pᵀ.
//
// A right operand consists of panels of LANES outputs, each pair after pair of inputs: [output / LANES][input / 2][LANES],
// two bfloat16 to a lane. With AMX, whose LANES are 16, sixteen pairs of a panel are a tile.
#pragma once

#include "amx_rows.h"
#include "attention.h"

constexpr int64_t SIDE = 64, STRIPS = SIDE / LANES;  // of a block; vectors that cover its side

// LANES rows of 2 · LANES numbers, turned as pairs: lane i of r[k] is the k-th pair of row i.
static inline void turn_pairs(const uint16_t* rows, int64_t stride, Floats (&r)[LANES]) {
    for (int i = 0; i < LANES; i++) r[i] = load((const float*)(rows + i * stride));
    transpose(r);
}

// A block of 64 rows × dim as a right operand whose outputs are the rows.
static inline void operand_of_rows(const uint16_t* rows, int64_t stride, int64_t dim, uint8_t* to) {
    for (int64_t row = 0; row < SIDE; row += LANES)
        for (int64_t d = 0; d < dim; d += 2 * LANES, to += LANES * VECTOR_BYTES) {
            Floats r[LANES];
            turn_pairs(rows + row * stride + d, stride, r);
            for (int i = 0; i < LANES; i++) store((float*)(to + VECTOR_BYTES * i), r[i]);
        }
}

// LANES rows of 2 · LANES numbers on their side: 2 · LANES rows of LANES, `to_stride` apart.
static inline void turn(const uint16_t* rows, int64_t stride, uint16_t* to, int64_t to_stride) {
    Floats r[LANES];
    turn_pairs(rows, stride, r);
    for (int i = 0; i < LANES; i++, to += 2 * to_stride) store_halves(to, to + to_stride, r[i]);
}

#if HAS_AMX

// c [rows][16 · panels] (+)= a · b. `a`: rows of 2 · pairs numbers, `stride` numbers apart; `b`: a right operand.
template <bool ADD>
void multiply_block(const uint16_t* a, int64_t stride, const uint8_t* b, int64_t pairs, int64_t rows, int64_t panels, float* c,
                    int64_t c_stride) {
    const int64_t steps = pairs / TILE;
    for (int64_t row = 0; row < rows; row += 2 * TILE)
        for (int64_t panel = 0; panel < panels; panel += 2) {
            float *upper = c + row * c_stride + panel * LANES, *lower = upper + TILE * c_stride;
            const int64_t bytes = c_stride * sizeof(float), a_bytes = stride * sizeof(uint16_t);
            if constexpr (ADD) {
                _tile_loadd(0, upper, bytes); _tile_loadd(1, upper + LANES, bytes);
                _tile_loadd(2, lower, bytes); _tile_loadd(3, lower + LANES, bytes);
            } else {
                _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
            }
            for (int64_t step = 0; step < steps; step++) {
                const uint16_t* left = a + row * stride + step * STEP;
                const uint8_t* right = b + (panel * steps + step) * TILE_BYTES;
                _tile_loadd(4, left, a_bytes);
                _tile_loadd(6, right, 64);
                _tile_dpbf16ps(0, 4, 6);
                _tile_loadd(7, right + steps * TILE_BYTES, 64);
                _tile_dpbf16ps(1, 4, 7);
                _tile_loadd(5, left + TILE * stride, a_bytes);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, upper, bytes); _tile_stored(1, upper + LANES, bytes);
            _tile_stored(2, lower, bytes); _tile_stored(3, lower + LANES, bytes);
        }
}

#else

class TileRegisters {};

#if !HAS_BFLOAT16_PRODUCTS
// sum += Σ over both bfloat16 of each lane; the same pair of x for all lanes.
INLINE void add_pairs(Floats& sum, Bytes pairs, const uint32_t* x) {
    const Bytes pair = all_quads(x);
    sum = fma(first_of_pairs(pairs), first_of_pairs(pair), sum);
    sum = fma(second_of_pairs(pairs), second_of_pairs(pair), sum);
}
#endif

// R rows × V panels.
template <int R, int V, bool ADD>
INLINE void multiply_tile(const uint16_t* a, int64_t stride, const uint8_t* b, int64_t pairs, float* c, int64_t c_stride) {
    Floats sum[R][V];
    repeat<R>([&](auto r) LAMBDA { repeat<V>([&](auto p) LAMBDA { sum[r][p] = ADD ? load(c + r * c_stride + p * LANES) : zero(); }); });
    for (int64_t pair = 0; pair < pairs; pair++) {
        Bytes v[V];
        repeat<V>([&](auto p) LAMBDA { v[p] = load_codes(b + (p * pairs + pair) * VECTOR_BYTES); });
        repeat<R>([&](auto r) LAMBDA {
            repeat<V>([&](auto p) LAMBDA { add_pairs(sum[r][p], v[p], (const uint32_t*)(a + r * stride) + pair); });
        });
    }
    repeat<R>([&](auto r) LAMBDA { repeat<V>([&](auto p) LAMBDA { store(c + r * c_stride + p * LANES, sum[r][p]); }); });
}

// c [rows][LANES · panels] (+)= a · b. `a`: rows of 2 · pairs numbers, `stride` numbers apart; `b`: a right operand.
template <bool ADD>
void multiply_block(const uint16_t* a, int64_t stride, const uint8_t* b, int64_t pairs, int64_t rows, int64_t panels, float* c,
                    int64_t c_stride) {
    constexpr int V = 2;  // panels at a time: heads of 32 numbers have no more
    for (int64_t panel = 0; panel < panels; panel += V)
        in_tiles<8>(rows, [&](int64_t row, auto size) {
            multiply_tile<size(), V, ADD>(a + row * stride, stride, b + panel * pairs * VECTOR_BYTES, pairs,
                                          c + row * c_stride + panel * LANES, c_stride);
        });
}

#endif

// Which of LANES queries see a key: those between its `first` key and its `own`.
struct Sight {
    Ints first, own;

    Lanes of(int64_t key) const {
        const Ints at = all_ints(key);
        return both(is_at_most(first, at), is_at_most(at, own));
    }
    bool all_see(int64_t begin, int64_t end) const { return is_all(of(begin)) && is_all(of(end - 1)); }
};

// The right operand [64 / 2] of a strip of queries: two keys' weights, in pairs.
static inline uint8_t* pair_row(uint8_t* pairs, int64_t strip, int64_t key) { return pairs + (strip * SIDE / 2 + key / 2) * VECTOR_BYTES; }

// One strip of a block's scores becomes weights, in pairs; `peak` and `sum` go on, and what the peak's rise is worth is returned.
static inline Floats fold_strip(Floats scale, const Sight& sight, int64_t key, const float* scores, Floats& peak, Floats& sum,
                                uint8_t* pairs) {
    const Floats before = peak;
    const bool sees_all = sight.all_see(key, key + SIDE);
    for (int64_t j = 0; j < SIDE; j++) {
        const Floats higher = max(peak, load(scores + j * SIDE) * scale);
        peak = sees_all ? higher : select(sight.of(key + j), higher, peak);
    }
    const auto weight = [&](int64_t j) LAMBDA {
        const Floats w = exponential(fms(load(scores + j * SIDE), scale, peak));
        return sees_all ? w : select(sight.of(key + j), w, zero());
    };
    const Floats shrink = exponential(before - peak);
    sum = sum * shrink;
    for (int64_t j = 0; j < SIDE; j += 2) {
        const Floats even = weight(j), odd = weight(j + 1);
        sum = sum + (even + odd);
        store_codes(pairs + j / 2 * VECTOR_BYTES, round_to_pairs(even, odd));
    }
    return shrink;
}

// What was gathered [dim][64] of a strip's queries under a lower peak shrinks.
static inline void shrink_strip(float* turned, int64_t dim, int64_t strip, Floats factor) {
    for (float* to = turned + strip * LANES; to < turned + dim * SIDE; to += SIDE) store(to, load(to) * factor);
}

// What was gathered of a strip, LANES of its dim from `d` on, as rows of the queries and times `factor` of each.
static inline void rows_of_strip(const float* turned, int64_t strip, int64_t d, Floats factor, Floats (&r)[LANES]) {
    for (int i = 0; i < LANES; i++) r[i] = load(turned + (d + i) * SIDE + strip * LANES) * factor;
    transpose(r);
}
