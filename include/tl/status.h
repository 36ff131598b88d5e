/* libtl - status codes and error text. */
#ifndef TL_STATUS_H
#define TL_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* Marks every symbol that libtl.so exports; all others are hidden. */
#if defined(__GNUC__)
#define TL_API __attribute__((visibility("default")))
#else
#define TL_API
#endif

/* Every status code of the library: name, value, meaning.
 * Values are part of the ABI: append, never renumber. */
#define TL_STATUS_MAP(X)                                                                           \
    X(OK, 0, "success")                                                                            \
    X(INVALID_ARGUMENT, 1, "an argument has a value that the call refuses")                        \
    X(SHAPE, 2, "tensor shapes do not fit together")                                               \
    X(NOT_FOUND, 3, "a file, name or entry does not exist")                                        \
    X(PERMISSION, 4, "access was denied by the operating system")                                  \
    X(IO, 5, "reading or writing failed")                                                          \
    X(TRUNCATED, 6, "a file ends before its content does")                                         \
    X(CORRUPT, 7, "a file contradicts its own format")                                             \
    X(LIMIT, 8, "a stated limit would be exceeded")                                                \
    X(UNSUPPORTED, 9, "a known feature that this build does not offer")                            \
    X(UNSAFE, 10, "a file asks for something that is never done")                                  \
    X(NO_MEMORY, 11, "memory could not be allocated")                                              \
    X(DIVERGED, 12, "a loss or gradient is not finite")                                            \
    X(CANCELLED, 13, "the caller's callback asked to stop")                                        \
    X(BUSY, 14, "the handle is in use by another thread")

typedef enum tl_status {
#define TL_STATUS_ENUM(name, value, message) TL_##name = value,
    TL_STATUS_MAP(TL_STATUS_ENUM)
#undef TL_STATUS_ENUM
} tl_status;

/* The code's name without prefix ("SHAPE"), or "UNKNOWN". Static storage, thread safe. */
TL_API const char *tl_status_name(tl_status status);

/* The code's meaning as in TL_STATUS_MAP. Static storage, thread safe. */
TL_API const char *tl_status_message(tl_status status);

/* The text of the most recent failure on the calling thread: which file, layer or
 * setting, where in it, what was found and what was expected. Empty before the first
 * failure; a successful call leaves it as it is. The string belongs to the library and
 * stays valid until the next failing call on the same thread. */
TL_API const char *tl_last_error(void);

#ifdef __cplusplus
}
#endif
#endif
