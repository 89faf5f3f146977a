// Attention of prompts over pages in bfloat16, where the processor multiplies it: the fast way, in which a row's bits may
// depend on the rows beside it.
//
// A row is a token and one of the query heads that share the keys, as in attention.h. 64 of them are a block, and up to
// four blocks pass over the keys together: 64 keys and values are gathered from their pages, rounded, and the values
// turned on their side, once for all of them. Sums and softmax are in fp32.
#pragma once

#include "blocks.h"
#include "few_queries.h"

constexpr int64_t PROMPT_ROWS = 256, FEWEST_ROWS = 32;  // at once; of fewer the vectors are as fast

// 64 rows and what they have gathered.
struct PromptBlock {
    uint8_t* queries;  // a right operand
    float* turned;     // [width][64]
    Floats peaks[STRIPS], sums[STRIPS];
    Sight sights[STRIPS];
    int64_t first, last;  // positions of its tokens
};

struct PromptMemory {
    uint16_t *keys, *values, *turned_values;  // [64][width], [64][width], [width][64]
    float* scores;                            // [64][64]
    uint8_t *pairs, *blocks;                  // right operands

    static int64_t block_bytes(int64_t width) { return SIDE * width * 6; }
    static int64_t bytes(int64_t width) { return SIDE * width * 6 + SIDE * SIDE * 6 + PROMPT_ROWS / SIDE * block_bytes(width); }

    PromptMemory(uint8_t* memory, int64_t width)
        : keys((uint16_t*)memory), values(keys + SIDE * width), turned_values(values + SIDE * width),
          scores((float*)(turned_values + SIDE * width)), pairs((uint8_t*)(scores + SIDE * SIDE)), blocks(pairs + SIDE * SIDE * 2) {}
};

// dim numbers as bfloat16, then zeros up to width.
static inline void narrow_row(const float* from, int64_t dim, int64_t width, uint16_t* to) {
    by_lanes(dim, [&](int64_t d, auto lanes) LAMBDA { store_bfloat16(to + d, load(from + d, lanes), lanes); });
    std::fill(to + dim, to + width, 0);
}

static inline PromptBlock block_of(const Queries& queries, const Cache& cache, const Piece& piece, int64_t number, int64_t width,
                                   PromptMemory& m) {
    const int64_t group = queries.heads / cache.kv_heads, rows = piece.tokens * group;
    const auto position = [&](int64_t row) { return piece.position + std::min(row, rows - 1) / group; };
    PromptBlock block;
    block.queries = m.blocks + number * PromptMemory::block_bytes(width);
    block.turned = (float*)(block.queries + SIDE * width * 2);
    block.first = position(number * SIDE);
    block.last = position(number * SIDE + SIDE - 1);
    for (int64_t r = 0; r < SIDE; r++) {
        const int64_t row = number * SIDE + r, token = piece.token + row / group, head = piece.head * group + row % group;
        narrow_row(queries.q + token * queries.stride + head * cache.dim, row < rows ? cache.dim : 0, width, m.keys + r * width);
    }
    operand_of_rows(m.keys, width, width, block.queries);
    std::fill(block.turned, block.turned + SIDE * width, 0.0f);
    for (int64_t strip = 0; strip < STRIPS; strip++) {
        int32_t first[LANES], own[LANES];
        for (int i = 0; i < LANES; i++) {
            own[i] = position(number * SIDE + strip * LANES + i);
            first[i] = queries.window ? own[i] + 1 - queries.window : 0;
        }
        block.sights[strip] = {load_ints(first), load_ints(own)};
        block.peaks[strip] = all(-1e30f);  // not −∞, which would make the first shrinking a NaN
        block.sums[strip] = zero();
    }
    return block;
}

// A row of a page as bfloat16, zeros up to `width`; `at` −1: all zeros.
static inline void copy_row(const Cache& cache, const void* from, int64_t at, int64_t width, uint16_t* to) {
    const int64_t dim = at < 0 ? 0 : cache.dim;
    if (cache.is_bfloat16) std::memcpy(to, (const uint16_t*)from + std::max<int64_t>(at, 0), dim * sizeof(uint16_t));
    else return narrow_row((const float*)from + std::max<int64_t>(at, 0), dim, width, to);
    std::fill(to + dim, to + width, 0);
}

