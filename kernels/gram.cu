// gram: the products of all pairs of features, and the sum of the features of each class.
//
//     product += Xᵀ X        sums_c += Σ_{r : y_r = c} x_r
//
// All that ridge regression, linear discriminants and class means need of the data (T. Hastie, R. Tibshirani and
// J. Friedman, The Elements of Statistical Learning, 2nd ed. 2009, eqs. 3.44 and 4.3). Not run on a GPU yet; its logic
// was checked by emulation (tests/emulated_cuda).
//
// Rows are taken in chunks; a split of a chunk is summed in single precision by 64 × 64 tiles on tensor cores, or down
// the columns for the classes, then gathered in double precision. Equal arguments give equal bits on one kind of
// device.
#include "cuda.h"
#include "tile_product.cuh"

#include <vector>

namespace tledge::cuda {
namespace {

// ── Device code ─────────────────────────────────────────────────────────────────────────────────────────────────────

constexpr size_t kSplits = 8, kSplitRows = 1024;
constexpr size_t kChunk = kSplits * kSplitRows;

// parts[s] [line, line] of the rows of split s = blockIdx.z; what lies below the diagonal mirrors what lies above.
template <class T>
__global__ void pairs(const T* x, size_t rows, size_t d, float* parts, size_t line) {
    if (blockIdx.x < blockIdx.y) return;
    using Product = TileProduct<kTile, kTile, ByColumn, ByRow, sizeof(T) == 2, sizeof(T) == 2>;
    __shared__ typename Product::TileA left;
    __shared__ typename Product::TileB right;
    const size_t i = blockIdx.y * size_t(kTile), j = blockIdx.x * size_t(kTile);
    const size_t begin = blockIdx.z * kSplitRows, end = begin + kSplitRows < rows ? begin + kSplitRows : rows;
    Product product;
    product.clear();
    for (size_t row = begin; row < end; row += kTile) {
        bring(left, x, row, end, i, d, d);
        bring(right, x, row, end, j, d, d);
        __syncthreads();
        product.add(left, right);
        __syncthreads();
    }
    float* part = parts + blockIdx.z * line * line;
    product.store(part + i * line + j, line, wmma::mem_row_major);
    if (i != j) product.store(part + j * line + i, line, wmma::mem_col_major);
}

// parts[s] [classes, d]: a thread walks down column k of split s = blockIdx.y.
template <class T>
__global__ void class_sums(const T* x, size_t rows, size_t d, const int32_t* labels, size_t classes, float* parts) {
    const size_t k = blockIdx.x * size_t(kThreads) + threadIdx.x;
    if (k >= d) return;
    const size_t begin = blockIdx.y * kSplitRows, end = begin + kSplitRows < rows ? begin + kSplitRows : rows;
    float* sums = parts + blockIdx.y * classes * d + k;
    for (size_t c = 0; c < classes; ++c) sums[c * d] = 0;
    for (size_t r = begin; r < end; ++r) sums[labels[r] * d] += float(x[r * d + k]);
}

// ── Launcher ────────────────────────────────────────────────────────────────────────────────────────────────────────

template <class T>
void run(const T* x, size_t n, size_t d, const int32_t* labels, size_t classes, double* product, double* sums) {
    const size_t line = padded(d), count = d * d + classes * d;
    DeviceMemory parts_memory, class_memory, total_memory;
    float* parts = parts_memory.at_least<float>(kSplits * line * line);
    float* class_parts = class_memory.at_least<float>(kSplits * classes * d);
    double* total = total_memory.at_least<double>(count);
    check(cudaMemset(total, 0, count * sizeof(double)));
    for (size_t first = 0; first < n; first += kChunk) {
        const size_t rows = n - first < kChunk ? n - first : kChunk;
        const unsigned splits = blocks_for(rows, kSplitRows), tiles = unsigned(line / kTile);
        launch(pairs<T>, dim3(tiles, tiles, splits), kThreads, x + first * d, rows, d, parts, line);
        launch(gather, dim3(blocks_for(d * d, kThreads)), kThreads, total, parts, d, d, line, splits, line * line);
        launch(class_sums<T>, dim3(blocks_for(d, kThreads), splits), kThreads, x + first * d, rows, d, labels + first,
               classes, class_parts);
        launch(gather, dim3(blocks_for(classes * d, kThreads)), kThreads, total + d * d, class_parts, classes, d, d,
               splits, classes * d);
    }
    std::vector<double> host(count);
    download(host.data(), total, count);
    for (size_t i = 0; i < d * d; ++i) product[i] += host[i];
    for (size_t i = 0; i < classes * d; ++i) sums[i] += host[d * d + i];
}

}  // namespace

void gram(const void* x, bool half, size_t n, size_t d, const int32_t* labels, size_t classes, double* product,
          double* sums) {
    if (half) run(static_cast<const __half*>(x), n, d, labels, classes, product, sums);
    else run(static_cast<const float*>(x), n, d, labels, classes, product, sums);
}

}  // namespace tledge::cuda
