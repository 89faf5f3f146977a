// Attention of packed documents and its gradients in bfloat16 (Dao et al. 2022), for training.
//
// All tokens stand in one row and each sees a run of keys that ends with itself: `first` says where it begins, which is
// how documents and windows are told. Work is cut into blocks of 64 queries by 64 keys; those that no query sees are
// never touched, so a text's cost follows its documents, not the length they are packed to.
//
// As scores are computed on their side (blocks.h), Pᵀ and dSᵀ come out as the rows that the products for dV and dK
// want, and in pairs as the operands for O and dQ:
//
//     forward      Oᵀ += Vᵀ · Pᵀ
//     backward     dV += Pᵀ · dO,   dSᵀ = Pᵀ ∘ (V · dOᵀ − D),   dK += dSᵀ · Q,   dQᵀ += Kᵀ · dSᵀ
//
// with D = Σ dO ∘ O. Sums are kept in fp32 and taken in one order, whatever the number of threads. A block of keys is
// a left operand as it lies in memory; only V (forward) and K (backward) are turned on their side once for all.
#pragma once

#include "blocks.h"

struct Documents {
    const uint16_t *q, *k, *v;            // token t begins at t · stride: [heads or kv_heads][dim]
    int64_t q_stride, k_stride, v_stride;
    int64_t heads, kv_heads, dim, tokens; // dim a multiple of 32, tokens of 64
    const int32_t* first;                 // [tokens]: the first key that each sees; never falls
    float scale;
    uint16_t* out;                        // [tokens][heads][dim]
    float* norms;                         // [heads][tokens]: log Σ e^score, kept for the way back
};

struct DocumentGradients {
    const uint16_t* d_out;                // [tokens][heads][dim]
    uint16_t *dq, *dk, *dv;               // [tokens][heads or kv_heads][dim]
};

// The same block as a right operand whose inputs are the rows.
static inline void operand_of_columns(const uint16_t* rows, int64_t stride, int64_t dim, uint8_t* to) {
    for (int64_t d = 0; d < dim; d += LANES)
        for (int64_t row = 0; row < SIDE; row += 2, to += VECTOR_BYTES) {
            const uint16_t* at = rows + row * stride + d;
            store_codes(to, load_halves(at, at + stride));
        }
}

// Rows [tokens][kv_heads][dim] on their side: [kv_heads][dim][tokens]. For all threads of a team.
static inline void turn_all(const Documents& x, const uint16_t* from, int64_t stride, uint16_t* to) {
    const int64_t pairs = x.kv_heads * x.dim / (2 * LANES);
    share(x.tokens / LANES * pairs, [&](int64_t i) LAMBDA {
        const int64_t token = i / pairs * LANES, pair = i % pairs * 2 * LANES;
        turn(from + token * stride + pair, stride, to + pair * x.tokens + token, x.tokens);
    });
}

// What 64 queries and their keys need of a thread's memory; `dim` is a head's.
struct BlockMemory {
    uint8_t *queries, *d_outs, *query_columns, *d_out_columns, *pairs;  // right operands
    float *scores, *slopes, *turned;                                    // [64][64], [64][64], [dim][64]
    uint16_t *weights, *d_scores;                                       // [64][64]

    static int64_t bytes(int64_t dim) { return SIDE * (4 * dim * 2 + SIDE * 2 + 2 * SIDE * 4 + dim * 4 + 2 * SIDE * 2); }

    BlockMemory(uint8_t* memory, int64_t dim) {
        const auto take = [&](auto*& part, int64_t count) {
            part = reinterpret_cast<std::remove_reference_t<decltype(part)>>(memory);
            memory += count * sizeof(*part);
        };
        for (uint8_t** tiles : {&queries, &d_outs, &query_columns, &d_out_columns}) take(*tiles, SIDE * dim * 2);
        take(pairs, SIDE * SIDE * 2);
        take(scores, SIDE * SIDE);
        take(slopes, SIDE * SIDE);
        take(turned, SIDE * dim);
        take(weights, SIDE * SIDE);
        take(d_scores, SIDE * SIDE);
    }
};

static inline Sight sight_of(const Documents& x, int64_t query) {
    return {load_ints(x.first + query), add_ints(all_ints(query), lane_numbers())};
}

static inline int64_t first_block(const Documents& x, int64_t query) { return x.first[query] / SIDE * SIDE; }

