// AVX-512 (F, BW, DQ, VL): sixteen lanes. VNNI and bfloat16 products are used where the compiler may.
//
// The names are those of every family (see vectors.h).
#pragma once

#include <immintrin.h>

constexpr int LANES = 16;

using Floats = __m512;
using Ints = __m512i;
using Bytes = __m512i;  // also as 16-bit integers
using Lanes = __mmask16;

// ---- which lanes

INLINE Lanes first_lanes(int64_t n) { return n >= LANES ? 0xFFFF : n <= 0 ? 0 : (1 << n) - 1; }
INLINE bool is_any(Lanes lanes) { return lanes; }
INLINE bool is_all(Lanes lanes) { return lanes == 0xFFFF; }
INLINE Lanes both(Lanes a, Lanes b) { return a & b; }
INLINE Lanes only_first(Lanes a, Lanes b) { return a & ~b; }
INLINE Lanes is_less(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
INLINE Lanes is_at_least(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
INLINE Lanes is_nan(Floats a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
INLINE Floats select(Lanes lanes, Floats yes, Floats no) { return _mm512_mask_blend_ps(lanes, no, yes); }

// ---- floats

INLINE Floats zero() { return _mm512_setzero_ps(); }
INLINE Floats all(float x) { return _mm512_set1_ps(x); }
INLINE Floats load(const float* p) { return _mm512_loadu_ps(p); }
INLINE Floats load(const float* p, Lanes lanes) { return _mm512_maskz_loadu_ps(lanes, p); }
INLINE void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
INLINE void store(float* p, Floats x, Lanes lanes) { _mm512_mask_storeu_ps(p, lanes, x); }
INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }    // a · b + c
INLINE Floats fms(Floats a, Floats b, Floats c) { return _mm512_fmsub_ps(a, b, c); }    // a · b − c
INLINE Floats fnma(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }  // c − a · b
INLINE Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
INLINE Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
INLINE Floats absolute(Floats x) { return _mm512_abs_ps(x); }
INLINE Floats rounded(Floats x) { return _mm512_roundscale_ps(x, 0); }  // to nearest, ties to even
INLINE float sum_of(Floats x) { return _mm512_reduce_add_ps(x); }
INLINE float largest_of(Floats x) { return _mm512_reduce_max_ps(x); }
INLINE float first_of(Floats x) { return _mm512_cvtss_f32(x); }
// x · 2ⁿ for whole n.
INLINE Floats scaled_by_power(Floats x, Floats n) { return _mm512_scalef_ps(x, n); }
// p[0], p[stride], … of the first lanes.
INLINE Floats load_column(const float* p, int64_t stride, Lanes lanes) {
    const Ints numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_mask_i32gather_ps(zero(), lanes, _mm512_mullo_epi32(_mm512_set1_epi32(stride), numbers), p, 4);
}

// ---- other formats ↔ floats

INLINE Floats load_half(const void* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
INLINE Floats load_bytes(const uint8_t* p) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p))); }
INLINE Floats load_bytes(const int8_t* p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p))); }
INLINE Floats widened(__m256i half) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16)); }
INLINE Floats load_bfloat16(const uint16_t* p) { return widened(_mm256_loadu_si256((const __m256i*)p)); }
INLINE Floats load_bfloat16(const uint16_t* p, Lanes lanes) { return widened(_mm256_maskz_loadu_epi16(lanes, p)); }
#ifdef __AVX512BF16__
INLINE __m256i narrowed(Floats x) { return (__m256i)_mm512_cvtneps_pbh(x); }  // to nearest even
#else
INLINE __m256i narrowed(Floats x) {  // to nearest even
    const Ints bits = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd), 16));
}
#endif
INLINE void store_bfloat16(uint16_t* p, Floats x) { _mm256_storeu_si256((__m256i*)p, narrowed(x)); }
INLINE void store_bfloat16(uint16_t* p, Floats x, Lanes lanes) { _mm256_mask_storeu_epi16(p, lanes, narrowed(x)); }
// The first and the second bfloat16 of each 32-bit lane.
INLINE Floats first_of_pairs(Bytes pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
INLINE Floats second_of_pairs(Bytes pairs) { return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(0xFFFF0000))); }

