// 64-bit Arm with dot products (Apple, Graviton, Snapdragon): four lanes; i8mm where the compiler may.
//
// The names are those of every family (see vectors.h).
#pragma once

#include <arm_neon.h>

constexpr int LANES = 4;

using Floats = float32x4_t;
using Ints = int32x4_t;
using Bytes = uint8x16_t;  // also as 16-bit integers
struct Lanes {
    uint32x4_t bits;  // all ones in a lane that is in it
};

// ---- which lanes

INLINE int32x4_t lane_numbers() {
    const int32_t numbers[4] = {0, 1, 2, 3};
    return vld1q_s32(numbers);
}
INLINE Lanes first_lanes(int64_t n) { return {vcgtq_s32(vdupq_n_s32((int32_t)(n > LANES ? LANES : n < 0 ? 0 : n)), lane_numbers())}; }
INLINE bool is_any(Lanes lanes) { return vmaxvq_u32(lanes.bits); }
INLINE bool is_all(Lanes lanes) { return vminvq_u32(lanes.bits); }
INLINE Lanes both(Lanes a, Lanes b) { return {vandq_u32(a.bits, b.bits)}; }
INLINE Lanes only_first(Lanes a, Lanes b) { return {vbicq_u32(a.bits, b.bits)}; }
INLINE Lanes is_less(Floats a, Floats b) { return {vcltq_f32(a, b)}; }
INLINE Lanes is_at_least(Floats a, Floats b) { return {vcgeq_f32(a, b)}; }
INLINE Lanes is_nan(Floats a) { return {vmvnq_u32(vceqq_f32(a, a))}; }
INLINE Floats select(Lanes lanes, Floats yes, Floats no) { return vbslq_f32(lanes.bits, yes, no); }
INLINE int count_of(Lanes lanes) { return vaddvq_u32(vshrq_n_u32(lanes.bits, 31)); }

// ---- floats

INLINE Floats zero() { return vdupq_n_f32(0.0f); }
INLINE Floats all(float x) { return vdupq_n_f32(x); }
INLINE Floats load(const float* p) { return vld1q_f32(p); }
INLINE Floats load(const float* p, Lanes lanes) {
    float part[LANES] = {};
    std::memcpy(part, p, count_of(lanes) * sizeof(float));
    return load(part);
}
INLINE void store(float* p, Floats x) { vst1q_f32(p, x); }
INLINE void store(float* p, Floats x, Lanes lanes) {
    float part[LANES];
    store(part, x);
    std::memcpy(p, part, count_of(lanes) * sizeof(float));
}
INLINE Floats fma(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }               // a · b + c
INLINE Floats fms(Floats a, Floats b, Floats c) { return vfmaq_f32(vnegq_f32(c), a, b); }    // a · b − c
INLINE Floats fnma(Floats a, Floats b, Floats c) { return vfmsq_f32(c, a, b); }              // c − a · b
INLINE Floats min(Floats a, Floats b) { return vminq_f32(a, b); }
INLINE Floats max(Floats a, Floats b) { return vmaxq_f32(a, b); }
INLINE Floats absolute(Floats x) { return vabsq_f32(x); }
INLINE Floats rounded(Floats x) { return vrndnq_f32(x); }  // to nearest, ties to even
INLINE float sum_of(Floats x) { return vaddvq_f32(x); }
INLINE float largest_of(Floats x) { return vmaxvq_f32(x); }
INLINE float first_of(Floats x) { return vgetq_lane_f32(x, 0); }
// x · 2ⁿ for whole n; infinite from n = 128 on, and n must not be below −126.
INLINE Floats scaled_by_power(Floats x, Floats n) {
    const Ints exponent = vaddq_s32(vcvtnq_s32_f32(vminq_f32(n, all(128.0f))), vdupq_n_s32(127));
    return vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
}
// p[0], p[stride], … of the first lanes.
INLINE Floats load_column(const float* p, int64_t stride, Lanes lanes) {
    float part[LANES] = {};
    for (int i = 0, count = count_of(lanes); i < count; i++) part[i] = p[i * stride];
    return load(part);
}

// ---- other formats ↔ floats

