// A great many rows on AMX: they meet 64 outputs at a time in tiles; arithmetic sets the pace.
//
//     for each block of some 512 rows, each chunk of 1536 inputs (together they fit the second cache):
//         for each 64 outputs: the products of amx_dense.h or, for integer weights, of amx_wide.h
//
// Sums are kept in fp32, in this order whatever the number of rows, so a row's bits depend on that row alone.
#pragma once

#include <type_traits>

#include "amx_dense.h"
#include "amx_wide.h"
#include "elementwise.h"

constexpr int AMX_ROWS = 576;  // of a block at most

#if HAS_AMX

template <class F> struct ColumnOf { using type = WideColumn<F>; };
template <> struct ColumnOf<Dense> { using type = DenseColumn; };
template <class F> using Column = typename ColumnOf<F>::type;

// Blocks of whole tiles and alike, so that a row too many makes no block of its own.
static inline int64_t block_rows(int64_t rows) {
    return ceil_div(ceil_div(rows, ceil_div(rows, AMX_ROWS)), TILE) * TILE;
}

// `memory` holds the rows as the column takes them. For all threads of a team.
template <class F> void by_amx_tiles(const Job& job, char* memory, Scratch& scratch) {
    const TileRegisters registers;
    const int64_t last = job.linear.outputs - 1, columns = last / (4 * LANES) + 1;
    const int64_t most = block_rows(job.rows);
    for (int64_t first_row = 0; first_row < job.rows; first_row += most) {
        const int64_t rows = std::min(most, job.rows - first_row);
        for (int64_t first = 0; first < job.linear.inputs; first += Column<F>::CHUNK) {
            share_dynamically(columns, eighths(columns), [&](int64_t i) LAMBDA {
                Column<F> column(job, memory, first_row, rows, scratch);
                for (int p = 0; p < 4; p++) column.panels[p] = std::min<int64_t>(4 * i + p, last / LANES);
                if constexpr (!std::is_same_v<F, Dense>) column.stride = 4;
                column.compute(first, [&](int64_t row) LAMBDA {
                    for (int p = 0; p < 4; p++)
                        job.take_part(first_row + row, (4 * i + p) * LANES, column.result(row, p), first == 0);
                });
            });
        }
    }
}

// silu(gate) · up of a stack of both, in bfloat16, for the linear after it: as its tiles, or row by row for one that
// makes bytes of them. Inputs of one chunk, and no bias. `halves` keeps the sums of rows with outliers until those of their
// second rows come.
template <class F> void gate_by_amx_tiles(const Job& job, char* memory, bool as_tiles, uint8_t* gated, float* halves, Scratch& scratch) {
    const TileRegisters registers;
    const int64_t columns = job.linear.outputs / 2 / STEP;
    const int64_t most = block_rows(job.rows);
    for (int64_t first_row = 0; first_row < job.rows; first_row += most) {
        const int64_t rows = std::min(most, job.rows - first_row);
        share_dynamically(columns, eighths(columns), [&](int64_t i) LAMBDA {
            Column<F> column(job, memory, first_row, rows, scratch);
            for (int p = 0; p < 4; p++) column.panels[p] = 2 * i + p % 2 + p / 2 * 2 * columns;
            if constexpr (!std::is_same_v<F, Dense>) column.stride = 2;
            column.compute(0, [&](int64_t row) LAMBDA {
                const int64_t at = job.owner(first_row + row), second = job.second(at);
                __m512 sums[4];
                repeat<4>([&](auto p) LAMBDA { sums[p] = column.result(row, p); });
                if (second >= 0) {
                    float* half = halves + (second * columns + i) * 4 * LANES;
                    repeat<4>([&](auto p) LAMBDA {
                        if (first_row + row == at) _mm512_storeu_ps(half + p * LANES, sums[p]);
                        else sums[p] = _mm512_add_ps(sums[p], _mm512_loadu_ps(half + p * LANES));
                    });
                }
                const __m512 low = gate(sums[0], sums[2]), high = gate(sums[1], sums[3]);
                const int64_t place = as_tiles ? (at / TILE * columns + i) * TILE + at % TILE : at * columns + i;
                _mm512_store_si512(gated + place * 64, (__m512i)_mm512_cvtne2ps_pbh(high, low));
            });
        });
    }
}

// For all threads of a team.
static inline void take_gated(const Job& job, const uint8_t* gated, char* memory) {
    const WideRows rows(job, memory);
    share(job.rows, [&](int64_t row) LAMBDA {
        rows.take((const uint16_t*)gated + row * job.linear.inputs, job.linear.inputs, row);
    });
}

#endif