// ---- 32-bit integers

INLINE Ints no_ints() { return _mm512_setzero_si512(); }
INLINE Ints all_ints(int32_t x) { return _mm512_set1_epi32(x); }
INLINE Ints load_ints(const int32_t* p) { return _mm512_loadu_si512(p); }
INLINE Ints add_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
INLINE Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
INLINE Ints to_ints(Floats x) { return _mm512_cvtps_epi32(x); }  // to nearest, ties to even
INLINE Lanes is_at_most(Ints a, Ints b) { return _mm512_cmple_epi32_mask(a, b); }
INLINE Ints lane_numbers() { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
// Of each 32-bit lane the low and the high half, side by side.
INLINE void store_halves(uint16_t* low, uint16_t* high, Floats x) {
    const Ints bits = _mm512_castps_si512(x);
    _mm256_storeu_si256((__m256i*)low, _mm512_cvtepi32_epi16(bits));
    _mm256_storeu_si256((__m256i*)high, _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
}
// The inverse, as one vector of pairs.
INLINE Bytes load_halves(const uint16_t* low, const uint16_t* high) {
    const Ints a = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)low)), b = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)high));
    return _mm512_or_si512(a, _mm512_slli_epi32(b, 16));
}
// Two numbers as the bfloat16 of a lane, rounded half up.
INLINE Bytes round_to_pairs(Floats even, Floats odd) {
    const Ints half = _mm512_set1_epi32(0x8000), low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(even), half), 16);
    return _mm512_mask_mov_epi16(low, 0xAAAAAAAA, _mm512_add_epi32(_mm512_castps_si512(odd), half));
}
INLINE int32_t sum_of_ints(Ints x) { return _mm512_reduce_add_epi32(x); }
INLINE void store_as_bytes(int8_t* p, Ints x) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(x)); }  // of −128 … 127
// The low 16 bits of each integer, twice.
INLINE Bytes in_both_halves(Ints x) {
    return _mm512_or_si512(_mm512_and_si512(x, _mm512_set1_epi32(0xFFFF)), _mm512_slli_epi32(x, 16));
}

// ---- bytes, and pairs of them as 16-bit integers

INLINE Bytes load_codes(const void* p) { return _mm512_loadu_si512(p); }
INLINE void store_codes(void* p, Bytes x) { _mm512_storeu_si512(p, x); }
INLINE Bytes all_bytes(int8_t x) { return _mm512_set1_epi8(x); }
INLINE Bytes all_shorts(int16_t x) { return _mm512_set1_epi16(x); }
INLINE Bytes all_quads(const void* p) {  // the same four bytes in every lane
    int32_t quad;
    std::memcpy(&quad, p, 4);
    return _mm512_set1_epi32(quad);
}
INLINE Bytes and_bits(Bytes a, Bytes b) { return _mm512_and_si512(a, b); }
INLINE Bytes or_bits(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
INLINE Bytes xor_bits(Bytes a, Bytes b) { return _mm512_xor_si512(a, b); }
INLINE Bytes and_not_bits(Bytes a, Bytes b) { return _mm512_andnot_si512(a, b); }  // b where a is not
template <int N> INLINE Bytes shorts_left(Bytes x) { return _mm512_slli_epi16(x, N); }
template <int N> INLINE Bytes shorts_right(Bytes x) { return _mm512_srli_epi16(x, N); }
INLINE Bytes add_shorts(Bytes a, Bytes b) { return _mm512_add_epi16(a, b); }
INLINE Bytes multiply_shorts(Bytes a, Bytes b) { return _mm512_mullo_epi16(a, b); }
INLINE Bytes multiply_fractions(Bytes a, Bytes b) { return _mm512_mulhrs_epi16(a, b); }  // of 2¹⁵, rounded
// `bit` in the bytes whose bits are set at p, and zero elsewhere.
INLINE Bytes expand_bits(const uint8_t* p, uint8_t bit) { return _mm512_maskz_set1_epi8(_load_mask64((__mmask64*)p), bit); }

// ---- sums of products of bytes

#ifdef __AVX512VNNI__

#define SUMS_BY_SHORTS 0
constexpr bool EIGHT_BITS_ARE_SIGNED = false;

// sum += Σ codes · x over the four bytes of each lane, codes unsigned, x signed.
// In assembly because GCC, given the intrinsic in an unrolled loop, copies every accumulator there and back.
INLINE void add_products(Ints& sum, Bytes codes, Bytes x) { asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(x)); }
INLINE void add_products(Ints& sum, Bytes codes, const int8_t* x) {  // the same four bytes of x for all lanes
    asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(codes), "m"(*(const int8_t(*)[4])x));
}

