// Products of integer weights with a great many rows on AMX: both become bytes that share one scale for 256 inputs of a
// row and of an output, so wide that scaling their sums costs little beside the products. bfloat16, which rounds less,
// takes twice the time.
//
// Tiles of rows lie [row / 16][step], 16 rows of 64 inputs each; a reach is 4 steps.
#pragma once

#include "amx.h"
#include "many_rows.h"

constexpr int REACH = 256, BYTE_STEP = 64, REACH_STEPS = REACH / BYTE_STEP, REACH_SPANS = REACH / SPAN;

#if HAS_AMX

struct WideRows {
    int8_t* codes;
    float* scales;  // [reach][row]
    int64_t rows, steps;

    WideRows(const Job& job, char* memory)
        : codes((int8_t*)memory), scales((float*)(memory + ceil_div(job.rows, TILE) * TILE * job.spans * SPAN)),
          rows(ceil_div(job.rows, TILE) * TILE), steps(job.spans * (SPAN / BYTE_STEP)) {}

    int8_t* code(int64_t row, int64_t input) const {
        return codes + ((row / TILE * steps + input / BYTE_STEP) * TILE + row % TILE) * 64;
    }

    // Sixteen inputs from the i-th on, as far as there are `inputs`.
    static __m512 load(const float* x, int64_t i, int64_t inputs) { return _mm512_maskz_loadu_ps(first_lanes(inputs - i), x + i); }
    static __m512 load(const uint16_t* x, int64_t i, int64_t inputs) {
        const __m256i bits = _mm256_maskz_loadu_epi16(first_lanes(inputs - i), x + i);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }

    // x: `inputs` numbers in fp32 or bfloat16.
    template <class T> void take(const T* x, int64_t inputs, int64_t row) const {
        int8_t* to = code(row, 0);
        for (int64_t first = 0; first < steps * BYTE_STEP; first += REACH) {
            const int64_t last = std::min<int64_t>(first + REACH, steps * BYTE_STEP);
            __m512 peak[4] = {};
            for (int64_t i = first; i < last; i += BYTE_STEP)
                repeat<4>([&](auto k) LAMBDA { peak[k] = _mm512_max_ps(peak[k], _mm512_abs_ps(load(x, i + k * LANES, inputs))); });
            const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(peak[0], peak[1]), _mm512_max_ps(peak[2], peak[3])));
            const __m512 inverse = _mm512_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
            scales[first / REACH * rows + row] = largest / 127.0f;
            for (int64_t i = first; i < last; i += BYTE_STEP, to += TILE_BYTES)
                repeat<BYTE_STEP / LANES>([&](auto k) LAMBDA {
                    const __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(load(x, i + k * LANES, inputs), inverse));
                    _mm_store_si128((__m128i*)(to + k * LANES), _mm512_cvtepi32_epi8(code));
                });
        }
    }
};

