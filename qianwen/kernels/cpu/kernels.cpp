// The kernels as C functions, each one team of threads. `__init__.py` says what they compute and calls them.
#include "documents.h"
#include "grid.h"
#include "layer.h"
#include "softmax.h"

namespace {
thread_local Scratch shared_memory, own_memory;
}

#pragma GCC visibility push(default)
extern "C" {

void qw_linear(const Linear* linear, const float* x, int64_t rows, float* y) {
    char* memory = shared_memory.get<char>(row_bytes(*linear, rows));
    in_team([&] { apply(*linear, x, rows, {y, linear->outputs, false}, memory, own_memory); });
}

void qw_rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t size, float* residual, float* out) {
    in_team_if(rows > 1, [&] { rms_norm(x, weight, eps, rows, size, residual, out); });
}

void qw_silu_mul(const float* gate_up, int64_t rows, int64_t size, float* out) {
    in_team_if(rows > 1, [&] { silu_mul(gate_up, rows, size, out); });
}

void qw_rope(float* q, int64_t q_stride, int64_t heads, float* k, int64_t k_stride, int64_t kv_heads, int64_t tokens,
             int64_t dim, const float* cos, const float* sin) {
    in_team_if(tokens > 4, [&] {
        share(tokens, [&](int64_t t) LAMBDA {
            rotate(q + t * q_stride, heads, dim, cos + t * dim / 2, sin + t * dim / 2);
            rotate(k + t * k_stride, kv_heads, dim, cos + t * dim / 2, sin + t * dim / 2);
        });
    });
}

// `as_prompts`: many rows of a sequence in bfloat16, where the processor multiplies it.
void qw_paged_attention(const Cache* cache, const Queries* queries, int64_t as_prompts) {
    as_prompts = as_prompts && HAS_PROMPT_WAY;
    const std::vector<Piece> work = pieces(*cache, queries->heads / cache->kv_heads, as_prompts ? PROMPT_ROWS : QUERY_ROWS);
    in_team([&] { attention(*cache, *queries, work, as_prompts, own_memory); });
}

void qw_attend_documents(const Documents* documents) {
    uint16_t* values = shared_memory.get<uint16_t>(documents->tokens * documents->kv_heads * documents->dim);
    in_team([&] { attend_documents(*documents, values, own_memory); });
}

void qw_differentiate_documents(const Documents* documents, const DocumentGradients* gradients) {
    uint16_t* keys = shared_memory.get<uint16_t>(documents->tokens * documents->kv_heads * documents->dim);
    const std::vector<int64_t> starts = run_starts(*documents);
    in_team([&] { differentiate_documents(*documents, *gradients, starts, keys, own_memory); });
}

// scores [rows][size] in bfloat16 become the gradients of `losses` [rows]; a target below 0 counts nothing.
void qw_softmax_loss(uint16_t* scores, const int64_t* targets, int64_t rows, int64_t size, float* losses) {
    in_team([&] {
        share(rows, [&](int64_t row) LAMBDA { losses[row] = softmax_loss(scores + row * size, targets[row], size); });
    });
}

// One decoder layer for all tokens of a step, in place.
void qw_layer(const Layer* layer, const Step* step) {
    const Buffers buffers(*layer, step->tokens, shared_memory);
    const int64_t rows = attends_as_prompts(*layer, step->tokens) ? PROMPT_ROWS : QUERY_ROWS;
    const std::vector<Piece> work = pieces(step->cache, layer->heads / step->cache.kv_heads, rows);
    in_team([&] { run_layer(*layer, *step, buffers, work, own_memory); });
}

// weights [rows][inputs], whole groups; steps and lows [rows][inputs / 32].
void qw_fit(const float* weights, int64_t rows, int64_t inputs, const float* importance, int64_t top, int64_t ranges,
            float* steps, float* lows) {
    const int64_t groups = inputs / 32;
    const auto fit_rows = [&](int64_t row) {
        for (int64_t g = 0; g < groups; g++) {
            const Fit fit = fit_group(weights + row * inputs + g * 32, inputs, first_lanes(rows - row), importance + g * 32, top, ranges);
            float step[LANES], low[LANES];
            store(step, fit.step);
            store(low, fit.low);
            for (int64_t r = 0; r < std::min<int64_t>(LANES, rows - row); r++) {
                steps[(row + r) * groups + g] = step[r];
                lows[(row + r) * groups + g] = low[r];
            }
        }
    };
    in_team([&] { share_dynamically(ceil_div(rows, LANES), 4, [&](int64_t i) LAMBDA { fit_rows(i * LANES); }); });
}
}
#pragma GCC visibility pop