// Products of codes of BITS bits, summed up.
template <int BITS> struct Dot {
    Ints sum;
    template <int I, int COUNT> MEMBER void add(Bytes codes, const int8_t* x) { add_products(sum, codes, x); }
};

#else

#define SUMS_BY_SHORTS 1
constexpr bool EIGHT_BITS_ARE_SIGNED = true;  // unsigned ones would overflow the 16 bits that two products are summed in

INLINE Bytes pairs_of_products(Bytes codes, Bytes x) { return _mm512_maddubs_epi16(codes, x); }
// In assembly because GCC would compute all products first, and has no registers for them.
INLINE void add_pairs_of_products(Bytes& pairs, Bytes codes, Bytes x) {
    Bytes products;
    asm("vpmaddubsw %3, %2, %1; vpaddw %1, %0, %0" : "+v"(pairs), "=&v"(products) : "v"(codes), "v"(x));
}
INLINE Bytes pairs_of_signed_products(Bytes codes, Bytes x) {
    return _mm512_maddubs_epi16(_mm512_abs_epi8(codes), _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(codes), _mm512_setzero_si512(), x));
}
// The first and third, and the second and fourth of each four signed bytes, as 16-bit integers.
INLINE Bytes even_shorts(Bytes x) { return _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8); }
INLINE Bytes odd_shorts(Bytes x) { return _mm512_srai_epi16(x, 8); }
// sum += Σ codes · x over both 16-bit integers of each lane; the same two of x for all lanes.
INLINE void add_products_of_shorts(Ints& sum, Bytes codes, Bytes x) {
    Ints products;
    asm("vpmaddwd %3, %2, %1; vpaddd %1, %0, %0" : "+v"(sum), "=&v"(products) : "v"(codes), "v"(x));
}
INLINE Ints sum_pairs(Bytes pairs) { return _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)); }

constexpr int CODE_ROWS = 6, CODE_VECTORS = 2;  // of a tile of results, while products are summed
#include "dot_by_shorts.h"

#endif

#ifdef __AVX512BF16__

#define HAS_BFLOAT16_PRODUCTS 1
// sum += Σ over both bfloat16 of each lane; the same pair of x for all lanes.
INLINE void add_pairs(Floats& sum, Bytes pairs, const uint32_t* x) {
    asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(pairs), "m"(*x));
}

#else
#define HAS_BFLOAT16_PRODUCTS 0
#endif

// ---- moving lanes

INLINE void transpose(Floats (&r)[LANES]) {
    Floats t[16];
    repeat<8>([&](auto i) LAMBDA {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    });
    repeat<4>([&](auto i) LAMBDA {
        repeat<2>([&](auto j) LAMBDA {
            const __m512d a = _mm512_castps_pd(t[4 * i + j]), b = _mm512_castps_pd(t[4 * i + 2 + j]);
            r[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        });
    });
    repeat<4>([&](auto i) LAMBDA {
        repeat<2>([&](auto j) LAMBDA {
            t[8 * j + i] = _mm512_shuffle_f32x4(r[8 * j + i], r[8 * j + 4 + i], 0x88);
            t[8 * j + 4 + i] = _mm512_shuffle_f32x4(r[8 * j + i], r[8 * j + 4 + i], 0xDD);
        });
    });
    repeat<8>([&](auto i) LAMBDA {
        r[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xDD);
    });
}

INLINE void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }
// Into the second level: the first has buffers for few lines on their way, and loads would wait for them.
INLINE void prefetch_far(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }

// How many results stay in registers: rows × vectors.
constexpr int TILE_ROWS = 6, TILE_VECTORS = 4, FEW_ROWS = 8;
