// AMX, where the processor has it: eight registers, each a tile of 16 rows of 64 bytes, and one instruction that
// multiplies two of them and adds the product to a third, a thousand multiplications a cycle instead of VNNI's hundred.
//
// The left tile has 16 rows of activations, 32 bfloat16 or 64 bytes each; the right one 16 outputs, its row k holding
// their weights for two or four neighbouring inputs: as panels of bytes (formats.h) and of bfloat16 (dense.h) lie already.
#pragma once

#include "../vectors/vectors.h"

#if defined(__AMX_INT8__) && defined(__AMX_BF16__) && defined(__AVX512BF16__)
#define HAS_AMX 1
#else
#define HAS_AMX 0
#endif

constexpr int TILE = 16, TILE_BYTES = 1024;

#if HAS_AMX

// All eight registers as whole tiles for as long as it lives; a thread that leaves them set up slows what runs after it.
class TileRegisters {
  public:
    TileRegisters() {
        Shape shape;
        for (int i = 0; i < 8; i++) shape.row_bytes[i] = 64, shape.rows[i] = TILE;
        _tile_loadconfig(&shape);
    }
    ~TileRegisters() { _tile_release(); }
    TileRegisters(const TileRegisters&) = delete;

  private:
    struct alignas(64) Shape {
        uint8_t palette = 1, start_row = 0, reserved[14] = {};
        uint16_t row_bytes[16] = {};
        uint8_t rows[16] = {};
    };
};

#endif
