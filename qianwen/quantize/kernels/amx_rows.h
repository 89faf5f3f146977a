// A great many rows on AMX: weights and rows become bfloat16 and meet in tiles of 32 × 32 results; arithmetic sets the
// pace, at several times what bytes give, whose scales would have to be applied every 128 inputs.
//
//     for each block of 512 rows, each chunk of 1536 inputs (its rows stay in the second cache):
//         for each 64 outputs: unpack their weights once (they stay there too)
//             for each 32 rows: 48 × 8 products of tiles, and their results go where they belong
//
// Sums are kept in fp32, in this order whatever the number of rows, so a row's bits depend on that row alone.
#pragma once

#include "amx.h"
#include "elementwise.h"
#include "linear.h"

constexpr int STEP = 32, CHUNK_STEPS = 48, AMX_ROWS = 512;

#if HAS_AMX

static inline __m512i round_to_pairs(__m512 even, __m512 odd) {
    const __m512i half = _mm512_set1_epi32(0x8000);
    const __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(even), half), 16);
    return _mm512_mask_mov_epi16(low, 0xAAAAAAAA, _mm512_add_epi32(_mm512_castps_si512(odd), half));
}

// A span of a panel as four tiles, one a group.
template <class F> void to_bfloat16(const Span<F>& w, uint8_t* tiles) {
    const __m512i byte = _mm512_set1_epi32(0xFF);
    repeat<SPAN / GROUP>([&](auto g) INLINE {
        __m512i codes[VECTORS];
        unpack<F::BITS>(w.codes + g * F::GROUP_BYTES, codes);
        repeat<F::PARTS>([&](auto part) INLINE {
            const __m512 scale = w.scales.scale(w.group + g, part);
            __m512 low;
            if constexpr (F::Scales::HAS_MINIMUM) low = w.scales.minimum(w.group + g);
            else low = _mm512_mul_ps(scale, _mm512_set1_ps(F::MIDDLE));
            repeat<VECTORS / F::PARTS>([&](auto i) INLINE {
                constexpr int j = part * VECTORS / F::PARTS + i;
                __m512 v[4];
                repeat<4>([&](auto k) INLINE {
                    const __m512i code = _mm512_and_si512(_mm512_srli_epi32(codes[j], 8 * k), byte);
                    v[k] = _mm512_fmsub_ps(_mm512_cvtepi32_ps(code), scale, low);
                });
                uint8_t* to = tiles + g * TILE_BYTES + j * 128;
                _mm512_store_si512(to, round_to_pairs(v[0], v[1]));
                _mm512_store_si512(to + 64, round_to_pairs(v[2], v[3]));
            });
        });
    });
}

// Rows as tiles [row / 16][step], 16 rows of 32 inputs each.
static inline int64_t steps_of(const Linear& linear) { return ceil_div(linear.inputs, STEP); }

static inline void round_row(const Job& job, int64_t row, uint8_t* tiles) {
    const int64_t steps = steps_of(job.linear), inputs = job.linear.inputs;
    const float* x = job.dense + row * inputs;
    uint8_t* to = tiles + row / TILE * steps * TILE_BYTES + row % TILE * 64;
    for (int64_t step = 0; step < steps; step++, to += TILE_BYTES) {
        const int64_t left = inputs - step * STEP;
        const __m512 low = _mm512_maskz_loadu_ps(first_lanes(left), x + step * STEP);
        const __m512 high = _mm512_maskz_loadu_ps(first_lanes(left - LANES), x + step * STEP + LANES);
        _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
}

// For all threads of a team.
static inline void round_rows(const Job& job, uint8_t* tiles) {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < job.rows; row++) round_row(job, row, tiles);
}

// The tiles of 16 outputs: for a chunk of inputs, unpacked into `memory` unless they lie so already.
template <class F> const uint8_t* weight_tiles(const Job& job, int64_t panel, int64_t first, int64_t steps, uint8_t* memory) {
    if constexpr (std::is_same_v<F, Dense>) {
        return job.linear.packed + (panel * steps_of(job.linear) + first) * TILE_BYTES;
    } else {
        const uint8_t* from = job.linear.packed + panel * F::panel_bytes(job.spans * SPAN);
        for (int64_t step = 0; step < steps; step += SPAN / STEP)
            to_bfloat16<F>(Span<F>(from, (first + step) / (SPAN / STEP), job.spans), memory + step * TILE_BYTES);
        return memory;
    }
}

