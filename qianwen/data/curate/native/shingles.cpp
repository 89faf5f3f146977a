// Words, shingles and signatures of texts in one pass over their characters: what text_arrays.py and minhash.py define.
#include <algorithm>
#include <cstdint>
#include <vector>

namespace {

constexpr uint64_t BASE = 0x9E3779B97F4A7C15;
enum Kind : uint8_t { SEPARATOR, LETTER, ALONE };

uint64_t mixed(uint64_t hash) {
    hash = (hash ^ hash >> 30) * 0xBF58476D1CE4E5B9;
    hash = (hash ^ hash >> 27) * 0x94D049BB133111EB;
    return hash ^ hash >> 31;
}

} // namespace

extern "C" {

// Code points of texts, one after the other; text d has those from first[d] to first[d + 1]. `kinds` and `folded` are
// what a character is and its number, and the last of `table` entries is that of all beyond.
struct Texts {
    const uint32_t* codes;
    const int64_t* first;
    int64_t count;
    const uint8_t* kinds;
    const uint64_t* folded;
    int64_t table;
};
}

namespace {

// Hashes of the words of text d.
void read_words(const Texts& texts, int64_t d, std::vector<uint64_t>& words) {
    words.clear();
    bool inside = false;
    uint64_t hash = 0, power = 1;
    for (int64_t i = texts.first[d]; i < texts.first[d + 1]; i++) {
        const int64_t place = std::min<int64_t>(texts.codes[i], texts.table - 1);
        const uint8_t kind = texts.kinds[place];
        if (kind == LETTER) {
            if (!inside) hash = 0, power = 1;
            inside = true;
            hash += texts.folded[place] * power;
            power *= BASE;
            continue;
        }
        if (inside) words.push_back(hash);
        inside = false;
        if (kind == ALONE) words.push_back(texts.folded[place]);
    }
    if (inside) words.push_back(hash);
}

uint64_t joined(const uint64_t* words, int64_t count) {
    uint64_t hash = 0, power = 1;
    for (int64_t i = 0; i < count; i++, power *= BASE) hash += words[i] * power;
    return mixed(hash);
}

// Hashes of all runs of `size` words; of the whole if it has fewer.
void read_shingles(const std::vector<uint64_t>& words, int64_t size, std::vector<uint32_t>& shingles) {
    const int64_t count = words.size();
    shingles.clear();
    if (count && count < size) shingles.push_back(joined(words.data(), count) >> 32);
    for (int64_t i = 0; i + size <= count; i++) shingles.push_back(joined(words.data() + i, size) >> 32);
}

constexpr int64_t LANES = 40; // functions at a time: what they need stays in registers

void lowest(const std::vector<uint32_t>& shingles, const uint32_t* a, const uint32_t* b, uint32_t* least) {
    uint32_t low[LANES];
    std::fill_n(low, LANES, UINT32_MAX);
    for (const uint32_t x : shingles)
        for (int64_t h = 0; h < LANES; h++) low[h] = std::min(low[h], a[h] * x + b[h]);
    std::copy_n(low, LANES, least);
}

} // namespace

extern "C" {

// For each text how many words it has, one hash of them all, and for each of `functions` hash functions a·x + b the
// least value of a shingle: num_words [D], keys [D], least [D, H].
__attribute__((visibility("default"))) void qd_sign(const Texts* texts, int64_t size, const uint32_t* a, const uint32_t* b,
                                                    int64_t functions, int64_t* num_words, uint64_t* keys, uint32_t* least) {
    std::vector<uint64_t> words;
    std::vector<uint32_t> shingles;
    for (int64_t d = 0; d < texts->count; d++, least += functions) {
        read_words(*texts, d, words);
        read_shingles(words, size, shingles);
        num_words[d] = words.size();
        keys[d] = joined(words.data(), words.size());
        int64_t h = 0;
        for (; h + LANES <= functions; h += LANES) lowest(shingles, a + h, b + h, least + h);
        for (; h < functions; h++) {
            least[h] = UINT32_MAX;
            for (const uint32_t x : shingles) least[h] = std::min(least[h], a[h] * x + b[h]);
        }
    }
}

// The shingles of each text, sorted and once each, text after text, and how many each has [D]; returns how many in all.
// There is room for as many as there are characters.
__attribute__((visibility("default"))) int64_t qd_sets(const Texts* texts, int64_t size, uint32_t* values, int64_t* counts) {
    std::vector<uint64_t> words;
    std::vector<uint32_t> shingles;
    const uint32_t* begin = values;
    for (int64_t d = 0; d < texts->count; d++) {
        read_words(*texts, d, words);
        read_shingles(words, size, shingles);
        std::sort(shingles.begin(), shingles.end());
        counts[d] = std::unique(shingles.begin(), shingles.end()) - shingles.begin();
        values = std::copy_n(shingles.begin(), counts[d], values);
    }
    return values - begin;
}

// How many values the sets of both documents of each pair hold: pairs [P, 2]; set d is values[begin[d]], … , sizes[d] of
// them, ascending.
__attribute__((visibility("default"))) void qd_shared(const int64_t* pairs, int64_t count, const uint32_t* values,
                                                      const int64_t* begin, const int64_t* sizes, int64_t* shared) {
    for (int64_t p = 0; p < count; p++) {
        const uint32_t *a = values + begin[pairs[2 * p]], *b = values + begin[pairs[2 * p + 1]];
        const uint32_t *a_end = a + sizes[pairs[2 * p]], *b_end = b + sizes[pairs[2 * p + 1]];
        int64_t both = 0;
        while (a != a_end && b != b_end) { // no branch on which is less: that cannot be foreseen
            const uint32_t x = *a, y = *b;
            both += x == y;
            a += x <= y;
            b += y <= x;
        }
        shared[p] = both;
    }
}
}
