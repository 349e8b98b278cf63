// softmax_loss_grad, sigmoid_loss_grad on a GPU: formula and citation stand in loss_grad.cpp. Not run on a GPU yet; its
// logic was checked by emulation (tests/emulated_cuda).
//
// Rows are taken in chunks of kSplits · kSplitRows, each in four steps, each a grid of its own:
//
//     logits   Z = W · [x 1]ᵀ                  tiles on tensor cores
//     errors   Z becomes ∂loss/∂Z              a thread for each row and fold
//     outer    G_s = Z · [x 1] of split s      tiles on tensor cores
//     gather   G += Σ_s G_s                    in double precision
//
// A chunk of features is read from memory once where the second-level cache holds it until `outer` comes for it. No
// step depends on which block runs first: equal arguments give equal bits on one kind of device.
#include "cuda.h"
#include "tile_product.cuh"

#include <algorithm>
#include <vector>

namespace tledge::cuda {
namespace {

// ── Device code ─────────────────────────────────────────────────────────────────────────────────────────────────────

constexpr size_t kSplits = 16, kSplitRows = 1024;  // about so many rows are summed in single precision
constexpr size_t kChunk = kSplits * kSplitRows;

// A tile has 64 classes, or with few of them 16; then it is twice as long the other way.
template <int Cols>
constexpr int kLong = Cols == 16 ? 128 : 64;

// z [cols, rows], its rows `step` apart, of the tile (blockIdx.x, blockIdx.y). The rows of w are `line` apart.
template <class T, int Cols>
__global__ void logits(const T* x, size_t rows, size_t d, const float* w, size_t line, size_t cols, float* z,
                       size_t step) {
    using Product = TileProduct<kLong<Cols>, Cols, ByRow, ByColumn, sizeof(T) == 2, false>;
    __shared__ typename Product::TileA features;
    __shared__ typename Product::TileB weights;
    const size_t row = blockIdx.x * size_t(kLong<Cols>), col = blockIdx.y * size_t(Cols);
    Product product;
    product.clear();
    for (size_t k = 0; k <= d; k += kTile) {
        bring(features, x, row, rows, k, d, d, true);
        bring(weights, w, col, cols, k, d + 1, line);
        __syncthreads();
        product.add(features, weights);
        __syncthreads();
    }
    product.store(z + col * step + row, step, wmma::mem_col_major);
}

// The sum of `value` over the block, in one order; every thread must come.
__device__ double block_sum(double value) {
    __shared__ double sums[kThreads];
    sums[threadIdx.x] = value;
    for (int half = kThreads / 2; half; half /= 2) {
        __syncthreads();
        if (int(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    __syncthreads();
    return sums[0];
}

__global__ void softmax_errors(float* z, size_t step, size_t rows, LossGrad p, size_t first, double* losses) {
    const size_t r = blockIdx.x * size_t(kThreads) + threadIdx.x, fold = blockIdx.y;
    double loss = 0;
    if (r < step) {
        float* logit = z + fold * step + r;
        const size_t next = p.folds * step, row = first + r;
        float most = logit[0], total = 0;
        for (size_t c = 1; c < p.classes; ++c) most = fmaxf(most, logit[c * next]);
        for (size_t c = 0; c < p.classes; ++c) total += expf(logit[c * next] - most);
        // Rows past the end have a share of nothing; their logits are all zero.
        const float share = r < rows ? p.shares[fold * p.n + row] : 0.0f;
        const size_t label = r < rows ? size_t(p.labels[row]) : 0;
        loss = double(share) * (double(logf(total)) - (logit[label * next] - most));
        for (size_t c = 0; c < p.classes; ++c) {
            const float likely = expf(logit[c * next] - most) * (share / total);
            logit[c * next] = c == label ? likely - share : likely;
        }
    }
    loss = block_sum(loss);
    if (threadIdx.x == 0) losses[blockIdx.y * gridDim.x + blockIdx.x] += loss;
}

__global__ void sigmoid_errors(float* z, size_t step, size_t rows, LossGrad p, size_t first, double* losses) {
    const size_t r = blockIdx.x * size_t(kThreads) + threadIdx.x, fold = blockIdx.y;
    double loss = 0;
    for (size_t c = 0; c < p.classes && r < step; ++c) {
        float* logit = z + (c * p.folds + fold) * step + r;
        const bool inside = r < rows;
        const float share = inside ? p.shares[(c * p.folds + fold) * p.n + first + r] : 0.0f;
        const float wanted = inside && p.targets[(first + r) * p.classes + c] ? 1.0f : 0.0f;
        const float faded = expf(-fabsf(*logit));
        loss += double(share) * (fmaxf(*logit, 0.0f) - *logit * wanted + log1pf(faded));
        *logit = share * ((*logit >= 0 ? 1 : faded) / (1 + faded) - wanted);
    }
    loss = block_sum(loss);
    if (threadIdx.x == 0) losses[blockIdx.y * gridDim.x + blockIdx.x] += loss;
}

// parts[s] [cols, line] of the rows of split s = blockIdx.z.
template <class T, int Cols>
__global__ void outer(const float* z, size_t step, const T* x, size_t rows, size_t d, float* parts, size_t line,
                      size_t cols) {
    using Product = TileProduct<Cols, kLong<Cols>, ByRow, ByRow, false, sizeof(T) == 2>;
    __shared__ typename Product::TileA errors;
    __shared__ typename Product::TileB features;
    const size_t k = blockIdx.x * size_t(kLong<Cols>), col = blockIdx.y * size_t(Cols);
    const size_t begin = blockIdx.z * kSplitRows, end = begin + kSplitRows < rows ? begin + kSplitRows : rows;
    Product product;
    product.clear();
    for (size_t row = begin; row < end; row += kTile) {
        bring(errors, z, col, cols, row, end, step);
        bring(features, x, row, end, k, d, d, true);
        __syncthreads();
        product.add(errors, features);
        __syncthreads();
    }
    product.store(parts + (blockIdx.z * padded(cols) + col) * line + k, line, wmma::mem_row_major);
}

// ── Launcher ────────────────────────────────────────────────────────────────────────────────────────────────────────

struct Workspace {
    DeviceMemory weights, z, parts, gradient, losses;
};

template <class T, int Cols>
double run(const LossGrad& p, const float* weights, double* gradient) {
    // Kept from call to call by the thread that owns it: allocating takes longer than a small problem does.
    thread_local Workspace kept;
    const size_t cols = p.classes * p.folds, wide = p.d + 1, line = padded(wide), lines = padded(cols);
    const size_t most = p.n < kChunk ? padded(p.n) : kChunk, loss_blocks = blocks_for(most, kThreads) * p.folds;
    std::vector<float> aligned(cols * line);
    for (size_t c = 0; c < cols; ++c) std::copy_n(weights + c * wide, wide, &aligned[c * line]);
    const float* w = kept.weights.upload(aligned.data(), aligned.size());
    float* z = kept.z.at_least<float>(lines * most);
    float* parts = kept.parts.at_least<float>(kSplits * lines * line);
    double* total = kept.gradient.at_least<double>(cols * wide);
    double* losses = kept.losses.at_least<double>(loss_blocks);
    check(cudaMemset(total, 0, cols * wide * sizeof(double)));
    check(cudaMemset(losses, 0, loss_blocks * sizeof(double)));

    for (size_t first = 0; first < p.n; first += kChunk) {
        const size_t rows = p.n - first < kChunk ? p.n - first : kChunk, step = padded(rows);
        const size_t splits = blocks_for(rows, kSplitRows);
        const T* x = static_cast<const T*>(p.x) + first * p.d;
        const unsigned row_tiles = unsigned(step / kLong<Cols>), col_tiles = blocks_for(cols, Cols);
        launch(logits<T, Cols>, dim3(row_tiles, col_tiles), kThreads, x, rows, p.d, w, line, cols, z, step);
        launch(p.labels ? softmax_errors : sigmoid_errors, dim3(blocks_for(step, kThreads), unsigned(p.folds)),
               kThreads, z, step, rows, p, first, losses);
        launch(outer<T, Cols>, dim3(unsigned(line / kLong<Cols>), col_tiles, unsigned(splits)), kThreads, z, step, x,
               rows, p.d, parts, line, cols);
        launch(gather, dim3(blocks_for(cols * wide, kThreads)), kThreads, total, parts, cols, wide, line, splits,
               lines * line);
    }

    std::vector<double> host(cols * wide + loss_blocks);
    download(host.data(), total, cols * wide);
    download(host.data() + cols * wide, losses, loss_blocks);
    for (size_t i = 0; i < cols * wide; ++i) gradient[i] += host[i];
    double loss = 0;
    for (size_t i = 0; i < loss_blocks; ++i) loss += host[cols * wide + i];
    return loss;
}

}  // namespace

double loss_grad(const LossGrad& p, const float* weights, double* gradient) {
    const bool few = p.classes * p.folds <= 16;
    const auto function = p.half ? (few ? run<__half, 16> : run<__half, 64>) : (few ? run<float, 16> : run<float, 64>);
    return function(p, weights, gradient);
}

}  // namespace tledge::cuda