INLINE Floats load_half(const void* p) { return vcvt_f32_f16(vld1_f16((const float16_t*)p)); }
INLINE Floats load_bytes(const uint8_t* p) {
    uint32_t four;
    std::memcpy(&four, p, 4);
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four))))));
}
INLINE Floats load_bytes(const int8_t* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four))))));
}
INLINE Floats widened(uint16x4_t half) { return vreinterpretq_f32_u32(vshll_n_u16(half, 16)); }
INLINE Floats load_bfloat16(const uint16_t* p) { return widened(vld1_u16(p)); }
INLINE Floats load_bfloat16(const uint16_t* p, Lanes lanes) {
    uint16_t part[LANES] = {};
    std::memcpy(part, p, count_of(lanes) * sizeof(uint16_t));
    return load_bfloat16(part);
}
INLINE uint16x4_t narrowed(Floats x) {  // to nearest even
    const uint32x4_t bits = vreinterpretq_u32_f32(x), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    return vshrn_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), odd), 16);
}
INLINE void store_bfloat16(uint16_t* p, Floats x) { vst1_u16(p, narrowed(x)); }
INLINE void store_bfloat16(uint16_t* p, Floats x, Lanes lanes) {
    uint16_t part[LANES];
    store_bfloat16(part, x);
    std::memcpy(p, part, count_of(lanes) * sizeof(uint16_t));
}
// The first and the second bfloat16 of each 32-bit lane.
INLINE Floats first_of_pairs(Bytes pairs) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u8(pairs), 16)); }
INLINE Floats second_of_pairs(Bytes pairs) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u8(pairs), vdupq_n_u32(0xFFFF0000)));
}

// ---- 32-bit integers

INLINE Ints no_ints() { return vdupq_n_s32(0); }
INLINE Ints all_ints(int32_t x) { return vdupq_n_s32(x); }
INLINE Ints load_ints(const int32_t* p) { return vld1q_s32(p); }
INLINE Ints add_ints(Ints a, Ints b) { return vaddq_s32(a, b); }
INLINE Floats to_floats(Ints x) { return vcvtq_f32_s32(x); }
INLINE Ints to_ints(Floats x) { return vcvtnq_s32_f32(x); }  // to nearest, ties to even
INLINE Lanes is_at_most(Ints a, Ints b) { return {vcleq_s32(a, b)}; }
// Of each 32-bit lane the low and the high half, side by side.
INLINE void store_halves(uint16_t* low, uint16_t* high, Floats x) {
    const uint32x4_t bits = vreinterpretq_u32_f32(x);
    vst1_u16(low, vmovn_u32(bits));
    vst1_u16(high, vshrn_n_u32(bits, 16));
}
// The inverse, as one vector of pairs.
INLINE Bytes load_halves(const uint16_t* low, const uint16_t* high) {
    return vreinterpretq_u8_u32(vorrq_u32(vmovl_u16(vld1_u16(low)), vshll_n_u16(vld1_u16(high), 16)));
}
// Two numbers as the bfloat16 of a lane, rounded half up.
INLINE Bytes round_to_pairs(Floats even, Floats odd) {
    const uint32x4_t half = vdupq_n_u32(0x8000), low = vshrq_n_u32(vaddq_u32(vreinterpretq_u32_f32(even), half), 16);
    const uint32x4_t high = vaddq_u32(vreinterpretq_u32_f32(odd), half);
    return vreinterpretq_u8_u32(vorrq_u32(low, vandq_u32(high, vdupq_n_u32(0xFFFF0000))));
}
INLINE int32_t sum_of_ints(Ints x) { return vaddvq_s32(x); }
INLINE void store_as_bytes(int8_t* p, Ints x) {  // of −128 … 127
    const int8x8_t bytes = vmovn_s16(vcombine_s16(vmovn_s32(x), vdup_n_s16(0)));
    const int32_t four = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
    std::memcpy(p, &four, 4);
}
// The low 16 bits of each integer, twice.
INLINE Bytes in_both_halves(Ints x) {
    const uint32x4_t bits = vreinterpretq_u32_s32(x);
    return vreinterpretq_u8_u32(vorrq_u32(vandq_u32(bits, vdupq_n_u32(0xFFFF)), vshlq_n_u32(bits, 16)));
}

// ---- bytes, and pairs of them as 16-bit integers