// 64 outputs against the rows [first_row, first_row + rows), over one chunk of inputs. Their weights over a reach stay in
// the first cache while all rows pass; rows and sums come from the second.
template <class F> struct WideColumn {
    static constexpr int CHUNK = 6 * REACH, PANEL = REACH_STEPS * TILE_BYTES;

    const Job& job;
    const WideRows x;
    int64_t first_row, rows;
    int64_t panels[WIDE], stride;  // from each to that of the next column
    uint8_t* weights;  // [panel][step], 16 outputs of 64 inputs each
    int32_t* dots;     // [panel][16 rows][16]
    float* sums;       // [row][panel][16]

    WideColumn(const Job& job, char* memory, int64_t first_row, int64_t rows, Scratch& scratch)
        : job(job), x(job, memory), first_row(first_row), rows(rows),
          weights(scratch.get<uint8_t>(WIDE * PANEL + WIDE * TILE_BYTES + ceil_div(rows, TILE) * TILE * WIDE * 64)),
          dots((int32_t*)(weights + WIDE * PANEL)), sums((float*)(dots + WIDE * TILE * LANES)) {}

    // The rows as bytes. For all threads of a team.
    static void take_rows(const Job& job, char* memory) {
        const WideRows x(job, memory);
        share(job.rows, [&](int64_t row) LAMBDA { x.take(job.row(row), job.linear.inputs, row); });
    }

    // Calls `take(row)` for every row once its sums over inputs from `first` on are there: `result(row, panel)`.
    template <class Take> void compute(int64_t first, Take take) {
        const int64_t end = std::min<int64_t>(first + CHUNK, job.spans * SPAN);
        for (int64_t input = first; input < end; input += REACH) {
            __m512 scales[WIDE];
            const int64_t spans = std::min<int64_t>(REACH, end - input) / SPAN;
            for (int p = 0; p < WIDE; p++) scales[p] = take_weights(panels[p], input / SPAN, spans, weights + p * PANEL);
            const bool goes_on = input + REACH < end;
            const int64_t share = ceil_div(packed_bytes(spans), ceil_div(rows, TILE));
            for (int64_t row = 0; row < rows; row += TILE) {
                multiply(x.code(first_row + row, input), spans * (SPAN / BYTE_STEP));
                for (int64_t panel : panels) {
                    const uint8_t* next = goes_on ? packed(panel, input + REACH) : packed(panel + stride, first);
                    fetch(next + row / TILE * share, share);
                }
                const float* own = x.scales + input / REACH * x.rows + first_row + row;
                input > first ? add_scaled<true>(own, scales, row) : add_scaled<false>(own, scales, row);
            }
        }
        for (int64_t row = 0; row < rows; row++) take(row);
    }
    __m512 result(int64_t row, int panel) const { return _mm512_load_ps(sums + (row * WIDE + panel) * LANES); }

  private:
    const uint8_t* packed(int64_t panel, int64_t input) const {
        return job.linear.packed + panel * F::panel_bytes(job.spans * SPAN) + input / BLOCK * F::block_bytes(BLOCK / GROUP);
    }
    static int64_t packed_bytes(int64_t spans) { return spans * SPAN * F::block_bytes(BLOCK / GROUP) / BLOCK; }

    // Into the second cache: memory has nothing else to do while tiles are multiplied.
    static void fetch(const uint8_t* from, int64_t bytes) {
        for (int64_t at = 0; at < bytes; at += 64) _mm_prefetch((const char*)from + at, _MM_HINT_T1);
    }

    // A panel over a reach as signed bytes; returns their scales.
    __m512 take_weights(int64_t panel, int64_t first, int64_t spans, uint8_t* to) const {
        const uint8_t* packed = this->packed(panel, 0);
        __m512 largest = _mm512_setzero_ps();
        Steps<F> steps[REACH_SPANS];
        for (int64_t span = 0; span < spans; span++) {
            steps[span] = Steps<F>(Span<F>(packed, first + span, job.spans, 0));
            largest = _mm512_max_ps(largest, steps[span].largest());
        }
        for (int64_t span = 0; span < spans; span++)
            to_bytes<true>(Span<F>(packed, first + span, job.spans, 0), steps[span], largest, to + span * BYTE_TILE);
        return _mm512_mul_ps(largest, _mm512_set1_ps(1 / 127.0f));
    }

    // dots = 16 rows × 64 outputs. The next 16 rows are on their way to the first cache meanwhile.
    void multiply(const int8_t* x, int64_t steps) const {
        const int8_t* next = x + this->x.steps * TILE_BYTES;
        _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
        for (int64_t at = 0; at < steps * TILE_BYTES; at += TILE_BYTES) {
            repeat<TILE>([&](auto i) LAMBDA { _mm_prefetch((const char*)next + at + i * 64, _MM_HINT_T0); });
            _tile_loadd(4, x + at, 64);
            _tile_loadd(5, weights + at, 64);
            _tile_dpbssd(0, 4, 5);
            _tile_loadd(6, weights + PANEL + at, 64);
            _tile_dpbssd(1, 4, 6);
            _tile_loadd(7, weights + 2 * PANEL + at, 64);
            _tile_dpbssd(2, 4, 7);
            _tile_loadd(5, weights + 3 * PANEL + at, 64);
            _tile_dpbssd(3, 4, 5);
        }
        _tile_stored(0, dots, 64); _tile_stored(1, dots + 256, 64);
        _tile_stored(2, dots + 512, 64); _tile_stored(3, dots + 768, 64);
    }

    // sums = dots · scales, or that much more, for 16 rows.
    template <bool ADDS> void add_scaled(const float* own, const __m512 (&scales)[WIDE], int64_t first) const {
        float* to = sums + first * WIDE * LANES;
        for (int64_t row = 0; row < TILE; row++, to += WIDE * LANES) {
            const __m512 of_row = _mm512_set1_ps(own[row]);
            repeat<WIDE>([&](auto p) LAMBDA {
                const __m512 dot = _mm512_cvtepi32_ps(_mm512_load_si512(dots + (p * TILE + row) * LANES));
                const __m512 scale = _mm512_mul_ps(scales[p], of_row);
                const __m512 sum = ADDS ? _mm512_fmadd_ps(dot, scale, _mm512_load_ps(to + p * LANES)) : _mm512_mul_ps(dot, scale);
                _mm512_store_ps(to + p * LANES, sum);
            });
        }
    }
};

#endif
