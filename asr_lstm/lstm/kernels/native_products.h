// Matrix products: small tiles kept in registers, in float32 or in pairs of bfloat16, and threads to share them.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <thread>
#include <vector>

#include "native_tiles.h"
#include "native_vectors.h"

namespace {

#if defined(__AVX512F__)
constexpr int kMaxRows = 12;  // 12 x 2 accumulators, 2 weights and a broadcast fit 32 registers
#else
constexpr int kMaxRows = 6;   // 6 x 2 accumulators, 2 weights and a broadcast fit 16 registers
#endif
constexpr int kPanel = 2 * kLanes;
// Rows of a scratch buffer are so much longer than a power of two, lest they share the sets of the first cache.
constexpr int64_t kSkew = 16;

// Runs a function on several threads at once: the pool of torch's own products (GOMP_parallel), or none.
using Pool = void (*)(void (*)(void*), void*, unsigned, unsigned);

// Runs task(0) .. task(tasks - 1), each on whichever thread is free. A thread of torch's own pool would spin for
// milliseconds on the core that a thread of ours needs: so its pool is used where there is one.
template <typename Task>
void run_tasks(int64_t tasks, int64_t threads, Pool pool, Task task) {
  threads = std::min(threads, tasks);
  if (threads <= 1) {
    for (int64_t index = 0; index < tasks; ++index) task(index);
    return;
  }
  struct Shared {
    std::atomic<int64_t> next{0};
    int64_t tasks;
    Task& task;
  } shared{{0}, tasks, task};
  const auto work = [](void* data) {
    auto& all = *static_cast<Shared*>(data);
    for (int64_t index = all.next++; index < all.tasks; index = all.next++) all.task(index);
  };
  if (pool != nullptr) {
    pool(work, &shared, static_cast<unsigned>(threads), 0);
    return;
  }
  std::vector<std::thread> others;
  for (int64_t index = 1; index < threads; ++index) others.emplace_back(work, &shared);
  work(&shared);
  for (auto& other : others) other.join();
}

// Memory that is kept from call to call, so that its pages are met once.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }

  template <typename Number>
  Number* take(int64_t count) {
    const size_t bytes = (count * sizeof(Number) + 63) / 64 * 64;
    if (bytes > bytes_) {
      std::free(memory_);
      memory_ = std::aligned_alloc(64, bytes);
      if (memory_ == nullptr) std::abort();
      bytes_ = bytes;
    }
    return static_cast<Number*>(memory_);
  }

 private:
  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

// How numbers are multiplied. An Element is what one accumulation takes from a row and from each column: a float, or
// a pair of neighbours in depth; rows and panels have a multiple of kUnit of them, zeros at the end. `along` makes a
// vector of Elements from floats that follow each other in depth, `across` from those of kLanes columns.
struct Single {
  using Element = float;
  using Number = float;  // what rows on the left hold
  static constexpr int64_t kDepth = 1, kUnit = 1;

  static Element element(float value, float) { return value; }
  static Vector along(const float* from) { return load(from); }
  static Vector across(const float* first, const float*) { return load(first); }
  static Vector accumulate(Vector sum, Element left, const Element* right) { return sum + fill(left) * load(right); }
};

#if defined(__AVX512BF16__)
struct Paired {
  using Element = uint32_t;
  using Number = Bfloat16;
  static constexpr int64_t kDepth = 2;
#if defined(ASR_LSTM_TILES)
  static constexpr int64_t kUnit = kTile;
#else
  static constexpr int64_t kUnit = 1;
#endif

