// AVX2 with FMA and F16C: eight lanes; AVX-VNNI where the compiler may.
//
// The names are those of every family (see vectors.h).
#pragma once

#include <immintrin.h>

constexpr int LANES = 8;

using Floats = __m256;
using Ints = __m256i;
using Bytes = __m256i;  // also as 16-bit integers
struct Lanes {
    __m256i bits;  // all ones in a lane that is in it
};

// ---- which lanes

INLINE __m256i lane_numbers() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
INLINE Lanes first_lanes(int64_t n) {
    return {_mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)(n > LANES ? LANES : n < 0 ? 0 : n)), lane_numbers())};
}
INLINE bool is_any(Lanes lanes) { return !_mm256_testz_si256(lanes.bits, lanes.bits); }
INLINE bool is_all(Lanes lanes) { return _mm256_movemask_epi8(lanes.bits) == -1; }
INLINE Lanes both(Lanes a, Lanes b) { return {_mm256_and_si256(a.bits, b.bits)}; }
INLINE Lanes only_first(Lanes a, Lanes b) { return {_mm256_andnot_si256(b.bits, a.bits)}; }
INLINE Lanes is_less(Floats a, Floats b) { return {_mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ))}; }
INLINE Lanes is_at_least(Floats a, Floats b) { return {_mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_GE_OQ))}; }
INLINE Lanes is_nan(Floats a) { return {_mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q))}; }
INLINE Floats select(Lanes lanes, Floats yes, Floats no) { return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(lanes.bits)); }

// ---- floats

INLINE Floats zero() { return _mm256_setzero_ps(); }
INLINE Floats all(float x) { return _mm256_set1_ps(x); }
INLINE Floats load(const float* p) { return _mm256_loadu_ps(p); }
INLINE Floats load(const float* p, Lanes lanes) { return _mm256_maskload_ps(p, lanes.bits); }
INLINE void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
INLINE void store(float* p, Floats x, Lanes lanes) { _mm256_maskstore_ps(p, lanes.bits, x); }
INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }    // a · b + c
INLINE Floats fms(Floats a, Floats b, Floats c) { return _mm256_fmsub_ps(a, b, c); }    // a · b − c
INLINE Floats fnma(Floats a, Floats b, Floats c) { return _mm256_fnmadd_ps(a, b, c); }  // c − a · b
INLINE Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
INLINE Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
INLINE Floats absolute(Floats x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
INLINE Floats rounded(Floats x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE float first_of(Floats x) { return _mm256_cvtss_f32(x); }
INLINE float sum_of(Floats x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
INLINE float largest_of(Floats x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}
// x · 2ⁿ for whole n; infinite from n = 128 on, and n must not be below −126.
INLINE Floats scaled_by_power(Floats x, Floats n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_min_ps(n, all(128.0f))), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
// p[0], p[stride], … of the first lanes.
INLINE Floats load_column(const float* p, int64_t stride, Lanes lanes) {
    const Ints index = _mm256_mullo_epi32(_mm256_set1_epi32(stride), lane_numbers());
    return _mm256_mask_i32gather_ps(zero(), p, index, _mm256_castsi256_ps(lanes.bits), 4);
}

// ---- other formats ↔ floats

INLINE Floats load_half(const void* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
INLINE Floats load_bytes(const uint8_t* p) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p))); }
INLINE Floats load_bytes(const int8_t* p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p))); }
INLINE Floats widened(__m128i half) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16)); }
INLINE Floats load_bfloat16(const uint16_t* p) { return widened(_mm_loadu_si128((const __m128i*)p)); }
INLINE int count_of(Lanes lanes) { return __builtin_popcount(_mm256_movemask_ps(_mm256_castsi256_ps(lanes.bits))); }
INLINE Floats load_bfloat16(const uint16_t* p, Lanes lanes) {
    uint16_t part[LANES] = {};
    std::memcpy(part, p, count_of(lanes) * sizeof(uint16_t));
    return load_bfloat16(part);
}
INLINE __m128i narrowed(Floats x) {  // to nearest even
    const Ints bits = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const Ints sum = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
}
INLINE void store_bfloat16(uint16_t* p, Floats x) { _mm_storeu_si128((__m128i*)p, narrowed(x)); }
INLINE void store_bfloat16(uint16_t* p, Floats x, Lanes lanes) {
    uint16_t part[LANES];
    store_bfloat16(part, x);
    std::memcpy(p, part, count_of(lanes) * sizeof(uint16_t));
}
// The first and the second bfloat16 of each 32-bit lane.
INLINE Floats first_of_pairs(Bytes pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)); }
INLINE Floats second_of_pairs(Bytes pairs) { return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xFFFF0000))); }

