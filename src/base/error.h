/* Status helpers. The only two control-flow macros of the project live here. */
#ifndef TL_BASE_ERROR_H
#define TL_BASE_ERROR_H

#include <pthread.h>
#include <stdint.h>

#include <tl/status.h>

enum { TL_ERROR_CAPACITY = 1024 };

/* Records the text of a failure for tl_last_error() and returns `status`. */
tl_status tl_fail(tl_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts a prefix (a path, a layer's name) before the text already recorded; returns `status`. */
tl_status tl_fail_in(tl_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The status and text for a failed system call: ENOENT is NOT_FOUND, EACCES and EPERM are
 * PERMISSION, ENOMEM is NO_MEMORY, all others IO. `what` says what was tried, with the path. */
tl_status tl_fail_errno(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A failure on its way from the threads that share a piece of work to the caller's: texts belong to
 * a thread. Of several the one of the lowest `order` stays, so that it is always the same. */
typedef struct tl_failure {
    pthread_mutex_t lock;
    tl_status status;
    int64_t order;
    char text[TL_ERROR_CAPACITY];
} tl_failure;
#define TL_FAILURE_NONE                                                                            \
    { .lock = PTHREAD_MUTEX_INITIALIZER, .status = TL_OK }
/* Notes the calling thread's last failure, unless `status` is TL_OK. */
void tl_failure_note(tl_failure *failure, int64_t order, tl_status status);
/* Makes it the calling thread's and returns its status; TL_OK when there is none. */
tl_status tl_failure_raise(tl_failure *failure);

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
