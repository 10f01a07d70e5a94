// Vectors of floats, their exponential and what is made of it, bfloat16, and random numbers drawn by counting.

#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;  // floats of a vector register
#else
constexpr int kLanes = 8;
#endif

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t Integers __attribute__((vector_size(kLanes * sizeof(int32_t))));
typedef uint32_t Unsigned __attribute__((vector_size(kLanes * sizeof(uint32_t))));
typedef uint16_t Halves __attribute__((vector_size(kLanes * sizeof(uint16_t))));

// The upper half of a float.
struct Bfloat16 {
  uint16_t bits;
};

template <typename To, typename From>
To bits_of(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

Vector fill(float value) { return value - Vector{}; }

// Rounded to the nearest, ties to even.
Halves to_halves(Vector value) {
#if defined(__AVX512BF16__)
  return bits_of<Halves>(_mm512_cvtneps_pbh(bits_of<__m512>(value)));
#else
  const Unsigned bits = bits_of<Unsigned>(value);
  const Unsigned rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  return __builtin_convertvector(value == value ? rounded : (bits >> 16) | 0x40, Halves);  // NaN stays NaN
#endif
}

Vector load(const float* from) {
  Vector value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

Vector load(const Bfloat16* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  return bits_of<Vector>(__builtin_convertvector(halves, Unsigned) << 16);
}

float number(float value) { return value; }
float number(Bfloat16 value) { return bits_of<float>(static_cast<uint32_t>(value.bits) << 16); }

void store(float* to, Vector value) { std::memcpy(to, &value, sizeof value); }

void store(Bfloat16* to, Vector value) {
  const Halves halves = to_halves(value);
  std::memcpy(to, &halves, sizeof halves);
}

// 1 / x for x in 1 .. 1e38, to the last bit or so.
Vector reciprocal(Vector x) {
#if defined(__AVX512F__)
  const Vector guess = bits_of<Vector>(_mm512_rcp14_ps(bits_of<__m512>(x)));  // 14 bits; a Newton step doubles them
  return guess * (2.0f - x * guess);
#else
  return 1.0f / x;
#endif
}

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
  return sum * bits_of<Vector>((__builtin_convertvector(n, Integers) + 127) << 23);
}

Vector sigmoid(Vector x) { return reciprocal(1.0f + exponential(-x)); }

Vector hyperbolic_tangent(Vector x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

// Of two vectors, the lanes that an exchange of blocks of kStep lanes leaves in the first, or in the second.
template <int kStep, bool kSecond, size_t... kLane>
Vector exchanged(Vector first, Vector second, std::index_sequence<kLane...>) {
  const auto lane = [](int at) {
    return kSecond ? (at & kStep ? kLanes + at : at + kStep) : (at & kStep ? kLanes + at - kStep : at);
  };
#if defined(__clang__)
  return __builtin_shufflevector(first, second, lane(kLane)...);
#else
  return __builtin_shuffle(first, second, Integers{lane(kLane)...});
#endif
}

// Rows to columns of a square of numbers: blocks of half the size change places, then blocks of a quarter.
template <int kStep = kLanes / 2>
void transpose(Vector* rows) {
  constexpr std::make_index_sequence<kLanes> lanes{};
  for (int row = 0; row < kLanes; ++row) {
    if (row & kStep) continue;
    const Vector first = rows[row], second = rows[row + kStep];
    rows[row] = exchanged<kStep, false>(first, second, lanes);
    rows[row + kStep] = exchanged<kStep, true>(first, second, lanes);
  }
  if constexpr (kStep > 1) transpose<kStep / 2>(rows);
}

// A place in rows of numbers: a whole vector, or what is left at their end.
struct Whole {
  int64_t at;
  template <typename Number>
  Vector get(const Number* row) const {
    return load(row + at);
  }
  template <typename Number>
  void put(Number* row, Vector value) const {
    store(row + at, value);
  }
};

struct Rest {
  int64_t at, size;
  template <typename Number>
  Vector get(const Number* row) const {
    Number part[kLanes] = {};
    std::memcpy(part, row + at, size * sizeof(Number));
    return load(part);
  }
  template <typename Number>
  void put(Number* row, Vector value) const {
    Number part[kLanes];
    store(part, value);
    std::memcpy(row + at, part, size * sizeof(Number));
  }
};

// Calls step(place) for the places that make up `size` numbers.
template <typename Step>
void in_vectors(int64_t size, Step step) {
  int64_t at = 0;
  for (; at + kLanes <= size; at += kLanes) step(Whole{at});
  if (at < size) step(Rest{at, size - at});
}

// Random numbers by counting, the same as in kernels/noise.py: nothing is stored, and the backward pass draws what
// the forward pass drew. A row's 64-bit key is SplitMix64 (Steele et al. 2014) of its place in the stream; a unit's
// number is the finaliser of MurmurHash3 over the lower half of the key and the unit, xor the upper half.
uint64_t mix_key(uint64_t seed, uint64_t place) {
  uint64_t key = seed + place * 0x9E3779B97F4A7C15u;
  key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9u;
  key = (key ^ (key >> 27)) * 0x94D049BB133111EBu;
  return key ^ (key >> 31);
}

// -1 where the number of a unit from `at` on is below the threshold, else 0.
Integers drawn_below(uint64_t key, int64_t at, uint32_t threshold) {
  Unsigned bits;
  for (int lane = 0; lane < kLanes; ++lane) bits[lane] = lane;
  bits = (bits + static_cast<uint32_t>(at)) * 0x9E3779B9u + static_cast<uint32_t>(key);
  bits ^= bits >> 16;
  bits *= 0x85EBCA6Bu;
  bits ^= bits >> 13;
  bits *= 0xC2B2AE35u;
  bits ^= bits >> 16;
  bits ^= static_cast<uint32_t>(key >> 32);
  return bits < threshold;
}

Vector choose(Integers mask, float yes, float no) { return mask ? fill(yes) : fill(no); }

}  // namespace
