/* The readers of PyTorch's .pth files: ZIP, pickle and the form before PyTorch 1.6. */
#include "support.h"

#include "hostile.h"

#include "tensor_list.h"
#include "zip_writer.h"

/* --- building pickles ------------------------------------------------------------------------- */

static void put_string(bytes *b, const char *text) {
    put_text(b, "X");
    put_number(b, strlen(text), 4);
    put_text(b, text);
}

/* LONG1 of 8 bytes. */
static void put_int(bytes *b, int64_t value) {
    put_text(b, "\x8a\x08");
    put_number(b, (uint64_t)value, 8);
}

static void put_ints(bytes *b, int count, const int64_t *values) {
    put_text(b, "(");
    for (int i = 0; i < count; i++) put_int(b, values[i]);
    put_text(b, "t");
}

typedef struct tensor_spec {
    const char *type, *key;
    int64_t numel, offset;
    int rank, strides;
    int64_t dim[8], stride[8];
} tensor_spec;

static const tensor_spec matrix = {.type = "FloatStorage",
                                   .key = "0",
                                   .numel = 6,
                                   .rank = 2,
                                   .strides = 2,
                                   .dim = {2, 3},
                                   .stride = {3, 1}};

static void put_storage(bytes *b, const tensor_spec *t, bool legacy) {
    put_text(b, "(");
    put_string(b, "storage");
    put_text(b, "ctorch\n");
    put_text(b, t->type);
    put_text(b, "\n");
    put_string(b, t->key);
    put_string(b, "cpu");
    put_int(b, t->numel);
    put_text(b, legacy ? "NtQ" : "tQ");
}

static void put_tensor_form(bytes *b, const tensor_spec *t, bool legacy) {
    put_text(b, "ctorch._utils\n_rebuild_tensor_v2\n(");
    put_storage(b, t, legacy);
    put_int(b, t->offset);
    put_ints(b, t->rank, t->dim);
    put_ints(b, t->strides, t->stride);
    put_text(b, "\x89"
                "ccollections\nOrderedDict\n)RtR");
}

static void put_tensor(bytes *b, const tensor_spec *t) {
    put_tensor_form(b, t, false);
}

static const float six[6] = {1, 2, 3, 4, 5, 6};

/* An archive around a pickle; takes it over. */
static void finish(bytes *b, bytes *pickle) {
    const zip_part parts[] = {{.name = "m/data.pkl", .data = pickle->data, .size = pickle->size},
                              {.name = "m/data/0", .data = six, .size = sizeof six}};
    put_zip(b, parts, 2, (zip_options){0});
    free(pickle->data);
}

/* Where the pickle's first byte is in such an archive. */
enum { PICKLE_AT = 40 };

/* {"a": the tensor}, ended or not. */
static bytes pickle_of(const tensor_spec *t) {
    bytes p = {0};
    put_text(&p, "\x80\x02}");
    put_string(&p, "a");
    put_tensor(&p, t);
    put_text(&p, "s.");
    return p;
}

static void finish_tensor(bytes *b, tensor_spec t) {
    bytes p = pickle_of(&t);
    finish(b, &p);
}

/* A pickle that begins with PROTO and goes on with this text. */
static void finish_text(bytes *b, const char *text) {
    bytes p = {0};
    put_text(&p, "\x80\x02");
    put_text(&p, text);
    finish(b, &p);
}

static void build_good(bytes *b) {
    finish_tensor(b, matrix);
}

static void build_good_zip64(bytes *b) {
    bytes p = pickle_of(&matrix);
    const zip_part parts[] = {{.name = "m/data.pkl", .data = p.data, .size = p.size},
                              {.name = "m/data/0", .data = six, .size = sizeof six}};
    put_zip(b, parts, 2, (zip_options){.zip64 = true});
    free(p.data);
}

/* --- building the older form ------------------------------------------------------------------ */

