// How slices of codes travel from a matrix in global memory through a stage in shared memory to ldmatrix. The rows of a
// stage are swizzled in chunks of 16 bytes, so that ldmatrix meets no bank twice.
#pragma once

#include <device.cuh>

constexpr int kChunk = 16;  // bytes of one asynchronous copy, and of one row of an ldmatrix matrix

// How far chunk 0 of a row is moved, in chunks to be xor-ed, when rows have 4 or 8 chunks: the same chunk of 8
// consecutive rows lies in 8 different groups of banks. Depends on the row modulo 8 only.
template <int chunks>
__device__ unsigned swizzle(unsigned row) {
  return row / (8 / chunks) % chunks;
}

// One thread's part in copying a matrix [height, row_bytes], slice by slice along its rows, `rows` rows of it to a
// stage: the same chunk of every rows_per_pass-th row.
template <int rows, int chunks, int threads>
struct SliceCopy {
  static constexpr int rows_per_pass = threads / chunks, passes = (rows + rows_per_pass - 1) / rows_per_pass;
  static_assert(rows_per_pass % 8 == 0, "all rows of a thread are swizzled alike");

  const unsigned char* source;  // this thread's chunk of its first row in the next slice
  int64_t pass_bytes;           // from there to its next row
  int rows_left, bytes_left;    // to the matrix's edges, from this thread's first row and chunk
  unsigned target;              // of its first chunk in a stage
  bool idle;                    // there are more threads than chunks

  __device__ SliceCopy(const void* matrix, int64_t height, int64_t row_bytes, int64_t first_row) {
    const unsigned row = threadIdx.x / chunks, chunk = threadIdx.x % chunks;
    source = static_cast<const unsigned char*>(matrix) + (first_row + row) * row_bytes + chunk * kChunk;
    pass_bytes = rows_per_pass * row_bytes;
    rows_left = static_cast<int>(height - first_row < rows ? height - first_row : rows) - static_cast<int>(row);
    bytes_left = static_cast<int>(row_bytes - chunk * kChunk);
    target = (row * chunks + (chunk ^ swizzle<chunks>(row))) * kChunk;
    idle = row >= rows;
  }

  __device__ void fetch_next(unsigned char* stage) {
#pragma unroll
    for (int pass = 0; pass < passes; ++pass) {
      if (idle) break;
      const bool valid = pass * rows_per_pass < rows_left && bytes_left > 0;
      copy_async(stage + target + pass * rows_per_pass * chunks * kChunk, source + pass * pass_bytes, valid);
    }
    source += chunks * kChunk;
    bytes_left -= chunks * kChunk;
  }
};

// Where a lane finds its row of the 16 rows that an ldmatrix loads, in a stage of rows of `chunks` chunks.
template <int chunks>
struct LaneRow {
  unsigned row_bytes, chunk;

  __device__ LaneRow(unsigned row, unsigned chunk_)
      : row_bytes(row * chunks * kChunk), chunk(chunk_ ^ swizzle<chunks>(row)) {}

  // `first_chunk`, an even one, is where the load starts in its rows; `load` counts loads of 16 rows.
  __device__ const unsigned char* at(const unsigned char* stage, int load, int first_chunk) const {
    return stage + row_bytes + ((chunk ^ first_chunk) * kChunk) + load * 16 * chunks * kChunk;
  }
};