// Keys [start, start + count) of a sequence, and zeros up to 64.
static inline void gather(const Cache& cache, const Piece& piece, int64_t start, int64_t count, int64_t width, PromptMemory& m) {
    for (int64_t key = 0; key < SIDE; key++) {
        copy_row(cache, cache.k, key < count ? cache.offset(piece.sequence, start + key, piece.head) : -1, width, m.keys + key * width);
        copy_row(cache, cache.v, key < count ? cache.offset(piece.sequence, start + key, piece.head) : -1, width, m.values + key * width);
    }
    for (int64_t key = 0; key < SIDE; key += LANES)
        for (int64_t d = 0; d < width; d += 2 * LANES) turn(m.values + key * width + d, width, m.turned_values + d * SIDE + key, SIDE);
}

static inline void pass_keys(PromptBlock& block, Floats scale, int64_t start, int64_t width, PromptMemory& m) {
    multiply_block<false>(m.keys, width, block.queries, width / 2, SIDE, STRIPS, m.scores, SIDE);
    for (int64_t strip = 0; strip < STRIPS; strip++) {
        const Floats factor = fold_strip(scale, block.sights[strip], start, m.scores + strip * LANES, block.peaks[strip],
                                         block.sums[strip], pair_row(m.pairs, strip, 0));
        if (is_any(is_less(factor, all(1.0f)))) shrink_strip(block.turned, width, strip, factor);
    }
    multiply_block<true>(m.turned_values, SIDE, m.pairs, SIDE / 2, width, STRIPS, block.turned, SIDE);
}

static inline void write_block(const PromptBlock& block, const Queries& queries, const Cache& cache, const Piece& piece,
                               int64_t number, int64_t width) {
    const int64_t group = queries.heads / cache.kv_heads;
    for (int64_t strip = 0; strip < STRIPS; strip++) {
        const int64_t first = number * SIDE + strip * LANES, rows = std::min<int64_t>(piece.tokens * group - first, LANES);
        for (int64_t d = 0; d < cache.dim; d += LANES) {
            Floats r[LANES];
            rows_of_strip(block.turned, strip, d, all(1.0f) / block.sums[strip], r);
            for (int64_t i = 0; i < rows; i++) {
                const int64_t token = piece.token + (first + i) / group, head = piece.head * group + (first + i) % group;
                float* to = queries.out + (token * queries.heads + head) * cache.dim + d;
                d + LANES <= cache.dim ? store(to, r[i]) : store(to, r[i], first_lanes(cache.dim - d));
            }
        }
    }
}

static inline void attend_prompt(const Cache& cache, const Queries& queries, const Piece& piece, Scratch& scratch) {
    const int64_t width = ceil_div(cache.dim, 2 * 16) * 2 * 16, rows = piece.tokens * (queries.heads / cache.kv_heads);
    const int64_t count = ceil_div(rows, SIDE), end = piece.position + piece.tokens, window = queries.window;
    const int64_t begin = window ? std::max<int64_t>(0, piece.position + 1 - window) / SIDE * SIDE : 0;
    PromptMemory memory(scratch.get<uint8_t>(PromptMemory::bytes(width)), width);
    PromptBlock blocks[PROMPT_ROWS / SIDE];
    for (int64_t i = 0; i < count; i++) blocks[i] = block_of(queries, cache, piece, i, width, memory);
    for (int64_t start = begin; start < end; start += SIDE) {
        gather(cache, piece, start, std::min(SIDE, end - start), width, memory);
        for (int64_t i = 0; i < count; i++)
            if (start <= blocks[i].last && (!window || start + SIDE > blocks[i].first + 1 - window))
                pass_keys(blocks[i], all(queries.scale), start, width, memory);
    }
    for (int64_t i = 0; i < count; i++) write_block(blocks[i], queries, cache, piece, i, width);
}

// Whether prompts have a faster way than single tokens.
constexpr bool HAS_PROMPT_WAY = HAS_AMX || HAS_BFLOAT16_PRODUCTS;

// For all threads of a team. `as_prompts`: pieces of many rows go the way above.
static inline void attention(const Cache& cache, const Queries& queries, const std::vector<Piece>& work, bool as_prompts, Scratch& scratch) {
    [[maybe_unused]] std::optional<TileRegisters> registers;
    if (as_prompts) registers.emplace();
    share_dynamically(work.size(), 1, [&](int64_t i) LAMBDA {
        const int64_t rows = work[i].tokens * queries.heads / cache.kv_heads;
        if (as_prompts && rows >= FEWEST_ROWS) attend_prompt(cache, queries, work[i], scratch);
        else if (goes_by_few_queries(cache, rows)) attend_few(cache, queries, work[i], scratch);
        else attend(cache, queries, work[i], scratch);
    });
}
