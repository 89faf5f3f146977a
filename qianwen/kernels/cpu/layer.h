// One decoder layer for all tokens of a step: what transformer.py's `Layer` computes, by one team of threads.
//
// Between two linears there is too little work at one token to pay for calls from Python: this is where their time goes.
#pragma once

#include "linears.h"
#include "prompts.h"

// Linears that read the same rows and whose results lie side by side.
struct Stack {
    const Linear* linears[3];
    int64_t count;

    int64_t outputs() const {
        int64_t sum = 0;
        for (int64_t i = 0; i < count; i++) sum += linears[i]->outputs;
        return sum;
    }
};

struct Layer {
    Stack qkv, o, gate_up, down;
    const float *input_norm, *post_norm, *q_norm, *k_norm;  // the last two may be null
    float eps;
    int64_t hidden, heads, intermediate;
};

struct Step {
    float* x;  // [tokens][hidden], the stream, changed in place
    int64_t tokens;
    const float *q_cos, *q_sin, *k_cos, *k_sin;  // [tokens][dim / 2]
    const int64_t* slots;                        // [tokens]: where a token's keys and values go, page · page_size + place
    float scale;
    int64_t window;
    Cache cache;
};

struct Buffers {
    Buffers(const Layer& layer, int64_t tokens, Scratch& scratch) {
        int64_t bytes = 0;
        for (const Stack* stack : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down})
            bytes = std::max(bytes, row_bytes(*stack->linears[0], tokens));
        const int64_t sizes[] = {layer.hidden, layer.qkv.outputs(), layer.o.linears[0]->inputs, 2 * layer.intermediate, layer.intermediate};
        int64_t floats = ceil_div(bytes, sizeof(float));
        for (int64_t size : sizes) floats += ceil_div(tokens * size, 16) * 16;
        float* next = scratch.get<float>(floats);
        float** const places[] = {&normed, &qkv, &attended, &gate_up, &gated};
        for (int i = 0; i < 5; next += ceil_div(tokens * sizes[i++], 16) * 16) *places[i] = next;
        rows = (char*)next;
    }
    float *normed, *qkv, *attended, *gate_up, *gated;
    char* rows;
};

static inline void apply(const Stack& stack, const float* x, int64_t tokens, Target y, char* memory, Scratch& own) {
    for (int64_t i = 0; i < stack.count; y.data += stack.linears[i++]->outputs)
        apply(*stack.linears[i], x, tokens, y, memory, own);
}

static inline void store_row(const Cache& cache, const float* from, const void* pages, int64_t slot) {
    const int64_t size = cache.kv_heads * cache.dim;
    if (!cache.is_bfloat16) {
        std::memcpy((float*)pages + slot * size, from, size * sizeof(float));
        return;
    }
    by_lanes(size, [&](int64_t i, auto lanes) LAMBDA {
        store_bfloat16((uint16_t*)pages + slot * size + i, load(from + i, lanes), lanes);
    });
}

// Norms and rotates queries and keys, and puts keys and values where attention finds them.
static inline void place_tokens(const Layer& layer, const Step& step, float* qkv) {
    const Cache& cache = step.cache;
    const int64_t dim = cache.dim, width = (layer.heads + 2 * cache.kv_heads) * dim;
    share(step.tokens, [&](int64_t t) LAMBDA {
        float *q = qkv + t * width, *k = q + layer.heads * dim, *v = k + cache.kv_heads * dim;
        if (layer.q_norm)
            for (float* head = q; head < v; head += dim)
                rms_norm_row(head, head < k ? layer.q_norm : layer.k_norm, layer.eps, dim, head);
        rotate(q, layer.heads, dim, step.q_cos + t * dim / 2, step.q_sin + t * dim / 2);
        rotate(k, cache.kv_heads, dim, step.k_cos + t * dim / 2, step.k_sin + t * dim / 2);
        store_row(cache, k, cache.k, step.slots[t]);
        store_row(cache, v, cache.v, step.slots[t]);
    });
}

#if HAS_AMX
// Whether the feed-forward's middle stays in tiles: twice its width in fp32, written and read twice, takes as long as
// the products.
static inline bool gates_in_tiles(const Layer& layer, int64_t tokens) {
    const Linear &gate_up = *layer.gate_up.linears[0], &down = *layer.down.linears[0];
    return layer.gate_up.count == 1 && !gate_up.bias && layer.intermediate % STEP == 0 &&
           gate_up.inputs <= DenseColumn::CHUNK && tokens >= TILE && goes_by_amx(gate_up, tokens) && goes_by_amx(down, tokens);
}
#endif

// Where many rows of linears go another way than few, a row's bits depend on its company already.
static inline bool attends_as_prompts(const Layer& layer, int64_t tokens) {
    const Linear& o = *layer.o.linears[0];
    return HAS_AMX ? goes_by_amx(o, tokens) : HAS_PROMPT_WAY && tokens > o.few;
}

static inline void run_layer(const Layer& layer, const Step& step, const Buffers& to, const std::vector<Piece>& work, Scratch& own) {
    const int64_t tokens = step.tokens, width = layer.qkv.outputs();
    const Target stream{step.x, layer.hidden, true};
    rms_norm(step.x, layer.input_norm, layer.eps, tokens, layer.hidden, nullptr, to.normed);
    apply(layer.qkv, to.normed, tokens, {to.qkv, width, false}, to.rows, own);
    place_tokens(layer, step, to.qkv);
    const Queries queries{to.qkv, width, layer.heads, step.scale, step.window, to.attended};
    attention(step.cache, queries, work, attends_as_prompts(layer, tokens), own);
    apply(layer.o, to.attended, tokens, stream, to.rows, own);
    rms_norm(step.x, layer.post_norm, layer.eps, tokens, layer.hidden, nullptr, to.normed);
#if HAS_AMX
    if (gates_in_tiles(layer, tokens))
        return apply_gated(*layer.gate_up.linears[0], *layer.down.linears[0], to.normed, tokens, stream, to.rows,
                           (uint8_t*)to.gate_up, own);
#endif
    apply(layer.gate_up, to.normed, tokens, {to.gate_up, 2 * layer.intermediate, false}, to.rows, own);
    silu_mul(to.gate_up, tokens, layer.intermediate, to.gated);
    apply(layer.down, to.gated, tokens, stream, to.rows, own);
}
