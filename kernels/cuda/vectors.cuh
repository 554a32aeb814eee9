// Values of any type in vectors of 16 bytes, the most that one thread loads or stores at a time.
#pragma once

#include <device.cuh>

constexpr int kVectorBytes = 16;

template <class T>
struct alignas(kVectorBytes) Vector {
  T element[kVectorBytes / sizeof(T)];
};

// Neighbouring values, as floats; `source` must be aligned to a vector.
template <class T, int count>
__device__ void load_values(const T* source, float (&x)[count]) {
  constexpr int width = kVectorBytes / sizeof(T);
  static_assert(count % width == 0, "whole vectors");
#pragma unroll
  for (int i = 0; i < count / width; ++i) {
    const Vector<T> vector = reinterpret_cast<const Vector<T>*>(source)[i];
#pragma unroll
    for (int j = 0; j < width; ++j) x[width * i + j] = to_float(vector.element[j]);
  }
}

// The counterpart.
template <class T, int count>
__device__ void store_values(T* target, const float (&x)[count]) {
  constexpr int width = kVectorBytes / sizeof(T);
  static_assert(count % width == 0, "whole vectors");
#pragma unroll
  for (int i = 0; i < count / width; ++i) {
    Vector<T> vector;
#pragma unroll
    for (int j = 0; j < width; ++j) vector.element[j] = from_float<T>(x[width * i + j]);
    reinterpret_cast<Vector<T>*>(target)[i] = vector;
  }
}
