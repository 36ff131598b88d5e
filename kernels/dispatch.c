/* Which tables this build and machine offer. A row is offered when the processor has every
 * extension that its folder is compiled for and the operating system saves the registers:
 * __builtin_cpu_supports() reads CPUID and, for AVX and AVX-512, XGETBV. */
#include "kernels.h"

#include <string.h>

#include "ref/ref.h"

#if defined(__x86_64__)
#include "avx2/avx2.h"
#include "avx512/avx512.h"
#include "pclmul/pclmul.h"

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

static bool always(void) {
    return true;
}

/* In ascending order of preference. */
static const struct {
    const struct tl_kernels *table;
    bool (*offered)(void);
} tables[] = {
    {&tl_kernels_ref, always},
#if defined(__x86_64__)
    {&tl_kernels_avx2, has_avx2},
    {&tl_kernels_avx512, has_avx512},
#endif
};

enum { TABLE_COUNT = (int)(sizeof(tables) / sizeof(tables[0])) };

const struct tl_kernels *tl_kernels_find(const char *name) {
    for (int i = 0; i < TABLE_COUNT; i++) {
        if (strcmp(tables[i].table->name, name) == 0)
            return tables[i].offered() ? tables[i].table : NULL;
    }
    return NULL;
}

int tl_kernels_available(const struct tl_kernels **out, int capacity) {
    int count = 0;
    for (int i = 0; i < TABLE_COUNT; i++) {
        if (!tables[i].offered()) continue;
        if (count < capacity) out[count] = tables[i].table;
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
