// resize_normalize on a GPU: antialiased, separable resampling of an 8-bit picture, to bytes or to normalised numbers.
//
//     bytes = R(V · R(H · image))     out = bytes, or (bytes - mean) / std, channel by channel
//
// Weights, windows, rounding and the order of the passes are those of resize.cpp, where formula and citation stand: sums
// are of whole numbers, so the bytes are the same. Not run on a GPU yet; its logic was checked by emulation
// (tests/emulated_cuda).
#include "cuda.h"
#include "device.cuh"

#include <algorithm>
#include <cmath>
#include <vector>

namespace tledge::cuda {
namespace {

// ── Device code ─────────────────────────────────────────────────────────────────────────────────────────────────────

constexpr int kShift = 22, kThreads = 256;

// Output i of one axis is Σ_k weights[i · taps + k] · input[first[i] + k], of count[i] terms.
struct Axis {
    const int *first, *count, *weights;
    int taps;
};

__device__ unsigned char weighed(const uint8_t* at, size_t step, const int* weights, int count) {
    int sum = 1 << (kShift - 1);
    for (int k = 0; k < count; ++k) sum += weights[k] * at[k * step];
    sum >>= kShift;
    return (unsigned char)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

__global__ void across(const uint8_t* from, int rows, int width, int channels, Axis axis, uint8_t* to, int outputs) {
    const int i = int(blockIdx.x * kThreads + threadIdx.x);
    if (i >= rows * outputs * channels) return;
    const int channel = i % channels, x = i / channels % outputs, y = i / channels / outputs;
    const uint8_t* at = from + (size_t(y) * width + axis.first[x]) * channels + channel;
    to[i] = weighed(at, channels, axis.weights + x * axis.taps, axis.count[x]);
}

__global__ void down(const uint8_t* from, int line, Axis axis, uint8_t* to, int outputs) {
    const int i = int(blockIdx.x * kThreads + threadIdx.x);
    if (i >= outputs * line) return;
    const int y = i / line;
    const uint8_t* at = from + size_t(axis.first[y]) * line + i % line;
    to[i] = weighed(at, line, axis.weights + y * axis.taps, axis.count[y]);
}

struct Three {
    float of[3];
};

// One thread for each number of `out`: channels come last in bytes, first in normalised numbers; grey is replicated.
__global__ void emit(const uint8_t* from, int pixels, int channels, Three mean, Three std, Pixel pixel, void* out) {
    const int i = int(blockIdx.x * kThreads + threadIdx.x);
    if (i >= 3 * pixels) return;
    const int channel = pixel == Pixel::byte ? i % 3 : i / pixels, at = pixel == Pixel::byte ? i / 3 : i % pixels;
    const uint8_t byte = from[at * channels + (channels == 3 ? channel : 0)];
    const float number = (float(byte) - mean.of[channel]) / std.of[channel];
    if (pixel == Pixel::byte) static_cast<uint8_t*>(out)[i] = byte;
    else if (pixel == Pixel::half) static_cast<__half*>(out)[i] = __float2half(number);
    else static_cast<float*>(out)[i] = number;
}

// ── Launcher ────────────────────────────────────────────────────────────────────────────────────────────────────────

double filter(double t, bool cubic) {
    if (!cubic) return t < 1 ? 1 - t : 0;
    if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
    return t < 2 ? ((2.5 - 0.5 * t) * t - 4) * t + 2 : 0;
}

// What `Axis` points to: first and count of every output, then the weights.
std::vector<int> weigh(int size, int outputs, float low, float high, bool cubic, int& taps) {
    const double scale = double(high - low) / outputs, stretch = std::max(scale, 1.0);
    const double reach = (cubic ? 2 : 1) * stretch;
    taps = 2 * int(std::ceil(reach)) + 1;
    std::vector<int> plan(size_t(outputs) * (2 + taps));
    std::vector<double> exact(taps);
    for (int i = 0; i < outputs; ++i) {
        const double centre = low + (i + 0.5) * scale;
        const int first = std::max(int(centre - reach + 0.5), 0), end = std::min(int(centre + reach + 0.5), size);
        double total = 0;
        for (int k = 0; first + k < end; ++k)
            total += exact[k] = filter(std::abs(first + k - centre + 0.5) / stretch, cubic);
        plan[i] = first, plan[outputs + i] = end - first;
        int* weights = &plan[size_t(outputs) * 2 + size_t(i) * taps];
        for (int k = 0; first + k < end; ++k) weights[k] = int(std::lround(exact[k] / total * (1 << kShift)));
    }
    return plan;
}

Axis axis_of(DeviceMemory& memory, int size, int outputs, float low, float high, bool cubic) {
    int taps = 0;
    const std::vector<int> plan = weigh(size, outputs, low, high, cubic, taps);
    const int* at = memory.upload(plan.data(), plan.size());
    return {at, at + outputs, at + 2 * outputs, taps};
}

struct Workspace {
    DeviceMemory image, across, down, middle, bytes, out;
};

}  // namespace

void resize_normalize(const Resize& job) {
    thread_local Workspace kept;  // as in loss_grad.cu
    const int c = job.channels, pixels = job.out_height * job.out_width;
    const uint8_t* image = kept.image.upload(job.image, size_t(job.height) * job.width * c);
    const Axis columns = axis_of(kept.across, job.width, job.out_width, job.box[0], job.box[2], job.cubic);
    const Axis rows = axis_of(kept.down, job.height, job.out_height, job.box[1], job.box[3], job.cubic);
    uint8_t* bytes = kept.bytes.at_least<uint8_t>(size_t(pixels) * c);
    const bool much_shorter =
        job.height > job.out_height && job.height - job.out_height > 2 * (job.width - job.out_width);
    if (much_shorter) {
        const int line = job.width * c;
        uint8_t* middle = kept.middle.at_least<uint8_t>(size_t(job.out_height) * line);
        launch(down, dim3(blocks_for(size_t(job.out_height) * line, kThreads)), kThreads, image, line, rows, middle,
               job.out_height);
        launch(across, dim3(blocks_for(size_t(pixels) * c, kThreads)), kThreads, middle, job.out_height, job.width, c,
               columns, bytes, job.out_width);
    } else {
        const int line = job.out_width * c;
        uint8_t* middle = kept.middle.at_least<uint8_t>(size_t(job.height) * line);
        launch(across, dim3(blocks_for(size_t(job.height) * line, kThreads)), kThreads, image, job.height, job.width, c,
               columns, middle, job.out_width);
        launch(down, dim3(blocks_for(size_t(pixels) * c, kThreads)), kThreads, middle, line, rows, bytes,
               job.out_height);
    }
    const size_t size = job.pixel == Pixel::byte ? 1 : job.pixel == Pixel::half ? 2 : 4;
    uint8_t* out = kept.out.at_least<uint8_t>(3 * pixels * size);
    const Three mean{{job.mean[0], job.mean[1], job.mean[2]}}, std{{job.std[0], job.std[1], job.std[2]}};
    launch(emit, dim3(blocks_for(3 * size_t(pixels), kThreads)), kThreads, bytes, pixels, c, mean, std, job.pixel,
           static_cast<void*>(out));
    download(static_cast<uint8_t*>(job.out), out, 3 * pixels * size);
}

}  // namespace tledge::cuda
