// A packed linear and one call of it, shared by the ways of computing it.
#pragma once

#include "activations.h"
#include "outliers.h"

struct Linear {
    const uint8_t* packed;
    const float* bias;  // or null
    int64_t inputs, outputs, format;
    int64_t few, some;  // up to so many rows go the way of few rows, up to so many that of bytes
    int64_t splits_outliers;  // whether rows with one take two, where rows become bytes
};

// Where results go: rows `stride` apart, written or added to what is there.
struct Target {
    float* data;
    int64_t stride;
    bool adds;
};

// One call: `x` holds the rows as bytes, or `dense` as they are for weights that are no integers. Behind `own` rows come
// the second ones of those with outliers.
struct Job {
    const Linear& linear;
    Activations x;
    const float* dense;  // [own][inputs]
    int64_t rows, own, spans;
    Target y;
    Outliers outliers;

    const float* row(int64_t i) const { return i < own ? dense + i * linear.inputs : outliers.rest + (i - own) * linear.inputs; }
    int64_t owner(int64_t i) const { return i < own ? i : outliers.owners[i - own]; }
    // The second row of one, counted from the first of them; −1 if it has none.
    int64_t second(int64_t i) const { return rows > own ? outliers.second[i] : -1; }

    void take(int64_t row, int64_t output, Floats value) const { take_part(row, output, value, true); }

    // The results come in parts, which are added up where they go; the first brings the bias.
    void take_part(int64_t row, int64_t output, Floats value, bool is_first) const {
        float* to = y.data + owner(row) * y.stride + output;
        if (row >= own) is_first = false;
        const auto put = [&](auto lanes) LAMBDA {
            if (is_first && linear.bias) value = value + load(linear.bias + output, lanes);
            if (!is_first || y.adds) value = value + load(to, lanes);
            store(to, value, lanes);
        };
        if (output + LANES <= linear.outputs) put(AllLanes{});
        else if (output < linear.outputs) put(first_lanes(linear.outputs - output));
    }
};
