/* The NEON table. */
#include "neon/neon.h"
#include "neon/vec.h"
#include "simd/table_float.h"

const struct tl_kernels tl_kernels_neon = {SIMD_TABLE_FLOAT(neon, NEON)};
