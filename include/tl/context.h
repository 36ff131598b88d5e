/* libtl - the context: threads, memory, instruction set and messages of one user of the library.
 *
 * There is no global state: two contexts in one process never influence each other.
 * Every other object is created from a context, which must outlive it. */
#ifndef TL_CONTEXT_H
#define TL_CONTEXT_H

#include <stddef.h>
#include <tl/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_context tl_context;

/* Allocator hook, as in Lua: new_size 0 frees `ptr`, ptr NULL allocates, otherwise the
 * block is resized from old_size to new_size bytes. Returns NULL on failure, in which case
 * an existing block is untouched. Must be thread safe. All memory of the library goes through it,
 * with two exceptions: JSON objects while a file is read or written, and what libjpeg takes while
 * it decodes a picture. */
typedef void *(*tl_alloc_fn)(void *user, void *ptr, size_t old_size, size_t new_size);

typedef enum tl_log_level { TL_LOG_INFO = 0, TL_LOG_WARNING = 1 } tl_log_level;

/* Receives messages that are no failures: a skipped picture, a chosen kernel set.
 * May be called from any thread that works for the context, one call at a time. It may look at the
 * context's objects (tl_context_memory(), tl_dataset_skipped_count()), but must not make, change,
 * run or free any: another message meanwhile would wait for this one for ever. */
typedef void (*tl_log_fn)(void *user, tl_log_level level, const char *message);

/* A caller's own threads: calls task(arg, i) once for each i in 0 .. count-1, in any order and on
 * any threads, and returns when all calls have. A thread that waits in it must not make other calls
 * to libtl meanwhile. The library calls it from one thread at a time. */
typedef void (*tl_parallel_for_fn)(void *user, int count, void (*task)(void *arg, int index),
                                   void *arg);

typedef struct tl_context_options {
    size_t size;         /* sizeof(tl_context_options), set by the initialiser */
    int threads;         /* compute threads including the caller; 0 = one per available core. No
                            more than 8 per available core are started; a warning is logged */
    tl_alloc_fn alloc;   /* NULL = the C library's allocator */
    void *alloc_user;    /* handed to alloc */
    tl_log_fn log;       /* NULL = messages are dropped */
    void *log_user;      /* handed to log */
    const char *isa;     /* highest instruction set to use, see tl_isa_list();
                            NULL = the environment's TL_ISA, else the best the machine has */
    size_t memory_limit; /* bytes the context may hold at once; 0 = no limit */
    tl_parallel_for_fn parallel_for; /* NULL = the context starts `threads` - 1 threads of its own,
                                        which look out for more work for 100 microseconds after a
                                        piece of it, then sleep; otherwise it starts none to compute
                                        with (loaders have reader threads in any case) and cuts work
                                        into `threads` parts. Results are the same bits. It is
                                        called with denormals flushed and default rounding. */
    void *parallel_user;             /* handed to parallel_for */
    int low_memory; /* other than 0: convolutions directly instead of by Winograd's method.
                       Packed weights are as large as the weights instead of 2 to 4 times that, up
                       to twice as many operations are made; results differ by rounding. */
} tl_context_options;

/* Fills `options` with defaults. `size` is sizeof(tl_context_options) as the caller was
 * compiled, so that the struct can grow without breaking old programs. */
TL_API void tl_context_options_init(tl_context_options *options, size_t size);

/* Creates a context. `options` may be NULL for defaults; nothing in it is kept but the
 * function pointers. The caller frees *out with tl_context_free().
 * Errors: INVALID_ARGUMENT (threads outside 0..1024; isa unknown or not on this machine: the text
 * lists the choices), NO_MEMORY. */
TL_API tl_status tl_context_create(const tl_context_options *options, tl_context **out);

/* Stops the context's threads and frees it. NULL is allowed. Every object created from it
 * must have been freed before. */
TL_API void tl_context_free(tl_context *ctx);

/* Number of compute threads, the caller included. */
TL_API int tl_context_threads(const tl_context *ctx);

/* Name of the instruction set in use, such as "avx512". Static storage. */
TL_API const char *tl_context_isa(const tl_context *ctx);

/* Bytes held through the context now, and the most it ever held. Either may be NULL. */
TL_API void tl_context_memory(const tl_context *ctx, size_t *current, size_t *peak);

/* Writes to `names` up to `capacity` instruction sets that this build and machine offer,
 * lowest first, and returns how many there are. Strings have static storage. */
TL_API int tl_isa_list(const char **names, int capacity);

/* The library's version, "MAJOR.MINOR.PATCH". */
TL_API const char *tl_version(void);

#ifdef __cplusplus
}
#endif
#endif
