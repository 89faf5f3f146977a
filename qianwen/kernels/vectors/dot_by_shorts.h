// Sums of products of bytes where the processor sums only two of them, in 16 bits (included by a family).
//
// Codes of few bits leave room for several such sums before they must become 32 bits: eight of four bits, four of five,
// two of six. Eight bits are taken as signed, whose products just fit.

template <int BITS> struct Dot {
    static constexpr int STEPS = BITS == 8 ? 1 : 32767 / (2 * 127 * ((1 << BITS) - 1));
    Ints sum;
    Bytes pairs;

    // The I-th of COUNT products, in order.
    template <int I, int COUNT> MEMBER void add(Bytes codes, const int8_t* x) {
        if constexpr (BITS == 8) pairs = pairs_of_signed_products(xor_bits(codes, all_bytes(-128)), all_quads(x));
        else if constexpr (I % STEPS == 0) pairs = pairs_of_products(codes, all_quads(x));
        else add_pairs_of_products(pairs, codes, all_quads(x));
        if constexpr (I % STEPS == STEPS - 1 || I == COUNT - 1) sum = add_ints(sum, sum_pairs(pairs));
    }
};
