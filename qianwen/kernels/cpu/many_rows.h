// Many rows: weights become bytes once, 64 outputs at a time, and meet all rows in tiles of 6 × 64 results, or on AMX.
//
// A byte tile is a span of a panel whose codes are 128 + weight / scale, with one scale for the 128 inputs of an output.
// `Int8` weights lie in memory as such tiles already, so they go this way whatever the number of rows.
#pragma once

#include "amx_bytes.h"

constexpr int VECTOR_ROWS = 6, WIDE = 4, OUTPUTS = WIDE * LANES, ROW_BLOCK = 48, BYTE_TILE = SPAN * LANES;

static inline __m512i in_both_halves(__m512 x) {  // of each 32-bit lane, as a 16-bit integer
    const __m512i i = _mm512_cvtps_epi32(x);
    return _mm512_or_si512(_mm512_and_si512(i, _mm512_set1_epi32(0xFFFF)), _mm512_slli_epi32(i, 16));
}

// 128 + (code · step − low) per byte, where `step` and `low` are in units of the tile's scale: 8.8 fixed point, rounded.
template <int BITS> struct Rescale {
    Rescale(__m512 step, __m512 low) {
        const __m512 one = _mm512_set1_ps(256.0f), middle = _mm512_set1_ps(128 * 256 + 128);
        if constexpr (BITS == 8) {  // step ≤ 1: as a fraction of 2¹⁵, so that the product of (code − 128) · 2⁸ keeps 16 bits
            factor = in_both_halves(_mm512_min_ps(_mm512_mul_ps(step, _mm512_set1_ps(32768.0f)), _mm512_set1_ps(32767.0f)));
            offset = _mm512_set1_epi16((short)(128 * 256 + 128));
        } else {
            factor = in_both_halves(_mm512_mul_ps(step, one));
            offset = in_both_halves(_mm512_fnmadd_ps(low, one, middle));
        }
    }
    __m512i operator()(__m512i codes) const {
        const __m512i low_byte = _mm512_set1_epi16(0xFF);
        __m512i even, odd;
        if constexpr (BITS == 8) {
            codes = _mm512_xor_si512(codes, _mm512_set1_epi8(-128));
            even = _mm512_mulhrs_epi16(_mm512_slli_epi16(codes, 8), factor);
            odd = _mm512_mulhrs_epi16(_mm512_andnot_si512(low_byte, codes), factor);
        } else {
            even = _mm512_mullo_epi16(_mm512_and_si512(codes, low_byte), factor);
            odd = _mm512_mullo_epi16(_mm512_srli_epi16(codes, 8), factor);
        }
        even = _mm512_srli_epi16(_mm512_add_epi16(even, offset), 8);
        return _mm512_or_si512(even, _mm512_andnot_si512(low_byte, _mm512_add_epi16(odd, offset)));
    }
    __m512i factor, offset;
};

// Step and low edge of each group of a span: code · step − low is the weight.
template <class F> struct Steps {
    static constexpr int GROUPS = SPAN / GROUP, TOP = (1 << F::BITS) - 1;
    __m512 step[GROUPS][F::PARTS], low[GROUPS][F::PARTS];

    Steps() = default;
    explicit Steps(const Span<F>& w) {
        repeat<GROUPS * F::PARTS>([&](auto i) INLINE {
            constexpr int g = i / F::PARTS, part = i % F::PARTS;
            step[g][part] = w.scales.scale(w.group + g, part);
            if constexpr (F::Scales::HAS_MINIMUM) low[g][part] = w.scales.minimum(w.group + g);
            else low[g][part] = _mm512_mul_ps(step[g][part], _mm512_set1_ps(F::MIDDLE));
        });
    }
    // What no weight's magnitude exceeds.
    __m512 largest() const {
        __m512 most = _mm512_set1_ps(1e-30f);
        repeat<GROUPS * F::PARTS>([&](auto i) INLINE {
            const __m512 l = low[i / F::PARTS][i % F::PARTS];
            __m512 edge = _mm512_abs_ps(l);
            if constexpr (F::Scales::HAS_MINIMUM)
                edge = _mm512_max_ps(edge, _mm512_abs_ps(_mm512_fmsub_ps(step[i / F::PARTS][i % F::PARTS], _mm512_set1_ps(TOP), l)));
            most = _mm512_max_ps(most, edge);
        });
        return most;
    }
};

// Writes a span of a panel as a byte tile whose scale is `largest` / 127; signed bytes lack the 128.
template <bool SIGNED, class F> void to_bytes(const Span<F>& w, const Steps<F>& steps, __m512 largest, uint8_t* tile) {
    const __m512 inverse = _mm512_div_ps(_mm512_set1_ps(127.0f), largest);
    const __m512i flip = _mm512_set1_epi8(SIGNED ? -128 : 0);
    repeat<SPAN / GROUP>([&](auto g) INLINE {
        __m512i codes[VECTORS];
        unpack<F::BITS>(w.codes + g * F::GROUP_BYTES, codes);
        repeat<F::PARTS>([&](auto part) INLINE {
            const Rescale<F::BITS> rescale(_mm512_mul_ps(steps.step[g][part], inverse), _mm512_mul_ps(steps.low[g][part], inverse));
            repeat<VECTORS / F::PARTS>([&](auto i) INLINE {
                constexpr int j = part * VECTORS / F::PARTS + i;
                _mm512_store_si512(tile + (g * VECTORS + j) * 64, _mm512_xor_si512(rescale(codes[j]), flip));
            });
        });
    });
}

