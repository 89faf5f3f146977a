// The kernels of few_rows.h, compiled beside the others because there are many of them.
#include "few_rows.h"

void by_panels(const Job& job) {
    with_format(job.linear.format, [&](auto format) {
        using F = decltype(format);
        if constexpr (!std::is_same_v<F, Int8> && !std::is_same_v<F, Dense>) by_panels<F>(job);
    });
}
