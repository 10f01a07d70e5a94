// The time loops of an LSTM layer, forward and backward, in float32; called through kernels/native.py.
//
// Each direction runs its whole loop on a thread of its own: nothing waits at a step. Recurrent weights are packed
// once a call into panels that the inner product reads in order, and the gate arithmetic is one pass over a step.
//
// Shapes as in kernels/portable.py, all contiguous: gates (rows, directions, 4 * hidden), cells and states
// (batch + rows, directions, hidden), weight_hh (directions, 4 * hidden, hidden), mask (directions, batch, hidden)
// or null. active[t] sequences run at step t; the rows of a step stand together.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;      // floats of a vector register
constexpr int kMaxRows = 12;    // 12 x 2 accumulators, 2 weights and a broadcast fit 32 registers
#else
constexpr int kLanes = 8;
constexpr int kMaxRows = 6;     // 6 x 2 accumulators, 2 weights and a broadcast fit 16 registers
#endif
constexpr int kPanel = 2 * kLanes;

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t Integers __attribute__((vector_size(kLanes * sizeof(int32_t))));

Vector load(const float* from) {
  Vector value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

void store(float* to, Vector value) { std::memcpy(to, &value, sizeof value); }

Vector fill(float value) { return value - Vector{}; }

// exp(x) for |x| <= 87, beyond which it is clamped: relative error below 2e-7.
// Range reduction x = n ln 2 + r, then the Taylor polynomial of degree 7 on |r| <= ln 2 / 2.
Vector exponential(Vector x) {
  const Vector limit = fill(87.0f);
  x = x > limit ? limit : x;
  x = x < -limit ? -limit : x;
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer
  Vector n = (x * 1.44269504088896341f + magic) - magic;
  Vector r = x - n * 0.693145751953125f;  // ln 2 in two parts, so that r is exact
  r = r - n * 1.42860682030941723e-6f;
  Vector sum = fill(1.0f / 5040);
  sum = sum * r + 1.0f / 720;
  sum = sum * r + 1.0f / 120;
  sum = sum * r + 1.0f / 24;
  sum = sum * r + 1.0f / 6;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  Integers exponent = (__builtin_convertvector(n, Integers) + 127) << 23;
  Vector power;
  std::memcpy(&power, &exponent, sizeof power);
  return sum * power;
}

Vector sigmoid(Vector x) { return 1.0f / (1.0f + exponential(-x)); }

Vector hyperbolic_tangent(Vector x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

// Calls step(offset, load, store) over `size` numbers, the last ones by way of a padded buffer.
template <typename Step>
void in_vectors(int64_t size, Step step) {
  int64_t at = 0;
  for (; at + kLanes <= size; at += kLanes) {
    step([at](const float* from) { return load(from + at); }, [at](float* to, Vector value) { store(to + at, value); });
  }
  if (const int64_t rest = size - at; rest > 0) {
    step(
        [at, rest](const float* from) {
          Vector value{};
          std::memcpy(&value, from + at, rest * sizeof(float));
          return value;
        },
        [at, rest](float* to, Vector value) { std::memcpy(to + at, &value, rest * sizeof(float)); });
  }
}

// A matrix (depth, columns) in panels of kPanel columns, each (depth, kPanel), zeros beyond the last column.
struct Packed {
  int64_t depth, columns;
  std::vector<float> panels;

  // element(k, j) = from[k * depth_stride + j * column_stride]
  Packed(const float* from, int64_t depth, int64_t columns, int64_t depth_stride, int64_t column_stride)
      : depth(depth), columns(columns), panels((columns + kPanel - 1) / kPanel * kPanel * depth) {
    for (int64_t column = 0; column < columns; ++column) {
      float* to = panels.data() + column / kPanel * kPanel * depth + column % kPanel;
      const float* source = from + column * column_stride;
      for (int64_t k = 0; k < depth; ++k) to[k * kPanel] = source[k * depth_stride];
    }
  }
};

// to[r][0..width) (+)= left[r][.] * panel for kRows rows.
template <int kRows>
void multiply_rows(const float* left, int64_t left_stride, const float* panel, int64_t depth, float* to,
                   int64_t to_stride, int64_t width, bool add) {
  Vector sums[kRows][2] = {};
  for (int64_t k = 0; k < depth; ++k) {
    const Vector first = load(panel + k * kPanel);
    const Vector second = load(panel + k * kPanel + kLanes);
    for (int row = 0; row < kRows; ++row) {
      const Vector value = fill(left[row * left_stride + k]);
      sums[row][0] += value * first;
      sums[row][1] += value * second;
    }
  }
  for (int row = 0; row < kRows; ++row) {
    float* out = to + row * to_stride;
    if (width == kPanel) {
      store(out, add ? load(out) + sums[row][0] : sums[row][0]);
      store(out + kLanes, add ? load(out + kLanes) + sums[row][1] : sums[row][1]);
    } else {
      float part[kPanel];
      store(part, sums[row][0]);
      store(part + kLanes, sums[row][1]);
      for (int64_t column = 0; column < width; ++column) out[column] = (add ? out[column] : 0.0f) + part[column];
    }
  }
}

template <int kRows>
void dispatch_rows(int rows, const float* left, int64_t left_stride, const float* panel, int64_t depth, float* to,
                   int64_t to_stride, int64_t width, bool add) {
  if (rows == kRows) {
    multiply_rows<kRows>(left, left_stride, panel, depth, to, to_stride, width, add);
  } else if constexpr (kRows > 1) {
    dispatch_rows<kRows - 1>(rows, left, left_stride, panel, depth, to, to_stride, width, add);
  }
}

// to (rows, columns) (+)= left (rows, depth) * packed.
void multiply(const float* left, int64_t left_stride, int64_t rows, const Packed& packed, float* to,
              int64_t to_stride, bool add) {
  // Row blocks of about equal size: 13 rows are 7 + 6, not 12 + 1, which would read the weights for one row.
  const int64_t blocks = (rows + kMaxRows - 1) / kMaxRows;
  for (int64_t column = 0; column < packed.columns; column += kPanel) {
    const float* panel = packed.panels.data() + column * packed.depth;
    const int64_t width = std::min<int64_t>(kPanel, packed.columns - column);
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t from = rows * block / blocks, end = rows * (block + 1) / blocks;
      dispatch_rows<kMaxRows>(static_cast<int>(end - from), left + from * left_stride, left_stride, panel,
                              packed.depth, to + from * to_stride + column, to_stride, width, add);
    }
  }
}

struct Shape {
  const int64_t* active;
  int64_t steps, batch, directions, hidden;
};

void forward_direction(const Shape& shape, int64_t direction, float* gates, float* cells, float* states,
                       const float* weight_hh, const float* mask) {
  const int64_t hidden = shape.hidden, width = shape.directions * hidden, gate_width = 4 * width;
  const Packed weights(weight_hh + direction * 4 * hidden * hidden, hidden, 4 * hidden, 1, hidden);
  std::vector<float> masked(shape.batch * hidden);
  const float* previous_cells = cells + direction * hidden;  // of the step before: its first row
  const float* previous_states = states + direction * hidden;
  int64_t row = 0;
  for (int64_t step = 0; step < shape.steps; ++step) {
    const int64_t count = shape.active[step];
    float* gate = gates + row * gate_width + direction * 4 * hidden;
    float* cell = cells + (shape.batch + row) * width + direction * hidden;
    float* state = states + (shape.batch + row) * width + direction * hidden;
    const float* left = previous_states;
    int64_t left_stride = width;
    if (mask != nullptr) {
      for (int64_t b = 0; b < count; ++b) {
        const float* keep = mask + (direction * shape.batch + b) * hidden;
        in_vectors(hidden, [&](auto get, auto put) {
          put(masked.data() + b * hidden, get(previous_states + b * width) * get(keep));
        });
      }
      left = masked.data();
      left_stride = hidden;
    }
    multiply(left, left_stride, count, weights, gate, gate_width, true);
    for (int64_t b = 0; b < count; ++b) {
      float* g = gate + b * gate_width;
      in_vectors(hidden, [&](auto get, auto put) {
        const Vector input = sigmoid(get(g)), forget = sigmoid(get(g + hidden));
        const Vector candidate = hyperbolic_tangent(get(g + 2 * hidden)), output = sigmoid(get(g + 3 * hidden));
        const Vector next = forget * get(previous_cells + b * width) + input * candidate;
        put(g, input);
        put(g + hidden, forget);
        put(g + 2 * hidden, candidate);
        put(g + 3 * hidden, output);
        put(cell + b * width, next);
        put(state + b * width, output * hyperbolic_tangent(next));
      });
    }
    previous_cells = cell;
    previous_states = state;
    row += count;
  }
}

void backward_direction(const Shape& shape, int64_t direction, const float* grad_states, const float* gates,
                        const float* cells, const float* weight_hh, const float* mask, float* grad_gates) {
  const int64_t hidden = shape.hidden, width = shape.directions * hidden, gate_width = 4 * width;
  const Packed weights(weight_hh + direction * 4 * hidden * hidden, 4 * hidden, hidden, hidden, 1);
  std::vector<float> carried_cell(shape.batch * hidden), carried_state(shape.batch * hidden);
  int64_t row = 0;
  for (int64_t step = 0; step < shape.steps; ++step) row += shape.active[step];
  for (int64_t step = shape.steps - 1; step >= 0; --step) {
    const int64_t count = shape.active[step];
    row -= count;
    const int64_t before = step == 0 ? 0 : shape.batch + row - shape.active[step - 1];
    const float* gate = gates + row * gate_width + direction * 4 * hidden;
    const float* cell = cells + (shape.batch + row) * width + direction * hidden;
    const float* previous_cell = cells + before * width + direction * hidden;
    const float* grad_state = grad_states + row * width + direction * hidden;
    float* grad_gate = grad_gates + row * gate_width + direction * 4 * hidden;
    for (int64_t b = 0; b < count; ++b) {
      const float* g = gate + b * gate_width;
      float* to = grad_gate + b * gate_width;
      float *carry_cell = carried_cell.data() + b * hidden, *carry_state = carried_state.data() + b * hidden;
      in_vectors(hidden, [&](auto get, auto put) {
        const Vector input = get(g), forget = get(g + hidden), candidate = get(g + 2 * hidden);
        const Vector output = get(g + 3 * hidden), tangent = hyperbolic_tangent(get(cell + b * width));
        const Vector into_state = get(grad_state + b * width) + get(carry_state);
        const Vector into_cell = get(carry_cell) + into_state * output * (1.0f - tangent * tangent);
        put(to, into_cell * candidate * input * (1.0f - input));
        put(to + hidden, into_cell * get(previous_cell + b * width) * forget * (1.0f - forget));
        put(to + 2 * hidden, into_cell * input * (1.0f - candidate * candidate));
        put(to + 3 * hidden, into_state * tangent * output * (1.0f - output));
        put(carry_cell, into_cell * forget);
      });
    }
    multiply(grad_gate, gate_width, count, weights, carried_state.data(), hidden, false);
    if (mask != nullptr) {
      for (int64_t b = 0; b < count; ++b) {
        const float* keep = mask + (direction * shape.batch + b) * hidden;
        float* carry_state = carried_state.data() + b * hidden;
        in_vectors(hidden, [&](auto get, auto put) { put(carry_state, get(carry_state) * get(keep)); });
      }
    }
  }
}

// Runs run(0) .. run(directions - 1), each on a thread of its own if there are threads.
template <typename Run>
void each_direction(int64_t directions, int64_t threads, Run run) {
  if (threads > 1 && directions > 1) {
    std::thread other([&] { run(1); });
    run(0);
    other.join();
  } else {
    for (int64_t direction = 0; direction < directions; ++direction) run(direction);
  }
}

}  // namespace

extern "C" {

void lstm_through_time(float* gates, float* cells, float* states, const float* weight_hh, const float* mask,
                       const int64_t* active, int64_t steps, int64_t batch, int64_t directions, int64_t hidden,
                       int64_t threads) {
  const Shape shape{active, steps, batch, directions, hidden};
  each_direction(directions, threads, [&](int64_t direction) {
    forward_direction(shape, direction, gates, cells, states, weight_hh, mask);
  });
}

void lstm_back_through_time(const float* grad_states, const float* gates, const float* cells, const float* weight_hh,
                            const float* mask, float* grad_gates, const int64_t* active, int64_t steps,
                            int64_t batch, int64_t directions, int64_t hidden, int64_t threads) {
  const Shape shape{active, steps, batch, directions, hidden};
  each_direction(directions, threads, [&](int64_t direction) {
    backward_direction(shape, direction, grad_states, gates, cells, weight_hh, mask, grad_gates);
  });
}

}  // extern "C"
