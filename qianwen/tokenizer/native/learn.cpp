// Learning a vocabulary, for learner.py: count the pieces of texts, then merge. Functions return -1 where memory ends.
#include <memory>
#include <new>

#include "merges.h"
#include "pieces.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

struct Learner {
    const uint8_t* kinds;
    Words words;
    std::unique_ptr<Merges> merges;
};

EXPORT Learner* qt_new(const uint8_t* kinds) {
    return new (std::nothrow) Learner{kinds, {}, {}};
}

EXPORT void qt_delete(Learner* learner) {
    delete learner;
}

// Count a text's pieces of more than one byte. 1: the different ones are more than can be merged.
EXPORT int64_t qt_count(Learner* learner, const uint8_t* text, int64_t size) try {
    Pieces(learner->kinds, text, text + size).each([&](const uint8_t* piece, int64_t length) {
        if (length > 1) learner->words.add(piece, length);
    });
    return Merges::cells_for(learner->words) > Merges::LIMIT;
} catch (const std::bad_alloc&) {
    return -1;
}

// Ends counting.
EXPORT int64_t qt_begin(Learner* learner) try {
    learner->merges = std::make_unique<Merges>(learner->words);
    learner->words = Words();
    return 0;
} catch (const std::bad_alloc&) {
    return -1;
}

// Up to `number` merges, the two tokens of each into `pairs` [number, 2]; returns how many there were.
EXPORT int64_t qt_merge(Learner* learner, int64_t number, int32_t* pairs) try {
    int64_t done = 0;
    while (done < number && learner->merges->next(pairs + 2 * done, pairs + 2 * done + 1)) done++;
    return done;
} catch (const std::bad_alloc&) {
    return -1;
}