  static Vector pairs(Vector low, Vector high) {
    const auto wide = [](Vector value) { return __builtin_convertvector(to_halves(value), Unsigned); };
    return bits_of<Vector>(wide(low) | wide(high) << 16);
  }
  static Element element(float first, float second) {
    return bits_of<Unsigned>(pairs(fill(first), fill(second)))[0];
  }
  template <typename Source>
  static Vector along(const Source* from) {
    const Halves both[2] = {to_halves(load(from)), to_halves(load(from + kLanes))};
    Vector value;
    std::memcpy(&value, both, sizeof value);
    return value;
  }
  template <typename Source>
  static Vector across(const Source* first, const Source* second) {
    return pairs(load(first), load(second));
  }
  static Vector accumulate(Vector sum, Element left, const Element* right) {
    return bits_of<Vector>(_mm512_dpbf16_ps(bits_of<__m512>(sum), bits_of<__m512bh>(_mm512_set1_epi32(left)),
                                            bits_of<__m512bh>(_mm512_loadu_si512(right))));
  }
};
#else
using Paired = Single;  // the weights and states stay in float32
#endif

template <typename Math>
int64_t elements(int64_t depth) {
  constexpr int64_t kUnit = Math::kDepth * Math::kUnit;
  return (depth + kUnit - 1) / kUnit * Math::kUnit;
}

// Of a matrix with element(k, j) = from[k * depth_stride + j * column_stride], the kPanel columns from `column` on:
// (elements, kPanel), zeros beyond the last column and the last depth.
template <typename Math, typename Source>
void pack_panel(const Source* from, int64_t depth, int64_t columns, int64_t depth_stride, int64_t column_stride,
                int64_t column, typename Math::Element* to) {
  const int64_t width = std::min<int64_t>(kPanel, columns - column);
  from += column * column_stride;
  int64_t k = 0;
  if (width == kPanel && column_stride == 1) {
    for (; k + Math::kDepth <= depth; k += Math::kDepth, to += kPanel) {
      const Source *first = from + k * depth_stride, *second = first + (Math::kDepth - 1) * depth_stride;
      store(reinterpret_cast<float*>(to), Math::across(first, second));
      store(reinterpret_cast<float*>(to) + kLanes, Math::across(first + kLanes, second + kLanes));
    }
  } else if (width == kPanel && depth_stride == 1) {
    for (; k + kLanes * Math::kDepth <= depth; k += kLanes * Math::kDepth, to += kLanes * kPanel) {
      for (int64_t half = 0; half < kPanel; half += kLanes) {
        Vector block[kLanes];
        for (int64_t j = 0; j < kLanes; ++j) block[j] = Math::along(from + (half + j) * column_stride + k);
        transpose(block);
        for (int64_t i = 0; i < kLanes; ++i) store(reinterpret_cast<float*>(to) + i * kPanel + half, block[i]);
      }
    }
  }
  for (; k < depth; k += Math::kDepth, to += kPanel) {
    for (int64_t j = 0; j < kPanel; ++j) {
      const Source* source = from + k * depth_stride + j * column_stride;
      const bool second = Math::kDepth == 2 && k + 1 < depth;
      to[j] = j < width ? Math::element(number(*source), second ? number(source[depth_stride]) : 0.0f) : 0;
    }
  }
  const int64_t filled = (depth + Math::kDepth - 1) / Math::kDepth;
  std::fill_n(to, (elements<Math>(depth) - filled) * kPanel, typename Math::Element{});
}

// to[r][0 .. width) (+)= left[r][.] * panel for kRows rows; the left side lies row by row, or depth by depth (kByDepth).
template <typename Math, int kRows, bool kByDepth>
void tile(const typename Math::Element* left, int64_t left_stride, const typename Math::Element* panel, int64_t depth,
          float* to, int64_t to_stride, int64_t width, bool add) {
  Vector sums[kRows][2] = {};
  for (int row = 0; row < kRows; ++row) {  // where the results go is on its way while they are made
    __builtin_prefetch(to + row * to_stride, 1);
    __builtin_prefetch(to + row * to_stride + kLanes, 1);
  }
  for (int64_t k = 0; k < depth; ++k) {
    for (int row = 0; row < kRows; ++row) {
      const auto value = kByDepth ? left[k * kRows + row] : left[row * left_stride + k];
      sums[row][0] = Math::accumulate(sums[row][0], value, panel + k * kPanel);
      sums[row][1] = Math::accumulate(sums[row][1], value, panel + k * kPanel + kLanes);
    }
  }
  for (int row = 0; row < kRows; ++row) {
    float* out = to + row * to_stride;
    for (int half = 0; half < 2; ++half) {
      const int64_t from = half * kLanes, size = std::min<int64_t>(kLanes, width - from);
      if (size == kLanes) {
        store(out + from, add ? load(out + from) + sums[row][half] : sums[row][half]);
      } else if (size > 0) {
        const Rest rest{from, size};
        rest.put(out, add ? rest.get(out) + sums[row][half] : sums[row][half]);
      }
    }
  }
}

template <typename Math, int kRows, bool kByDepth>
void dispatch_tile(int64_t rows, const typename Math::Element* left, int64_t left_stride,
                   const typename Math::Element* panel, int64_t depth, float* to, int64_t to_stride, int64_t width,
                   bool add) {
  if (rows == kRows) {
    tile<Math, kRows, kByDepth>(left, left_stride, panel, depth, to, to_stride, width, add);
  } else if constexpr (kRows > 1) {
    dispatch_tile<Math, kRows - 1, kByDepth>(rows, left, left_stride, panel, depth, to, to_stride, width, add);
  }
}

// `rows` rows in tiles of about equal height, 13 as 7 + 6, not 12 + 1: calls each(first row, height).
template <typename Each>
void in_tiles(int64_t rows, Each each) {
  const int64_t tiles = (rows + kMaxRows - 1) / kMaxRows;
  for (int64_t index = 0; index < tiles; ++index) {
    const int64_t from = rows * index / tiles;
    each(from, rows * (index + 1) / tiles - from);
  }
}

// to (rows, columns) = left (rows, depth) * panels; depth in elements.
template <typename Math>
void multiply(const typename Math::Element* left, int64_t left_stride, int64_t rows,
              const typename Math::Element* panels, int64_t depth, int64_t columns, float* to, int64_t to_stride) {
#if defined(ASR_LSTM_TILES)
  if constexpr (Math::kUnit == kTile) {
    if (rows > 0 && tiles_granted()) {
      return multiply_in_tiles(left, left_stride, rows, panels, depth, columns, to, to_stride);
    }
  }
#endif
  for (int64_t column = 0; column < columns; column += kPanel) {
    const int64_t width = std::min<int64_t>(kPanel, columns - column);
    in_tiles(rows, [&](int64_t row, int64_t high) {
      dispatch_tile<Math, kMaxRows, false>(high, left + row * left_stride, left_stride, panels + column * depth, depth,
                                           to + row * to_stride + column, to_stride, width, false);
    });
  }
}

// A matrix by its strides: element(row, column) = from[row * row_stride + column * column_stride].
struct Matrix {
  const float* from;
  int64_t row_stride, column_stride;
};

// Blocks of so many rows and such depth stay in the second cache while all panels pass by.
constexpr int64_t kBlockRows = 8 * kMaxRows, kBlockDepth = 512;

// A block of rows and a part of their depth, packed as `tile` reads it: row by row, or depth by depth.
struct Block {
  const Matrix& left;
  int64_t from, rows, start, deep, depth;  // the first of the rows and their number; of the depth, part and whole
  bool by_depth;

