/* The floating-point control word around a piece of work: denormals are flushed inside (they
 * cost a hundred cycles each and carry no information here), the caller's state is put back. */
#ifndef TL_BASE_FLOAT_STATE_H
#define TL_BASE_FLOAT_STATE_H

#include <stdint.h>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

typedef uint64_t tl_float_state;

static inline tl_float_state tl_float_enter(void) {
#if defined(__SSE__)
    unsigned saved = _mm_getcsr();
    /* Default rounding and masked exceptions, flush-to-zero (bit 15), denormals-are-zero (bit 6).
     */
    _mm_setcsr(0x1f80u | 0x8040u);
    return saved;
#elif defined(__aarch64__)
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)1 << 24));
    return saved;
#else
    return 0;
#endif
}

static inline void tl_float_leave(tl_float_state saved) {
#if defined(__SSE__)
    _mm_setcsr((unsigned)saved);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(saved));
#else
    (void)saved;
#endif
}

static inline void tl_float_leave_scope(const tl_float_state *saved) {
    tl_float_leave(*saved);
}

/* To the end of the block: at the head of whatever computes outside of tl_parallel(), and calls
 * nothing of the caller's. */
#define TL_FLOAT_SCOPE                                                                             \
    __attribute__((cleanup(tl_float_leave_scope), unused)) tl_float_state tl_float_saved =         \
        tl_float_enter()

#endif
