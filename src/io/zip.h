/* A bounded reader of ZIP archives whose entries are stored, as torch.save() writes them, with or
 * without ZIP64. Format: APPNOTE.TXT 6.3.10 by PKWARE. */
#ifndef TL_IO_ZIP_H
#define TL_IO_ZIP_H

#include "base/source.h"

enum { TL_ZIP_MAX_ENTRIES = 1000000 };

typedef struct tl_zip_entry {
    const char *name; /* relative, without ".." */
    uint64_t header;  /* offset of the local header */
    uint64_t offset;  /* of the data */
    uint64_t size;
    uint32_t crc;
} tl_zip_entry;

typedef struct tl_zip {
    const tl_source *source;
    int count;
    tl_zip_entry *entry; /* in byte order of their names */
    char *names;
} tl_zip;

/* Reads the central directory and checks it against the local headers: all entries lie inside the
 * file, apart from each other, with distinct names. Checksums are for the caller to check.
 * Call tl_zip_close() also after a failure.
 * Errors: TRUNCATED (no end record), CORRUPT, LIMIT (entries), UNSUPPORTED (compressed, encrypted,
 * several disks), UNSAFE (absolute names, ".."), IO, NO_MEMORY. */
tl_status tl_zip_open(const tl_source *source, tl_zip *out);
void tl_zip_close(tl_zip *zip);
/* Index of a name, or -1. */
int tl_zip_find(const tl_zip *zip, const char *name);
/* Reads an entry whole to compare its checksum. Errors: CORRUPT, IO, NO_MEMORY. */
tl_status tl_zip_check(const tl_zip *zip, int index);

#endif
