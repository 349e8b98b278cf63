// The launchers of the CUDA kernels, for cuda.cpp to bind. All pointers are to memory of the device but for those that
// are said to be the host's. All throw std::runtime_error when CUDA reports an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tledge::cuda {

// Name and compute capability of the device that kernels run on, such as "NVIDIA H200, sm_90"; empty where there is
// none, or no driver.
const char* device();

// An array on the device.
struct Resident {
    std::shared_ptr<void> data;
    size_t bytes = 0;
};
Resident upload(const void* host, size_t bytes);

// Memory of the host that the device copies from and to by itself, meanwhile other things run.
void* pinned(size_t bytes);
void unpin(void* data);

struct LossGrad {
    const void* x;  // [n, d]
    bool half;
    size_t n, d;
    size_t classes, folds;
    const int32_t* labels;   // [n], for softmax; else null
    const uint8_t* targets;  // [n, classes], for sigmoids
    const float* shares;     // [folds, n], or [classes, folds, n]
};
// `weights` float [classes · folds, d + 1] and `gradient` double of that shape, added to, are the host's.
double loss_grad(const LossGrad& problem, const float* weights, double* gradient);

// product [d, d] += xᵀx, and sums[c] [d] += the rows of x with label c; both double and the host's.
void gram(const void* x, bool half, size_t n, size_t d, const int32_t* labels, size_t classes, double* product,
          double* sums);

enum class Pixel { byte, half, single };
struct Resize {
    const uint8_t* image;  // [height, width, channels], the host's
    int height, width, channels;
    void* out;  // the host's: uint8 [out_height, out_width, 3], or float or half [3, out_height, out_width], contiguous
    int out_height, out_width;
    Pixel pixel;
    float box[4];
    bool cubic;
    float mean[3], std[3];  // of numbers that are no bytes: (pixel - mean) / std
};
void resize_normalize(const Resize& job);

}  // namespace tledge::cuda