// sums [R][2][16][16] = R · 16 rows × 32 outputs over `steps` tiles; a row tile is followed by the next `stride` later.
template <int R>
inline void multiply_tiles(const uint8_t* x, int64_t stride, const uint8_t* const (&w)[2], int64_t steps, float* sums) {
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    for (int64_t at = 0; at < steps * TILE_BYTES; at += TILE_BYTES) {
        _tile_loadd(4, x + at, 64);
        _tile_loadd(6, w[0] + at, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, w[1] + at, 64);
        _tile_dpbf16ps(1, 4, 7);
        if constexpr (R == 2) {
            _tile_loadd(5, x + stride + at, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums, 64); _tile_stored(1, sums + 256, 64);
    if constexpr (R == 2) {
        _tile_stored(2, sums + 512, 64); _tile_stored(3, sums + 768, 64);
    }
}

// 4 panels against the rows [first_row, first_row + rows), over one chunk of inputs. The sums of 32 rows are handed on
// before the next 32 begin: they never leave the first cache, and are neither read again nor added up in tiles.
template <class F> struct Column {
    static constexpr int PANELS = 4, PAIRS = 2;

    const Job& job;
    const uint8_t* x;
    int64_t panels[PANELS], first_row, rows;
    uint8_t* weights;
    float* sums;  // [pair][row / 16][2][16][16]

    Column(const Job& job, const uint8_t* x, int64_t first_row, Scratch& scratch)
        : job(job), x(x), first_row(first_row), rows(std::min<int64_t>(AMX_ROWS, job.rows - first_row)),
          weights(scratch.get<uint8_t>((PANELS * CHUNK_STEPS + 2 * PANELS) * TILE_BYTES)),
          sums((float*)(weights + PANELS * CHUNK_STEPS * TILE_BYTES)) {}

    // Calls `take(row)` for every row once its sums are there: `result(row, panel)`.
    template <class Take> void compute(int64_t first, Take take) {
        const int64_t steps = steps_of(job.linear), count = std::min<int64_t>(CHUNK_STEPS, steps - first);
        const uint8_t* from = x + (first_row / TILE * steps + first) * TILE_BYTES;
        const uint8_t* w[PANELS];
        for (int i = 0; i < PANELS; i++)
            w[i] = weight_tiles<F>(job, panels[i], first, count, weights + i * CHUNK_STEPS * TILE_BYTES);
        in_tiles<2>(ceil_div(rows, TILE), [&](int64_t tile, auto size) {
            for (int pair = 0; pair < PAIRS; pair++)
                multiply_tiles<size()>(from + tile * steps * TILE_BYTES, steps * TILE_BYTES, {w[2 * pair], w[2 * pair + 1]},
                                       count, sums + pair * 4 * TILE * LANES);
            for (int64_t row = tile * TILE; row < std::min<int64_t>((tile + size()) * TILE, rows); row++) take(row);
        });
    }
    __m512 result(int64_t row, int panel) const {
        return _mm512_load_ps(sums + ((panel / 2 * 2 + row / TILE % 2) * 2 * TILE + panel % 2 * TILE + row % TILE) * LANES);
    }
};

static inline int64_t share(int64_t count) { return std::max<int64_t>(1, count / (8 * omp_get_num_threads())); }

// `x`: the rows as tiles. For all threads of a team.
template <class F> void by_amx_tiles(const Job& job, const uint8_t* x, Scratch& scratch) {
    const TileRegisters registers;
    const int64_t last = job.linear.outputs - 1, columns = last / (4 * LANES) + 1;
    for (int64_t first_row = 0; first_row < job.rows; first_row += AMX_ROWS)
        for (int64_t first = 0; first < steps_of(job.linear); first += CHUNK_STEPS) {
#pragma omp for schedule(dynamic, share(columns))
            for (int64_t i = 0; i < columns; i++) {
                Column<F> column(job, x, first_row, scratch);
                for (int p = 0; p < 4; p++) column.panels[p] = 4 * i + p;
                column.compute(first, [&](int64_t row) INLINE {
                    for (int p = 0; p < 4; p++)
                        job.store_part(first_row + row, (4 * i + p) * LANES, column.result(row, p), first == 0);
                });
            }
        }
}

// silu(gate) · up of a stack of both, as the tiles that the next linear reads; inputs of one chunk, and no bias.
template <class F> void gate_by_amx_tiles(const Job& job, const uint8_t* x, uint8_t* gated, Scratch& scratch) {
    const TileRegisters registers;
    const int64_t columns = job.linear.outputs / 2 / STEP;
    for (int64_t first_row = 0; first_row < job.rows; first_row += AMX_ROWS) {
#pragma omp for schedule(dynamic, share(columns))
        for (int64_t i = 0; i < columns; i++) {
            Column<F> column(job, x, first_row, scratch);
            for (int p = 0; p < 4; p++) column.panels[p] = 2 * i + p % 2 + p / 2 * 2 * columns;
            column.compute(0, [&](int64_t row) INLINE {
                const __m512 low = gate(column.result(row, 0), column.result(row, 2));
                const __m512 high = gate(column.result(row, 1), column.result(row, 3));
                uint8_t* to = gated + (((first_row + row) / TILE * columns + i) * TILE + row % TILE) * 64;
                _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(high, low));
            });
        }
    }
}

#endif