  int64_t stride() const { return deep + kSkew; }

  void pack(float* to) const {
    const float* source = left.from + from * left.row_stride + start * left.column_stride;
    for (int64_t row = 0; !by_depth && row < rows; ++row) {
      std::memcpy(to + row * stride(), source + row * left.row_stride, deep * sizeof(float));
    }
    for (int64_t k = 0; by_depth && k < deep; ++k, source += left.column_stride) {
      constexpr int64_t kAhead = 32;  // rows further on than the processor foresees where they are far apart
      for (int64_t row = 0; row < rows; row += kLanes) __builtin_prefetch(source + kAhead * left.column_stride + row);
      // A whole vector may be read where rows that follow make up for what it reads beyond its own.
      const bool whole = left.row_stride == 1 && (depth - 1 - start - k) * left.column_stride >= kLanes;
      in_tiles(rows, [&](int64_t row, int64_t high) {
        float* packed = to + row * stride() + k * high;
        if (whole) {
          store(packed, load(source + row));  // what is beyond the tile is written over by the next depth's
        } else {
          for (int64_t r = 0; r < high; ++r) packed[r] = source[(row + r) * left.row_stride];
        }
      });
    }
  }
};

// Some rows of a product; panels are those of the right side.
void product_rows(const Matrix& left, const float* panels, float* out, int64_t out_stride, int64_t from, int64_t rows,
                  int64_t columns, int64_t depth, float* packed) {
  const bool by_depth = left.column_stride != 1;
  for (int64_t start = 0; start < depth; start += kBlockDepth) {
    const Block block{left, from, rows, start, std::min(kBlockDepth, depth - start), depth, by_depth};
    block.pack(packed);
    for (int64_t column = 0; column < columns; column += kPanel) {
      const int64_t width = std::min<int64_t>(kPanel, columns - column);
      const float* panel = panels + column * depth + start * kPanel;
      in_tiles(rows, [&](int64_t row, int64_t high) {
        float* to = out + (from + row) * out_stride + column;
        const auto run = by_depth ? dispatch_tile<Single, kMaxRows, true> : dispatch_tile<Single, kMaxRows, false>;
        run(high, packed + row * block.stride(), block.stride(), panel, block.deep, to, out_stride, width, start > 0);
      });
    }
  }
}

// The whole right side of a product in panels, each packed on whichever thread is free: (panels, elements, kPanel).
template <typename Math, typename Source>
const typename Math::Element* pack_panels(const Source* from, int64_t depth, int64_t columns, int64_t depth_stride,
                                          int64_t column_stride, int64_t threads, Pool pool, Scratch& kept) {
  const int64_t count = (columns + kPanel - 1) / kPanel, size = kPanel * elements<Math>(depth);
  auto* panels = kept.take<typename Math::Element>(count * size);
  run_tasks(count, threads, pool, [&](int64_t index) {
    pack_panel<Math>(from, depth, columns, depth_stride, column_stride, index * kPanel, panels + index * size);
  });
  return panels;
}

// Calls each(first row, rows) for blocks of at most so many rows, as many blocks for each thread.
template <typename Each>
void in_blocks(int64_t rows, int64_t most, int64_t threads, Pool pool, Each each) {
  int64_t blocks = (rows + most - 1) / most;
  if (threads > 1) blocks = (blocks + threads - 1) / threads * threads;
  run_tasks(blocks, threads, pool, [&](int64_t index) {
    const int64_t from = rows * index / blocks, high = rows * (index + 1) / blocks - from;
    if (high > 0) each(from, high);
  });
}

// out (rows, columns) = left (rows, depth) * right (depth, columns), in float32; `out` lies row by row.
void product(const Matrix& left, const Matrix& right, float* out, int64_t out_stride, int64_t rows, int64_t columns,
             int64_t depth, int64_t threads, Pool pool) {
  static thread_local Scratch kept;
  const float* panels =
      pack_panels<Single>(right.from, depth, columns, right.row_stride, right.column_stride, threads, pool, kept);
  in_blocks(rows, kBlockRows, threads, pool, [&](int64_t from, int64_t high) {
    static thread_local Scratch packed;
    product_rows(left, panels, out, out_stride, from, high, columns, depth,
                 packed.take<float>(kBlockRows * (kBlockDepth + kSkew)));
  });
}

#if defined(ASR_LSTM_TILES)
static_assert(kPanel == 2 * kTile && kLanes == kTile);

// A matrix of bfloat16 by its strides, of which one is 1.
struct Halved {
  const Bfloat16* from;
  int64_t row_stride, column_stride;