static void put_preamble(bytes *b) {
    put_text(b, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.");
    put_text(b, "\x80\x02M\xe9\x03.");
    put_text(b, "\x80\x02}.");
}

/* The object {"a": matrix}. */
static void put_legacy_object(bytes *b) {
    put_text(b, "\x80\x02}");
    put_string(b, "a");
    put_tensor_form(b, &matrix, true);
    put_text(b, "s.");
}

static void put_legacy_keys(bytes *b, const char *first, const char *second) {
    put_text(b, "\x80\x02]");
    put_string(b, first);
    put_text(b, "a");
    if (second) {
        put_string(b, second);
        put_text(b, "a");
    }
    put_text(b, ".");
}

static void build_good_legacy(bytes *b) {
    put_preamble(b);
    put_legacy_object(b);
    put_legacy_keys(b, "0", NULL);
    put_number(b, 6, 8);
    put(b, six, sizeof six);
}

/* --- bad archives ----------------------------------------------------------------------------- */

/* The good archive with the first two parts changed. */
static void build_parts(bytes *b, zip_part pickle, zip_part data, zip_options options) {
    bytes p = pickle_of(&matrix);
    pickle.data = p.data;
    pickle.size = p.size;
    if (!pickle.name) pickle.name = "m/data.pkl";
    data.data = six;
    data.size = sizeof six;
    if (!data.name) data.name = "m/data/0";
    const zip_part parts[] = {pickle, data};
    put_zip(b, parts, 2, options);
    free(p.data);
}

#define BAD_ZIP(function, ...)                                                                     \
    static void function(bytes *b) {                                                               \
        build_parts(b, __VA_ARGS__);                                                               \
    }

BAD_ZIP(zip_no_end, (zip_part){0}, (zip_part){0}, (zip_options){.no_end = true})
BAD_ZIP(zip_count_more, (zip_part){0}, (zip_part){0}, (zip_options){.count_more = 1})
BAD_ZIP(zip_count_names, (zip_part){0},
        (zip_part){.name = "m/data/with/a/name/longer/than/another/entry/of/the/directory"},
        (zip_options){.count_more = 1})
BAD_ZIP(zip_count_less, (zip_part){0}, (zip_part){0}, (zip_options){.count_more = -1})
BAD_ZIP(zip_count64_more, (zip_part){0}, (zip_part){0},
        (zip_options){.count_more = 1000000, .zip64 = true})
BAD_ZIP(zip_local_name, (zip_part){0}, (zip_part){.local_name = "m/data/1"}, (zip_options){0})
BAD_ZIP(zip_local_crc, (zip_part){0}, (zip_part){.wrong_local_crc = 1}, (zip_options){0})
BAD_ZIP(zip_overlap, (zip_part){0}, (zip_part){.declared = 100, .shift = -100}, (zip_options){0})
BAD_ZIP(zip_bomb, (zip_part){0}, (zip_part){.declared = 2000000000}, (zip_options){0})
BAD_ZIP(zip_bomb64, (zip_part){0}, (zip_part){.declared = UINT64_MAX - 8},
        (zip_options){.zip64 = true})
BAD_ZIP(zip_crc_pickle, (zip_part){.wrong_crc = 1}, (zip_part){0}, (zip_options){0})
BAD_ZIP(zip_crc_data, (zip_part){0}, (zip_part){.wrong_crc = 1}, (zip_options){0})
BAD_ZIP(zip_deflated, (zip_part){0}, (zip_part){.method = 8}, (zip_options){0})
BAD_ZIP(zip_encrypted, (zip_part){.flags = 1}, (zip_part){0}, (zip_options){0})
BAD_ZIP(zip_parent, (zip_part){0}, (zip_part){.name = "m/../data/0"}, (zip_options){0})
BAD_ZIP(zip_parent_end, (zip_part){0}, (zip_part){.name = "m/.."}, (zip_options){0})
BAD_ZIP(zip_absolute, (zip_part){0}, (zip_part){.name = "/etc/passwd"}, (zip_options){0})
BAD_ZIP(zip_drive, (zip_part){0}, (zip_part){.name = "C:evil"}, (zip_options){0})
BAD_ZIP(zip_backslash, (zip_part){0}, (zip_part){.name = "m\\data"}, (zip_options){0})
BAD_ZIP(zip_twice, (zip_part){0}, (zip_part){.name = "m/data.pkl"}, (zip_options){0})
BAD_ZIP(zip_two_pickles, (zip_part){0}, (zip_part){.name = "n/data.pkl"}, (zip_options){0})
BAD_ZIP(zip_no_pickle, (zip_part){.name = "m/other"}, (zip_part){0}, (zip_options){0})
BAD_ZIP(zip_no_storage, (zip_part){0}, (zip_part){.name = "m/data/1"}, (zip_options){0})
BAD_ZIP(zip_script, (zip_part){0}, (zip_part){.name = "m/constants.pkl"}, (zip_options){0})
BAD_ZIP(zip_big_endian, (zip_part){0}, (zip_part){.name = "m/byteorder"}, (zip_options){0})
BAD_ZIP(zip_outside, (zip_part){0}, (zip_part){.shift = 1000000}, (zip_options){0})

static void zip_loose_directory(bytes *b) {
    build_good(b);
    set_number(b, b->size - 6, 3, 4);
}
static void zip_disks(bytes *b) {
    build_good(b);
    set_number(b, b->size - 18, 1, 2);
}
static void zip_locator_outside(bytes *b) {
    build_good_zip64(b);
    set_number(b, b->size - 22 - 12, UINT64_MAX - 3, 8);
}
static void zip_record_differs(bytes *b) {
    build_good_zip64(b);
    set_number(b, b->size - 12, 7, 2);
    set_number(b, b->size - 14, 7, 2);
}
static void zip_empty(bytes *b) {
    put_zip_end(b, 0, 0, false);
}
/* Ten thousand empty entries, all at the same place. */
static void zip_many(bytes *b) {
    const zip_part part = {.name = "x", .data = six};
    const uint64_t zero = 0;
    put_zip_header(b, &part, false, NULL);
    uint64_t directory = b->size;
    for (int i = 0; i < 10000; i++) put_zip_header(b, &part, false, &zero);
    put_zip_end(b, directory, 10000, false);
}

/* --- bad pickles ------------------------------------------------------------------------------ */

#define BAD_PICKLE(function, text)                                                                 \
    static void function(bytes *b) {                                                               \
        finish_text(b, text);                                                                      \
    }

BAD_PICKLE(pickle_os_system, "cos\nsystem\nX\x02zzz")
BAD_PICKLE(pickle_posix, "cposix\nsystem\n.")
BAD_PICKLE(pickle_eval, "c__builtin__\neval\n.")
BAD_PICKLE(pickle_sparse, "ctorch._utils\n_rebuild_sparse_tensor\n.")
BAD_PICKLE(pickle_reduce_storage, "ctorch\nFloatStorage\n)R.")
BAD_PICKLE(pickle_reduce_dict, "})R.")
BAD_PICKLE(pickle_reduce_args, "ccollections\nOrderedDict\nNR.")
BAD_PICKLE(pickle_newobj, "ctorch\nFloatStorage\n)\x81.")
BAD_PICKLE(pickle_build, "]}b.")
BAD_PICKLE(pickle_inst, "(icollections\nOrderedDict\n.")
BAD_PICKLE(pickle_ext, "\x82\x01.")
BAD_PICKLE(pickle_setitem, "]NNs.")
BAD_PICKLE(pickle_setitems_odd, "}(Nu.")
BAD_PICKLE(pickle_append, "}Na.")
BAD_PICKLE(pickle_underflow, "}}s.")
BAD_PICKLE(pickle_underflow_mark, "}(NNs.")
BAD_PICKLE(pickle_empty, ".")
BAD_PICKLE(pickle_no_mark, "NNt.")
BAD_PICKLE(pickle_dangling, "h\x07.")
BAD_PICKLE(pickle_memo, "}r\xff\xff\xff\xff.")
BAD_PICKLE(pickle_binbytes8, "\x8d\xff\xff\xff\xff\xff\xff\xff\x3f.")
BAD_PICKLE(pickle_unicode_long, "X\xff\xff\xff\x7f.")
BAD_PICKLE(pickle_opcode, "\xee.")
BAD_PICKLE(pickle_text_opcode, "I12\n.")
BAD_PICKLE(pickle_no_stop, "}")
BAD_PICKLE(pickle_after_stop, "}.}")
BAD_PICKLE(pickle_protocol, "\x80\x09}.")
BAD_PICKLE(pickle_list, "].")
BAD_PICKLE(pickle_no_tensors, "}X\x05zzz")
BAD_PICKLE(pickle_self, "}q\x01X\x05zzz")
BAD_PICKLE(pickle_frame, "\x95\xff\xff\xff\xff\xff\xff\xff\xff}.")
BAD_PICKLE(pickle_tensor_args, "ctorch._utils\n_rebuild_tensor_v2\n)R.")
BAD_PICKLE(pickle_parameter, "ctorch._utils\n_rebuild_parameter\nN\x85R.")
BAD_PICKLE(pickle_persistent, "NQ.")

static void pickle_system_called(bytes *b) {
    bytes p = {0};
    put_text(&p, "\x80\x02"
                 "cos\nsystem\n");
    put_string(&p, "touch /tmp/tl-was-here");
    put_text(&p, "\x85R.");
    finish(b, &p);
}
static void pickle_stack_global(bytes *b) {
    bytes p = {0};
    put_text(&p, "\x80\x04");
    put_string(&p, "os");
    put_string(&p, "system");
    put_text(&p, "\x93.");
    finish(b, &p);
}
static void pickle_module_id(bytes *b) {
    bytes p = {0};
    put_text(&p, "\x80\x02(");
    put_string(&p, "module");
    put_text(&p, "NNNNtQ.");
    finish(b, &p);
}
static void pickle_keys_only(bytes *b) {
    bytes p = {0};
    put_text(&p, "\x80\x02}");
    put_string(&p, "epoch");
    put_text(&p, "K\x03s");
    put_string(&p, "weights\n");
    put_text(&p, "Ns.");
    finish(b, &p);
}
/* {"state_dict": itself} */
static void pickle_cycle(bytes *b) {
    bytes p = {0};
    put_text(&p, "\x80\x02}q\x01");
    put_string(&p, "state_dict");
    put_text(&p, "h\x01s.");
    finish(b, &p);
}
/* A list that holds itself, again and again. */
static void pickle_cycle_list(bytes *b) {
    bytes p = {0};
    put_text(&p, "\x80\x02]q\x01");
    put_repeated(&p,
                 "h\x01"
                 "a",
                 100);
    put_text(&p, ".");
    finish(b, &p);
}
static void pickle_deep(bytes *b) {
    bytes p = {0};
    put_text(&p, "\x80\x02)");
    put_repeated(&p, "\x85", 100000);
    put_text(&p, ".");
    finish(b, &p);
}
static void pickle_deep_marks(bytes *b) {
    bytes p = {0};
    put_text(&p, "\x80\x02");
    put_repeated(&p, "(", 100000);
    put_repeated(&p, "t", 100000);
    put_text(&p, ".");
    finish(b, &p);
}
/* A million values of one byte each: more than the memory for a file of 1 MB. */
static void pickle_many(bytes *b) {
    bytes p = {0};
    put_text(&p, "\x80\x02(");
    put_repeated(&p, "]", 990000);
    put_text(&p, "t.");
    finish(b, &p);
}
/* One name of 400 KB for 100,000 tensors. */
static void pickle_long_names(bytes *b) {
    bytes p = {0}, name = {0};
    put_text(&p, "\x80\x02}(");
    put_repeated(&name, "n", 400000);
    put_number(&name, 0, 1);
    put_string(&p, (const char *)name.data);
    free(name.data);
    put_text(&p, "q\x01");
    put_tensor(&p, &matrix);
    put_text(&p, "q\x02");
    put_repeated(&p, "h\x01h\x02", 100000);
    put_text(&p, "u.");
    finish(b, &p);
}
static void pickle_same_name(bytes *b) {
    bytes p = {0};
    put_text(&p, "\x80\x02}");
    for (int i = 0; i < 2; i++) {
        put_string(&p, "a");
        put_tensor(&p, &matrix);
        put_text(&p, "s");
    }
    put_text(&p, ".");
    finish(b, &p);
}
static void pickle_name_utf8(bytes *b) {
    bytes p = {0};
    put_text(&p, "\x80\x02}");
    put_string(&p, "a\xc0\x80");
    put_tensor(&p, &matrix);
    put_text(&p, "s.");
    finish(b, &p);
}

#define BAD_TENSOR(function, ...)                                                                  \
    static void function(bytes *b) {                                                               \
        tensor_spec t = matrix;                                                                    \
        __VA_ARGS__;                                                                               \
        finish_tensor(b, t);                                                                       \
    }

BAD_TENSOR(tensor_record_short, t.numel = 7)
BAD_TENSOR(tensor_record_long, (t.numel = 5, t.dim[0] = 1))
BAD_TENSOR(tensor_record_type, t.type = "HalfStorage")
BAD_TENSOR(tensor_numel_negative, t.numel = -1)
BAD_TENSOR(tensor_numel_huge, t.numel = INT64_MAX)
BAD_TENSOR(tensor_stride_outside, t.stride[0] = 4)
BAD_TENSOR(tensor_stride_huge, t.stride[0] = INT64_MAX)
BAD_TENSOR(tensor_stride_wraps, (t.dim[0] = 5, t.stride[0] = INT64_C(1) << 62))
BAD_TENSOR(tensor_stride_negative, t.stride[1] = -1)
BAD_TENSOR(tensor_offset_outside, t.offset = 1)
BAD_TENSOR(tensor_offset_huge, t.offset = INT64_MAX)
BAD_TENSOR(tensor_offset_negative, t.offset = -1)
BAD_TENSOR(tensor_size_negative, t.dim[0] = -2)
BAD_TENSOR(tensor_size_overflow, (t.dim[0] = t.dim[1] = INT64_C(1) << 40))
BAD_TENSOR(tensor_size_hidden, (t.dim[0] = INT64_MAX, t.rank = t.strides = 3))
BAD_TENSOR(tensor_ranks, t.strides = 1)
BAD_TENSOR(tensor_rank, t.rank = t.strides = 7)
BAD_TENSOR(tensor_repeated, (t.dim[0] = INT64_C(1) << 30, t.stride[0] = 0))
BAD_TENSOR(tensor_empty_outside, (t.dim[0] = 0, t.offset = 7))
BAD_TENSOR(tensor_key, t.key = "../0")

/* --- bad files of the older form -------------------------------------------------------------- */

static void legacy_magic(bytes *b) {
    put_text(b, "\x80\x02K\x07.");
}
static void legacy_protocol(bytes *b) {
    build_good_legacy(b);
    b->data[18] = 1;
}
static void legacy_unlisted(bytes *b) {
    put_preamble(b);
    put_legacy_object(b);
    put_text(b, "\x80\x02].");
}
static void legacy_unused(bytes *b) {
    put_preamble(b);
    put_legacy_object(b);
    put_legacy_keys(b, "0", "1");
    put_number(b, 6, 8);
    put(b, six, sizeof six);
}
static void legacy_listed_twice(bytes *b) {
    put_preamble(b);
    put_legacy_object(b);
    put_legacy_keys(b, "0", "0");
    put_number(b, 6, 8);
    put(b, six, sizeof six);
}
static void legacy_keys(bytes *b) {
    put_preamble(b);
    put_legacy_object(b);
    put_text(b, "\x80\x02}.");
}
static void legacy_count(bytes *b) {
    build_good_legacy(b);
    set_number(b, b->size - sizeof six - 8, UINT64_C(1) << 62, 8);
}
static void legacy_trailing(bytes *b) {
    build_good_legacy(b);
    put_number(b, 0, 1);
}
static void legacy_short(bytes *b) {
    build_good_legacy(b);
    b->size--;
}
static void legacy_system(bytes *b) {
    put_preamble(b);
    put_text(b, "\x80\x02"
                "cos\nsystem\n.");
}

static const bad_file bad_files[] = {
    {"no end record", zip_no_end, TL_TRUNCATED, "no ZIP end record"},
    {"count above the directory", zip_count_more, TL_CORRUPT, "3 entries in a directory of 110"},
    {"count above entries", zip_count_names, TL_CORRUPT, "no directory entry here"},
    {"count below entries", zip_count_less, TL_CORRUPT, "after the last of 1 directory entries"},
    {"ZIP64 count above entries", zip_count64_more, TL_LIMIT, "1000002 entries"},
    {"local name differs", zip_local_name, TL_CORRUPT, "local header differs"},
    {"local checksum differs", zip_local_crc, TL_CORRUPT, "local header differs"},
    {"entry inside the one before", zip_overlap, TL_CORRUPT, "no local header"},
    {"2 GB in 2 KB", zip_bomb, TL_CORRUPT, "2000000000 bytes of data at byte"},
    {"2^64 bytes in 2 KB", zip_bomb64, TL_CORRUPT, "18446744073709551607 bytes of data"},
    {"pickle's CRC", zip_crc_pickle, TL_CORRUPT, "offset 40 have CRC"},
    {"storage's CRC", zip_crc_data, TL_CORRUPT, "tensor \"a\": the 24 bytes at offset"},
    {"deflated", zip_deflated, TL_UNSUPPORTED, "\"m/data/0\" has compression method 8"},
    {"encrypted", zip_encrypted, TL_UNSUPPORTED, "\"m/data.pkl\" is encrypted"},
    {"../ in a name", zip_parent, TL_UNSAFE, "\"m/../data/0\""},
    {"name that ends in ..", zip_parent_end, TL_UNSAFE, "\"m/..\""},
    {"absolute name", zip_absolute, TL_UNSAFE, "\"/etc/passwd\""},
    {"name with a drive", zip_drive, TL_UNSAFE, "\"C:evil\""},
    {"name with a backslash", zip_backslash, TL_UNSAFE, "leads outside"},
    {"same name twice", zip_twice, TL_CORRUPT, "\"m/data.pkl\" is there twice"},
    {"two data.pkl", zip_two_pickles, TL_CORRUPT, "a second data.pkl"},
    {"no data.pkl", zip_no_pickle, TL_UNSUPPORTED, "2 entries without data.pkl"},
    {"no storage", zip_no_storage, TL_CORRUPT, "storage \"0\" has no entry"},
    {"TorchScript", zip_script, TL_UNSUPPORTED, "TorchScript"},
    {"big endian", zip_big_endian, TL_UNSUPPORTED, "byteorder"},
    {"entry outside", zip_outside, TL_CORRUPT, "local header at byte 10"},
    {"directory elsewhere", zip_loose_directory, TL_CORRUPT, "expected to end at"},
    {"several disks", zip_disks, TL_UNSUPPORTED, "several disks"},
    {"ZIP64 record outside", zip_locator_outside, TL_CORRUPT, "expected before its locator"},
    {"ZIP64 record differs", zip_record_differs, TL_CORRUPT, "differs from the ZIP64 one"},
    {"no entries", zip_empty, TL_UNSUPPORTED, "0 entries without data.pkl"},
    {"entries overlap: 10,000 in one place", zip_many, TL_CORRUPT, "overlaps"},

    {"GLOBAL os.system", pickle_os_system, TL_UNSAFE, "byte 42: GLOBAL os.system"},
    {"os.system called", pickle_system_called, TL_UNSAFE, "byte 42: GLOBAL os.system"},
    {"GLOBAL posix.system", pickle_posix, TL_UNSAFE, "GLOBAL posix.system"},
    {"GLOBAL eval", pickle_eval, TL_UNSAFE, "GLOBAL __builtin__.eval"},
    {"STACK_GLOBAL", pickle_stack_global, TL_UNSAFE, "byte 60: GLOBAL os.system"},
    {"sparse tensor", pickle_sparse, TL_UNSUPPORTED, "_rebuild_sparse_tensor"},
    {"REDUCE of a storage class", pickle_reduce_storage, TL_UNSAFE, "calls torch.FloatStorage"},
    {"REDUCE of a dict", pickle_reduce_dict, TL_UNSAFE, "byte 44: REDUCE calls a dict"},
    {"REDUCE without a tuple", pickle_reduce_args, TL_CORRUPT, "REDUCE with None"},
    {"NEWOBJ of a storage class", pickle_newobj, TL_UNSAFE, "calls torch.FloatStorage"},
    {"BUILD on a list", pickle_build, TL_UNSAFE, "BUILD on a list"},
    {"INST", pickle_inst, TL_UNSAFE, "byte 43: opcode 0x69"},
    {"EXT1", pickle_ext, TL_UNSAFE, "opcode 0x82"},
    {"persistent id of a module", pickle_module_id, TL_UNSAFE, "\"module\""},
    {"persistent id no tuple", pickle_persistent, TL_CORRUPT, "persistent id is None"},
    {"SETITEM on a list", pickle_setitem, TL_CORRUPT, "byte 45: SETITEM on a list"},
    {"SETITEMS with an odd count", pickle_setitems_odd, TL_CORRUPT, "a key that has no value"},
    {"APPEND to a dict", pickle_append, TL_CORRUPT, "APPEND on a dict"},
    {"stack underflow", pickle_underflow, TL_CORRUPT, "byte 44: stack underflow"},
    {"underflow below a mark", pickle_underflow_mark, TL_CORRUPT, "stack underflow"},
    {"STOP on an empty stack", pickle_empty, TL_CORRUPT, "stack underflow"},
    {"TUPLE without MARK", pickle_no_mark, TL_CORRUPT, "no MARK"},
    {"dangling memo", pickle_dangling, TL_CORRUPT, "memo number 7 was never set"},
    {"memo 2^32", pickle_memo, TL_LIMIT, "memo number 4294967295"},
    {"text of 2^62 bytes", pickle_binbytes8, TL_TRUNCATED, "a text of 4611686018427387903 bytes"},
    {"text of 2 GB", pickle_unicode_long, TL_TRUNCATED, "a text of 2147483647 bytes"},
    {"no opcode", pickle_opcode, TL_CORRUPT, "byte 42: 0xee is no pickle opcode"},
    {"opcode of protocol 0", pickle_text_opcode, TL_UNSUPPORTED, "opcode 0x49"},
    {"no STOP", pickle_no_stop, TL_TRUNCATED, "byte 43"},
    {"bytes after STOP", pickle_after_stop, TL_CORRUPT, "1 bytes after the pickle's STOP"},
    {"protocol 9", pickle_protocol, TL_UNSUPPORTED, "pickle protocol 9"},
    {"frame past the end", pickle_frame, TL_TRUNCATED, "frame of"},
    {"a list", pickle_list, TL_UNSUPPORTED, "the file holds a list"},
    {"a dict without tensors", pickle_keys_only, TL_UNSUPPORTED, "\"epoch\", \"weights\\x0a\""},
    {"cut-off text", pickle_no_tensors, TL_TRUNCATED, "a text of"},
    {"cut-off key", pickle_self, TL_TRUNCATED, "a text of"},
    {"cycle through state_dict", pickle_cycle, TL_CORRUPT, "checkpoint within a checkpoint"},
    {"list in itself", pickle_cycle_list, TL_LIMIT, "nest deeper than 64"},
    {"100,000 nested tuples", pickle_deep, TL_LIMIT, "nest deeper than 64"},
    {"100,000 marks", pickle_deep_marks, TL_LIMIT, "nest deeper than 64"},
    {"990,000 lists", pickle_many, TL_LIMIT, "needs more than the"},
    {"100,000 tensors with a long name", pickle_long_names, TL_LIMIT, "needs more than the"},
    {"same tensor name twice", pickle_same_name, TL_CORRUPT, "tensor \"a\" is there twice"},
    {"tensor name not UTF-8", pickle_name_utf8, TL_CORRUPT, "\"a\\xc0\\x80\" is not UTF-8"},
    {"tensor without arguments", pickle_tensor_args, TL_CORRUPT, "tensor with 0 arguments"},
    {"parameter of None", pickle_parameter, TL_CORRUPT,
     "_rebuild_parameter of None, expected a tensor"},

    {"record shorter than its storage", tensor_record_short, TL_CORRUPT,
     "7 f32 needs 28 bytes, its entry has 24"},
    {"record longer than its storage", tensor_record_long, TL_CORRUPT, "needs 20 bytes"},
    {"record of another type", tensor_record_type, TL_CORRUPT, "6 f16 needs 12 bytes"},
    {"negative element count", tensor_numel_negative, TL_CORRUPT, "\"0\" of -1 elements"},
    {"huge element count", tensor_numel_huge, TL_CORRUPT, "\"0\" of 9223372036854775807"},
    {"stride outside", tensor_stride_outside, TL_CORRUPT, "reaches outside its storage of 6"},
    {"huge stride", tensor_stride_huge, TL_CORRUPT, "reaches outside"},
    {"stride that wraps", tensor_stride_wraps, TL_CORRUPT, "reaches outside"},
    {"negative stride", tensor_stride_negative, TL_CORRUPT, "stride with -1"},
    {"offset outside", tensor_offset_outside, TL_CORRUPT, "offset 1 reaches outside"},
    {"huge offset", tensor_offset_huge, TL_CORRUPT, "reaches outside"},
    {"negative offset", tensor_offset_negative, TL_CORRUPT, "offset -1 reaches outside"},
    {"negative size", tensor_size_negative, TL_CORRUPT, "size with -2"},
    {"size overflow", tensor_size_overflow, TL_CORRUPT, "overflows"},
    {"size overflow behind a 0", tensor_size_hidden, TL_CORRUPT, "overflows"},
    {"sizes and strides differ", tensor_ranks, TL_CORRUPT, "2 sizes and 1 strides"},
    {"rank 7", tensor_rank, TL_LIMIT, "7 dimensions, at most 6"},
    {"a gigabyte by stride 0", tensor_repeated, TL_LIMIT, "repeats a storage of 6"},
    {"empty tensor outside", tensor_empty_outside, TL_CORRUPT, "reaches outside"},
    {"storage key with ..", tensor_key, TL_CORRUPT, "has no entry data/../0"},

    {"another pickle", legacy_magic, TL_UNSUPPORTED, "byte 0: a pickle of an int"},
    {"another protocol version", legacy_protocol, TL_UNSUPPORTED, "byte 15: protocol version 769"},
    {"storage not in the file", legacy_unlisted, TL_CORRUPT, "storage \"0\" is not in the file"},
    {"storage used by none", legacy_unused, TL_CORRUPT, "\"1\" is listed but used by no tensor"},
    {"storage listed twice", legacy_listed_twice, TL_CORRUPT, "\"0\" is listed twice"},
    {"storage keys no list", legacy_keys, TL_CORRUPT, "storage keys are a dict"},
    {"count 2^62 before a storage", legacy_count, TL_CORRUPT, "has 4611686018427387904 elements"},
    {"trailing byte", legacy_trailing, TL_CORRUPT, "1 bytes after the last storage"},
    {"one byte short", legacy_short, TL_TRUNCATED, "needs 24 bytes, 23 are left"},
    {"os.system in the older form", legacy_system, TL_UNSAFE, "GLOBAL os.system"},
};

static void bad_files_are_refused(void **state) {
    (void)state;
    check_bad_files(bad_files, sizeof bad_files / sizeof bad_files[0]);
    assert_int_not_equal(access("/tmp/tl-was-here", F_OK), 0);
}

/* --- good files ------------------------------------------------------------------------------- */

static void check_faults(void (*build)(bytes *b)) {
    bytes good = {0};
    build(&good);
    check_every_truncation(&good);
    assert_true(check_every_bit_flip(&good) > 4 * good.size);
    check_every_allocation(&good);
    free(good.data);
}

static void small_faults_in_a_zip_do_no_harm(void **state) {
    (void)state;
    check_faults(build_good);
}

static void small_faults_in_a_zip64_do_no_harm(void **state) {
    (void)state;
    check_faults(build_good_zip64);
}

static void small_faults_in_the_older_form_do_no_harm(void **state) {
    (void)state;
    check_faults(build_good_legacy);
}

/* Every dtype, strides, shared and expanded storages, as torch.load() gives them. */
static void reads_every_kind_of_tensor(void **state) {
    (void)state;
    check_tensor_list("tests/golden/pth/kinds_zip.pth", "tests/golden/pth/kinds.txt", "pth");
    check_tensor_list("tests/golden/pth/kinds_legacy.pth", "tests/golden/pth/kinds.txt",
                      "pth-legacy");
}

static void reads_pickle_protocol_4(void **state) {
    (void)state;
    check_tensor_list("tests/golden/pth/protocol4_zip.pth", "tests/golden/pth/kinds.txt", "pth");
    check_tensor_list("tests/golden/pth/protocol4_legacy.pth", "tests/golden/pth/kinds.txt",
                      "pth-legacy");
}

/* The weights are found among an optimiser's state, an average of theirs and other values. */
static void finds_the_state_dict_of_a_checkpoint(void **state) {
    (void)state;
    check_tensor_list("tests/golden/pth/checkpoint_zip.pth", "tests/golden/pth/checkpoint.txt",
                      "pth");
    check_tensor_list("tests/golden/pth/checkpoint_legacy.pth", "tests/golden/pth/checkpoint.txt",
                      "pth-legacy");
    check_tensor_list("tests/golden/pth/script_zip.pth", "tests/golden/pth/script.txt", "pth");
    check_tensor_list("tests/golden/pth/script_legacy.pth", "tests/golden/pth/script.txt",
                      "pth-legacy");
}

/* {wrapper: {name: matrix, ...}}; names end with NULL. */
static tl_weights *open_wrapped(tl_context *ctx, bytes *b, const char *wrapper,
                                const char *const *names) {
    bytes p = {0};
    put_text(&p, "\x80\x02}");
    put_string(&p, wrapper);
    put_text(&p, "}");
    for (; *names; names++) {
        put_string(&p, *names);
        put_tensor(&p, &matrix);
        put_text(&p, "s");
    }
    put_text(&p, "s.");
    finish(b, &p);
    tl_weights *weights = NULL;
    assert_ok(open_bytes(ctx, b->data, b->size, &weights));
    return weights;
}

static void unwraps_names(void **state) {
    (void)state;
    static const struct {
        const char *wrapper, *names[3], *first;
    } cases[] = {{"model", {"module.a", "module.b", NULL}, "a"},
                 {"model_state_dict", {"_orig_mod.module.a", "_orig_mod.module.b", NULL}, "a"},
                 {"state_dict_ema", {"module.a", "b", NULL}, "module.a"},
                 {"model_ema", {"a.module.b", "a", NULL}, "a.module.b"}};
    tl_context *ctx = hostile_context();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes b = {0};
        tl_weights *weights = open_wrapped(ctx, &b, cases[i].wrapper, cases[i].names);
        assert_int_equal(weights->count, 2);
        assert_string_equal(weights->item[0].name, cases[i].first);
        float out[6];
        assert_ok(tl_weights_read(weights, 1, out));
        assert_memory_equal(out, six, sizeof six);
        tl_weights_free(weights);
        free(b.data);
    }
    tl_context_free(ctx);
}

