// Products of bfloat16 weights with a great many rows on AMX; the rows become bfloat16 too.
//
// Tiles of rows lie [row / 16][step], 16 rows of 32 inputs each; those of weights as dense.h packs them.
#pragma once

#include "amx.h"
#include "many_rows.h"

constexpr int STEP = 32;

#if HAS_AMX

// 64 outputs against the rows [first_row, first_row + rows), over one chunk of inputs. The sums of 32 rows are handed on
// before the next 32 begin: they never leave the first cache, and are neither read again nor added up in tiles.
struct DenseColumn {
    static constexpr int CHUNK_STEPS = 48, CHUNK = CHUNK_STEPS * STEP;

    const Job& job;
    const uint8_t* x;
    int64_t steps, first_row, rows;
    int64_t panels[WIDE];
    float* sums;  // [pair of panels][row / 16][2][16][16]

    DenseColumn(const Job& job, const char* memory, int64_t first_row, int64_t rows, Scratch& scratch)
        : job(job), x((const uint8_t*)memory), steps(job.linear.inputs / STEP), first_row(first_row), rows(rows),
          sums(scratch.get<float>(2 * WIDE * TILE * LANES)) {}

    // The rows as tiles. For all threads of a team.
    static void take_rows(const Job& job, char* memory) {
        const int64_t steps = job.linear.inputs / STEP;
        share(job.rows, [&](int64_t row) LAMBDA {
            const float* x = job.dense + row * job.linear.inputs;
            char* to = memory + (row / TILE * steps * TILE + row % TILE) * 64;
            for (int64_t step = 0; step < steps; step++, x += STEP, to += TILE_BYTES)
                _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + LANES), _mm512_loadu_ps(x)));
        });
    }

    // Calls `take(row)` for every row once its sums over inputs from `first` on are there: `result(row, panel)`.
    template <class Take> void compute(int64_t first, Take take) {
        const int64_t step = first / STEP, count = std::min<int64_t>(CHUNK_STEPS, steps - step);
        in_tiles<2>(ceil_div(rows, TILE), [&](int64_t tile, auto size) {
            const uint8_t* from = x + ((first_row / TILE + tile) * steps + step) * TILE_BYTES;
            for (int pair = 0; pair < WIDE; pair += 2)
                multiply<size()>(from, weights(panels[pair], step), weights(panels[pair + 1], step), count,
                                 sums + pair * 2 * TILE * LANES);
            for (int64_t row = tile * TILE; row < std::min<int64_t>((tile + size()) * TILE, rows); row++) take(row);
        });
    }
    __m512 result(int64_t row, int panel) const {
        return _mm512_load_ps(sums + ((panel / 2 * 2 + row / TILE % 2) * 2 * TILE + panel % 2 * TILE + row % TILE) * LANES);
    }

  private:
    const uint8_t* weights(int64_t panel, int64_t step) const {
        return job.linear.packed + (panel * steps + step) * TILE_BYTES;
    }

    // to [R][2][16][16] = R · 16 rows × 32 outputs.
    template <int R>
    void multiply(const uint8_t* x, const uint8_t* left, const uint8_t* right, int64_t count, float* to) const {
        _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
        for (int64_t at = 0; at < count * TILE_BYTES; at += TILE_BYTES) {
            _tile_loadd(4, x + at, 64);
            _tile_loadd(6, left + at, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, right + at, 64);
            _tile_dpbf16ps(1, 4, 7);
            if constexpr (R == 2) {
                _tile_loadd(5, x + steps * TILE_BYTES + at, 64);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
        _tile_stored(0, to, 64); _tile_stored(1, to + 256, 64);
        if constexpr (R == 2) {
            _tile_stored(2, to + 512, 64); _tile_stored(3, to + 768, 64);
        }
    }
};

#endif
