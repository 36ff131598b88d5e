/* The calling thread's floating-point control register: rounding, traps, denormals; not the flags
 * of what has happened. */
#ifndef TL_TESTS_FLOAT_CONTROL_H
#define TL_TESTS_FLOAT_CONTROL_H

#include <stdint.h>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

static inline uint64_t float_control(void) {
#if defined(__SSE__)
    return _mm_getcsr() & ~0x3fu;
#elif defined(__aarch64__)
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control;
#else
    return 0;
#endif
}

static inline void float_set_control(uint64_t control) {
#if defined(__SSE__)
    _mm_setcsr((unsigned)control);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(control));
#else
    (void)control;
#endif
}

/* A setting that is not the library's and not the default: round down, keep denormals. */
static inline uint64_t float_unusual_control(void) {
#if defined(__SSE__)
    return 0x1f80u | 0x2000u;
#elif defined(__aarch64__)
    return (uint64_t)2 << 22;
#else
    return 0;
#endif
}

#endif