/* {right: {"w": the matrix}, wrong: {"w": another}}, or the other way round. */
static void put_pair(bytes *b, const char *right, const char *wrong, bool right_first) {
    const char *keys[2] = {right_first ? right : wrong, right_first ? wrong : right};
    tensor_spec other = matrix;
    other.stride[0] = 0; /* its first row twice */
    bytes p = {0};
    put_text(&p, "\x80\x02}");
    for (int i = 0; i < 2; i++) {
        put_string(&p, keys[i]);
        put_text(&p, "}");
        put_string(&p, "w");
        put_tensor(&p, keys[i] == right ? &matrix : &other);
        put_text(&p, "ss");
    }
    put_text(&p, ".");
    finish(b, &p);
}

/* Of any two names for the weights one wins, wherever it is in the file. */
static void prefers_the_average(void **state) {
    (void)state;
    static const char *const order[] = {"state_dict_ema", "model_ema",        "ema_state_dict",
                                        "state_dict",     "model_state_dict", "model"};
    enum { COUNT = sizeof order / sizeof order[0] };
    tl_context *ctx = hostile_context();
    for (int n = 0; n < COUNT * COUNT * 2; n++) {
        int better = n / 2 / COUNT, worse = n / 2 % COUNT;
        if (better >= worse) continue;
        bytes b = {0};
        put_pair(&b, order[better], order[worse], n % 2);
        tl_weights *weights = NULL;
        assert_ok(open_bytes(ctx, b.data, b.size, &weights));
        assert_string_equal(weights->wrapper, order[better]);
        float out[6];
        assert_int_equal(weights->count, 1);
        assert_ok(tl_weights_read(weights, 0, out));
        assert_memory_equal(out, six, sizeof six);
        tl_weights_free(weights);
        free(b.data);
    }
    tl_context_free(ctx);
}

/* A cycle that leads to no tensor is none of our business. */
static void passes_over_other_cycles(void **state) {
    (void)state;
    bytes p = {0}, b = {0};
    put_text(&p, "\x80\x02}q\x01");
    put_string(&p, "self");
    put_text(&p, "h\x01s");
    put_string(&p, "a");
    put_tensor(&p, &matrix);
    put_text(&p, "s.");
    finish(&b, &p);
    tl_context *ctx = hostile_context();
    tl_weights *weights = NULL;
    assert_ok(open_bytes(ctx, b.data, b.size, &weights));
    assert_int_equal(weights->count, 1);
    tl_weights_free(weights);
    tl_context_free(ctx);
    free(b.data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_kind_of_tensor),
        cmocka_unit_test(reads_pickle_protocol_4),
        cmocka_unit_test(finds_the_state_dict_of_a_checkpoint),
        cmocka_unit_test(unwraps_names),
        cmocka_unit_test(prefers_the_average),
        cmocka_unit_test(passes_over_other_cycles),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(small_faults_in_a_zip_do_no_harm),
        cmocka_unit_test(small_faults_in_a_zip64_do_no_harm),
        cmocka_unit_test(small_faults_in_the_older_form_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
