/* Carry-less multiplication: see tl_kernels_crc32_fold() in kernels.h. */
#ifndef TL_KERNELS_PCLMUL_H
#define TL_KERNELS_PCLMUL_H

#include <stddef.h>
#include <stdint.h>

void tl_crc32_fold_pclmul(uint32_t state, const unsigned char *data, size_t size,
                          unsigned char residue[16]);

#endif
