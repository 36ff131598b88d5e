/* Where bytes come from and go to: bounded random-access reading of a file or of memory, and
 * atomic replacement of a file. All file access of the library goes through here. */
#ifndef TL_BASE_SOURCE_H
#define TL_BASE_SOURCE_H

#include <time.h>

#include "base/context.h"

/* A readable range of bytes: a regular file, open (and read with pread) or mapped, or a caller's
 * memory.
 * May be read by several threads at once. */
typedef struct tl_source {
    tl_context *ctx;
    char *name;                  /* for messages: the path, or "memory" */
    uint64_t size;               /* bytes */
    const unsigned char *memory; /* NULL for a file that is not mapped */
    bool mapped;                 /* `memory` is a mapping */
    int fd;                      /* -1 for memory */
    struct timespec modified;    /* the file, when it was opened */
} tl_source;

/* Opens a regular file; anything else (folder, FIFO, socket, device) is refused without
 * blocking. Errors: NOT_FOUND, PERMISSION, IO, INVALID_ARGUMENT (not a regular file), NO_MEMORY. */
tl_status tl_source_open(tl_context *ctx, const char *path, tl_source *out);
/* The same for files named by other files: a symbolic link and what is no regular file are UNSAFE.
 */
tl_status tl_source_open_no_link(tl_context *ctx, const char *path, tl_source *out);
/* Reads from `data`, which must stay valid until tl_source_close(). `name` is for messages. */
tl_status tl_source_from_memory(tl_context *ctx, const char *name, const void *data, size_t size,
                                tl_source *out);
/* Maps an open file, read-only and shared. Only for files that the user asked to be mapped: one
 * that somebody cuts meanwhile ends the process (SIGBUS). Errors: IO, NO_MEMORY; the source stays
 * as it was. */
tl_status tl_source_map(tl_source *source);
void tl_source_close(tl_source *source);

/* Reads exactly `count` bytes at `offset`. Errors: TRUNCATED (with the offset), IO. */
tl_status tl_source_read(const tl_source *source, uint64_t offset, void *buffer, size_t count);
/* Fails unless the file has still the size and the time of modification that it had when it was
 * opened. That it was renamed, replaced or removed does no harm. Errors: CORRUPT, IO. */
tl_status tl_source_unchanged(const tl_source *source);
/* Reads the whole source into a new block that the caller frees with tl_free().
 * Errors: as tl_source_read(), LIMIT (larger than `limit` bytes), NO_MEMORY. */
tl_status tl_source_read_all(const tl_source *source, uint64_t limit, unsigned char **data,
                             size_t *size);

/* Writes a file so that `path` holds either its old content or all of the new: a temporary in
 * the same folder, fsync, rename, fsync of the folder. */
typedef struct tl_writer {
    tl_context *ctx;
    char *path;
    char *temporary;
    int fd;
    uint64_t written; /* bytes so far */
} tl_writer;

tl_status tl_writer_open(tl_context *ctx, const char *path, tl_writer *out);
tl_status tl_writer_write(tl_writer *writer, const void *data, size_t count);
/* Whether both write the same file: one name in one folder, whatever their paths. */
tl_status tl_writer_compare(const tl_writer *a, const tl_writer *b, bool *same);
/* Brings everything to the disk, so that nothing but the renaming is left for the commit, which
 * calls this where the caller has not. No writing after it; abandon the writer when it fails. */
tl_status tl_writer_finish(tl_writer *writer);
/* Makes the file appear and releases the writer, whether or not it succeeds. */
tl_status tl_writer_commit(tl_writer *writer);
/* Removes the temporary and releases the writer. Harmless after a commit. */
void tl_writer_abandon(tl_writer *writer);

/* Replaces `path` by `count` bytes in one go. */
tl_status tl_write_file(tl_context *ctx, const char *path, const void *data, size_t count);

#endif
