// The time loops of an LSTM layer, forward and backward, and the products around them; called by kernels/native.py.
//
// Each direction, and with more threads than directions each share of the batch, runs its whole loop on a thread of
// its own: nothing waits at a step. Recurrent weights are packed once a call into panels that the inner product reads
// in order, and the gate arithmetic is one pass over a step. The equations are those of lstm/equations.py.
//
// Rows are the valid frames of a batch, step by step, as kernels/plan.py orders them: sequences stand from longest to
// shortest, and starts[t] is the first row of frame t. Arrays over rows are (rows, directions, ...), each direction at
// the frame it meets: the backward direction visits a sequence's rows from its last frame to its first.

#include "native_products.h"

namespace {

// What a layer's loops are given; kernels/native.py holds the same fields in the same order.
struct Layer {
  const int64_t* starts;        // (steps + 1)
  const int64_t* lengths;       // (batch), longest first
  const float* weight_hh;       // (directions, gates * hidden, hidden)
  const float* bias;            // (directions, gates * hidden)
  const float* mask;            // (directions, batch, hidden) on the recurrent state, or null
  const float* peepholes;       // (directions, gates - 1, hidden), or null
  const float* initial_states;  // (directions, batch, hidden), or null for zeros
  const float* initial_cells;
  int64_t steps, batch, directions, hidden;
  int64_t gates;  // 4, or 3 where the input gate is what the forget gate leaves
  int64_t threads;
  Pool pool;
  uint64_t seed;                 // of what is drawn at each step:
  uint32_t candidate_threshold;  // a candidate is dropped below it (of 2^32), and scaled otherwise
  uint32_t cell_threshold;       // a cell stays as it was
  uint32_t state_threshold;      // a state stays as it was
  float candidate_scale;
  float cell_share, state_share;  // of the old value, in place of draws, where expected
  int32_t expected;

  bool extras() const {
    return gates != 4 || peepholes != nullptr || candidate_threshold != 0 || cell_threshold != 0 ||
           state_threshold != 0;
  }
};

enum Stream : uint64_t { kCandidate, kCell, kState };

// The sequences that one thread runs in one direction: every `slices`-th.
struct Slice {
  const Layer& layer;
  int64_t direction, first, slices;

  int64_t sequence(int64_t index) const { return first + index * slices; }
  int64_t count(int64_t step) const {
    const int64_t active = layer.starts[step + 1] - layer.starts[step];
    return active > first ? (active - first - 1) / slices + 1 : 0;
  }
  int64_t row(int64_t step, int64_t index) const {
    const int64_t b = sequence(index);
    return layer.starts[direction == 0 ? step : layer.lengths[b] - 1 - step] + b;
  }
  bool last(int64_t step, int64_t index) const { return step == layer.lengths[sequence(index)] - 1; }
  uint64_t key(Stream stream, int64_t step, int64_t index) const {
    const uint64_t place = ((stream * layer.directions + direction) * layer.batch + sequence(index)) * layer.steps + step;
    return mix_key(layer.seed, place);
  }
  // Where (directions, batch, hidden) and (rows, directions, size) arrays hold a sequence and a row of this direction.
  int64_t at_sequence(int64_t index) const { return (direction * layer.batch + sequence(index)) * layer.hidden; }
  int64_t at_row(int64_t row, int64_t size) const { return (row * layer.directions + direction) * size; }
};

// One sequence at one step: where its numbers stand, and what is drawn for it.
template <bool kExtras>
struct Step {
  const Layer& layer;
  int64_t hidden, input, forget, candidate, output;  // offsets of the gates
  const float *bias, *peepholes, *mask;
  uint64_t candidate_key, cell_key, state_key;

