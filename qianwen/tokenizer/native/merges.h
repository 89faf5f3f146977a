// Merges of byte-pair encoding, the most frequent pair of neighbours first; of equally frequent ones that of lower ids.
//
// Words lie one behind the other in one array, a byte to a cell. A token's id stands in its first and its last cell, so
// that both neighbours are found from its place and its size. Every pair keeps its places, in ascending order. Merging
// (a, b) into c walks through them: the pair to the left, (x, a), becomes (x, c), and (b, y) becomes (c, y). As c is
// new, so are those pairs: their places are complete, and in order, when the walk ends. All others only get rarer, so
// the heap may hold totals of the past: one that is too high comes up early, and is put back with that of today.
#pragma once

#include <algorithm>
#include <cstdint>
#include <queue>
#include <vector>

#include "words.h"

class Merges {
  public:
    // At most `LIMIT` bytes of different words, each between two borders.
    static constexpr uint64_t LIMIT = UINT32_MAX;

    static uint64_t cells_for(const Words& words) { return words.bytes.size() + words.words.size() + 1; }

    explicit Merges(const Words& words) : slots(1 << 17, EMPTY) {
        cells.reserve(cells_for(words));
        cells.push_back({BORDER, 0});
        for (const Words::Word& word : words.words) {
            for (uint32_t k = 0; k < word.size; k++)
                cells.push_back({words.bytes[word.start + k], uint32_t(counts.size())});
            cells.push_back({BORDER, 0});
            counts.push_back(word.count);
        }
        sizes.assign(256, 1);
        for (uint32_t place = 1; place + 1 < cells.size(); place++)
            if (cells[place].token != BORDER && cells[place + 1].token != BORDER) {
                Pair& pair = pairs[find(cells[place].token, cells[place + 1].token)];
                pair.total += counts[cells[place].word];
                pair.places.push_back(place);
            }
        for (uint32_t index = 0; index < pairs.size(); index++) push(index);
    }

    // Merges the next pair into a new token, and gives its two tokens; false if there is none.
    bool next(int32_t* left, int32_t* right) {
        while (!heap.empty()) {
            const Entry entry = heap.top();
            heap.pop();
            Pair& pair = pairs[entry.pair];
            if (pair.total == entry.total) {
                *left = pair.left;
                *right = pair.right;
                merge(std::move(pair.places), pair.left, pair.right);
                return true;
            }
            push(entry.pair);
        }
        return false;
    }

  private:
    static constexpr int32_t BORDER = -1, INSIDE = -2;
    static constexpr uint32_t EMPTY = UINT32_MAX;
    static constexpr size_t AHEAD = 12; // places

    struct Cell {
        int32_t token;
        uint32_t word;
    };
    struct Pair {
        int64_t total;
        int32_t left, right;
        std::vector<uint32_t> places; // where `left` begins, or began
    };
    struct Entry {
        int64_t total;
        int32_t left, right;
        uint32_t pair;
        bool operator<(const Entry& other) const {
            if (total != other.total) return total < other.total;
            return left != other.left ? left > other.left : right > other.right;
        }
    };
    struct Neighbour {
        int32_t token;
        int64_t total;
        uint32_t pair; // of it and the new token
    };

    std::vector<Cell> cells;
    std::vector<int64_t> counts; // of words
    std::vector<uint32_t> sizes; // of tokens, in bytes
    std::vector<Pair> pairs;
    std::vector<uint32_t> slots; // → pairs, at the hash or behind it; a power of two of them
    std::priority_queue<Entry> heap;
    std::vector<Neighbour> befores, afters;
    std::vector<uint32_t> before_of, after_of; // token → its index in those, or EMPTY

    void push(uint32_t index) {
        if (pairs[index].total > 0) heap.push({pairs[index].total, pairs[index].left, pairs[index].right, index});
    }

    size_t slot_of(int32_t left, int32_t right) const {
        const uint64_t hash = (uint64_t(left) << 32 | uint32_t(right)) * 0x9E3779B97F4A7C15;
        return (hash ^ hash >> 32) & (slots.size() - 1);
    }

    // The pair's index, of a new pair if it was not there.
    uint32_t find(int32_t left, int32_t right) {
        size_t slot = slot_of(left, right);
        for (; slots[slot] != EMPTY; slot = (slot + 1) & (slots.size() - 1))
            if (pairs[slots[slot]].left == left && pairs[slots[slot]].right == right) return slots[slot];
        slots[slot] = pairs.size();
        pairs.push_back({0, left, right, {}});
        if (2 * pairs.size() > slots.size()) grow();
        return pairs.size() - 1;
    }

    void grow() {
        slots.assign(2 * slots.size(), EMPTY);
        for (uint32_t index = 0; index < pairs.size(); index++) {
            size_t slot = slot_of(pairs[index].left, pairs[index].right);
            while (slots[slot] != EMPTY) slot = (slot + 1) & (slots.size() - 1);
            slots[slot] = index;
        }
    }

    void merge(const std::vector<uint32_t> places, int32_t a, int32_t b) {
        const int32_t merged = sizes.size();
        const uint32_t size = sizes[a] + sizes[b];
        sizes.push_back(size);
        before_of.resize(sizes.size(), EMPTY);
        after_of.resize(sizes.size(), EMPTY);
        for (size_t i = 0; i < places.size(); i++) {
            if (i + AHEAD < places.size()) __builtin_prefetch(&cells[places[i + AHEAD]], 1);
            const uint32_t place = places[i], second = place + sizes[a], end = place + size;
            if (cells[place].token != a || cells[second].token != b) continue; // other merges took it
            const int64_t count = counts[cells[place].word];
            const int32_t before = cells[place - 1].token, after = cells[end].token;
            cells[second - 1].token = cells[second].token = INSIDE;
            cells[place].token = cells[end - 1].token = merged;
            if (before != BORDER) note(befores, before_of, before, before, merged, count, place - sizes[before]);
            if (after != BORDER) note(afters, after_of, after, merged, after, count, place);
        }
        settle(befores, before_of, [&](int32_t token) { return find(token, a); });
        settle(afters, after_of, [&](int32_t token) { return find(b, token); });
    }

    // `token` stands `count` times beside the new one, and the two are the pair (left, right) that begins at `place`.
    void note(std::vector<Neighbour>& side, std::vector<uint32_t>& index_of, int32_t token, int32_t left, int32_t right, int64_t count,
              uint32_t place) {
        uint32_t& index = index_of[token];
        if (index == EMPTY) {
            index = side.size();
            side.push_back({token, 0, find(left, right)});
        }
        side[index].total += count;
        pairs[side[index].pair].places.push_back(place);
        pairs[side[index].pair].total += count;
    }

    // What stands beside the new token stands no longer beside the part it stood beside. Two in a row change once more
    // what the first one changed, so new pairs go into the heap when all is told.
    template <typename Former> void settle(std::vector<Neighbour>& side, std::vector<uint32_t>& index_of, Former former) {
        for (const Neighbour& neighbour : side) {
            pairs[former(neighbour.token)].total -= neighbour.total;
            index_of[neighbour.token] = EMPTY;
        }
        for (const Neighbour& neighbour : side) push(neighbour.pair);
        side.clear();
    }
};
