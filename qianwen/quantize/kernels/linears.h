// y = x · Wᵀ + b with packed weights (formats.h), for any number of rows.
//
//     few_rows.h     a group unpacked into registers for up to 8 rows; memory sets the pace
//     many_rows.h    weights rewritten as byte tiles for all rows, multiplied by VNNI or AMX (amx_bytes.h)
//     dense.h        bfloat16 weights, multiplied in fp32
//     amx_rows.h     tiles of weights and rows in bfloat16 or, for integers, in bytes; arithmetic sets the pace
//
// The first two turn the rows into bytes (activations.h) and sum products of bytes exactly, in integers. A result is
// summed over its inputs in order, in one thread: its bits depend on its own row and on the way taken, never on the rows
// beside it or on the number of threads. `Linear::few` and `some` say where the way changes.
#pragma once

#include "amx_rows.h"
#include "dense.h"
#include "many_rows.h"

void by_panels(const Job& job);  // few_rows.cpp

// Memory of one call: the rows as bytes with their scales or as bfloat16, shared by the team.
static inline int64_t row_bytes(const Linear& linear, int64_t rows) {
    const int64_t padded = ceil_div(rows, TILE) * TILE, spans = ceil_div(linear.inputs, SPAN);
    return padded * spans * std::max<int64_t>(Activations::BYTES_PER_SPAN, SPAN * sizeof(uint16_t));
}

template <class F> void by_bytes(const Job& job, const float* x, Scratch& own) {
    constexpr bool IS_INT8 = std::is_same_v<F, Int8>;
    const bool is_few = job.rows <= job.linear.few, by_panel = is_few && !IS_INT8;
    const int inputs = by_panel ? F::Scales::INPUTS : SPAN, middle = by_panel ? F::MIDDLE : 128;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < job.rows * job.spans; i++)
        quantize_span(x + i / job.spans * job.linear.inputs, job.linear.inputs, inputs, middle, job.x, i % job.spans, i / job.spans);
    if (by_panel) return by_panels(job);
    HAS_AMX && !is_few ? by_byte_tiles<F, HAS_AMX>(job, own) : by_byte_tiles<F, false>(job, own);
}

// Whether so many rows go the way of bfloat16.
static inline bool goes_by_amx(const Linear& linear, int64_t rows) {
    return HAS_AMX && rows > linear.some && (linear.format != DENSE || linear.inputs % STEP == 0);
}

static inline Job job_of(const Linear& linear, const float* x, int64_t rows, Target y, char* memory) {
    const int64_t spans = ceil_div(linear.inputs, SPAN);
    const int64_t padded = rows > linear.few ? ceil_div(rows, TILE) * TILE : rows;
    return {linear, activations(memory, padded, spans), x, rows, spans, y};
}

// For all threads of a team; ends with a barrier.
static inline void apply(const Linear& linear, const float* x, int64_t rows, Target y, char* memory, Scratch& own) {
    const Job job = job_of(linear, x, rows, y, memory);
    with_format(linear.format, [&](auto format) {
        using F = decltype(format);
#if HAS_AMX
        if (goes_by_amx(linear, rows)) {
            Column<F>::take_rows(job, memory);
            return by_amx_tiles<F>(job, memory, own);
        }
#endif
        if constexpr (std::is_same_v<F, Dense>) by_dense_tiles(job);
        else by_bytes<F>(job, x, own);
    });
}

#if HAS_AMX
// y += down(silu(gate(x)) · up(x)), whose middle is never more than bfloat16; `gated` has room for it.
static inline void apply_gated(const Linear& gate_up, const Linear& down, const float* x, int64_t rows, Target y,
                               char* memory, uint8_t* gated, Scratch& own) {
    const Job first = job_of(gate_up, x, rows, {}, memory), second = job_of(down, nullptr, rows, y, memory);
    with_format(gate_up.format, [&](auto format) {
        Column<decltype(format)>::take_rows(first, memory);
        gate_by_amx_tiles<decltype(format)>(first, memory, down.format == DENSE, gated, own);
    });
    with_format(down.format, [&](auto format) {
        using F = decltype(format);
        if constexpr (std::is_same_v<F, Dense>) return by_amx_tiles<F>(second, (char*)gated, own);
        take_gated(second, gated, memory);
        by_amx_tiles<F>(second, memory, own);
    });
}
#endif
