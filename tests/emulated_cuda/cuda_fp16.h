#pragma once
using __half = _Float16;
inline __half __float2half(float value) { return __half(value); }