// `values`: V on its side.
static inline void attend_block(const Documents& x, const uint16_t* values, int64_t head, int64_t query, BlockMemory& m) {
    const int64_t kv_head = head / (x.heads / x.kv_heads), pairs = x.dim / 2;
    operand_of_rows(x.q + query * x.q_stride + head * x.dim, x.q_stride, x.dim, m.queries);
    Floats peaks[STRIPS], sums[STRIPS];
    for (int64_t strip = 0; strip < STRIPS; strip++) peaks[strip] = all(-1e30f), sums[strip] = zero();
    std::fill(m.turned, m.turned + x.dim * SIDE, 0.0f);
    for (int64_t key = first_block(x, query); key <= query; key += SIDE) {
        multiply_block<false>(x.k + key * x.k_stride + kv_head * x.dim, x.k_stride, m.queries, pairs, SIDE, STRIPS, m.scores, SIDE);
        for (int64_t strip = 0; strip < STRIPS; strip++) {
            const Sight sight = sight_of(x, query + strip * LANES);
            const Floats factor = fold_strip(all(x.scale), sight, key, m.scores + strip * LANES, peaks[strip],
                                             sums[strip], pair_row(m.pairs, strip, 0));
            shrink_strip(m.turned, x.dim, strip, factor);
        }
        multiply_block<true>(values + kv_head * x.dim * x.tokens + key, x.tokens, m.pairs, SIDE / 2, x.dim, STRIPS, m.turned, SIDE);
    }
    for (int64_t strip = 0; strip < STRIPS; strip++) {
        float peak[LANES], sum[LANES];
        store(peak, peaks[strip]);
        store(sum, sums[strip]);
        for (int i = 0; i < LANES; i++) x.norms[head * x.tokens + query + strip * LANES + i] = peak[i] + std::log(sum[i]);
        for (int64_t d = 0; d < x.dim; d += LANES) {
            Floats r[LANES];
            rows_of_strip(m.turned, strip, d, all(1.0f) / sums[strip], r);
            for (int i = 0; i < LANES; i++) store_bfloat16(x.out + ((query + strip * LANES + i) * x.heads + head) * x.dim + d, r[i]);
        }
    }
}

static inline void attend_documents(const Documents& x, uint16_t* values, Scratch& scratch) {
    turn_all(x, x.v, x.v_stride, values);
    [[maybe_unused]] const TileRegisters registers;
    BlockMemory memory(scratch.get<uint8_t>(BlockMemory::bytes(x.dim)), x.dim);
    share_dynamically(x.tokens / SIDE * x.heads, 1, [&](int64_t i) LAMBDA {
        attend_block(x, values, i % x.heads, i / x.heads * SIDE, memory);
    });
}

// ---- backward -------------------------------------------------------------------------------------------------------

// Runs of blocks that share no key: where a block's first token sees nothing before itself, another run begins.
static inline std::vector<int64_t> run_starts(const Documents& x) {
    std::vector<int64_t> starts;
    for (int64_t token = 0; token < x.tokens; token += SIDE)
        if (x.first[token] == token) starts.push_back(token);
    starts.push_back(x.tokens);
    return starts;
}

// D = Σ dO ∘ O of LANES queries.
static inline Floats slope_offsets(const uint16_t* d_out, const uint16_t* out, int64_t stride, int64_t dim) {
    float sums[LANES];
    for (int i = 0; i < LANES; i++, d_out += stride, out += stride) {
        Floats sum = zero();
        for (int64_t d = 0; d < dim; d += LANES) sum = fma(load_bfloat16(d_out + d), load_bfloat16(out + d), sum);
        sums[i] = sum_of(sum);
    }
    return load(sums);
}

// One strip of scores and of V · dOᵀ → Pᵀ and dSᵀ as rows, and dSᵀ in pairs.
static inline void differentiate_strip(const Documents& x, int64_t query, int64_t key, int64_t strip, Floats norm, Floats offset,
                                       BlockMemory& m) {
    const Sight sight = sight_of(x, query + strip * LANES);
    const bool sees_all = sight.all_see(key, key + SIDE);
    uint8_t* pairs = pair_row(m.pairs, strip, 0);
    const auto differentiate = [&](int64_t j) LAMBDA {
        const int64_t at = j * SIDE + strip * LANES;
        Floats p = exponential(fms(load(m.scores + at), all(x.scale), norm));
        if (!sees_all) p = select(sight.of(key + j), p, zero());
        const Floats ds = p * (load(m.slopes + at) - offset);
        store_bfloat16(m.weights + at, p);
        store_bfloat16(m.d_scores + at, ds);
        return ds;
    };
    for (int64_t j = 0; j < SIDE; j += 2) {
        const Floats even = differentiate(j), odd = differentiate(j + 1);
        store_codes(pairs + j / 2 * VECTOR_BYTES, round_to_pairs(even, odd));
    }
}

