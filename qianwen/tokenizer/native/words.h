// The different pieces of texts, and how often each came.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

class Words {
  public:
    struct Word {
        uint64_t start, count; // start: in `bytes`
        uint32_t size, hash;
    };
    std::vector<Word> words; // in the order they first came
    std::vector<uint8_t> bytes;

    Words() : slots(1 << 16, EMPTY) {}

    void add(const uint8_t* piece, uint32_t size) {
        const uint32_t hash = hashed(piece, size);
        size_t slot = hash & (slots.size() - 1);
        for (; slots[slot] != EMPTY; slot = (slot + 1) & (slots.size() - 1)) {
            Word& word = words[slots[slot]];
            if (word.hash == hash && word.size == size && !memcmp(bytes.data() + word.start, piece, size)) {
                word.count++;
                return;
            }
        }
        slots[slot] = words.size();
        words.push_back({bytes.size(), 1, size, hash});
        bytes.insert(bytes.end(), piece, piece + size);
        if (2 * words.size() > slots.size()) grow();
    }

  private:
    static constexpr uint32_t EMPTY = UINT32_MAX;
    std::vector<uint32_t> slots; // → words, at the hash or behind it; a power of two of them

    static uint32_t hashed(const uint8_t* p, uint32_t size) {
        const uint64_t factor = 0x9E3779B97F4A7C15;
        uint64_t hash = size * factor;
        for (; size; p += 8, size -= size < 8 ? size : 8) {
            uint64_t part = 0;
            memcpy(&part, p, size < 8 ? size : 8);
            hash = (hash ^ part) * factor;
            hash ^= hash >> 32;
        }
        return hash ^ hash >> 29;
    }

    void grow() {
        slots.assign(2 * slots.size(), EMPTY);
        for (uint32_t index = 0; index < words.size(); index++) {
            size_t slot = words[index].hash & (slots.size() - 1);
            while (slots[slot] != EMPTY) slot = (slot + 1) & (slots.size() - 1);
            slots[slot] = index;
        }
    }
};