  Step(const Slice& slice, int64_t step, int64_t index)
      : layer(slice.layer), hidden(layer.hidden), input(0),
        forget((kExtras ? layer.gates - 3 : 1) * hidden), candidate(forget + hidden), output(candidate + hidden),
        bias(layer.bias + slice.direction * (output + hidden)),
        peepholes(kExtras && layer.peepholes ? layer.peepholes + slice.direction * output : nullptr),
        mask(layer.mask ? layer.mask + slice.at_sequence(index) : nullptr),
        candidate_key(kExtras && layer.candidate_threshold ? slice.key(kCandidate, step, index) : 0),
        cell_key(kExtras && layer.cell_threshold ? slice.key(kCell, step, index) : 0),
        state_key(kExtras && layer.state_threshold ? slice.key(kState, step, index) : 0) {}

  bool coupled() const { return kExtras && forget == 0; }

  // What the candidate is multiplied by; shares of the old cell and state that stay.
  template <typename Place>
  Vector candidate_factor(Place place) const {
    if (!kExtras || layer.candidate_threshold == 0) return fill(1.0f);
    return choose(drawn_below(candidate_key, place.at, layer.candidate_threshold), 0.0f, layer.candidate_scale);
  }
  template <typename Place>
  Vector cell_kept(Place place) const {
    if (layer.cell_threshold == 0 || layer.expected) return fill(layer.cell_threshold ? layer.cell_share : 0.0f);
    return choose(drawn_below(cell_key, place.at, layer.cell_threshold), 1.0f, 0.0f);
  }
  template <typename Place>
  Vector state_kept(Place place) const {
    if (layer.state_threshold == 0 || layer.expected) return fill(layer.state_threshold ? layer.state_share : 0.0f);
    return choose(drawn_below(state_key, place.at, layer.state_threshold), 1.0f, 0.0f);
  }
};

// The recurrent weights of each direction in panels; `through` for h W, else for the gradient on its way back.
template <typename Math>
const typename Math::Element* pack_weights(const Layer& layer, bool through) {
  static thread_local Scratch kept;
  const int64_t wide = layer.gates * layer.hidden, narrow = layer.hidden;
  const int64_t depth = through ? narrow : wide, columns = through ? wide : narrow;
  const int64_t count = (columns + kPanel - 1) / kPanel, size = kPanel * elements<Math>(depth);
  auto* panels = kept.take<typename Math::Element>(layer.directions * count * size);
  run_tasks(layer.directions * count, layer.threads, layer.pool, [&](int64_t index) {
    const float* weights = layer.weight_hh + index / count * wide * narrow;
    pack_panel<Math>(weights, depth, columns, through ? 1 : narrow, through ? narrow : 1, index % count * kPanel,
                     panels + index * size);
  });
  return panels;
}

// Runs run(slice) for each direction and share of the batch. A share has two sequences or more: one alone would
// read all weights for itself.
template <typename Run>
void each_slice(const Layer& layer, Run run) {
  const int64_t slices = std::max<int64_t>(1, std::min(layer.threads / layer.directions, layer.batch / 2));
  run_tasks(layer.directions * slices, layer.threads, layer.pool, [&](int64_t task) {
    run(Slice{layer, task / slices, task % slices, slices}, task);
  });
}

// Rows on the left of a product: so many numbers, with room after each so that rows don't share cache sets.
template <typename Math>
struct Rows {
  int64_t depth, stride;  // in elements
  std::vector<typename Math::Number> numbers;

