/* Which instruction sets this build and machine offer. A row is offered when the processor has
 * every extension that its folder is compiled for and the operating system saves the registers:
 * __builtin_cpu_supports() reads CPUID and, for AVX and AVX-512, XGETBV. */
#include "kernels.h"

#include <string.h>

#include "ref/ref.h"

#if defined(__x86_64__)
#include "amx/amx.h"
#include "avx2/avx2.h"
#include "avx512/avx512.h"
#include "avx512bf16/avx512bf16.h"
#include "pclmul/pclmul.h"
#elif defined(__aarch64__)
#include "neon/neon.h"
#endif

#if defined(__x86_64__)
static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool has_avx512bf16(void) {
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

static bool has_amx(void) {
    return has_avx512bf16() && tl_amx_offered();
}
#endif

static bool always(void) {
    return true;
}

/* In ascending order of preference. */
static const struct {
    tl_isa isa;
    bool (*offered)(void);
} rows[] = {
    {{"ref", &tl_kernels_ref, NULL}, always},
#if defined(__x86_64__)
    {{"avx2", &tl_kernels_avx2, NULL}, has_avx2},
    {{"avx512", &tl_kernels_avx512, NULL}, has_avx512},
    {{"avx512bf16", &tl_kernels_avx512, &tl_kernels_avx512bf16}, has_avx512bf16},
    {{"amx", &tl_kernels_avx512, &tl_kernels_amx}, has_amx},
#elif defined(__aarch64__)
    {{"neon", &tl_kernels_neon, NULL}, always},
#endif
};

enum { ROW_COUNT = (int)(sizeof(rows) / sizeof(rows[0])) };

const tl_isa *tl_isa_find(const char *name) {
    for (int i = 0; i < ROW_COUNT; i++) {
        if (strcmp(rows[i].isa.name, name) == 0) return rows[i].offered() ? &rows[i].isa : NULL;
    }
    return NULL;
}

int tl_isa_available(const tl_isa **found, int capacity) {
    int count = 0;
    for (int i = 0; i < ROW_COUNT; i++) {
        if (!rows[i].offered()) continue;
        if (count < capacity) found[count] = &rows[i].isa;
        count++;
    }
    return count;
}

tl_crc32_fold_fn tl_kernels_crc32_fold(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("pclmul")) return tl_crc32_fold_pclmul;
#endif
    return NULL;
}
