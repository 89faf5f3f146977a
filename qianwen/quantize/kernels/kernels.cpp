// The kernels as C functions, each one team of threads. `__init__.py` says what they compute and calls them.
#include "attention.h"
#include "linears.h"

namespace {
thread_local Scratch shared_memory, own_memory;
}

#pragma GCC visibility push(default)
extern "C" {

void qw_linear(const Linear* linear, const float* x, int64_t rows, float* y, int64_t few) {
    char* memory = shared_memory.get<char>(row_bytes(*linear, rows));
#pragma omp parallel
    apply(*linear, x, rows, y, few, memory, own_memory);
}

void qw_rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t size, float* residual, float* out) {
#pragma omp parallel if (rows > 1)
    rms_norm(x, weight, eps, rows, size, residual, out);
}

void qw_silu_mul(const float* gate_up, int64_t rows, int64_t size, float* out) {
#pragma omp parallel if (rows > 1)
    silu_mul(gate_up, rows, size, out);
}

void qw_rope(float* q, int64_t q_stride, int64_t heads, float* k, int64_t k_stride, int64_t kv_heads, int64_t tokens,
             int64_t dim, const float* cos, const float* sin) {
#pragma omp parallel for if (tokens > 4)
    for (int64_t t = 0; t < tokens; t++) {
        rotate(q + t * q_stride, heads, dim, cos + t * dim / 2, sin + t * dim / 2);
        rotate(k + t * k_stride, kv_heads, dim, cos + t * dim / 2, sin + t * dim / 2);
    }
}

void qw_paged_attention(const Cache* cache, const Queries* queries) {
    const std::vector<Piece> work = pieces(*cache, queries->heads / cache->kv_heads);
#pragma omp parallel
    attention(*cache, *queries, work, own_memory);
}
}
#pragma GCC visibility pop