  Rows(int64_t rows, int64_t size)
      : depth(elements<Math>(size)), stride(depth + kSkew), numbers(rows * stride * Math::kDepth) {}
  typename Math::Number* row(int64_t index) { return numbers.data() + index * stride * Math::kDepth; }
  const typename Math::Element* data() const {
    return reinterpret_cast<const typename Math::Element*>(numbers.data());
  }
};

struct Forward {
  void* gates;                        // (rows, directions, gates * hidden): input products in, activations out
  float *cells, *states;              // (rows, directions, hidden); cells and activations are kept unless null
  float *final_states, *final_cells;  // (directions, batch, hidden)
};

template <typename Number, typename Math, bool kExtras>
void forward_slice(const Slice& slice, const Forward& to, const typename Math::Element* panels) {
  const Layer& layer = slice.layer;
  const int64_t hidden = layer.hidden, wide = layer.gates * hidden, most = slice.count(0);
  Rows<Math> left(most, hidden);
  std::vector<float> products(most * wide), cells(most * hidden);
  const std::vector<float> zeros(hidden);
  for (int64_t index = 0; layer.initial_cells && index < most; ++index) {
    const int64_t from = slice.at_sequence(index);
    in_vectors(hidden, [&](auto place) {
      const Vector state = place.get(layer.initial_states + from);
      place.put(left.row(index), layer.mask ? state * place.get(layer.mask + from) : state);
      place.put(cells.data() + index * hidden, place.get(layer.initial_cells + from));
    });
  }
  for (int64_t step = 0; step < layer.steps; ++step) {
    const int64_t count = slice.count(step);
    if (step > 0 || layer.initial_states) {
      multiply<Math>(left.data(), left.stride, count, panels, left.depth, wide, products.data(), wide);
    }
    for (int64_t index = 0; index < count; ++index) {
      const int64_t row = slice.row(step, index);
      const Step<kExtras> at(slice, step, index);
      auto* gates = static_cast<Number*>(to.gates) + slice.at_row(row, wide);
      const float* product = products.data() + index * wide;
      float *cell = cells.data() + index * hidden, *state = to.states + slice.at_row(row, hidden);
      const float* state_before = step > 0 ? to.states + slice.at_row(slice.row(step - 1, index), hidden)
                                  : layer.initial_states ? layer.initial_states + slice.at_sequence(index)
                                                         : zeros.data();
      in_vectors(hidden, [&](auto place) {
        const auto into = [&](int64_t gate) {
          return place.get(gates + gate) + place.get(product + gate) + place.get(at.bias + gate);
        };
        const Vector before = place.get(cell);
        Vector into_forget = into(at.forget), into_output = into(at.output), input;
        if (at.peepholes) into_forget += place.get(at.peepholes + at.forget) * before;
        const Vector forget = sigmoid(into_forget), candidate = hyperbolic_tangent(into(at.candidate));
        if (at.coupled()) {
          input = 1.0f - forget;
        } else {
          input = sigmoid(at.peepholes ? into(at.input) + place.get(at.peepholes) * before : into(at.input));
        }
        const Vector fresh = forget * before + input * candidate * at.candidate_factor(place);
        if (at.peepholes) into_output += place.get(at.peepholes + at.candidate) * fresh;
        const Vector output = sigmoid(into_output);
        Vector next = fresh, shown = output * hyperbolic_tangent(fresh);
        if (kExtras) {
          next += at.cell_kept(place) * (before - next);
          shown += at.state_kept(place) * (place.get(state_before) - shown);
        }
        if (to.cells) {
          if (!at.coupled()) place.put(gates + at.input, input);
          place.put(gates + at.forget, forget);
          place.put(gates + at.candidate, candidate);
          place.put(gates + at.output, output);
          place.put(to.cells + slice.at_row(row, hidden), next);
        }
        place.put(cell, next);
        place.put(state, shown);
        place.put(left.row(index), at.mask ? shown * place.get(at.mask) : shown);
      });
      if (slice.last(step, index)) {
        std::memcpy(to.final_states + slice.at_sequence(index), state, hidden * sizeof(float));
        std::memcpy(to.final_cells + slice.at_sequence(index), cell, hidden * sizeof(float));
      }
    }
  }
}

struct Backward {
  const float* grad_outputs;  // (rows, directions, hidden)
  const void* gates;          // as Forward left them
  const float *cells, *states;
  const float *grad_final_states, *grad_final_cells;  // (directions, batch, hidden), or null
  void* grad_gates;                                   // (rows, directions, gates * hidden), before activation
  void* previous;                                     // (rows, directions, hidden): what the weights were multiplied by
  float* grad_bias;                                   // (directions, gates * hidden)
  float* grad_peepholes;                              // (directions, gates - 1, hidden), or null
  float *grad_initial_states, *grad_initial_cells;    // (directions, batch, hidden), or null
};

template <typename Number, typename Math, bool kExtras>
void backward_slice(const Slice& slice, const Backward& to, const typename Math::Element* panels, float* grad_bias,
                    float* grad_peepholes) {
  const Layer& layer = slice.layer;
  const int64_t hidden = layer.hidden, wide = layer.gates * hidden, most = slice.count(0);
  Rows<Math> left(most, wide);
  std::vector<float> carried_cells(most * hidden), carried_states(most * hidden), stayed(kExtras ? most * hidden : 0);
  const std::vector<float> zeros(hidden);
  const auto copy = [&](const float* from, std::vector<float>& into) {
    for (int64_t index = 0; from && index < most; ++index) {
      std::memcpy(into.data() + index * hidden, from + slice.at_sequence(index), hidden * sizeof(float));
    }
  };
  copy(to.grad_final_states, carried_states);
  copy(to.grad_final_cells, carried_cells);
  for (int64_t step = layer.steps - 1; step >= 0; --step) {
    const int64_t count = slice.count(step);
    for (int64_t index = 0; index < count; ++index) {
      const int64_t row = slice.row(step, index);
      const Step<kExtras> at(slice, step, index);
      const float *cell_before = zeros.data(), *state_before = zeros.data();
      if (step > 0) {
        const int64_t from = slice.at_row(slice.row(step - 1, index), hidden);
        cell_before = to.cells + from;
        state_before = to.states + from;
      } else if (layer.initial_states) {
        cell_before = layer.initial_cells + slice.at_sequence(index);
        state_before = layer.initial_states + slice.at_sequence(index);
      }
      const auto* gates = static_cast<const Number*>(to.gates) + slice.at_row(row, wide);
      auto* grad_gates = static_cast<Number*>(to.grad_gates) + slice.at_row(row, wide);
      auto* previous = static_cast<Number*>(to.previous) + slice.at_row(row, hidden);
      auto* kept = left.row(index);
      const float* grad_output = to.grad_outputs + slice.at_row(row, hidden);
      float* carried_cell = carried_cells.data() + index * hidden;
      const float* carried_state = carried_states.data() + index * hidden;
      in_vectors(hidden, [&](auto place) {
        const Vector forget = place.get(gates + at.forget), candidate = place.get(gates + at.candidate);
        const Vector output = place.get(gates + at.output), before = place.get(cell_before);
        const Vector input = at.coupled() ? 1.0f - forget : place.get(gates + at.input);
        const Vector factor = at.candidate_factor(place), entering = candidate * factor;
        const Vector tangent = hyperbolic_tangent(forget * before + input * entering);
        Vector into_state = place.get(grad_output) + place.get(carried_state), into_cell = place.get(carried_cell);
        Vector cell_stayed{};
        if (kExtras) {
          const Vector state_stayed = at.state_kept(place) * into_state;
          place.put(stayed.data() + index * hidden, state_stayed);
          into_state -= state_stayed;
          cell_stayed = at.cell_kept(place) * into_cell;
          into_cell -= cell_stayed;
        }
        const auto give = [&](int64_t gate, Vector value) {
          place.put(grad_gates + gate, value);
          place.put(kept + gate, value);
          place.put(grad_bias + gate, place.get(grad_bias + gate) + value);
        };
        const Vector into_output = into_state * tangent * output * (1.0f - output);
        into_cell += into_state * output * (1.0f - tangent * tangent);
        if (at.peepholes) into_cell += into_output * place.get(at.peepholes + at.candidate);
        const Vector into_forget = into_cell * (at.coupled() ? before - entering : before) * forget * (1.0f - forget);
        const Vector into_input = into_cell * entering * input * (1.0f - input);
        if (!at.coupled()) give(at.input, into_input);
        give(at.forget, into_forget);
        give(at.candidate, into_cell * input * factor * (1.0f - candidate * candidate));
        give(at.output, into_output);
        Vector carry = into_cell * forget + cell_stayed;
        if (at.peepholes) {
          const auto look = [&](int64_t gate, Vector into, Vector seen) {
            float* sum = grad_peepholes + gate;
            place.put(sum, place.get(sum) + into * seen);
          };
          carry += into_forget * place.get(at.peepholes + at.forget);
          if (!at.coupled()) {
            carry += into_input * place.get(at.peepholes);
            look(at.input, into_input, before);
          }
          look(at.forget, into_forget, before);
          look(at.candidate, into_output, forget * before + input * entering);
        }
        place.put(carried_cell, carry);
        const Vector state = place.get(state_before);
        place.put(previous, at.mask ? state * place.get(at.mask) : state);
      });
    }
    if (step == 0 && !to.grad_initial_states) break;
    multiply<Math>(left.data(), left.stride, count, panels, left.depth, hidden, carried_states.data(), hidden);
    for (int64_t index = 0; (kExtras || layer.mask) && index < count; ++index) {
      float* carried_state = carried_states.data() + index * hidden;
      in_vectors(hidden, [&](auto place) {
        Vector value = place.get(carried_state);
        if (layer.mask) value *= place.get(layer.mask + slice.at_sequence(index));
        if (kExtras) value += place.get(stayed.data() + index * hidden);
        place.put(carried_state, value);
      });
    }
  }
  for (int64_t index = 0; to.grad_initial_states && index < most; ++index) {
    const int64_t from = index * hidden, into = slice.at_sequence(index);
    std::memcpy(to.grad_initial_states + into, carried_states.data() + from, hidden * sizeof(float));
    std::memcpy(to.grad_initial_cells + into, carried_cells.data() + from, hidden * sizeof(float));
  }
}

template <typename Number, typename Math>
void forward(const Layer& layer, const Forward& to) {
  const auto* panels = pack_weights<Math>(layer, true);
  const int64_t columns = layer.gates * layer.hidden;
  const int64_t size = (columns + kPanel - 1) / kPanel * kPanel * elements<Math>(layer.hidden);
  each_slice(layer, [&](const Slice& slice, int64_t) {
    const auto run = layer.extras() ? forward_slice<Number, Math, true> : forward_slice<Number, Math, false>;
    run(slice, to, panels + slice.direction * size);
  });
}

template <typename Number, typename Math>
void backward(const Layer& layer, const Backward& to) {
  const auto* panels = pack_weights<Math>(layer, false);
  const int64_t wide = layer.gates * layer.hidden, looks = wide - layer.hidden;
  const int64_t size = (layer.hidden + kPanel - 1) / kPanel * kPanel * elements<Math>(wide);
  std::vector<std::vector<float>> sums(layer.directions * layer.batch);  // more than there are slices
  each_slice(layer, [&](const Slice& slice, int64_t task) {
    auto& sum = sums[task];
    sum.resize(wide + looks);
    const auto run = layer.extras() ? backward_slice<Number, Math, true> : backward_slice<Number, Math, false>;
    run(slice, to, panels + slice.direction * size, sum.data(), sum.data() + wide);
  });
  int64_t slices = 0;
  for (const auto& sum : sums) slices += !sum.empty();
  slices /= layer.directions;
  for (int64_t task = 0; task < layer.directions * slices; ++task) {
    const int64_t direction = task / slices;
    const float* sum = sums[task].data();
    for (int64_t at = 0; at < wide; ++at) to.grad_bias[direction * wide + at] += sum[at];
    for (int64_t at = 0; to.grad_peepholes && at < looks; ++at) to.grad_peepholes[direction * looks + at] += sum[wide + at];
  }
}

// Calls run(row) for each row, many of them at a time on each thread.
template <typename Run>
void over_rows(int64_t count, int64_t threads, Pool pool, Run run) {
  constexpr int64_t kRows = 128;
  run_tasks((count + kRows - 1) / kRows, threads, pool, [&](int64_t task) {
    for (int64_t row = task * kRows; row < std::min(count, (task + 1) * kRows); ++row) run(row);
  });
}

}  // namespace

