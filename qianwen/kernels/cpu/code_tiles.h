// Many rows, where products of bytes are summed in 16 bits (vectors/dot_by_shorts.h): weights of few bits keep their codes.
//
// Rewriting them with wider scales, as many_rows.h does, would make eight bits of them, which leave no room for sums of
// more than two. So 64 outputs are unpacked once, a span at a time, and meet all rows group by group with the scales they
// have. The arithmetic is that of few_rows.h in the same order, and so are all bits of the result.
#pragma once

#include "linear.h"

#if SUMS_BY_SHORTS

constexpr int CODE_PANELS = 4, CODE_OUTPUTS = CODE_PANELS * PANEL, CODE_BLOCK = 48;

// One span of CODE_PANELS panels.
template <class F> struct CodeTile {
    static constexpr int GROUPS = SPAN / GROUP;
    uint8_t codes[GROUPS * LINES][CODE_PANELS * LINE_BYTES];
    float scales[GROUPS * F::SUBGROUPS][CODE_OUTPUTS];
    float minima[F::Scales::HAS_MINIMUM ? GROUPS : 0][CODE_OUTPUTS];

    void fill(const Job& job, int64_t column, int64_t span) {
        const int64_t stride = F::panel_bytes(job.spans * SPAN);
        for (int v = 0; v < CODE_OUTPUTS / LANES; v++) {
            const Span<F> w(job.linear.packed + (column * CODE_PANELS + v / PARTS_OF_PANEL) * stride, span, job.spans, v % PARTS_OF_PANEL);
            for (int g = 0; g < GROUPS; g++) {
                Bytes unpacked[LINES];
                unpack<F::BITS>(w.codes + g * F::GROUP_BYTES, w.part, unpacked);
                repeat<LINES>([&](auto j) LAMBDA { store_codes(codes[g * LINES + j] + v * VECTOR_BYTES, unpacked[j]); });
                repeat<F::SUBGROUPS>([&](auto sub) LAMBDA {
                    store(scales[g * F::SUBGROUPS + sub] + v * LANES, w.scales.scale(w.group + g, sub));
                });
                if constexpr (F::Scales::HAS_MINIMUM) store(minima[g] + v * LANES, w.scales.minimum(w.group + g));
            }
        }
    }
};

// result [R][64] += R rows × V vectors of outputs from the `first` on.
template <class F, int R, int V>
INLINE void multiply_codes(const CodeTile<F>& w, int first, const Activations& x, int64_t span, int64_t row, float* result) {
    constexpr int COUNT = LINES / F::SUBGROUPS;
    Floats sum[R][V];
    repeat<R>([&](auto r) LAMBDA { repeat<V>([&](auto p) LAMBDA { sum[r][p] = zero(); }); });
    const int8_t* quads = x.code(span, row);
    for (int g = 0; g < SPAN / GROUP; g++)
        repeat<F::SUBGROUPS>([&](auto sub) LAMBDA {
            const int at = g * F::SUBGROUPS + sub;
            Dot<F::BITS> dot[R][V];
            repeat<R>([&](auto r) LAMBDA {
                const Ints offset = F::OFFSET ? all_ints(x.sum(span, row + r)[at]) : no_ints();
                repeat<V>([&](auto p) LAMBDA { dot[r][p].sum = offset; });
            });
            repeat<COUNT>([&](auto i) LAMBDA {
                const int line = g * LINES + sub * COUNT + i;
                Bytes v[V];
                repeat<V>([&](auto p) LAMBDA { v[p] = load_codes(w.codes[line] + (first + p) * VECTOR_BYTES); });
                repeat<R>([&](auto r) LAMBDA {
                    repeat<V>([&](auto p) LAMBDA { dot[r][p].template add<i, COUNT>(v[p], quads + r * SPAN + 4 * line); });
                });
            });
            repeat<V>([&](auto p) LAMBDA {
                const Floats scale = load(w.scales[at] + (first + p) * LANES);
                repeat<R>([&](auto r) LAMBDA { sum[r][p] = fma(to_floats(dot[r][p].sum), scale, sum[r][p]); });
                if constexpr (F::Scales::HAS_MINIMUM) {
                    const Floats minimum = load(w.minima[g] + (first + p) * LANES);
                    repeat<R>([&](auto r) LAMBDA {
                        sum[r][p] = fma(minimum, all(((const float*)x.sum(span, row + r))[g]), sum[r][p]);
                    });
                }
            });
        });
    repeat<R>([&](auto r) LAMBDA {
        const Floats own = all(*x.scale(span, row + r));
        repeat<V>([&](auto p) LAMBDA {
            float* to = result + r * CODE_OUTPUTS + (first + p) * LANES;
            store(to, fma(sum[r][p], own, load(to)));
        });
    });
}

template <class F> void by_code_tiles(const Job& job, Scratch& scratch) {
    const int64_t columns = ceil_div(job.linear.outputs, CODE_OUTPUTS);
    CodeTile<F>* tiles = scratch.get<CodeTile<F>>(job.spans);
    share_dynamically(columns, eighths(columns), [&](int64_t column) LAMBDA {
        for (int64_t span = 0; span < job.spans; span++) tiles[span].fill(job, column, span);
        for (int64_t first = 0; first < job.rows; first += CODE_BLOCK) {
            const int64_t rows = std::min<int64_t>(CODE_BLOCK, job.rows - first);
            float result[CODE_BLOCK * CODE_OUTPUTS];
            std::memset(result, 0, rows * CODE_OUTPUTS * sizeof(float));
            for (int64_t span = 0; span < job.spans; span++)
                for (int v = 0; v < CODE_OUTPUTS / LANES; v += CODE_VECTORS)
                    in_tiles<CODE_ROWS>(rows, [&](int64_t row, auto size) {
                        multiply_codes<F, size(), CODE_VECTORS>(tiles[span], v, job.x, span, first + row, result + row * CODE_OUTPUTS);
                    });
            for (int64_t row = 0; row < rows; row++)
                for (int v = 0; v < CODE_OUTPUTS / LANES; v++)
                    job.take(first + row, column * CODE_OUTPUTS + v * LANES, load(result + row * CODE_OUTPUTS + v * LANES));
        }
    });
}

#endif