INLINE uint16x8_t shorts(Bytes x) { return vreinterpretq_u16_u8(x); }
INLINE Bytes load_codes(const void* p) { return vld1q_u8((const uint8_t*)p); }
INLINE void store_codes(void* p, Bytes x) { vst1q_u8((uint8_t*)p, x); }
INLINE Bytes all_bytes(int8_t x) { return vdupq_n_u8((uint8_t)x); }
INLINE Bytes all_shorts(int16_t x) { return vreinterpretq_u8_s16(vdupq_n_s16(x)); }
INLINE Bytes all_quads(const void* p) {  // the same four bytes in every lane
    uint32_t quad;
    std::memcpy(&quad, p, 4);
    return vreinterpretq_u8_u32(vdupq_n_u32(quad));
}
INLINE Bytes and_bits(Bytes a, Bytes b) { return vandq_u8(a, b); }
INLINE Bytes or_bits(Bytes a, Bytes b) { return vorrq_u8(a, b); }
INLINE Bytes xor_bits(Bytes a, Bytes b) { return veorq_u8(a, b); }
INLINE Bytes and_not_bits(Bytes a, Bytes b) { return vbicq_u8(b, a); }  // b where a is not
template <int N> INLINE Bytes shorts_left(Bytes x) {
    if constexpr (N == 0) return x;
    else return vreinterpretq_u8_u16(vshlq_n_u16(shorts(x), N));
}
template <int N> INLINE Bytes shorts_right(Bytes x) { return vreinterpretq_u8_u16(vshrq_n_u16(shorts(x), N)); }
INLINE Bytes add_shorts(Bytes a, Bytes b) { return vreinterpretq_u8_u16(vaddq_u16(shorts(a), shorts(b))); }
INLINE Bytes multiply_shorts(Bytes a, Bytes b) { return vreinterpretq_u8_u16(vmulq_u16(shorts(a), shorts(b))); }
INLINE Bytes multiply_fractions(Bytes a, Bytes b) {  // of 2¹⁵, rounded
    return vreinterpretq_u8_s16(vqrdmulhq_s16(vreinterpretq_s16_u8(a), vreinterpretq_s16_u8(b)));
}
// `bit` in the bytes whose bits are set at p, and zero elsewhere.
INLINE Bytes expand_bits(const uint8_t* p, uint8_t bit) {
    const uint8_t powers[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const Bytes spread = vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1]));
    return vandq_u8(vtstq_u8(spread, vld1q_u8(powers)), vdupq_n_u8(bit));
}

// ---- sums of products of bytes

#define SUMS_BY_SHORTS 0

#ifdef __ARM_FEATURE_MATMUL_INT8

constexpr bool EIGHT_BITS_ARE_SIGNED = false;

// sum += Σ codes · x over the four bytes of each lane, codes unsigned, x signed.
INLINE void add_products(Ints& sum, Bytes codes, Bytes x) { sum = vusdotq_s32(sum, codes, vreinterpretq_s8_u8(x)); }

#else

constexpr bool EIGHT_BITS_ARE_SIGNED = true;

// sum += Σ codes · x over the four bytes of each lane, both signed.
INLINE void add_products(Ints& sum, Bytes codes, Bytes x) {
    sum = vdotq_s32(sum, vreinterpretq_s8_u8(codes), vreinterpretq_s8_u8(x));
}

#endif

// Products of codes of BITS bits, summed up.
template <int BITS> struct Dot {
    Ints sum;
    template <int I, int COUNT> MEMBER void add(Bytes codes, const int8_t* x) {
        if constexpr (BITS == 8 && EIGHT_BITS_ARE_SIGNED) codes = xor_bits(codes, all_bytes(-128));
        add_products(sum, codes, all_quads(x));
    }
};

#define HAS_BFLOAT16_PRODUCTS 0

// ---- moving lanes

INLINE void transpose(Floats (&r)[LANES]) {
    const Floats a = vtrn1q_f32(r[0], r[1]), b = vtrn2q_f32(r[0], r[1]), c = vtrn1q_f32(r[2], r[3]), d = vtrn2q_f32(r[2], r[3]);
    const auto low = [](Floats x, Floats y) { return vcombine_f32(vget_low_f32(x), vget_low_f32(y)); };
    const auto high = [](Floats x, Floats y) { return vcombine_f32(vget_high_f32(x), vget_high_f32(y)); };
    r[0] = low(a, c), r[1] = low(b, d), r[2] = high(a, c), r[3] = high(b, d);
}

INLINE void prefetch(const void* p) { __builtin_prefetch(p); }
INLINE void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }  // into the second level

// How many results stay in registers: rows × vectors.
constexpr int TILE_ROWS = 6, TILE_VECTORS = 4, FEW_ROWS = 4;
