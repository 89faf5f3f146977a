// Activations as signed bytes: 128 of a row share a scale, its largest magnitude / 127.
//
// They lie span by span, then row by row, so that a tile of rows is contiguous. Beside each row of a span stand the
// sums of its groups, because unsigned weight codes carry an offset: Σ (code − middle)·a = Σ code·a − middle·Σ a.
// A row's bytes depend on that row alone, whatever stands beside it.
#pragma once

#include "formats.h"

struct Activations {
    static constexpr int BYTES_PER_SPAN = SPAN + 32 + 4;

    int8_t* codes;   // [spans][rows][128]
    float* scales;   // [spans][rows]
    int32_t* sums;   // [spans][rows][8]: −middle · Σ of each sixteen, of each group, or of the span; or −Σ as floats
    int64_t rows;

    const int8_t* code(int64_t span, int64_t row) const { return codes + (span * rows + row) * SPAN; }
    const float* scale(int64_t span, int64_t row) const { return scales + span * rows + row; }
    const int32_t* sum(int64_t span, int64_t row) const { return sums + (span * rows + row) * 8; }
};

static inline Activations activations(char* memory, int64_t rows, int64_t spans) {
    char* sums = memory + rows * spans * SPAN;
    return {(int8_t*)memory, (float*)(sums + rows * spans * 32), (int32_t*)sums, rows};
}

// Quantises one span of a row; inputs past the last are zero. `size` of them (16, 32 or 128) go into each sum; without
// a middle the sums are for fp32.
static inline void quantize_span(const float* x, int64_t inputs, int size, int middle, const Activations& to,
                                 int64_t span, int64_t row) {
    __m512 v[8], peak = _mm512_setzero_ps();
    const int64_t left = inputs - span * SPAN;
    repeat<8>([&](auto i) INLINE {
        v[i] = _mm512_maskz_loadu_ps(first_lanes(left - LANES * i), x + span * SPAN + LANES * i);
        peak = _mm512_max_ps(peak, _mm512_abs_ps(v[i]));
    });
    const float largest = _mm512_reduce_max_ps(peak);
    const __m512 inverse = _mm512_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
    const int64_t at = span * to.rows + row;
    to.scales[at] = largest / 127.0f;
    __m512i fours[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};  // sums of four neighbours
    repeat<2>([&](auto half) INLINE {
        __m128i part[4];
        repeat<4>([&](auto i) INLINE {
            part[i] = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v[half * 4 + i], inverse)));
        });
        const __m256i first = _mm256_set_m128i(part[1], part[0]), second = _mm256_set_m128i(part[3], part[2]);
        const __m512i codes = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
        _mm512_storeu_si512(to.codes + at * SPAN + half * 64, codes);
        add_dot(fours[half], _mm512_set1_epi8(1), codes);
    });
    // Sums of sixteen: two in each 256 bits after the first addition of neighbours, in order after the second.
    const __m256i a = _mm256_hadd_epi32(_mm512_castsi512_si256(fours[0]), _mm512_extracti64x4_epi64(fours[0], 1));
    const __m256i b = _mm256_hadd_epi32(_mm512_castsi512_si256(fours[1]), _mm512_extracti64x4_epi64(fours[1], 1));
    __m256i sums = _mm256_permutevar8x32_epi32(_mm256_hadd_epi32(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    if (size >= GROUP) {
        sums = _mm256_hadd_epi32(sums, sums);
        sums = _mm256_permute4x64_epi64(sums, 0b1000);
    }
    if (size == SPAN) {
        sums = _mm256_hadd_epi32(sums, sums);
        sums = _mm256_hadd_epi32(sums, sums);
    }
    sums = middle ? _mm256_mullo_epi32(sums, _mm256_set1_epi32(-middle))
                  : _mm256_castps_si256(_mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_setzero_si256(), sums)));
    _mm256_storeu_si256((__m256i*)(to.sums + at * 8), sums);
}