  // Rows as tiles are loaded: pairs of neighbours in depth, to the end with zeros.
  void pack(int64_t first, int64_t rows, int64_t depth, uint32_t* to, int64_t stride) const {
    const Bfloat16* source = from + first * row_stride;
    if (column_stride == 1) {
      const int64_t padded = elements<Paired>(depth) * 2;
      for (int64_t row = 0; row < rows; ++row) {
        auto* packed = reinterpret_cast<Bfloat16*>(to + row * stride);
        std::memcpy(packed, source + row * row_stride, depth * sizeof(Bfloat16));
        std::fill(packed + depth, packed + padded, Bfloat16{});
      }
      return;
    }
    for (int64_t k = 0; k < depth; k += 2 * kTile) {
      in_vectors(rows, [&](auto place) {
        Vector block[kTile];
        const auto row_of = [&](int64_t at) { return at < depth ? place.get(source + at * column_stride) : Vector{}; };
        for (int64_t i = 0; i < kTile; ++i) block[i] = Paired::pairs(row_of(k + 2 * i), row_of(k + 2 * i + 1));
        transpose(block);
        const int64_t high = std::min(kTile, rows - place.at);
        for (int64_t i = 0; i < high; ++i) {
          store(reinterpret_cast<float*>(to + (place.at + i) * stride + k / 2), block[i]);
        }
      });
    }
  }
};

// Blocks of rows whose numbers fill a quarter of the second cache, of 2 MiB on the processors that have tiles.
constexpr int64_t kBlockNumbers = 1 << 18;

// out (rows, columns) = left (rows, depth) * right (depth, columns) by bfloat16, summed in float32.
template <typename Right, typename Out>
void product_in_tiles(const Halved& left, const Right* right, int64_t right_row, int64_t right_column, Out* out,
                      int64_t out_stride, int64_t rows, int64_t columns, int64_t depth, int64_t threads, Pool pool) {
  static thread_local Scratch kept;
  const int64_t deep = elements<Paired>(depth), stride = deep + kSkew;
  const auto* panels = pack_panels<Paired>(right, depth, columns, right_row, right_column, threads, pool, kept);
  const int64_t most = std::clamp<int64_t>(kBlockNumbers / (2 * deep) / kPanel * kPanel, kPanel, 512);
  in_blocks(rows, most, threads, pool, [&](int64_t from, int64_t high) {
    static thread_local Scratch packed;
    auto* block = packed.take<uint32_t>(most * stride);
    left.pack(from, high, depth, block, stride);
    multiply_in_tiles(block, stride, high, panels, deep, columns, out + from * out_stride, out_stride);
  });
}
#endif

}  // namespace