// 64 queries of a head against all keys they see. `keys`: K on its side; dk and dv: fp32 sums of the run that begins at `start`.
static inline void differentiate_block(const Documents& x, const DocumentGradients& g, const uint16_t* keys, int64_t head,
                                       int64_t query, int64_t start, float* dk, float* dv, BlockMemory& m) {
    const int64_t kv_head = head / (x.heads / x.kv_heads), pairs = x.dim / 2, stride = x.heads * x.dim;
    const int64_t at = query * stride + head * x.dim;
    const uint16_t* q = x.q + query * x.q_stride + head * x.dim;
    operand_of_rows(q, x.q_stride, x.dim, m.queries);
    operand_of_columns(q, x.q_stride, x.dim, m.query_columns);
    operand_of_rows(g.d_out + at, stride, x.dim, m.d_outs);
    operand_of_columns(g.d_out + at, stride, x.dim, m.d_out_columns);
    Floats norms[STRIPS], offsets[STRIPS];
    for (int64_t strip = 0; strip < STRIPS; strip++) {
        norms[strip] = load(x.norms + head * x.tokens + query + strip * LANES);
        const int64_t from = at + strip * LANES * stride;
        offsets[strip] = slope_offsets(g.d_out + from, x.out + from, stride, x.dim);
    }
    std::fill(m.turned, m.turned + x.dim * SIDE, 0.0f);
    for (int64_t key = first_block(x, query); key <= query; key += SIDE) {
        multiply_block<false>(x.k + key * x.k_stride + kv_head * x.dim, x.k_stride, m.queries, pairs, SIDE, STRIPS, m.scores, SIDE);
        multiply_block<false>(x.v + key * x.v_stride + kv_head * x.dim, x.v_stride, m.d_outs, pairs, SIDE, STRIPS, m.slopes, SIDE);
        for (int64_t strip = 0; strip < STRIPS; strip++) differentiate_strip(x, query, key, strip, norms[strip], offsets[strip], m);
        const int64_t row = (key - start) * x.dim;
        multiply_block<true>(m.weights, SIDE, m.d_out_columns, SIDE / 2, SIDE, x.dim / LANES, dv + row, x.dim);
        multiply_block<true>(m.d_scores, SIDE, m.query_columns, SIDE / 2, SIDE, x.dim / LANES, dk + row, x.dim);
        multiply_block<true>(keys + kv_head * x.dim * x.tokens + key, x.tokens, m.pairs, SIDE / 2, x.dim, STRIPS, m.turned, SIDE);
    }
    for (int64_t strip = 0; strip < STRIPS; strip++)
        for (int64_t d = 0; d < x.dim; d += LANES) {
            Floats r[LANES];
            rows_of_strip(m.turned, strip, d, all(x.scale), r);
            for (int i = 0; i < LANES; i++) store_bfloat16(g.dq + at + (strip * LANES + i) * stride + d, r[i]);
        }
}

// Sums [rows][dim] of a run · scale, as the gradient of one key/value head.
static inline void round_sums(const float* sums, int64_t rows, int64_t dim, float scale, uint16_t* to, int64_t stride) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t d = 0; d < dim; d += LANES) store_bfloat16(to + row * stride + d, load(sums + row * dim + d) * all(scale));
}

// A task is a run and a key/value head, whose gradients one thread sums over all the queries that see it.
static inline void differentiate_documents(const Documents& x, const DocumentGradients& g, const std::vector<int64_t>& starts,
                                           uint16_t* keys, Scratch& scratch) {
    turn_all(x, x.k, x.k_stride, keys);
    [[maybe_unused]] const TileRegisters registers;
    const int64_t group = x.heads / x.kv_heads, stride = x.kv_heads * x.dim;
    share_dynamically((starts.size() - 1) * x.kv_heads, 1, [&](int64_t i) LAMBDA {
        const int64_t run = i / x.kv_heads, kv_head = i % x.kv_heads;
        const int64_t start = starts[run], rows = starts[run + 1] - start, size = rows * x.dim;
        uint8_t* memory = scratch.get<uint8_t>(BlockMemory::bytes(x.dim) + 2 * size * sizeof(float));
        BlockMemory blocks(memory, x.dim);
        float *dk = (float*)(memory + BlockMemory::bytes(x.dim)), *dv = dk + size;
        std::fill(dk, dv + size, 0.0f);
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++)
            for (int64_t query = start; query < start + rows; query += SIDE)
                differentiate_block(x, g, keys, head, query, start, dk, dv, blocks);
        round_sums(dk, rows, x.dim, x.scale, g.dk + start * stride + kv_head * x.dim, stride);
        round_sums(dv, rows, x.dim, 1.0f, g.dv + start * stride + kv_head * x.dim, stride);
    });
}
