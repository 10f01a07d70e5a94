// Products of bfloat16 in the tile registers of Intel's AMX: sixteen rows by sixteen columns at a time.
//
// A step of the loops multiplies few rows, those of the batch, by all recurrent weights: too few for the products of
// torch, which would pack the weights anew at each step. Here they stay packed as `tile` of native_products.h reads them,
// which is as tiles are loaded: each row of a panel holds pairs of neighbours in depth.

#pragma once

#include <algorithm>
#include <initializer_list>
#include <type_traits>

#include "native_vectors.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#define ASR_LSTM_TILES 1
#if !defined(ASR_LSTM_TILE_DATA)
#define ASR_LSTM_TILE_DATA 18  // XFEATURE_XTILEDATA; tests ask for what no system grants
#endif
#endif

namespace {

constexpr int64_t kTile = 16;  // rows of a tile, numbers of 32 bits in each of them

#if defined(ASR_LSTM_TILES)

// Whether this process may use tile registers: Linux gives their memory to those who ask (x86/xstate.rst of its
// documentation), and a sandbox may refuse.
inline bool tiles_granted() {
  constexpr long kAsk = 0x1023;  // ARCH_REQ_XCOMP_PERM
  static const bool granted = syscall(SYS_arch_prctl, kAsk, long{ASR_LSTM_TILE_DATA}) == 0;
  return granted;
}

// As the processor reads it: how many rows each register has, and how many bytes a row.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};

  // Registers 0 to 3 are for sums and have `high` rows, as has what is on the left; the right side is always whole.
  TileShapes(int64_t high, std::initializer_list<int> right) {
    for (int at = 0; at < 8; ++at) {
      bytes[at] = kTile * sizeof(float);
      rows[at] = static_cast<uint8_t>(high);
    }
    for (const int at : right) rows[at] = kTile;
  }
};

// gcc knows neither what `_tile_loadd` nor what `_tile_loadconfig` reads: nothing is to be moved past these.
inline void settle_memory() { __asm__ volatile("" ::: "memory"); }

// The columns from `column` on of one register's sums, of which the matrix may have fewer than sixteen.
template <typename Save, typename Number>
void put_tile(Save save, int64_t high, Number* to, int64_t stride, int64_t column, int64_t columns) {
  if (columns <= column) return;
  const int64_t width = std::min(kTile, columns - column);
  if constexpr (std::is_same_v<Number, float>) {
    if (width == kTile) return save(to + column, stride * sizeof(float));
  }
  alignas(64) float sums[kTile * kTile];
  save(sums, kTile * sizeof(float));
  for (int64_t row = 0; row < high; ++row) {
    Number* out = to + row * stride + column;
    width == kTile ? store(out, load(sums + row * kTile)) : Rest{0, width}.put(out, load(sums + row * kTile));
  }
}

// to (rows, columns) = left (rows, depth) * panels (depth, two tiles wide), where depth counts pairs and is a multiple of
// kTile. Weights come from the second cache, in about the time of sixteen rows: so as many rows as there are share them.
template <typename Number>
__attribute__((noinline)) void multiply_in_tiles(const uint32_t* left, int64_t left_stride, int64_t rows,
                                                 const uint32_t* panels, int64_t depth, int64_t columns, Number* to,
                                                 int64_t to_stride) {
  constexpr int64_t kWide = 2 * kTile;  // of a panel
  constexpr int64_t kPanelBytes = kWide * sizeof(uint32_t);
  const int64_t left_bytes = left_stride * sizeof(uint32_t), panel_size = depth * kWide;
  if (rows <= kTile) {  // one block of rows, four of columns, so that no sum waits for itself
    const TileShapes shapes(rows, {5, 6, 7});
    settle_memory();
    _tile_loadconfig(&shapes);
    for (int64_t column = 0; column < columns; column += 2 * kWide) {
      const uint32_t* first = panels + column / kWide * panel_size;
      const uint32_t* second = column + kWide < columns ? first + panel_size : first;
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int64_t k = 0; k < depth; k += kTile) {
        _tile_loadd(4, left + k, left_bytes);
        _tile_loadd(5, first + k * kWide, kPanelBytes);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(6, first + k * kWide + kTile, kPanelBytes);
        _tile_dpbf16ps(1, 4, 6);
        _tile_loadd(7, second + k * kWide, kPanelBytes);
        _tile_dpbf16ps(2, 4, 7);
        _tile_loadd(5, second + k * kWide + kTile, kPanelBytes);
        _tile_dpbf16ps(3, 4, 5);
      }
      const auto put = [&](auto save, int64_t at) { put_tile(save, rows, to, to_stride, column + at, columns); };
      put([](float* out, int64_t bytes) { _tile_stored(0, out, bytes); }, 0);
      put([](float* out, int64_t bytes) { _tile_stored(1, out, bytes); }, kTile);
      put([](float* out, int64_t bytes) { _tile_stored(2, out, bytes); }, 2 * kTile);
      put([](float* out, int64_t bytes) { _tile_stored(3, out, bytes); }, 3 * kTile);
    }
  } else {  // two of rows, two of columns; where rows are no multiple of these, the last blocks overlap
    const int64_t blocks = (rows + 2 * kTile - 1) / (2 * kTile), high = ((rows + blocks - 1) / blocks + 1) / 2;
    const TileShapes shapes(high, {6, 7});
    settle_memory();
    _tile_loadconfig(&shapes);
    for (int64_t column = 0; column < columns; column += kWide) {
      const uint32_t* panel = panels + column / kWide * panel_size;
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t upper = std::min(2 * high * block, rows - high), lower = std::min(upper + high, rows - high);
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int64_t k = 0; k < depth; k += kTile) {
          _tile_loadd(6, panel + k * kWide, kPanelBytes);
          _tile_loadd(7, panel + k * kWide + kTile, kPanelBytes);
          _tile_loadd(4, left + upper * left_stride + k, left_bytes);
          _tile_dpbf16ps(0, 4, 6);
          _tile_dpbf16ps(1, 4, 7);
          _tile_loadd(5, left + lower * left_stride + k, left_bytes);
          _tile_dpbf16ps(2, 5, 6);
          _tile_dpbf16ps(3, 5, 7);
        }
        const auto put = [&](auto save, int64_t row, int64_t at) {
          put_tile(save, high, to + row * to_stride, to_stride, column + at, columns);
        };
        put([](float* out, int64_t bytes) { _tile_stored(0, out, bytes); }, upper, 0);
        put([](float* out, int64_t bytes) { _tile_stored(1, out, bytes); }, upper, kTile);
        put([](float* out, int64_t bytes) { _tile_stored(2, out, bytes); }, lower, 0);
        put([](float* out, int64_t bytes) { _tile_stored(3, out, bytes); }, lower, kTile);
      }
    }
  }
  _tile_release();
  settle_memory();
}

#endif

}  // namespace
