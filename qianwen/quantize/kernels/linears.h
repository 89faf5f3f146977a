// y = x · Wᵀ + b with packed weights (formats.h), for any number of rows.
//
//     few_rows.h     a group unpacked into registers for up to 8 rows; memory sets the pace
//     many_rows.h    weights rewritten as byte tiles for all rows; arithmetic sets the pace
//     dense.h        bfloat16 weights, multiplied in fp32
//
// The first two turn the rows into bytes (activations.h) and sum products of bytes exactly, in integers. A result is
// summed over its inputs in order, in one thread: its bits depend on its own row and on the way taken, never on the rows
// beside it or on the number of threads. `Linear::few` says where the way changes; Int8 and Dense know only one.
#pragma once

#include "dense.h"
#include "many_rows.h"

void by_panels(const Job& job);  // few_rows.cpp

// Memory of one call: bytes of the rows, shared by the team.
static inline int64_t row_bytes(const Linear& linear, int64_t rows) {
    return rows * ceil_div(linear.inputs, SPAN) * Activations::BYTES_PER_SPAN;
}

// For all threads of a team; ends with a barrier.
static inline void apply(const Linear& linear, const float* x, int64_t rows, Target y, char* memory, Scratch& own) {
    const int64_t spans = ceil_div(linear.inputs, SPAN);
    const Job job{linear, activations(memory, rows, spans), x, rows, spans, y};
    with_format(linear.format, [&](auto format) {
        using F = decltype(format);
        if constexpr (std::is_same_v<F, Dense>) {
            by_dense_tiles(job);
        } else {
            const bool by_panel = !std::is_same_v<F, Int8> && rows <= linear.few;
            const int inputs = by_panel ? F::Scales::INPUTS : SPAN, middle = by_panel ? F::MIDDLE : 128;
#pragma omp for schedule(static)
            for (int64_t i = 0; i < rows * spans; i++)
                quantize_span(x + i / spans * linear.inputs, linear.inputs, inputs, middle, job.x, i % spans, i / spans);
            by_panel ? by_panels(job) : by_tiles<F>(job, own);
        }
    });
}
