/* UNROLL before a loop with constant bounds: the compiler unrolls it whole, so that arrays indexed
 * by it become registers. ROLLED before one that is not worth its code several times. */
#ifndef TL_KERNELS_SIMD_UNROLL_H
#define TL_KERNELS_SIMD_UNROLL_H

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define ROLLED _Pragma("clang loop unroll(disable)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#define ROLLED _Pragma("GCC unroll 1")
#endif

#endif