// ---- 32-bit integers

INLINE Ints no_ints() { return _mm256_setzero_si256(); }
INLINE Ints all_ints(int32_t x) { return _mm256_set1_epi32(x); }
INLINE Ints load_ints(const int32_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
INLINE Ints add_ints(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
INLINE Floats to_floats(Ints x) { return _mm256_cvtepi32_ps(x); }
INLINE Ints to_ints(Floats x) { return _mm256_cvtps_epi32(x); }  // to nearest, ties to even
INLINE Lanes is_at_most(Ints a, Ints b) { return {_mm256_xor_si256(_mm256_cmpgt_epi32(a, b), _mm256_set1_epi32(-1))}; }
// Of each 32-bit lane the low and the high half, side by side.
INLINE void store_halves(uint16_t* low, uint16_t* high, Floats x) {
    const __m256i bits = _mm256_castps_si256(x), a = _mm256_and_si256(bits, _mm256_set1_epi32(0xFFFF)), b = _mm256_srli_epi32(bits, 16);
    _mm_storeu_si128((__m128i*)low, _mm_packus_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
    _mm_storeu_si128((__m128i*)high, _mm_packus_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1)));
}
// The inverse, as one vector of pairs.
INLINE Bytes load_halves(const uint16_t* low, const uint16_t* high) {
    const Ints a = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)low)), b = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)high));
    return _mm256_or_si256(a, _mm256_slli_epi32(b, 16));
}
// Two numbers as the bfloat16 of a lane, rounded half up.
INLINE Bytes round_to_pairs(Floats even, Floats odd) {
    const Ints half = _mm256_set1_epi32(0x8000), low = _mm256_srli_epi32(_mm256_add_epi32(_mm256_castps_si256(even), half), 16);
    const Ints high = _mm256_add_epi32(_mm256_castps_si256(odd), half);
    return _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi32(0xFFFF0000)));
}
INLINE int32_t sum_of_ints(Ints x) {
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xB1)));
}
INLINE void store_as_bytes(int8_t* p, Ints x) {  // of −128 … 127
    const __m128i shorts = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storel_epi64((__m128i*)p, _mm_packs_epi16(shorts, shorts));
}
// The low 16 bits of each integer, twice.
INLINE Bytes in_both_halves(Ints x) {
    return _mm256_or_si256(_mm256_and_si256(x, _mm256_set1_epi32(0xFFFF)), _mm256_slli_epi32(x, 16));
}

// ---- bytes, and pairs of them as 16-bit integers

INLINE Bytes load_codes(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
INLINE void store_codes(void* p, Bytes x) { _mm256_storeu_si256((__m256i*)p, x); }
INLINE Bytes all_bytes(int8_t x) { return _mm256_set1_epi8(x); }
INLINE Bytes all_shorts(int16_t x) { return _mm256_set1_epi16(x); }
INLINE Bytes all_quads(const void* p) {  // the same four bytes in every lane
    int32_t quad;
    std::memcpy(&quad, p, 4);
    return _mm256_set1_epi32(quad);
}
INLINE Bytes and_bits(Bytes a, Bytes b) { return _mm256_and_si256(a, b); }
INLINE Bytes or_bits(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
INLINE Bytes xor_bits(Bytes a, Bytes b) { return _mm256_xor_si256(a, b); }
INLINE Bytes and_not_bits(Bytes a, Bytes b) { return _mm256_andnot_si256(a, b); }  // b where a is not
template <int N> INLINE Bytes shorts_left(Bytes x) { return _mm256_slli_epi16(x, N); }
template <int N> INLINE Bytes shorts_right(Bytes x) { return _mm256_srli_epi16(x, N); }
INLINE Bytes add_shorts(Bytes a, Bytes b) { return _mm256_add_epi16(a, b); }
INLINE Bytes multiply_shorts(Bytes a, Bytes b) { return _mm256_mullo_epi16(a, b); }
INLINE Bytes multiply_fractions(Bytes a, Bytes b) { return _mm256_mulhrs_epi16(a, b); }  // of 2¹⁵, rounded
// `bit` in the bytes whose bits are set at p, and zero elsewhere.
INLINE Bytes expand_bits(const uint8_t* p, uint8_t bit) {
    int32_t bits;
    std::memcpy(&bits, p, 4);
    const Bytes which = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const Bytes own = _mm256_set1_epi64x(0x8040201008040201);
    const Bytes spread = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), which), own);
    return _mm256_and_si256(_mm256_cmpeq_epi8(spread, own), _mm256_set1_epi8(bit));
}

