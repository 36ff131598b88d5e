/* Whether AMX may be used here. */
#include "amx/amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux, Documentation/arch/x86/xstate.rst. */
enum { GET_XCOMP_PERM = 0x1022, REQ_XCOMP_PERM = 0x1023, XFEATURE_TILEDATA = 18 };

static bool processor_has_it(void) {
    const unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    return (d & amx_bf16) && (d & amx_tile);
}

bool tl_amx_offered(void) {
    if (!processor_has_it()) return false;
    unsigned long permitted = 0;
    if (syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XFEATURE_TILEDATA) != 0) return false;
    if (syscall(SYS_arch_prctl, GET_XCOMP_PERM, &permitted) != 0) return false;
    return permitted >> XFEATURE_TILEDATA & 1ul;
}
