// Attention of prompts over pages in bfloat16 on AMX: the fast way, where a row's bits may depend on the rows beside it.
//
// A row is a token and one of the query heads that share the keys, as in attention.h. 64 of them are a block, and up to
// four blocks pass over the keys together: 64 keys and values are gathered from their pages, rounded, and the values
// turned on their side, once for all of them. Sums and softmax are in fp32.
#pragma once

#include "amx_blocks.h"
#include "prompts_by_pairs.h"

constexpr int64_t PROMPT_ROWS = 256, FEWEST_ROWS = 32;  // at once; of fewer the vectors are as fast

#if HAS_AMX

// 64 rows and what they have gathered.
struct PromptBlock {
    uint8_t* queries;  // right tiles
    float* turned;     // [width][64]
    __m512 peaks[STRIP], sums[STRIP];
    Sight sights[STRIP];
    int64_t first, last;  // positions of its tokens
};

struct PromptMemory {
    uint16_t *keys, *values, *turned_values;  // [64][width], [64][width], [width][64]
    float* scores;                            // [64][64]
    uint8_t *pairs, *blocks;                  // right tiles

    static int64_t block_bytes(int64_t width) { return SIDE * width * 6; }
    static int64_t bytes(int64_t width) { return SIDE * width * 6 + SIDE * SIDE * 6 + PROMPT_ROWS / SIDE * block_bytes(width); }

    PromptMemory(uint8_t* memory, int64_t width)
        : keys((uint16_t*)memory), values(keys + SIDE * width), turned_values(values + SIDE * width),
          scores((float*)(turned_values + SIDE * width)), pairs((uint8_t*)(scores + SIDE * SIDE)), blocks(pairs + SIDE * SIDE * 2) {}
};

// dim numbers as bfloat16, then zeros up to width.
static inline void narrow_row(const float* from, int64_t dim, int64_t width, uint16_t* to) {
    for (int64_t d = 0; d < width; d += LANES)
        _mm256_store_si256((__m256i*)(to + d), narrow(_mm512_maskz_loadu_ps(first_lanes(dim - d), from + d)));
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
    tiles_of_rows(m.keys, width, width, block.queries);
    std::fill(block.turned, block.turned + SIDE * width, 0.0f);
    for (int64_t strip = 0; strip < STRIP; strip++) {
        alignas(64) int32_t first[LANES], own[LANES];
        for (int i = 0; i < LANES; i++) {
            own[i] = position(number * SIDE + strip * LANES + i);
            first[i] = queries.window ? own[i] + 1 - queries.window : 0;
        }
        block.sights[strip] = {_mm512_load_si512(first), _mm512_load_si512(own)};
        block.peaks[strip] = _mm512_set1_ps(-1e30f);  // not −∞, which would make the first shrinking a NaN
        block.sums[strip] = _mm512_setzero_ps();
    }
    return block;
}

// Keys [start, start + count) of a sequence, and zeros up to 64.
static inline void gather(const Cache& cache, const Piece& piece, int64_t start, int64_t count, int64_t width, PromptMemory& m) {
    for (int64_t key = 0; key < SIDE; key++) {
        const int64_t at = key < count ? cache.offset(piece.sequence, start + key, piece.head) : 0;
        for (int64_t d = 0; d < width; d += LANES) {
            const __mmask16 lanes = key < count ? first_lanes(cache.dim - d) : 0;
            _mm256_store_si256((__m256i*)(m.keys + key * width + d), narrow(cache.load(cache.k, lanes ? at + d : 0, lanes)));
            _mm256_store_si256((__m256i*)(m.values + key * width + d), narrow(cache.load(cache.v, lanes ? at + d : 0, lanes)));
        }
    }
    for (int64_t key = 0; key < SIDE; key += TILE)
        for (int64_t d = 0; d < width; d += STEP) turn(m.values + key * width + d, width, m.turned_values + d * SIDE + key, SIDE);
}

