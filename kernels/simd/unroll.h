/* UNROLL before a loop with constant bounds: the compiler unrolls it whole, so that arrays indexed
 * by it become registers. */
#ifndef TL_KERNELS_SIMD_UNROLL_H
#define TL_KERNELS_SIMD_UNROLL_H

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

#endif
