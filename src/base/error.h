/* Status helpers. The only two control-flow macros of the project live here. */
#ifndef TL_BASE_ERROR_H
#define TL_BASE_ERROR_H

#include <tl/status.h>

/* Records the text of a failure for tl_last_error() and returns `status`. */
tl_status tl_fail(tl_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts a prefix (a path, a layer's name) before the text already recorded; returns `status`. */
tl_status tl_fail_in(tl_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The status and text for a failed system call: ENOENT is NOT_FOUND, EACCES and EPERM are
 * PERMISSION, ENOMEM is NO_MEMORY, all others IO. `what` says what was tried, with the path. */
tl_status tl_fail_errno(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Returns the failure unless `condition` holds. Nothing may need cleaning up at that point. */
#define TL_CHECK(condition, status, ...)                                                           \
    do {                                                                                           \
        if (!(condition)) return tl_fail((status), __VA_ARGS__);                                   \
    } while (0)

/* Returns whatever failure `call` returns. Nothing may need cleaning up at that point. */
#define TL_TRY(call)                                                                               \
    do {                                                                                           \
        tl_status tl_try_status = (call);                                                          \
        if (tl_try_status != TL_OK) return tl_try_status;                                          \
    } while (0)

#endif
