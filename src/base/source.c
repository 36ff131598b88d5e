#include "base/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static tl_status open_regular(tl_context *ctx, const char *path, int flags, tl_source *out) {
    *out = (tl_source){.ctx = ctx, .fd = -1};
    /* Non-blocking, so that a FIFO or a device never holds us up before fstat() tells. */
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | flags);
    if (fd < 0 && errno == ELOOP && flags & O_NOFOLLOW) {
        return tl_fail(TL_UNSAFE, "%s: is a link, which is not followed here", path);
    }
    if (fd < 0) return tl_fail_errno(errno, "%s: cannot be opened", path);
    struct stat info;
    tl_status status = TL_OK;
    if (fstat(fd, &info) != 0) {
        status = tl_fail_errno(errno, "%s: cannot be examined", path);
    } else if (!S_ISREG(info.st_mode)) {
        status = tl_fail(flags & O_NOFOLLOW ? TL_UNSAFE : TL_INVALID_ARGUMENT,
                         "%s: is %s, expected a regular file", path,
                         S_ISDIR(info.st_mode) ? "a folder" : "a special file");
    } else if (!(out->name = tl_strdup(ctx, path))) {
        status = TL_NO_MEMORY;
    }
    if (status != TL_OK) {
        close(fd);
        return status;
    }
    out->fd = fd;
    out->size = (uint64_t)info.st_size;
    out->modified = info.st_mtim;
    return TL_OK;
}

tl_status tl_source_unchanged(const tl_source *source) {
    struct stat info;
    if (source->memory) return TL_OK;
    if (fstat(source->fd, &info) != 0) {
        return tl_fail_errno(errno, "%s: cannot be examined", source->name);
    }
    TL_CHECK((uint64_t)info.st_size == source->size &&
                 info.st_mtim.tv_sec == source->modified.tv_sec &&
                 info.st_mtim.tv_nsec == source->modified.tv_nsec,
             TL_CORRUPT, "%s: was written to while it is in use, expected the file that was opened",
             source->name);
    return TL_OK;
}

tl_status tl_source_open(tl_context *ctx, const char *path, tl_source *out) {
    return open_regular(ctx, path, 0, out);
}

tl_status tl_source_open_no_link(tl_context *ctx, const char *path, tl_source *out) {
    return open_regular(ctx, path, O_NOFOLLOW, out);
}

tl_status tl_source_from_memory(tl_context *ctx, const char *name, const void *data, size_t size,
                                tl_source *out) {
    *out = (tl_source){.ctx = ctx, .fd = -1, .memory = data, .size = size};
    TL_CHECK(data || size == 0, TL_INVALID_ARGUMENT, "%s: data is NULL", name);
    if (!data) out->memory = (const unsigned char *)"";
    out->name = tl_strdup(ctx, name);
    TL_CHECK_MEMORY(out->name);
    return TL_OK;
}

tl_status tl_source_map(tl_source *source) {
    void *memory = mmap(NULL, (size_t)source->size, PROT_READ, MAP_SHARED, source->fd, 0);
    if (memory == MAP_FAILED) return tl_fail_errno(errno, "%s: cannot be mapped", source->name);
    close(source->fd);
    source->fd = -1;
    source->memory = memory;
    source->mapped = true;
    return TL_OK;
}

void tl_source_close(tl_source *source) {
    if (!source->ctx) return;
    if (source->mapped) munmap((void *)(uintptr_t)source->memory, (size_t)source->size);
    if (source->fd >= 0) close(source->fd);
    tl_free(source->ctx, source->name);
    *source = (tl_source){.fd = -1};
}

static tl_status read_file(const tl_source *source, uint64_t offset, unsigned char *buffer,
                           size_t count) {
    while (count > 0) {
        ssize_t got = pread(source->fd, buffer, count, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            return tl_fail_errno(errno, "%s: reading at offset %" PRIu64, source->name, offset);
        }
        /* The file was cut while we were reading it. */
        TL_CHECK(got > 0, TL_TRUNCATED, "%s: ends at offset %" PRIu64 ", %zu more bytes expected",
                 source->name, offset, count);
        buffer += got;
        offset += (uint64_t)got;
        count -= (size_t)got;
    }
    return TL_OK;
}

tl_status tl_source_read(const tl_source *source, uint64_t offset, void *buffer, size_t count) {
    TL_CHECK(offset <= source->size && count <= source->size - offset, TL_TRUNCATED,
             "%s: %zu bytes expected at offset %" PRIu64 ", but the file has %" PRIu64,
             source->name, count, offset, source->size);
    if (!source->memory) return read_file(source, offset, buffer, count);
    if (count) memcpy(buffer, source->memory + offset, count);
    return TL_OK;
}

tl_status tl_source_read_all(const tl_source *source, uint64_t limit, unsigned char **data,
                             size_t *size) {
    *data = NULL;
    *size = 0;
    TL_CHECK(source->size <= limit, TL_LIMIT,
             "%s: has %" PRIu64 " bytes, at most %" PRIu64 " are allowed", source->name,
             source->size, limit);
    unsigned char *block = tl_alloc(source->ctx, (size_t)source->size);
    TL_CHECK_MEMORY(block);
    tl_status status = tl_source_read(source, 0, block, (size_t)source->size);
    if (status != TL_OK) {
        tl_free(source->ctx, block);
        return status;
    }
    *data = block;
    *size = (size_t)source->size;
    return TL_OK;
}
