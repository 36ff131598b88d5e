/* A bounded reader of Python pickles: the opcodes that torch.save() writes, and what a checkpoint
 * holds besides tensors. A fixed table says which globals may be named; nothing is executed and
 * nothing is imported. What torch.load(weights_only=True) refuses is refused here
 * (torch/_weights_only_unpickler.py). Opcodes: Lib/pickletools.py in CPython. */
#ifndef TL_IO_PICKLE_H
#define TL_IO_PICKLE_H

#include "io/stream.h"
#include "tensor/tensor.h"

typedef enum tl_pickle_kind {
    TL_PICKLE_NONE,
    TL_PICKLE_BOOL,
    TL_PICKLE_INT,
    TL_PICKLE_BIG_INT, /* past 64 bits; the text holds its bytes, little endian */
    TL_PICKLE_FLOAT,   /* the value is not kept: no tensor depends on it */
    TL_PICKLE_TEXT,    /* str or bytes */
    TL_PICKLE_TUPLE,
    TL_PICKLE_LIST,
    TL_PICKLE_DICT, /* members alternate between key and value */
    TL_PICKLE_GLOBAL,
    TL_PICKLE_STORAGE,
    TL_PICKLE_TENSOR, /* its members are those of the argument tuple it was made from */
    TL_PICKLE_OPAQUE  /* harmless and of no use here: a set, a counter, a device */
} tl_pickle_kind;

/* A value refers to others by index, so that neither cycles nor depth cost any recursion. */
typedef struct tl_pickle_value {
    uint8_t kind;
    uint8_t depth;  /* of containers: 1 + the deepest member when it was put in */
    uint32_t count; /* bytes of a text, members of a container */
    union {
        int64_t integer; /* also the index of a global or storage */
        uint64_t text;   /* offset into the texts */
        struct {
            uint32_t first, last; /* cells */
        } members;
    } as;
} tl_pickle_value;

/* A link of a container's chain of members. The last link's `next` is meaningless. */
typedef struct tl_pickle_cell {
    uint32_t value, next;
} tl_pickle_cell;

/* A block of raw elements that tensors look into. The format's reader finds its bytes. */
typedef struct tl_pickle_storage {
    uint64_t key; /* offset into the texts, NUL-terminated */
    uint64_t numel;
    uint64_t at;     /* offset in the file, set by the format's reader */
    uint64_t opcode; /* offset in the file of the opcode that named it */
    tl_dtype dtype;
    int record; /* set by the format's reader */
} tl_pickle_storage;

typedef struct tl_pickle_array {
    void *data;
    uint32_t count, capacity;
} tl_pickle_array;

enum { TL_PICKLE_WINDOW = 4096 };

typedef struct tl_pickle {
    tl_context *ctx;
    const tl_source *source;
    uint64_t begin;  /* where the current pickle began */
    uint64_t next;   /* where the next byte comes from */
    uint64_t end;    /* the first byte that is none of ours */
    uint64_t opcode; /* where the current opcode is */
    uint64_t memory, memory_limit;
    tl_pickle_array values, cells, stack, marks, memo, texts, storages;
    uint64_t window_begin;
    size_t window_size;
    unsigned char window[TL_PICKLE_WINDOW];
} tl_pickle;

/* Prepares to read pickles from bytes [begin, end) of `source`, with at most `memory_limit` bytes.
 * Call tl_pickle_free() also after a failure. */
tl_status tl_pickle_init(tl_pickle *pickle, const tl_source *source, uint64_t begin, uint64_t end,
                         uint64_t memory_limit);
void tl_pickle_free(tl_pickle *pickle);
/* Reads one pickle up to its STOP; `next` is behind it. Values of earlier pickles stay valid.
 * Errors (with the offset in the file): TRUNCATED (no STOP), CORRUPT, LIMIT, UNSUPPORTED, UNSAFE.
 */
tl_status tl_pickle_load(tl_pickle *pickle, uint32_t *root);

const tl_pickle_value *tl_pickle_at(const tl_pickle *pickle, uint32_t value);
const tl_pickle_cell *tl_pickle_cell_at(const tl_pickle *pickle, uint32_t cell);
/* Member `index` of a tuple or list; index must be below the count. */
const tl_pickle_value *tl_pickle_member(const tl_pickle *pickle, const tl_pickle_value *container,
                                        uint32_t index);
tl_pickle_storage *tl_pickle_storage_at(const tl_pickle *pickle, uint32_t storage);
/* The text's bytes, followed by a NUL that is not counted. Valid until the next load. */
const char *tl_pickle_text(const tl_pickle *pickle, uint64_t text);
/* A value is this text. */
bool tl_pickle_is(const tl_pickle *pickle, const tl_pickle_value *value, const char *text);
/* Counts `bytes` that the caller is about to allocate for what it read. Errors: LIMIT. */
tl_status tl_pickle_charge(tl_pickle *pickle, uint64_t bytes);

/* Where a tensor's elements are within its storage: checked to be inside. */
typedef struct tl_pickle_tensor {
    uint32_t storage;
    tl_shape shape;
    int64_t offset; /* of element 0, in elements */
    int64_t stride[TL_MAX_RANK];
} tl_pickle_tensor;
/* Reads the arguments of torch._utils._rebuild_tensor(_v2), or a value of kind TENSOR.
 * Errors: CORRUPT, LIMIT (rank; elements of a tensor that repeats its storage). */
tl_status tl_pickle_read_tensor(const tl_pickle *pickle, const tl_pickle_value *value,
                                tl_pickle_tensor *out);

/* --- between the files of the reader ---------------------------------------------------------- */

/* What a global may be used for (pickle_globals.c). */
typedef enum tl_pickle_role {
    TL_ROLE_ORDERED_DICT,
    TL_ROLE_SIZE,
    TL_ROLE_TENSOR,
    TL_ROLE_PARAMETER,
    TL_ROLE_STORAGE,
    TL_ROLE_OPAQUE,
    TL_ROLE_UNSUPPORTED
} tl_pickle_role;

typedef struct tl_pickle_global {
    char module[24], name[32];
    tl_pickle_role role;
    tl_dtype dtype; /* of a storage */
} tl_pickle_global;

/* NULL unless the table has it, or `index` is past the table's end. */
const tl_pickle_global *tl_pickle_global_find(const char *module, const char *name);
const tl_pickle_global *tl_pickle_global_at(int64_t index);
int64_t tl_pickle_global_index(const tl_pickle_global *global);

/* Records a failure with the file's name and the current opcode's offset. */
tl_status tl_pickle_fail(const tl_pickle *pickle, tl_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The kind's name for messages. */
const char *tl_pickle_kind_name(const tl_pickle_value *value);
/* What calling `callee` with the tuple `args` gives (pickle_call.c). */
tl_status tl_pickle_call(tl_pickle *pickle, uint32_t callee, uint32_t args, uint32_t *result);
/* The storage that a persistent id names. */
tl_status tl_pickle_persistent(tl_pickle *pickle, uint32_t id, uint32_t *result);
/* Adds a value. */
tl_status tl_pickle_new(tl_pickle *pickle, tl_pickle_value value, uint32_t *index);
/* Puts `member` at the end of a container. */
tl_status tl_pickle_append(tl_pickle *pickle, uint32_t container, uint32_t member);
/* Room for `count` more items of `size` bytes: *items points to the first. */
tl_status tl_pickle_grow(tl_pickle *pickle, tl_pickle_array *array, size_t size, uint64_t count,
                         void **items);

#endif