static inline void pass_keys(PromptBlock& block, __m512 scale, int64_t start, int64_t width, PromptMemory& m) {
    multiply_block<false>(m.keys, width, block.queries, width / STEP, SIDE, STRIP, m.scores, SIDE);
    for (int64_t strip = 0; strip < STRIP; strip++) {
        const __m512 factor = fold_strip(scale, block.sights[strip], start, m.scores + strip * LANES, block.peaks[strip],
                                         block.sums[strip], pair_row(m.pairs, strip, 0));
        if (_mm512_cmplt_ps_mask(factor, _mm512_set1_ps(1.0f))) shrink_strip(block.turned, width, strip, factor);
    }
    multiply_block<true>(m.turned_values, SIDE, m.pairs, SIDE / STEP, width, STRIP, block.turned, SIDE);
}

static inline void write_block(const PromptBlock& block, const Queries& queries, const Cache& cache, const Piece& piece,
                               int64_t number, int64_t width) {
    const int64_t group = queries.heads / cache.kv_heads;
    for (int64_t strip = 0; strip < STRIP; strip++) {
        const int64_t first = number * SIDE + strip * LANES, rows = std::min<int64_t>(piece.tokens * group - first, LANES);
        const __m512 factor = _mm512_div_ps(_mm512_set1_ps(1.0f), block.sums[strip]);
        for (int64_t d = 0; d < width; d += LANES) {
            __m512 r[LANES];
            for (int i = 0; i < LANES; i++) r[i] = _mm512_mul_ps(_mm512_load_ps(block.turned + (d + i) * SIDE + strip * LANES), factor);
            transpose(r);
            for (int64_t i = 0; i < rows; i++) {
                const int64_t token = piece.token + (first + i) / group, head = piece.head * group + (first + i) % group;
                _mm512_mask_storeu_ps(queries.out + (token * queries.heads + head) * cache.dim + d, first_lanes(cache.dim - d), r[i]);
            }
        }
    }
}

static inline void attend_prompt(const Cache& cache, const Queries& queries, const Piece& piece, Scratch& scratch) {
    const int64_t width = ceil_div(cache.dim, STEP) * STEP, rows = piece.tokens * (queries.heads / cache.kv_heads);
    const int64_t count = ceil_div(rows, SIDE), end = piece.position + piece.tokens, window = queries.window;
    const int64_t begin = window ? std::max<int64_t>(0, piece.position + 1 - window) / SIDE * SIDE : 0;
    PromptMemory memory(scratch.get<uint8_t>(PromptMemory::bytes(width)), width);
    PromptBlock blocks[PROMPT_ROWS / SIDE];
    for (int64_t i = 0; i < count; i++) blocks[i] = block_of(queries, cache, piece, i, width, memory);
    for (int64_t start = begin; start < end; start += SIDE) {
        gather(cache, piece, start, std::min(SIDE, end - start), width, memory);
        for (int64_t i = 0; i < count; i++)
            if (start <= blocks[i].last && (!window || start + SIDE > blocks[i].first + 1 - window))
                pass_keys(blocks[i], _mm512_set1_ps(queries.scale), start, width, memory);
    }
    for (int64_t i = 0; i < count; i++) write_block(blocks[i], queries, cache, piece, i, width);
}

#endif

// Whether prompts have a faster way than single tokens, and how many query rows a piece of theirs has.
constexpr bool HAS_PROMPT_WAY = HAS_AMX || HAS_BFLOAT16_PRODUCTS;
#if HAS_BFLOAT16_PRODUCTS && !HAS_AMX
constexpr int64_t MOST_ROWS = PAIR_ROWS;
#else
constexpr int64_t MOST_ROWS = PROMPT_ROWS;
#endif

// For all threads of a team. `as_prompts`: pieces of many rows go the way of prompts, if there is one.
static inline void attention(const Cache& cache, const Queries& queries, const std::vector<Piece>& work, [[maybe_unused]] bool as_prompts,
                             Scratch& scratch) {
#if HAS_AMX
    std::optional<TileRegisters> registers;
    if (as_prompts) registers.emplace();
#endif
#pragma omp for schedule(dynamic)
    for (size_t i = 0; i < work.size(); i++) {
#if HAS_AMX || HAS_BFLOAT16_PRODUCTS
        if (as_prompts && work[i].tokens * queries.heads / cache.kv_heads >= FEWEST_ROWS) {
#if HAS_AMX
            attend_prompt(cache, queries, work[i], scratch);
#else
            attend_by_pairs(cache, queries, work[i], scratch);
#endif
            continue;
        }
#endif
        attend(cache, queries, work[i], scratch);
    }
}