extern "C" {

// Whether products of bfloat16 were compiled in; without, the loops take float32 ones over bfloat16 numbers.
int lstm_multiplies_bfloat16() { return Paired::kDepth == 2; }

void lstm_forward(const Layer* layer, const Forward* to, int bfloat16) {
  bfloat16 ? forward<Bfloat16, Paired>(*layer, *to) : forward<float, Single>(*layer, *to);
}

void lstm_backward(const Layer* layer, const Backward* to, int bfloat16) {
  bfloat16 ? backward<Bfloat16, Paired>(*layer, *to) : backward<float, Single>(*layer, *to);
}

// out (rows, columns) = left (rows, depth) * right (depth, columns), in float32: addresses, row and column strides of
// the first two, and the row stride of `out`.
void lstm_product(const float* left, int64_t left_row, int64_t left_column, const float* right, int64_t right_row,
                  int64_t right_column, float* out, int64_t out_row, int64_t rows, int64_t columns, int64_t depth,
                  int64_t threads, Pool pool) {
  product({left, left_row, left_column}, {right, right_row, right_column}, out, out_row, rows, columns, depth, threads,
          pool);
}

// Whether `lstm_product_in_tiles` may be called.
int lstm_has_tiles() {
#if defined(ASR_LSTM_TILES)
  return tiles_granted();
#else
  return 0;
#endif
}

// As `lstm_product`, of bfloat16: the left side, one of whose strides is 1, is of it, the right side and `out` if said.
void lstm_product_in_tiles(const void* left, int64_t left_row, int64_t left_column, const void* right,
                           int64_t right_row, int64_t right_column, void* out, int64_t out_row, int64_t rows,
                           int64_t columns, int64_t depth, int64_t threads, Pool pool, int right_halved,
                           int out_halved) {
#if defined(ASR_LSTM_TILES)
  const Halved halved{static_cast<const Bfloat16*>(left), left_row, left_column};
  const auto run = [&](auto* from, auto* to) {
    product_in_tiles(halved, from, right_row, right_column, to, out_row, rows, columns, depth, threads, pool);
  };
  const auto from = [&](auto* to) {
    right_halved ? run(static_cast<const Bfloat16*>(right), to) : run(static_cast<const float*>(right), to);
  };
  out_halved ? from(static_cast<Bfloat16*>(out)) : from(static_cast<float*>(out));
#endif
}

// out[row] = rows[row] * mask[sequence[row]]; rows and out are (count, dims), mask (batch, dims).
void lstm_mask_rows(const float* rows, const float* mask, const int64_t* sequence, float* out, int64_t count,
                    int64_t dims, int64_t threads, Pool pool) {
  over_rows(count, threads, pool, [&](int64_t row) {
    in_vectors(dims, [&](auto place) {
      place.put(out + row * dims, place.get(rows + row * dims) * place.get(mask + sequence[row] * dims));
    });
  });
}

// Numbers (count, size), each 0 where what is drawn for it falls below the threshold, and scaled otherwise.
void lstm_drop(const float* numbers, float* out, uint64_t seed, uint32_t threshold, float scale, int64_t count,
               int64_t size, int64_t threads, Pool pool) {
  over_rows(count, threads, pool, [&](int64_t row) {
    const uint64_t key = mix_key(seed, row);
    in_vectors(size, [&](auto place) {
      const Vector value = place.get(numbers + row * size) * scale;
      place.put(out + row * size, drawn_below(key, place.at, threshold) ? Vector{} : value);
    });
  });
}

}  // extern "C"