// ---- sums of products of bytes

#ifdef __AVXVNNI__

#define SUMS_BY_SHORTS 0
constexpr bool EIGHT_BITS_ARE_SIGNED = false;

// sum += Σ codes · x over the four bytes of each lane, codes unsigned, x signed.
INLINE void add_products(Ints& sum, Bytes codes, Bytes x) { asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(codes), "x"(x)); }

// Products of codes of BITS bits, summed up.
template <int BITS> struct Dot {
    Ints sum;
    template <int I, int COUNT> MEMBER void add(Bytes codes, const int8_t* x) { add_products(sum, codes, all_quads(x)); }
};

#else

#define SUMS_BY_SHORTS 1
constexpr bool EIGHT_BITS_ARE_SIGNED = true;  // unsigned ones would overflow the 16 bits that two products are summed in

INLINE Bytes pairs_of_products(Bytes codes, Bytes x) { return _mm256_maddubs_epi16(codes, x); }
// In assembly because GCC would compute all products first, and has no registers for them.
INLINE void add_pairs_of_products(Bytes& pairs, Bytes codes, Bytes x) {
    Bytes products;
    asm("vpmaddubsw %3, %2, %1; vpaddw %1, %0, %0" : "+x"(pairs), "=&x"(products) : "x"(codes), "x"(x));
}
INLINE Bytes pairs_of_signed_products(Bytes codes, Bytes x) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
}
// The first and third, and the second and fourth of each four signed bytes, as 16-bit integers.
INLINE Bytes even_shorts(Bytes x) { return _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8); }
INLINE Bytes odd_shorts(Bytes x) { return _mm256_srai_epi16(x, 8); }
// sum += Σ codes · x over both 16-bit integers of each lane; the same two of x for all lanes.
INLINE void add_products_of_shorts(Ints& sum, Bytes codes, Bytes x) {
    Ints products;
    asm("vpmaddwd %3, %2, %1; vpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(codes), "x"(x));
}
INLINE Ints sum_pairs(Bytes pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

constexpr int CODE_ROWS = 4, CODE_VECTORS = 2;  // of a tile of results, while products are summed
#include "dot_by_shorts.h"

#endif

#define HAS_BFLOAT16_PRODUCTS 0

// ---- moving lanes

INLINE void transpose(Floats (&r)[LANES]) {
    Floats t[8];
    repeat<4>([&](auto i) LAMBDA {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    });
    repeat<2>([&](auto i) LAMBDA {
        repeat<2>([&](auto j) LAMBDA {
            r[4 * i + 2 * j] = _mm256_shuffle_ps(t[4 * i + j], t[4 * i + 2 + j], 0x44);
            r[4 * i + 2 * j + 1] = _mm256_shuffle_ps(t[4 * i + j], t[4 * i + 2 + j], 0xEE);
        });
    });
    repeat<4>([&](auto i) LAMBDA {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    });
    repeat<8>([&](auto i) LAMBDA { r[i] = t[i]; });
}

INLINE void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }
// Into the second level: the first has buffers for few lines on their way, and loads would wait for them.
INLINE void prefetch_far(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }

// How many results stay in registers: rows × vectors.
constexpr int TILE_ROWS = 4, TILE_VECTORS = 2, FEW_ROWS = 4;
