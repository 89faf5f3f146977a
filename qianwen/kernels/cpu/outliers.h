// Rows with an outlier take two rows of bytes: themselves, and what rounding took from them.
//
// In the first token of a text one input may be hundreds of times as large as the others, which under a shared scale are
// rounded away. A feed-forward multiplies its gate by its other half, and late layers subtract the outlier again: what
// was rounded away is then all that is left. A second row of bytes makes fifteen bits of eight, for those rows alone.
//
// The second rows lie behind all first ones; their products are added to those of their owners.
#pragma once

#include "elementwise.h"

struct Outliers {
    static constexpr float SHARE = 0.25f;  // of a row's sum of squares in one input; below it in all but such tokens
    static constexpr int64_t SHORT = 8;    // rows that are looked at sooner than threads have met

    int64_t* count;   // of second rows
    int32_t* second;  // [rows]: which of them belongs to each row; −1: none
    int32_t* owners;  // [count]
    float* rest;      // [count][inputs]

    static int64_t bytes(int64_t rows, int64_t inputs) { return 64 + ceil_div(2 * rows, 16) * 64 + rows * inputs * sizeof(float); }

    static Outliers in(char* memory, int64_t rows) {
        int32_t* second = (int32_t*)(memory + 64);
        return {(int64_t*)memory, second, second + rows, (float*)(memory + 64 + ceil_div(2 * rows, 16) * 64)};
    }

    // Finds them; inputs share a scale in groups of `size`. For all threads of a team.
    void find(const float* x, int64_t rows, int64_t inputs, int64_t size) const {
        const auto look = [&](int64_t row) { second[row] = has_one(x + row * inputs, inputs) ? 0 : -1; };
        const bool is_short = rows <= SHORT;
        if (!is_short) share(rows, look);
        single([&] {
            *count = 0;
            for (int64_t row = 0; row < rows; row++) {
                if (is_short) look(row);
                if (second[row] == 0) owners[second[row] = (*count)++] = row;
            }
        });
        if (*count == 0) return;
        share(*count, [&](int64_t i) { take_rest(x + owners[i] * inputs, inputs, size, rest + i * inputs); });
    }

  private:
    static bool has_one(const float* x, int64_t inputs) {
        Floats peak = zero(), squares = zero();
        by_lanes(inputs, [&](int64_t i, auto lanes) LAMBDA {
            const Floats v = load(x + i, lanes), square = v * v;
            peak = max(peak, square);
            squares = squares + square;
        });
        return largest_of(peak) > SHARE * sum_of(squares);
    }

    // The same arithmetic as where the bytes are made.
    static void take_rest(const float* x, int64_t inputs, int64_t size, float* rest) {
        for (int64_t first = 0; first < inputs; first += size) {
            const int64_t count = std::min(size, inputs - first);
            Floats peak = zero();
            by_lanes(count, [&](int64_t i, auto lanes) LAMBDA { peak = max(peak, absolute(load(x + first + i, lanes))); });
            const float largest = largest_of(peak);
            const Floats inverse = all(largest > 0 ? 127.0f / largest : 0.0f), scale = all(largest / 127.0f);
            by_lanes(count, [&](int64_t i, auto lanes) LAMBDA {
                const Floats v = load(x + first + i, lanes), code = to_floats(to_ints(v * inverse));
                store(rest + first + i, fnma(code, scale, v), lanes);
            });
        }
    }
};
