/* CRC-32 as in PNG, ZIP and gzip (ISO 3309, polynomial 0xedb88320 reflected). */
#ifndef TL_BASE_CRC32_H
#define TL_BASE_CRC32_H

#include <stddef.h>
#include <stdint.h>

#include "kernels.h"

/* Continues `crc` (0 to begin) over `size` bytes. */
uint32_t tl_crc32(uint32_t crc, const void *data, size_t size);
/* The same by the given way of folding, or by table alone when it is NULL. */
uint32_t tl_crc32_with(tl_crc32_fold_fn fold, uint32_t crc, const void *data, size_t size);

#endif
