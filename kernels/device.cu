// The device that the CUDA kernels run on, and memory there.
#include "device.cuh"

#include "cuda.h"

#include <mutex>

namespace tledge::cuda {
namespace {

__global__ void nothing() {}

std::string describe() {
    int count = 0;
    // Without a driver the runtime, which is linked statically, reports an error here, and nothing else happens.
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return "";
    cudaFuncAttributes attributes;
    if (cudaFuncGetAttributes(&attributes, nothing) != cudaSuccess) return "";  // built for other devices
    cudaDeviceProp facts;
    check(cudaGetDeviceProperties(&facts, 0));
    return std::string(facts.name) + ", sm_" + std::to_string(facts.major) + std::to_string(facts.minor);
}

}  // namespace

const char* device() {
    static const std::string found = describe();
    return found.c_str();
}

Resident upload(const void* host, size_t bytes) {
    void* data = nullptr;
    check(cudaMalloc(&data, bytes));
    Resident resident{std::shared_ptr<void>(data, [](void* at) { cudaFree(at); }), bytes};
    check(cudaMemcpy(data, host, bytes, cudaMemcpyHostToDevice));
    return resident;
}

void* pinned(size_t bytes) {
    void* data = nullptr;
    check(cudaHostAlloc(&data, bytes, cudaHostAllocPortable));
    return data;
}

void unpin(void* data) {
    cudaFreeHost(data);
}

}  // namespace tledge::cuda
