// What attention on AMX is made of, in blocks of 64 queries by 64 keys: documents.h for training, prompts.h for pages.
//
// Scores are computed on their side, Sᵀ = K · Qᵀ: a lane is a query. Its peak, its sum and its mask are then vectors,
// and Pᵀ comes out in pairs, as the tiles for Oᵀ += Vᵀ · Pᵀ.
#pragma once

#include "amx_rows.h"
#include "attention.h"

#if HAS_AMX

static inline __m512i round_to_pairs(__m512 even, __m512 odd) {
    const __m512i half = _mm512_set1_epi32(0x8000);
    const __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(even), half), 16);
    return _mm512_mask_mov_epi16(low, 0xAAAAAAAA, _mm512_add_epi32(_mm512_castps_si512(odd), half));
}

constexpr int64_t SIDE = 64, STRIP = SIDE / TILE;  // of a block; tiles that cover its side

static inline __m512 widen(__m256i half) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
static inline __m256i narrow(__m512 v) { return (__m256i)_mm512_cvtneps_pbh(v); }

// 16 rows of 32 numbers, turned as 16 × 16 pairs: a right tile whose outputs are the rows.
static inline void turn_pairs(const uint16_t* rows, int64_t stride, __m512 (&r)[16]) {
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(rows + i * stride);
    transpose(r);
}

// A block of 64 rows × dim as right tiles whose outputs are the rows: [row / 16][dim / 32].
static inline void tiles_of_rows(const uint16_t* rows, int64_t stride, int64_t dim, uint8_t* tiles) {
    for (int64_t row = 0; row < SIDE; row += TILE)
        for (int64_t d = 0; d < dim; d += STEP, tiles += TILE_BYTES) {
            __m512 r[16];
            turn_pairs(rows + row * stride + d, stride, r);
            for (int i = 0; i < 16; i++) _mm512_store_ps(tiles + 64 * i, r[i]);
        }
}

// 16 rows of 32 numbers on their side: 32 rows of 16, `to_stride` apart.
static inline void turn(const uint16_t* rows, int64_t stride, uint16_t* to, int64_t to_stride) {
    __m512 r[16];
    turn_pairs(rows, stride, r);
    for (int i = 0; i < 16; i++, to += 2 * to_stride) {
        const __m512i both = _mm512_castps_si512(r[i]);
        _mm256_storeu_si256((__m256i*)to, _mm512_cvtepi32_epi16(both));
        _mm256_storeu_si256((__m256i*)(to + to_stride), _mm512_cvtepi32_epi16(_mm512_srli_epi32(both, 16)));
    }
}

// c [rows][16 · columns] (+)= a · b. `a`: rows of 32 · steps numbers, `stride` numbers apart; `b`: [columns][steps] tiles.
template <bool ADD>
void multiply_block(const uint16_t* a, int64_t stride, const uint8_t* b, int64_t steps, int64_t rows, int64_t columns, float* c,
                    int64_t c_stride) {
    for (int64_t row = 0; row < rows; row += 2 * TILE)
        for (int64_t column = 0; column < columns; column += 2) {
            float *upper = c + row * c_stride + column * LANES, *lower = upper + TILE * c_stride;
            const int64_t bytes = c_stride * sizeof(float), a_bytes = stride * sizeof(uint16_t);
            if constexpr (ADD) {
                _tile_loadd(0, upper, bytes); _tile_loadd(1, upper + LANES, bytes);
                _tile_loadd(2, lower, bytes); _tile_loadd(3, lower + LANES, bytes);
            } else {
                _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
            }
            for (int64_t step = 0; step < steps; step++) {
                const uint16_t* left = a + row * stride + step * STEP;
                const uint8_t* right = b + (column * steps + step) * TILE_BYTES;
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

// Which of 16 queries see a key: those between its `first` key and its `own`.
struct Sight {
    __m512i first, own;

    __mmask16 of(int64_t key) const {
        const __m512i at = _mm512_set1_epi32(key);
        return _mm512_cmple_epi32_mask(first, at) & _mm512_cmpge_epi32_mask(own, at);
    }
    bool all(int64_t begin, int64_t end) const { return of(begin) == 0xFFFF && of(end - 1) == 0xFFFF; }
};

// The tile rows [64 / 2] of 16 queries: two keys' weights, in pairs.
static inline uint8_t* pair_row(uint8_t* pairs, int64_t strip, int64_t key) { return pairs + strip * 2 * TILE_BYTES + key / 2 * 64; }

// One strip of a block's scores becomes weights, in pairs; `peak` and `sum` go on, and what the peak's rise is worth is returned.
static inline __m512 fold_strip(__m512 scale, const Sight& sight, int64_t key, const float* scores, __m512& peak, __m512& sum,
                                uint8_t* pairs) {
    const __m512 before = peak;
    const bool sees_all = sight.all(key, key + SIDE);
    for (int64_t j = 0; j < SIDE; j++) {
        const __mmask16 seen = sees_all ? 0xFFFF : sight.of(key + j);
        peak = _mm512_mask_max_ps(peak, seen, peak, _mm512_mul_ps(_mm512_load_ps(scores + j * SIDE), scale));
    }
    const auto weight = [&](int64_t j) LAMBDA {
        const __mmask16 seen = sees_all ? 0xFFFF : sight.of(key + j);
        return _mm512_maskz_mov_ps(seen, exponential(_mm512_fmsub_ps(_mm512_load_ps(scores + j * SIDE), scale, peak)));
    };
    const __m512 shrink = exponential(_mm512_sub_ps(before, peak));
    sum = _mm512_mul_ps(sum, shrink);
    for (int64_t j = 0; j < SIDE; j += 2) {
        const __m512 even = weight(j), odd = weight(j + 1);
        sum = _mm512_add_ps(sum, _mm512_add_ps(even, odd));
        _mm512_store_si512(pairs + j / 2 * 64, round_to_pairs(even, odd));
    }
    return shrink;
}

// What was gathered [dim][64] of a strip's queries under a lower peak shrinks.
static inline void shrink_strip(float* turned, int64_t dim, int64_t strip, __m512 factor) {
    for (float* to = turned + strip * LANES; to < turned + dim * SIDE; to += SIDE)
        _mm512_store_ps(to, _mm512_mul_ps(_mm512_load_ps(to), factor));
}

#endif
