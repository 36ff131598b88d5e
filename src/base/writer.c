#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/source.h"

enum { TEMPORARY_TRIES = 100 };

/* A link is followed, so that renaming replaces the file it points to and not the link. */
static tl_status resolve_target(tl_context *ctx, const char *path, char **out) {
    struct stat info;
    if (lstat(path, &info) == 0 && S_ISLNK(info.st_mode)) {
        char *real = realpath(path, NULL);
        if (!real) return tl_fail_errno(errno, "%s: cannot be resolved", path);
        *out = tl_strdup(ctx, real);
        free(real);
        TL_CHECK_MEMORY(*out);
    } else {
        *out = tl_strdup(ctx, path);
        TL_CHECK_MEMORY(*out);
    }
    if (stat(*out, &info) == 0 && !S_ISREG(info.st_mode)) {
        return tl_fail(TL_INVALID_ARGUMENT, "%s: exists and is not a regular file", path);
    }
    return TL_OK;
}

static tl_status create_temporary(tl_writer *writer) {
    for (int i = 0; i < TEMPORARY_TRIES; i++) {
        writer->temporary =
            tl_format(writer->ctx, "%s.tmp-%ld-%d", writer->path, (long)getpid(), i);
        TL_CHECK_MEMORY(writer->temporary);
        writer->fd = open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (writer->fd >= 0) return TL_OK;
        int error = errno;
        tl_free(writer->ctx, writer->temporary);
        writer->temporary = NULL;
        if (error != EEXIST) return tl_fail_errno(error, "%s: cannot be written", writer->path);
    }
    return tl_fail(TL_IO, "%s: %d temporary files are in the way (%s.tmp-*)", writer->path,
                   TEMPORARY_TRIES, writer->path);
}

tl_status tl_writer_open(tl_context *ctx, const char *path, tl_writer *out) {
    *out = (tl_writer){.ctx = ctx, .fd = -1};
    tl_status status = resolve_target(ctx, path, &out->path);
    if (status == TL_OK) status = create_temporary(out);
    if (status != TL_OK) tl_writer_abandon(out);
    return status;
}

tl_status tl_writer_write(tl_writer *writer, const void *data, size_t count) {
    const char *from = data;
    while (count > 0) {
        ssize_t put = write(writer->fd, from, count);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return tl_fail_errno(errno, "%s: writing", writer->path);
        from += put;
        count -= (size_t)put;
        writer->written += (uint64_t)put;
    }
    return TL_OK;
}

enum { FOLDER_CAPACITY = 4096 };

static tl_status folder_of(const char *path, char folder[FOLDER_CAPACITY]) {
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (length >= FOLDER_CAPACITY) return tl_fail(TL_LIMIT, "%s: path too long", path);
    if (!slash) {
        strcpy(folder, ".");
    } else if (length == 0) {
        strcpy(folder, "/");
    } else {
        memcpy(folder, path, length);
        folder[length] = '\0';
    }
    return TL_OK;
}

/* Makes the rename durable. A file system that cannot sync folders (EINVAL) has nothing to add, and
 * a folder that may be written to but not read (EACCES) cannot be synced by us. */
static tl_status sync_folder(const char *path) {
    char folder[FOLDER_CAPACITY];
    TL_TRY(folder_of(path, folder));
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == EACCES) return TL_OK;
    if (fd < 0) return tl_fail_errno(errno, "%s: cannot be opened", folder);
    int error = fsync(fd) != 0 && errno != EINVAL ? errno : 0;
    close(fd);
    return error ? tl_fail_errno(error, "%s: syncing the folder", folder) : TL_OK;
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

tl_status tl_writer_compare(const tl_writer *a, const tl_writer *b, bool *same) {
    char folder[2][FOLDER_CAPACITY];
    struct stat info[2];
    *same = false;
    if (strcmp(last_part(a->path), last_part(b->path)) != 0) return TL_OK;
    TL_TRY(folder_of(a->path, folder[0]));
    TL_TRY(folder_of(b->path, folder[1]));
    for (int i = 0; i < 2; i++)
        if (stat(folder[i], &info[i]) != 0)
            return tl_fail_errno(errno, "%s: cannot be looked at", folder[i]);
    *same = info[0].st_dev == info[1].st_dev && info[0].st_ino == info[1].st_ino;
    return TL_OK;
}

tl_status tl_writer_finish(tl_writer *writer) {
    tl_status status = TL_OK;
    if (fsync(writer->fd) != 0) status = tl_fail_errno(errno, "%s: syncing", writer->path);
    if (close(writer->fd) != 0 && status == TL_OK) {
        status = tl_fail_errno(errno, "%s: closing", writer->path);
    }
    writer->fd = -1;
    return status;
}

tl_status tl_writer_commit(tl_writer *writer) {
    tl_status status = writer->fd >= 0 ? tl_writer_finish(writer) : TL_OK;
    if (status == TL_OK && rename(writer->temporary, writer->path) != 0) {
        status = tl_fail_errno(errno, "%s: renaming into place", writer->path);
    }
    if (status == TL_OK) {
        tl_free(writer->ctx, writer->temporary);
        writer->temporary = NULL;
        status = sync_folder(writer->path);
    }
    tl_writer_abandon(writer);
    return status;
}

void tl_writer_abandon(tl_writer *writer) {
    if (!writer->ctx) return;
    if (writer->fd >= 0) close(writer->fd);
    if (writer->temporary) unlink(writer->temporary);
    tl_free(writer->ctx, writer->temporary);
    tl_free(writer->ctx, writer->path);
    *writer = (tl_writer){.fd = -1};
}

tl_status tl_write_file(tl_context *ctx, const char *path, const void *data, size_t count) {
    tl_writer writer;
    TL_TRY(tl_writer_open(ctx, path, &writer));
    tl_status status = tl_writer_write(&writer, data, count);
    if (status == TL_OK) return tl_writer_commit(&writer);
    tl_writer_abandon(&writer);
    return status;
}
