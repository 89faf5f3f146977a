// The products of many_rows.h on AMX: sixteen rows or more meet byte tiles, two halves of a span after another.
//
// A tile's sums leave for fp32 after each span, because scales are per 128 inputs: work for the vector units that takes
// about as long as the products. The integers are those of the vector way, and so are all bits of the result.
#pragma once

#include "amx.h"
#include "linear.h"

constexpr int AMX_ROW_BLOCK = 64;

#if HAS_AMX

// dots [R][P][16][16] = R · 16 rows × P panels over one span; (R, P) is (1, 4) or (2, 2).
template <int R, int P> inline void dot_tiles(const uint8_t* const* w, const int8_t* x, int32_t* dots) {
    static_assert(R * P == 4);
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    for (int half = 0; half < 2; half++) {
        const int64_t at = half * TILE_BYTES;
        _tile_loadd(4, x + half * 64, SPAN);
        _tile_loadd(6, w[0] + at, 64);
        _tile_dpbsud(0, 4, 6);
        _tile_loadd(7, w[1] + at, 64);
        _tile_dpbsud(1, 4, 7);
        if constexpr (R == 2) {
            _tile_loadd(5, x + TILE * SPAN + half * 64, SPAN);
            _tile_dpbsud(2, 5, 6);
            _tile_dpbsud(3, 5, 7);
        } else {
            _tile_loadd(5, w[2] + at, 64);
            _tile_dpbsud(2, 4, 5);
            _tile_loadd(6, w[3] + at, 64);
            _tile_dpbsud(3, 4, 6);
        }
    }
    _tile_stored(0, dots, 64); _tile_stored(1, dots + 256, 64);
    _tile_stored(2, dots + 512, 64); _tile_stored(3, dots + 768, 64);
}

// result [rows][64] += dots · scales, for P panels from the first of `scales` and `result` on.
template <int P>
inline void scale_dots(const int32_t* dots, const float* scales, const Activations& x, int64_t span, int64_t row, int64_t rows, float* result) {
    __m512 scale[P];
    repeat<P>([&](auto p) LAMBDA { scale[p] = _mm512_loadu_ps(scales + p * LANES); });
    for (int64_t r = 0; r < rows; r++) {
        const __m512i offset = _mm512_set1_epi32(*x.sum(span, row + r));
        const __m512 own = _mm512_set1_ps(*x.scale(span, row + r));
        repeat<P>([&](auto p) LAMBDA {
            const __m512i dot = _mm512_load_si512(dots + (r / TILE * P + p) * 256 + r % TILE * LANES);
            float* to = result + r * 4 * LANES + p * LANES;
            const __m512 value = _mm512_cvtepi32_ps(_mm512_add_epi32(dot, offset));
            _mm512_store_ps(to, _mm512_fmadd_ps(value, _mm512_mul_ps(scale[p], own), _mm512_load_ps(to)));
        });
    }
}

// result [last − first][64] of one span; `w` are its four tiles. Rows are padded to whole tiles in memory.
static inline void multiply_span(const uint8_t* const* w, const float* scales, const Activations& x, int64_t span,
                                 int64_t first, int64_t last, float* result) {
    alignas(64) int32_t dots[1024];
    int64_t row = first;
    for (; row + TILE < last; row += 2 * TILE)
        for (int p = 0; p < 4; p += 2) {
            dot_tiles<2, 2>(w + p, x.code(span, row), dots);
            scale_dots<2>(dots, scales + p * LANES, x, span, row, std::min<int64_t>(2 * TILE, last - row),
                          result + (row - first) * 4 * LANES + p * LANES);
        }
    if (row < last) {
        dot_tiles<1, 4>(w, x.code(span, row), dots);
        scale_dots<4>(dots, scales, x, span, row, last - row, result + (row - first) * 4 * LANES);
    }
}

#endif
