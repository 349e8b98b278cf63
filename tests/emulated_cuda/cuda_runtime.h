// CUDA's runtime on a processor, as far as kernels/*.cu use it, so that their logic can be tested without a GPU.
//
// The threads of a block are fibers: each runs to the next barrier, then all go on. A barrier that some threads miss
// ends the program, and every other block runs its threads in the reverse order, so that a missing barrier shows.
// Blocks run one after the other, and shared memory keeps what the last one left there. Device memory starts as NaN.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline dim3 threadIdx, blockIdx, gridDim;

// ── Blocks ──────────────────────────────────────────────────────────────────────────────────────────────────────────

namespace emulated {

constexpr size_t kStack = 128 << 10;
struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(kStack);
    bool ended = false;
};
inline ucontext_t scheduler;
inline Fiber* current;
inline const std::function<void()>* body;

inline void enter() {
    (*body)();
    current->ended = true;
    swapcontext(&current->context, &scheduler);
}

inline void run_block(std::vector<Fiber>& fibers, bool backwards) {
    const size_t count = fibers.size();
    for (Fiber& fiber : fibers) {
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data(), fiber.context.uc_stack.ss_size = kStack;
        fiber.context.uc_link = nullptr, fiber.ended = false;
        makecontext(&fiber.context, enter, 0);
    }
    for (size_t ended = 0; ended < count;) {
        ended = 0;
        for (size_t i = 0; i < count; ++i) {
            threadIdx.x = unsigned(backwards ? count - 1 - i : i);
            current = &fibers[threadIdx.x];
            swapcontext(&scheduler, &current->context);
            ended += current->ended;
        }
        if (ended && ended < count) throw std::logic_error("A barrier was missed by some threads of a block.");
    }
}

}  // namespace emulated

inline void __syncthreads() {
    swapcontext(&emulated::current->context, &emulated::scheduler);
}

namespace tledge {
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, int threads, Arguments... arguments) {
    static std::mutex one_at_a_time;
    const std::lock_guard lock(one_at_a_time);
    static std::vector<emulated::Fiber> fibers;
    fibers.resize(threads);
    const std::function<void()> body = [&] { kernel(arguments...); };
    emulated::body = &body, gridDim = grid;
    bool backwards = false;
    for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x, backwards = !backwards)
                emulated::run_block(fibers, backwards);
}
}  // namespace tledge

// ── Runtime ─────────────────────────────────────────────────────────────────────────────────────────────────────────

enum cudaError_t { cudaSuccess, cudaErrorMemoryAllocation };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
constexpr unsigned cudaHostAllocPortable = 1;
struct cudaFuncAttributes {};
struct cudaDeviceProp {
    char name[16] = "emulated";
    int major = 9, minor = 0;
};

inline const char* cudaGetErrorString(cudaError_t) { return "out of memory"; }
inline cudaError_t cudaMalloc(void** to, size_t bytes) {
    *to = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!*to) return cudaErrorMemoryAllocation;
    std::memset(*to, 0xff, bytes);
    return cudaSuccess;
}
inline cudaError_t cudaFree(void* at) { return std::free(at), cudaSuccess; }
inline cudaError_t cudaHostAlloc(void** to, size_t bytes, unsigned) { return cudaMalloc(to, bytes); }
inline cudaError_t cudaFreeHost(void* at) { return cudaFree(at); }
inline cudaError_t cudaMemset(void* at, int value, size_t bytes) { return std::memset(at, value, bytes), cudaSuccess; }
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
    return std::memcpy(to, from, bytes), cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* facts, int) { return *facts = {}, cudaSuccess; }
template <class Function>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, Function*) { return cudaSuccess; }
