// y = x · Wᵀ + b with packed weights (formats.h), for any number of rows.
//
//     few_rows.h     a group unpacked into registers for up to 8 rows; memory sets the pace
//     many_rows.h    weights rewritten as byte tiles for all rows, multiplied by vectors or AMX (amx_bytes.h)
//     code_tiles.h   the same with the codes as they are, where vectors sum products of bytes in 16 bits
//     dense.h        bfloat16 weights, multiplied in fp32, or for many rows as bfloat16
//     amx_rows.h     tiles of weights and rows in bfloat16 or, for integers, in bytes; arithmetic sets the pace
//
// The first two turn the rows into bytes (activations.h) and sum products of bytes exactly, in integers. A result is
// summed over its inputs in order, in one thread: its bits depend on its own row and on the way taken, never on the rows
// beside it or on the number of threads. `Linear::few` and `some` say where the way changes.
#pragma once

#include "amx_rows.h"
#include "code_tiles.h"
#include "dense.h"
#include "many_rows.h"

void by_panels(const Job& job);  // few_rows.cpp

// Memory of one call, shared by the team: the rows as bytes with their scales or as bfloat16, then their outliers.
static inline int64_t taken_bytes(const Linear& linear, int64_t rows) {
    const int64_t padded = ceil_div(linear.splits_outliers ? 2 * rows : rows, TILE) * TILE;
    return padded * ceil_div(linear.inputs, SPAN) * std::max<int64_t>(Activations::BYTES_PER_SPAN, SPAN * sizeof(uint16_t));
}
static inline int64_t row_bytes(const Linear& linear, int64_t rows) {
    return taken_bytes(linear, rows) + (linear.splits_outliers ? Outliers::bytes(rows, linear.inputs) : 0);
}

template <class F> void by_bytes(const Job& job, Scratch& own) {
    constexpr bool IS_INT8 = std::is_same_v<F, Int8>;
    constexpr bool BY_CODES = SUMS_BY_SHORTS && F::BITS < 8;
    const bool is_few = job.own <= job.linear.few, by_panel = is_few && !IS_INT8, by_group = by_panel || BY_CODES;
    const int inputs = by_group ? F::Scales::INPUTS : SPAN, middle = by_group ? F::MIDDLE : 128;
    share(job.rows * job.spans, [&](int64_t i) LAMBDA {
        quantize_span(job.row(i / job.spans), job.linear.inputs, inputs, middle, job.x, i % job.spans, i / job.spans);
    });
    if (by_panel) return by_panels(job);
#if SUMS_BY_SHORTS
    if constexpr (BY_CODES) return by_code_tiles<F>(job, own);
#endif
    if constexpr (!BY_CODES) HAS_AMX && !is_few ? by_byte_tiles<F, HAS_AMX>(job, own) : by_byte_tiles<F, false>(job, own);
}

static inline void by_floats(const Job& job, [[maybe_unused]] char* memory) {
#if HAS_BFLOAT16_PRODUCTS
    if (job.own > job.linear.few) return by_pair_tiles(job, (uint32_t*)memory);
#endif
    by_dense_tiles(job);
}

// Whether so many rows go the way of tiles.
static inline bool goes_by_amx(const Linear& linear, int64_t rows) {
    return HAS_AMX && rows > linear.some && (linear.format != DENSE || linear.inputs % STEP == 0);
}

// For all threads of a team.
static inline Job job_of(const Linear& linear, const float* x, int64_t rows, Target y, char* memory) {
    const int64_t spans = ceil_div(linear.inputs, SPAN);
    const Outliers outliers = Outliers::in(memory + taken_bytes(linear, rows), rows);
    int64_t all = rows;
    if (linear.splits_outliers && linear.format != DENSE) {
        outliers.find(x, rows, linear.inputs, goes_by_amx(linear, rows) ? REACH : SPAN);
        all += *outliers.count;
    }
    const int64_t padded = rows > linear.few ? ceil_div(all, TILE) * TILE : all;
    return {linear, activations(memory, padded, spans), x, all, rows, spans, y, outliers};
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
        if constexpr (std::is_same_v<F, Dense>) by_floats(job, memory);
        else by_bytes<F>(job, own);
    });
}

#if HAS_AMX
// y += down(silu(gate(x)) · up(x)), whose middle is never more than bfloat16; `gated` has room for five times as much.
static inline void apply_gated(const Linear& gate_up, const Linear& down, const float* x, int64_t rows, Target y,
                               char* memory, uint8_t* gated, Scratch& own) {
    const Job first = job_of(gate_up, x, rows, {}, memory), second = job_of(down, nullptr, rows, y, memory);
    with_format(gate_up.format, [&](auto format) {
        Column<decltype(format)>::take_rows(first, memory);
        float* halves = (float*)(gated + ceil_div(rows, TILE) * TILE * down.inputs * sizeof(uint16_t));
        gate_by_amx_tiles<decltype(format)>(first, memory, down.format == DENSE, gated, halves, own);
    });
    with_format(down.format, [&](auto format) {
        using F = decltype(format);
        if constexpr (std::is_same_v<F, Dense>) return by_amx_tiles<F>(second, (char*)gated, own);
        take_gated(second, gated, memory);
        by_amx_tiles<F>(second, memory, own);
    });
}
#endif
