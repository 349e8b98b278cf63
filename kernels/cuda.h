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
struct Picture {
    const uint8_t* data;  // the host's, [height, width, channels]
    int height, width, channels;
    float box[4];                              // what of it is taken: x0, y0, x1, y1
    int top, left, inner_height, inner_width;  // where that goes; around it is grey
};
// `out`, the host's, is uint8 [count, height, width, 3], or float or half [count, 3, height, width] of `levels`
// [3, 256], the host's: what each grey level of each channel becomes.
void resize_normalize(const Picture* pictures, size_t count, bool cubic, Pixel pixel, const void* levels, int height,
                      int width, void* out);

}  // namespace tledge::cuda
