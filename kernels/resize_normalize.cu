// resize_normalize on a GPU: antialiased, separable resampling of an 8-bit picture, to bytes or to normalised numbers.
//
//     bytes = R(V · R(H · image))     out_c = bytes_c, or levels_c[bytes_c]
//
// Weights (R. G. Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans. ASSP 29(6), 1981),
// windows, rounding and the order of the passes are those of the processor's kernel, which explains them: sums are of
// whole numbers, so the bytes are the same. Not run on a GPU yet; its logic was checked by emulation
// (tests/emulated_cuda).
#include "cuda.h"
#include "device.cuh"

#include <algorithm>
#include <cmath>
#include <vector>

namespace tledge::cuda {
namespace {

// ── Device code ─────────────────────────────────────────────────────────────────────────────────────────────────────

constexpr int kShift = 22, kThreads = 256, kPadGrey = 128;

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

// Where a picture of `channels` goes in its place, and how large that is.
struct Place {
    int channels, top, left, inner_height, inner_width, height, width;
};

// One thread for each number of one place: channels come last in bytes, first in other numbers; grey is replicated.
template <class T>
__global__ void emit(const uint8_t* from, Place place, const T* levels, T* out) {
    const int i = int(blockIdx.x * kThreads + threadIdx.x), pixels = place.height * place.width;
    if (i >= 3 * pixels) return;
    const int channel = levels ? i / pixels : i % 3, at = levels ? i % pixels : i / 3;
    const int y = at / place.width - place.top, x = at % place.width - place.left;
    uint8_t byte = kPadGrey;
    if (0 <= y && y < place.inner_height && 0 <= x && x < place.inner_width)
        byte = from[(y * place.inner_width + x) * place.channels + (place.channels == 3 ? channel : 0)];
    out[i] = levels ? levels[channel * 256 + byte] : T(byte);
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
    DeviceMemory image, across, down, middle, bytes, levels, out;
};

// Bring `picture` to its inner size, [inner_height, inner_width, channels] on the device.
const uint8_t* resample(const Picture& picture, bool cubic, Workspace& kept) {
    const int c = picture.channels, height = picture.inner_height, width = picture.inner_width;
    const uint8_t* image = kept.image.upload(picture.data, size_t(picture.height) * picture.width * c);
    const Axis columns = axis_of(kept.across, picture.width, width, picture.box[0], picture.box[2], cubic);
    const Axis rows = axis_of(kept.down, picture.height, height, picture.box[1], picture.box[3], cubic);
    uint8_t* bytes = kept.bytes.at_least<uint8_t>(size_t(height) * width * c);
    const auto blocks = [c](int lines, int length) { return dim3(blocks_for(size_t(lines) * length * c, kThreads)); };
    if (picture.height > height && picture.height - height > 2 * (picture.width - width)) {
        uint8_t* middle = kept.middle.at_least<uint8_t>(size_t(height) * picture.width * c);
        launch(down, blocks(height, picture.width), kThreads, image, picture.width * c, rows, middle, height);
        launch(across, blocks(height, width), kThreads, middle, height, picture.width, c, columns, bytes, width);
    } else {
        uint8_t* middle = kept.middle.at_least<uint8_t>(size_t(picture.height) * width * c);
        launch(across, blocks(picture.height, width), kThreads, image, picture.height, picture.width, c, columns,
               middle, width);
        launch(down, blocks(height, width), kThreads, middle, width * c, rows, bytes, height);
    }
    return bytes;
}

template <class T>
void run(const Picture* pictures, size_t count, bool cubic, const void* levels, int height, int width, void* to) {
    thread_local Workspace kept;  // as in loss_grad.cu
    const size_t each = 3 * size_t(height) * width;
    const T* table = levels ? kept.levels.upload(static_cast<const T*>(levels), 3 * 256) : nullptr;
    T* out = kept.out.at_least<T>(count * each);
    for (size_t n = 0; n < count; ++n) {
        const Picture& p = pictures[n];
        const Place place{p.channels, p.top, p.left, p.inner_height, p.inner_width, height, width};
        launch(emit<T>, dim3(blocks_for(each, kThreads)), kThreads, resample(p, cubic, kept), place, table,
               out + n * each);
    }
    download(static_cast<T*>(to), out, count * each);
}

}  // namespace

void resize_normalize(const Picture* pictures, size_t count, bool cubic, Pixel pixel, const void* levels, int height,
                      int width, void* out) {
    const auto function = pixel == Pixel::byte ? run<uint8_t> : pixel == Pixel::half ? run<__half> : run<float>;
    function(pictures, count, cubic, levels, height, width, out);
}

}  // namespace tledge::cuda
