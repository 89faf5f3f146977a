// Activations as signed bytes: 128 of a row share a scale, its largest magnitude / 127.
//
// They are stored span by span, then row by row, so that a tile of rows is contiguous. Beside each row of a span are the
// sums of its groups, because unsigned weight codes carry an offset: Σ (code − middle)·a = Σ code·a − middle·Σ a.
// A row's bytes depend on that row alone.
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
    constexpr int VECTORS = SPAN / LANES, SIXTEEN = 16 / LANES;
    Floats v[VECTORS], peak = zero();
    const int64_t left = inputs - span * SPAN;
    repeat<VECTORS>([&](auto i) LAMBDA {
        const float* from = x + span * SPAN + LANES * i;
        v[i] = left >= SPAN ? load(from) : load(from, first_lanes(left - LANES * i));
        peak = max(peak, absolute(v[i]));
    });
    const float largest = largest_of(peak);
    const Floats inverse = all(largest > 0 ? 127.0f / largest : 0.0f);
    const int64_t at = span * to.rows + row;
    to.scales[at] = largest / 127.0f;
    int32_t sums[8] = {};
    repeat<8>([&](auto i) LAMBDA {
        Ints sum = no_ints();
        repeat<SIXTEEN>([&](auto k) LAMBDA {
            const Ints codes = to_ints(v[i * SIXTEEN + k] * inverse);
            store_as_bytes(to.codes + at * SPAN + i * 16 + k * LANES, codes);
            sum = add_ints(sum, codes);
        });
        sums[i * 16 / size] += sum_of_ints(sum);
    });
    for (int i = 0; i < SPAN / size; i++) {
        if (middle) to.sums[at * 8 + i] = -middle * sums[i];
        else ((float*)to.sums)[at * 8 + i] = (float)-sums[i];
    }
}
