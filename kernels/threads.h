// Work in parts, shared by a few threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

namespace tledge {

// Calls work(part, thread) once for each part of 0..parts-1, on up to `threads` threads, of which this one is thread 0.
// Which thread gets which part is chance, so that none waits for a slow one. `work` must not throw.
template <class Work>
void share_out(int parts, int threads, const Work& work) {
    std::atomic<int> next{0};
    const auto take = [&](int thread) {
        for (int part; (part = next.fetch_add(1)) < parts;) work(part, thread);
    };
    std::vector<std::thread> others;
    try {
        for (int thread = 1; thread < std::min(threads, parts); ++thread) others.emplace_back(take, thread);
    } catch (const std::system_error&) {  // no more threads to be had: the others do it all
    }
    take(0);
    for (auto& other : others) other.join();
}

}  // namespace tledge
