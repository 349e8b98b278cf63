// Products of tiles on tensor cores, as accurate as single precision: what loss_grad.cu and gram.cu are made of.
//
// Tensor cores keep 11 bits of what they multiply (TF32). A number that needs more is split, a = a' + a'', and of the
// four products the three that matter are summed: a'b' + a'b'' + a''b' (Ootomo and Yokota, "Recovering single precision
// accuracy from Tensor Cores while surpassing the FP32 theoretical peak performance", IJHPCA 36(4), 2022). A half has
// 11 bits, so features in half precision need no second part. Not run on a GPU yet.
#pragma once

#include <mma.h>

#include <type_traits>

#include "device.cuh"

namespace tledge {

namespace wmma = nvcuda::wmma;

constexpr int kThreads = 256, kDepth = 8;
constexpr int kTile = 64;   // how much of a sum one step takes
constexpr int kPad = 4;     // numbers after each line of a tile, which keep neighbouring lines off one another's banks
constexpr int kWide = 128;  // every tile fits into a multiple of it

__host__ __device__ constexpr size_t padded(size_t count) {
    return (count + kWide - 1) / kWide * kWide;
}

using ByRow = wmma::row_major;
using ByColumn = wmma::col_major;

// A tile in shared memory, [Lines, Length].
template <int Lines, int Length>
struct Tile {
    static constexpr int kStep = Length + kPad;
    __align__(32) float at[Lines * kStep];
};

// c [Rows, Columns] += a [Rows, kTile] · b [kTile, Columns]; a tile that lies by column has a line for each column.
template <int Rows, int Columns, class LayoutA, class LayoutB, bool ExactA, bool ExactB>
struct TileProduct {
    static constexpr bool kByRowA = std::is_same<LayoutA, ByRow>::value, kByRowB = std::is_same<LayoutB, ByRow>::value;
    using TileA = Tile<kByRowA ? Rows : kTile, kByRowA ? kTile : Rows>;
    using TileB = Tile<kByRowB ? kTile : Columns, kByRowB ? Columns : kTile>;

    // c is cut into squares of 16; each of the 8 warps has as many, side by side.
    static constexpr int kAcross = Columns / 16, kEach = Rows / 16 * kAcross / (kThreads / 32);
    static_assert(kEach >= 1 && kAcross % kEach == 0, "the squares of a warp lie in one row");
    wmma::fragment<wmma::accumulator, 16, 16, kDepth, float> sums[kEach];

    __device__ static int top() { return int(threadIdx.x) / 32 * kEach / kAcross * 16; }
    __device__ static int left() { return int(threadIdx.x) / 32 * kEach % kAcross * 16; }

    __device__ void clear() {
        for (auto& sum : sums) wmma::fill_fragment(sum, 0.0f);
    }

    __device__ void add(const TileA& a, const TileB& b) {
        wmma::fragment<wmma::matrix_a, 16, 16, kDepth, wmma::precision::tf32, LayoutA> a_high, a_low;
        wmma::fragment<wmma::matrix_b, 16, 16, kDepth, wmma::precision::tf32, LayoutB> b_high, b_low;
        for (int k = 0; k < kTile; k += kDepth) {
            const int row = top();
            wmma::load_matrix_sync(a_high, a.at + (kByRowA ? row * a.kStep + k : k * a.kStep + row), a.kStep);
            split(a_high, a_low);
            for (int j = 0; j < kEach; ++j) {
                const int column = left() + 16 * j;
                wmma::load_matrix_sync(b_high, b.at + (kByRowB ? k * b.kStep + column : column * b.kStep + k), b.kStep);
                split(b_high, b_low);
                // The small ones first: they would lose the most to a large sum.
                if (!ExactA) wmma::mma_sync(sums[j], a_low, b_high, sums[j]);
                if (!ExactB) wmma::mma_sync(sums[j], a_high, b_low, sums[j]);
                wmma::mma_sync(sums[j], a_high, b_high, sums[j]);
            }
        }
    }

    // Write c, its lines `line` apart: element (i, j) to c[i · line + j], or c[j · line + i] where `to` is by column.
    __device__ void store(float* c, size_t line, wmma::layout_t to) const {
        for (int j = 0; j < kEach; ++j) {
            const size_t row = top(), column = left() + 16 * j;
            float* at = to == wmma::mem_row_major ? c + row * line + column : c + column * line + row;
            wmma::store_matrix_sync(at, sums[j], unsigned(line), to);
        }
    }

private:
    template <class Fragment>
    __device__ static void split(Fragment& high, Fragment& low) {
        for (int i = 0; i < high.num_elements; ++i) {
            const float whole = high.x[i];
            high.x[i] = wmma::__float_to_tf32(whole);
            low.x[i] = wmma::__float_to_tf32(whole - high.x[i]);
        }
    }
};

// As many numbers as one load of 16 bytes brings.
template <class T>
struct alignas(16) Pack {
    static constexpr int kCount = 16 / sizeof(T);
    T of[kCount];
};

// Bring the tile of `from` [rows, columns], its lines `step` apart, whose corner is (row, column), to shared memory.
// Beyond the last column stands one of ones where `with_ones`, the bias; all else outside is zero. Does not wait.
template <class T, int Lines, int Length>
__device__ void bring(Tile<Lines, Length>& tile, const T* from, size_t row, size_t rows, size_t column, size_t columns,
                      size_t step, bool with_ones = false) {
    constexpr int kCount = Pack<T>::kCount;
    const bool aligned = step % kCount == 0;  // and so are all corners, and all that cudaMalloc gives
    for (int i = threadIdx.x; i < Lines * Length / kCount; i += kThreads) {
        const int line = i / (Length / kCount), at = i % (Length / kCount) * kCount;
        const size_t r = row + line, c = column + at;
        const T* start = from + r * step + c;
        Pack<T> pack;
        if (aligned && r < rows && c + kCount <= columns) pack = *reinterpret_cast<const Pack<T>*>(start);
        else
            for (int k = 0; k < kCount; ++k)
                pack.of[k] = r >= rows || c + k > columns || (c + k == columns && !with_ones) ? T(0.0f)
                             : c + k == columns                                             ? T(1.0f)
                                                                                            : start[k];
        for (int k = 0; k < kCount; ++k) tile.at[line * tile.kStep + at + k] = float(pack.of[k]);
    }
}

// to [count] += Σ_s from[s], in double precision; row i of `to` is `columns` long, in `from` `line`.
static __global__ void gather(double* to, const float* from, size_t rows, size_t columns, size_t line, size_t parts,
                              size_t part) {
    const size_t i = blockIdx.x * size_t(kThreads) + threadIdx.x;
    if (i >= rows * columns) return;
    const float* at = from + i / columns * line + i % columns;
    double sum = 0;
    for (size_t s = 0; s < parts; ++s) sum += at[s * part];
    to[i] += sum;
}

}  // namespace tledge
