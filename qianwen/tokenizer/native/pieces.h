// Text cut into pieces as Qwen's pattern cuts it (patterns.py), in one pass over UTF-8.
#pragma once

#include <cstdint>

// What a character is to the pattern. A text ends with END, which no character is.
enum Kind : uint8_t { OTHER, LETTER, NUMBER, BLANK, LINE_END, END };

class Pieces {
  public:
    // `kinds` has the kind of every code point; the text is valid UTF-8.
    Pieces(const uint8_t* kinds, const uint8_t* text, const uint8_t* end) : kinds(kinds), at(text), end(end) {}

    // Calls take(start, size) for every piece.
    template <typename Take> void each(Take take) {
        while (at < end) {
            const uint8_t* start = at;
            at = piece(start);
            take(start, at - start);
        }
    }

  private:
    const uint8_t *kinds, *at, *end;

    struct Character {
        uint8_t kind, size;
    };

    Character read(const uint8_t* p) const {
        if (p >= end) return {END, 0};
        if (*p < 0x80) return {kinds[*p], 1};
        if (*p < 0xE0) return {kinds[(*p & 0x1F) << 6 | (p[1] & 0x3F)], 2};
        if (*p < 0xF0) return {kinds[(*p & 0x0F) << 12 | (p[1] & 0x3F) << 6 | (p[2] & 0x3F)], 3};
        return {kinds[(*p & 0x07) << 18 | (p[1] & 0x3F) << 12 | (p[2] & 0x3F) << 6 | (p[3] & 0x3F)], 4};
    }

    const uint8_t* skip(const uint8_t* p, Kind kind) const {
        for (Character c = read(p); c.kind == kind; c = read(p)) p += c.size;
        return p;
    }

    // The alternatives in the pattern's order.
    const uint8_t* piece(const uint8_t* p) const {
        if (const int size = contraction(p)) return p + size;
        const Character c = read(p);
        if (c.kind == LETTER) return skip(p, LETTER);
        const uint8_t* next = p + c.size;
        if (c.kind == NUMBER) return next;
        if (c.kind != LINE_END && read(next).kind == LETTER) return skip(next, LETTER);
        const uint8_t* signs = *p == ' ' ? next : p;
        if (read(signs).kind == OTHER) return skip(skip(signs, OTHER), LINE_END);
        return blanks(p);
    }

    // The size of 's 't 're 've 'm 'll 'd in either case, the long s included, which folds to s; else 0.
    int contraction(const uint8_t* p) const {
        if (*p != '\'' || end - p < 2) return 0;
        const uint8_t first = p[1] | 0x20, second = end - p > 2 ? p[2] | 0x20 : 0;
        if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
        if (second == 'e' && (first == 'r' || first == 'v')) return 3;
        if (second == 'l' && first == 'l') return 3;
        return p[1] == 0xC5 && end - p > 2 && p[2] == 0xBF ? 3 : 0;
    }

    // Up to the last line end of the run; without one, all but the last blank, which goes with what follows.
    const uint8_t* blanks(const uint8_t* p) const {
        const uint8_t *start = p, *last = p, *behind_line_end = nullptr;
        Character c = read(p);
        for (; c.kind == BLANK || c.kind == LINE_END; c = read(p)) {
            last = p;
            p += c.size;
            if (c.kind == LINE_END) behind_line_end = p;
        }
        if (behind_line_end) return behind_line_end;
        return c.kind == END || last == start ? p : last;
    }
};
