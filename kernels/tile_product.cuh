// Products of 64 × 64 tiles on tensor cores, as accurate as single precision: what loss_grad.cu and gram.cu are made of.
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

constexpr int kTile = 64, kThreads = 256, kDepth = 8;
constexpr int kLine = kTile + 4;  // of a tile in shared memory; the four keep neighbouring rows off one another's banks

__host__ __device__ constexpr size_t padded(size_t count) {
    return (count + kTile - 1) / kTile * kTile;
}

using ByRow = wmma::row_major;
using ByColumn = wmma::col_major;

// c [64, 64] += a [64, 64] · b [64, 64], tiles in shared memory with lines of kLine; kThreads threads take part.
template <class LayoutA, class LayoutB, bool ExactA, bool ExactB>
struct TileProduct {
    wmma::fragment<wmma::accumulator, 16, 16, kDepth, float> sums[2];  // each of the 8 warps has 16 rows, 32 columns

    __device__ static int top() { return int(threadIdx.x) / 32 % 4 * 16; }
    __device__ static int left() { return int(threadIdx.x) / 128 * 32; }

    __device__ void clear() {
        for (auto& sum : sums) wmma::fill_fragment(sum, 0.0f);
    }

    __device__ void add(const float* a, const float* b) {
        wmma::fragment<wmma::matrix_a, 16, 16, kDepth, wmma::precision::tf32, LayoutA> a_high, a_low;
        wmma::fragment<wmma::matrix_b, 16, 16, kDepth, wmma::precision::tf32, LayoutB> b_high, b_low;
        for (int k = 0; k < kTile; k += kDepth) {
            wmma::load_matrix_sync(a_high, a + at<LayoutA>(top(), k), kLine);
            split(a_high, a_low);
            for (int j = 0; j < 2; ++j) {
                wmma::load_matrix_sync(b_high, b + at<LayoutB>(k, left() + 16 * j), kLine);
                split(b_high, b_low);
                // The small ones first: they would lose the most to a large sum.
                if (!ExactA) wmma::mma_sync(sums[j], a_low, b_high, sums[j]);
                if (!ExactB) wmma::mma_sync(sums[j], a_high, b_low, sums[j]);
                wmma::mma_sync(sums[j], a_high, b_high, sums[j]);
            }
        }
    }

    // Write c, its lines `line` apart: element (i, j) to c[i · line + j], or to c[j · line + i] where `to` is by column.
    __device__ void store(float* c, size_t line, wmma::layout_t to) const {
        for (int j = 0; j < 2; ++j) {
            const size_t column = left() + 16 * j;
            float* at = to == wmma::mem_row_major ? c + top() * line + column : c + column * line + top();
            wmma::store_matrix_sync(at, sums[j], unsigned(line), to);
        }
    }

private:
    template <class Layout>
    __device__ static int at(int row, int column) {
        return std::is_same<Layout, ByRow>::value ? row * kLine + column : column * kLine + row;
    }

    template <class Fragment>
    __device__ static void split(Fragment& high, Fragment& low) {
        for (int i = 0; i < high.num_elements; ++i) {
            const float whole = high.x[i];
            high.x[i] = wmma::__float_to_tf32(whole);
            low.x[i] = wmma::__float_to_tf32(whole - high.x[i]);
        }
    }
};

// Bring the tile of `from` [rows, columns] whose corner is (row, column) to shared memory. Beyond the last column stands
// one of ones where `with_ones`, the bias; all else outside is zero. Does not wait.
template <class T>
__device__ void bring(float* tile, const T* from, size_t row, size_t rows, size_t column, size_t columns,
                      bool with_ones = false, size_t step = 0) {
    if (!step) step = columns;
    for (int i = threadIdx.x; i < kTile * kTile; i += kThreads) {
        const size_t r = row + i / kTile, c = column + i % kTile;
        float value = 0;
        if (r < rows && c < columns) value = float(from[r * step + c]);
        else if (with_ones && r < rows && c == columns) value = 1;
        tile[i / kTile * kLine + i % kTile] = value;
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