// The same with a scale of its own, which it returns.
template <class F> __m512 to_tile(const Span<F>& w, uint8_t* tile) {
    const Steps<F> steps(w);
    const __m512 largest = steps.largest();
    to_bytes<false>(w, steps, largest, tile);
    return _mm512_mul_ps(largest, _mm512_set1_ps(1 / 127.0f));
}

// WIDE tiles of one span and their scales.
struct Tiles {
    const uint8_t* codes[WIDE];
    float scales[OUTPUTS];
};

// result [R][64] += R rows × tiles.
template <int R>
inline void multiply(const Tiles& w, const Activations& x, int64_t span, int64_t row, float* result) {
    __m512i dot[R][WIDE];
    repeat<R>([&](auto r) INLINE {
        repeat<WIDE>([&](auto p) INLINE { dot[r][p] = _mm512_set1_epi32(*x.sum(span, row + r)); });
    });
    const int8_t* quads = x.code(span, row);
    for (int j = 0; j < SPAN / 4; j++) {
        __m512i v[WIDE];
        repeat<WIDE>([&](auto p) INLINE { v[p] = _mm512_loadu_si512(w.codes[p] + 64 * j); });
        repeat<R>([&](auto r) INLINE {
            const __m512i quad = broadcast4(quads + r * SPAN + 4 * j);
            repeat<WIDE>([&](auto p) INLINE { add_dot(dot[r][p], v[p], quad); });
        });
    }
    repeat<WIDE>([&](auto p) INLINE {
        const __m512 scales = _mm512_loadu_ps(w.scales + p * LANES);
        repeat<R>([&](auto r) INLINE {
            float* to = result + r * OUTPUTS + p * LANES;
            const __m512 scale = _mm512_mul_ps(scales, _mm512_set1_ps(*x.scale(span, row + r)));
            _mm512_store_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r][p]), scale, _mm512_load_ps(to)));
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
        if constexpr (!ON_AMX)
            in_tiles<VECTOR_ROWS>(last - first, [&](int64_t row, auto size) {
                multiply<size()>(w, job.x, span, first + row, result + row * OUTPUTS);
            });
    }
    for (int64_t row = first; row < last; row++)
        for (int p = 0; p < WIDE; p++)
            job.store(row, output + p * LANES, _mm512_load_ps(result + (row - first) * OUTPUTS + p * LANES));
}

// One span of 64 outputs; weights that are byte tiles already are used where they lie.
template <class F> void make_tiles(const Job& job, int64_t column, int64_t span, Tiles& to, uint8_t* memory) {
    for (int p = 0; p < WIDE; p++) {
        const int64_t panel = column * WIDE + p;
        const Span<F> w(job.linear.packed + panel * F::panel_bytes(job.spans * SPAN), span, job.spans);
        __m512 scales;
        if constexpr (std::is_same_v<F, Int8>) {
            to.codes[p] = w.codes;
            scales = w.scales.scale(w.group, 0);
        } else {
            to.codes[p] = memory + p * BYTE_TILE;
            scales = to_tile<F>(w, memory + p * BYTE_TILE);
        }
        _mm512_storeu_ps(to.scales + p * LANES, scales);
    }
}

template <class F, bool ON_AMX> void by_byte_tiles(const Job& job, Scratch& scratch) {
    constexpr int ROWS = ON_AMX ? AMX_ROW_BLOCK : ROW_BLOCK;
#if HAS_AMX
    [[maybe_unused]] std::optional<TileRegisters> registers;
    if constexpr (ON_AMX) registers.emplace();
#endif
    const int64_t columns = ceil_div(job.linear.outputs, OUTPUTS);
    Tiles* tiles = scratch.get<Tiles>(job.spans + ceil_div(job.spans * WIDE * BYTE_TILE, sizeof(Tiles)));
    uint8_t* memory = (uint8_t*)(((uintptr_t)(tiles + job.spans) + 63) / 64 * 64);
    const int64_t chunk = std::max<int64_t>(1, columns / (8 * omp_get_num_threads()));
#pragma omp for schedule(dynamic, chunk)
    for (int64_t column = 0; column < columns; column++) {
        for (int64_t span = 0; span < job.spans; span++)
            make_tiles<F>(job, column, span, tiles[span], memory + span * WIDE * BYTE_TILE);
        for (int64_t row = 0; row < job.rows; row += ROWS)
            row_block<ON_AMX>(job, tiles, column * OUTPUTS, row, std::min(row + ROWS, job.rows));
    }
}
