// Few rows: a group of weights is unpacked into registers once for up to FEW_ROWS rows.
//
// The integers of a group leave for fp32 at once, because its scale is its own; those of a span are then scaled by what
// the row's activations share. Memory sets the pace up to some eight rows.
#pragma once

#include "linear.h"

template <class F, int R>
INLINE void add_group(const Span<F>& w, int g, const Job& job, int64_t span, int64_t row, Floats (&sum)[R]) {
    Bytes codes[LINES];
    unpack<F::BITS>(w.codes + g * F::GROUP_BYTES, w.part, codes);
    const int8_t* x = job.x.code(span, row) + GROUP * g;
    repeat<F::SUBGROUPS>([&](auto sub) LAMBDA {
        constexpr int COUNT = LINES / F::SUBGROUPS;
        Dot<F::BITS> dot[R];
        repeat<R>([&](auto r) LAMBDA {
            const int32_t* offset = job.x.sum(span, row + r) + g * F::SUBGROUPS + sub;
            dot[r].sum = F::OFFSET ? all_ints(*offset) : no_ints();
        });
        repeat<COUNT>([&](auto i) LAMBDA {
            constexpr int j = sub * COUNT + i;
            repeat<R>([&](auto r) LAMBDA { dot[r].template add<i, COUNT>(codes[j], x + r * SPAN + 4 * j); });
        });
        const Floats scale = w.scales.scale(w.group + g, sub);
        repeat<R>([&](auto r) LAMBDA { sum[r] = fma(to_floats(dot[r].sum), scale, sum[r]); });
    });
    if constexpr (F::Scales::HAS_MINIMUM) {
        const Floats minimum = w.scales.minimum(w.group + g);
        repeat<R>([&](auto r) LAMBDA {
            const float* minus = (const float*)job.x.sum(span, row + r) + g;
            sum[r] = fma(minimum, all(*minus), sum[r]);
        });
    }
}

// The results of R rows for one panel. Its parts take turns span by span, not panel by panel: a second pass would find
// its codes in the cache, and the memory would wait for it.
template <class F, int R> void few_rows(const Job& job, const uint8_t* panel, int64_t output, int64_t row) {
    Floats total[PARTS_OF_PANEL][R];
    repeat<PARTS_OF_PANEL>([&](auto part) LAMBDA { repeat<R>([&](auto r) LAMBDA { total[part][r] = zero(); }); });
    for (int64_t span = 0; span < job.spans; span++)
        repeat<PARTS_OF_PANEL>([&](auto part) LAMBDA {
            const Span<F> w(panel, span, job.spans, part);
            Floats sum[R];
            repeat<R>([&](auto r) LAMBDA { sum[r] = zero(); });
            for (int g = 0; g < SPAN / GROUP; g++) {
                if (part == 0)
                    for (int line = 0; line < F::GROUP_BYTES; line += 64)
                        prefetch(w.codes + g * F::GROUP_BYTES + line + 2048);
                add_group<F, R>(w, g, job, span, row, sum);
            }
            repeat<R>([&](auto r) LAMBDA { total[part][r] = fma(sum[r], all(*job.x.scale(span, row + r)), total[part][r]); });
        });
    repeat<PARTS_OF_PANEL>([&](auto part) LAMBDA {
        repeat<R>([&](auto r) LAMBDA { job.take(row + r, output + part * LANES, total[part][r]); });
    });
}

template <class F> void by_panels(const Job& job) {
    const int64_t panels = ceil_div(job.linear.outputs, PANEL), stride = F::panel_bytes(job.spans * SPAN);
    share_dynamically(panels, eighths(panels), [&](int64_t panel) LAMBDA {
        in_tiles<FEW_ROWS>(job.rows, [&](int64_t row, auto size) {
            few_rows<F, size()>(job, job.linear.packed + panel * stride, panel * PANEL, row);
        });
    });
}
