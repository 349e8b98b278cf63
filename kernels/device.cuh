// What every CUDA kernel needs: errors as exceptions, memory that frees itself, and one way to launch.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace tledge {

inline void check(cudaError_t status) {
    if (status != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status) + ".");
}

// Memory on the device. It grows and is never shrunk, so that a workspace is allocated once and used for many calls.
class DeviceMemory {
public:
    DeviceMemory() = default;
    DeviceMemory(const DeviceMemory&) = delete;
    DeviceMemory& operator=(const DeviceMemory&) = delete;
    ~DeviceMemory() { cudaFree(data_); }

    template <class T>
    T* at_least(size_t count) {
        if (count * sizeof(T) > bytes_) {
            check(cudaFree(data_));
            data_ = nullptr, bytes_ = 0;
            check(cudaMalloc(&data_, count * sizeof(T)));
            bytes_ = count * sizeof(T);
        }
        return static_cast<T*>(data_);
    }

    template <class T>
    T* upload(const T* from, size_t count) {
        T* to = at_least<T>(count);
        check(cudaMemcpy(to, from, count * sizeof(T), cudaMemcpyHostToDevice));
        return to;
    }

private:
    void* data_ = nullptr;
    size_t bytes_ = 0;
};

template <class T>
void download(T* to, const T* from, size_t count) {
    check(cudaMemcpy(to, from, count * sizeof(T), cudaMemcpyDeviceToHost));
}

#ifdef __CUDACC__
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, int threads, Arguments... arguments) {
    kernel<<<grid, threads>>>(arguments...);
    check(cudaGetLastError());
}
#endif

inline unsigned blocks_for(size_t count, size_t each) {
    return unsigned((count + each - 1) / each);
}

}  // namespace tledge
