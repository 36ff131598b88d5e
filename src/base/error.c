#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* One text per thread: a failing call on one thread must not overwrite the text that another
 * thread is about to read (docs/decisions/errors.md). */
static _Thread_local char error_text[TL_ERROR_CAPACITY];

const char *tl_last_error(void) {
    return error_text;
}

const char *tl_status_name(tl_status status) {
    switch (status) {
#define TL_STATUS_CASE(name, value, message)                                                       \
    case TL_##name:                                                                                \
        return #name;
        TL_STATUS_MAP(TL_STATUS_CASE)
#undef TL_STATUS_CASE
    }
    return "UNKNOWN";
}

const char *tl_status_message(tl_status status) {
    switch (status) {
#define TL_STATUS_CASE(name, value, message)                                                       \
    case TL_##name:                                                                                \
        return message;
        TL_STATUS_MAP(TL_STATUS_CASE)
#undef TL_STATUS_CASE
    }
    return "unknown status code";
}

tl_status tl_fail(tl_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    /* The arguments may point into error_text, so format elsewhere first. */
    char text[TL_ERROR_CAPACITY];
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(error_text, text, strlen(text) + 1);
    return status;
}

tl_status tl_fail_in(tl_status status, const char *format, ...) {
    char prefix[TL_ERROR_CAPACITY];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    return tl_fail(status, "%s: %s", prefix, error_text);
}

void tl_failure_note(tl_failure *failure, int64_t order, tl_status status) {
    if (status == TL_OK) return;
    pthread_mutex_lock(&failure->lock);
    if (failure->status == TL_OK || order < failure->order) {
        failure->status = status;
        failure->order = order;
        memcpy(failure->text, error_text, sizeof failure->text);
    }
    pthread_mutex_unlock(&failure->lock);
}

tl_status tl_failure_raise(tl_failure *failure) {
    pthread_mutex_destroy(&failure->lock);
    return failure->status == TL_OK ? TL_OK : tl_fail(failure->status, "%s", failure->text);
}

static tl_status status_of_errno(int error) {
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return TL_NOT_FOUND;
    case EACCES:
    case EPERM:
        return TL_PERMISSION;
    case ENOMEM:
        return TL_NO_MEMORY;
    default:
        return TL_IO;
    }
}

/* GNU's strerror_r() returns the text, which may lie outside the buffer; POSIX's returns 0. */
static const char *describe_errno(int error, char *buffer, size_t size) {
#ifdef __GLIBC__
    return strerror_r(error, buffer, size);
#else
    if (strerror_r(error, buffer, size) != 0) snprintf(buffer, size, "error %d", error);
    return buffer;
#endif
}

tl_status tl_fail_errno(int error, const char *format, ...) {
    char what[TL_ERROR_CAPACITY / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    char buffer[128];
    const char *reason = describe_errno(error, buffer, sizeof buffer);
    return tl_fail(status_of_errno(error), "%s: %s", what, reason);
}
