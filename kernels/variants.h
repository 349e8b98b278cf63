// The ways to compute one kernel, as a table: dispatch, parity tests and benchmarks are all made from it.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <string_view>

namespace tledge {

// One row. `run` is the kernel's own set of function pointers; the rows stand fastest first.
template <class Functions>
struct Variant {
    const char* name;
    const char* isa;
    bool (*supported)();
    Functions run;
};

inline bool always() {
    return true;
}

#if defined(__x86_64__)
inline bool has_avx2() {
    return __builtin_cpu_supports("avx2");
}
inline bool has_avx2_fma_f16c() {
    return has_avx2() && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
inline bool has_avx512f() {
    return __builtin_cpu_supports("avx512f");
}
inline bool has_avx512vnni() {
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}
#endif

// The row called `name`, or, where it is empty, the first that this processor supports. Raises ValueError.
template <class Functions, size_t N>
const Variant<Functions>& choose(const Variant<Functions> (&table)[N], std::string_view name) {
    std::string available;
    for (const auto& variant : table) {
        if (!variant.supported()) continue;
        if (name.empty() || name == variant.name) return variant;
        available += (available.empty() ? "" : ", ") + std::string(variant.name);
    }
    throw nanobind::value_error(
        ("variant must be one of " + available + " on this processor, found '" + std::string(name) + "'.").c_str());
}

// The table as Python sees it: [(name, isa, supported)].
template <class Functions, size_t N>
nanobind::list rows(const Variant<Functions> (&table)[N]) {
    nanobind::list result;
    for (const auto& variant : table) {
        result.append(nanobind::make_tuple(variant.name, variant.isa, variant.supported()));
    }
    return result;
}

}  // namespace tledge
