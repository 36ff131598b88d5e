/* NumPy's .npy files.
 *
 *   \x93NUMPY | major, minor | header length (2 bytes; 4 since version 2) | header | elements
 *
 * The header is a Python dict literal in Latin-1 (UTF-8 since version 3):
 * {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/source.h"
#include "tensor/tensor.h"

enum { PREFIX = 8, MAX_HEADER = 64 * 1024, ALIGNMENT = 64, MAX_WRITTEN = 256 };

static const char magic[6] = "\x93NUMPY";

static const struct {
    tl_dtype dtype;
    const char *descr;
} types[] = {{TL_F32, "<f4"}, {TL_F64, "<f8"}, {TL_F16, "<f2"}, {TL_I8, "|i1"},  {TL_U8, "|u1"},
             {TL_I16, "<i2"}, {TL_I32, "<i4"}, {TL_I64, "<i8"}, {TL_BOOL, "|b1"}};

enum { TYPES = sizeof types / sizeof types[0] };

/* --- reading ---------------------------------------------------------------------------------- */

typedef struct header_parser {
    const char *file;
    const char *text; /* NUL-terminated */
    size_t at;
    uint64_t begin; /* offset of the text in the file */
    tl_dtype dtype;
    tl_shape shape;
    bool fortran_order;
    bool seen[3]; /* descr, fortran_order, shape */
} header_parser;

static tl_status malformed(const header_parser *p, const char *expected) {
    unsigned char c = (unsigned char)p->text[p->at];
    return tl_fail(TL_CORRUPT, "%s: byte %" PRIu64 ": header has 0x%02x, expected %s", p->file,
                   p->begin + p->at, c, expected);
}

static void skip_spaces(header_parser *p) {
    while (p->text[p->at] == ' ' || p->text[p->at] == '\n') p->at++;
}

static bool accept(header_parser *p, const char *token) {
    skip_spaces(p);
    size_t length = strlen(token);
    if (strncmp(p->text + p->at, token, length) != 0) return false;
    p->at += length;
    return true;
}

static tl_status expect(header_parser *p, const char *token) {
    return accept(p, token) ? TL_OK : malformed(p, token);
}

/* 'text' or "text", without escapes: none of ours has any. */
static tl_status parse_string(header_parser *p, char *out, size_t size) {
    skip_spaces(p);
    char quote = p->text[p->at];
    if (quote != '\'' && quote != '"') return malformed(p, "a quoted text");
    const char *from = p->text + p->at + 1;
    const char *end = strchr(from, quote);
    if (!end || (size_t)(end - from) >= size) return malformed(p, "a short quoted text");
    memcpy(out, from, (size_t)(end - from));
    out[end - from] = '\0';
    p->at += (size_t)(end - from) + 2;
    return TL_OK;
}

static tl_status parse_descr(header_parser *p) {
    skip_spaces(p);
    TL_CHECK(p->text[p->at] != '[', TL_UNSUPPORTED,
             "%s: byte %" PRIu64 ": a structured dtype, expected a number's", p->file,
             p->begin + p->at);
    char descr[16];
    TL_TRY(parse_string(p, descr, sizeof descr));
    for (int i = 0; i < TYPES; i++) {
        if (strcmp(descr, types[i].descr) != 0) continue;
        p->dtype = types[i].dtype;
        return TL_OK;
    }
    for (char *c = descr; *c; c++) *c = *c < 0x20 || *c > 0x7e ? '?' : *c;
    return tl_fail(TL_UNSUPPORTED,
                   "%s: dtype \"%s\", expected one of <f4 <f8 <f2 |i1 |u1 <i2 <i4 <i8 |b1", p->file,
                   descr);
}

static tl_status parse_bool(header_parser *p, bool *out) {
    if (accept(p, "True")) {
        *out = true;
        return TL_OK;
    }
    *out = false;
    return expect(p, "False");
}

static tl_status parse_dimension(header_parser *p, int64_t *out) {
    if (p->text[p->at] < '0' || p->text[p->at] > '9') return malformed(p, "a dimension");
    *out = 0;
    for (; p->text[p->at] >= '0' && p->text[p->at] <= '9'; p->at++) {
        if (__builtin_mul_overflow(*out, 10, out) ||
            __builtin_add_overflow(*out, p->text[p->at] - '0', out)) {
            return malformed(p, "a dimension below 2^63");
        }
    }
    accept(p, "L"); /* Python 2's long */
    return TL_OK;
}

static tl_status parse_shape(header_parser *p) {
    TL_TRY(expect(p, "("));
    p->shape.rank = 0;
    while (!accept(p, ")")) {
        TL_CHECK(p->shape.rank < TL_MAX_RANK, TL_LIMIT,
                 "%s: byte %" PRIu64 ": more than %d dimensions", p->file, p->begin + p->at,
                 TL_MAX_RANK);
        skip_spaces(p);
        TL_TRY(parse_dimension(p, &p->shape.dim[p->shape.rank++]));
        if (accept(p, ",")) continue;
        TL_TRY(expect(p, ")"));
        break;
    }
    return TL_OK;
}

static tl_status parse_member(header_parser *p) {
    static const char *const names[3] = {"descr", "fortran_order", "shape"};
    char key[16];
    TL_TRY(parse_string(p, key, sizeof key));
    int which = 0;
    while (which < 3 && strcmp(key, names[which]) != 0) which++;
    if (which == 3 || p->seen[which]) {
        return malformed(p, "descr, fortran_order and shape, once each");
    }
    p->seen[which] = true;
    TL_TRY(expect(p, ":"));
    if (which == 0) return parse_descr(p);
    if (which == 1) return parse_bool(p, &p->fortran_order);
    return parse_shape(p);
}

static tl_status parse_header(header_parser *p, size_t size) {
    TL_TRY(expect(p, "{"));
    while (!accept(p, "}")) {
        TL_TRY(parse_member(p));
        if (accept(p, ",")) continue;
        TL_TRY(expect(p, "}"));
        break;
    }
    skip_spaces(p);
    if (p->at != size) return malformed(p, "the header's end");
    TL_CHECK(p->seen[0] && p->seen[1] && p->seen[2], TL_CORRUPT,
             "%s: the header lacks descr, fortran_order or shape", p->file);
    TL_CHECK(!p->fortran_order || p->shape.rank < 2, TL_UNSUPPORTED,
             "%s: fortran_order is True, expected C order", p->file);
    return TL_OK;
}

/* Reads and parses the header; *data is where the elements begin. */
static tl_status read_header(const tl_source *source, header_parser *p, uint64_t *data) {
    unsigned char prefix[PREFIX + 4] = {0};
    TL_TRY(tl_source_read(source, 0, prefix, PREFIX));
    TL_CHECK(memcmp(prefix, magic, sizeof magic) == 0, TL_UNSUPPORTED,
             "%s: byte 0: no .npy file: it does not begin with \\x93NUMPY", source->name);
    TL_CHECK(prefix[6] >= 1 && prefix[6] <= 3 && prefix[7] == 0, TL_UNSUPPORTED,
             "%s: byte 6: .npy version %d.%d, expected 1.0, 2.0 or 3.0", source->name, prefix[6],
             prefix[7]);
    size_t field = prefix[6] == 1 ? 2 : 4;
    TL_TRY(tl_source_read(source, PREFIX, prefix + PREFIX, field));
    size_t size = tl_le32(prefix + PREFIX);
    TL_CHECK(size <= MAX_HEADER, TL_LIMIT,
             "%s: byte %d: a header of %zu bytes, at most %d are allowed", source->name, PREFIX,
             size, MAX_HEADER);
    char *text = tl_alloc(source->ctx, size + 1);
    TL_CHECK_MEMORY(text);
    text[size] = '\0';
    *p = (header_parser){.file = source->name, .text = text, .begin = PREFIX + field};
    *data = p->begin + size;
    tl_status status = tl_source_read(source, p->begin, text, size);
    if (status == TL_OK) status = parse_header(p, size);
    tl_free(source->ctx, text);
    p->text = NULL;
    return status;
}

static tl_status check_size(const tl_source *source, const header_parser *p, uint64_t data) {
    int64_t count = tl_shape_count(&p->shape), bytes = 0;
    char text[TL_SHAPE_TEXT];
    TL_CHECK(count >= 0 && !__builtin_mul_overflow(count, (int64_t)tl_dtype_size(p->dtype), &bytes),
             TL_CORRUPT, "%s: shape %s overflows", source->name, tl_shape_text(&p->shape, text));
    uint64_t left = source->size - data;
    TL_CHECK((uint64_t)bytes <= left, TL_TRUNCATED,
             "%s: byte %" PRIu64 ": shape %s of %s needs %" PRId64 " bytes, %" PRIu64 " are left",
             source->name, data, tl_shape_text(&p->shape, text), tl_dtype_name(p->dtype), bytes,
             left);
    TL_CHECK((uint64_t)bytes == left, TL_CORRUPT,
             "%s: byte %" PRIu64 ": %" PRIu64 " bytes after the last element, expected none",
             source->name, data + (uint64_t)bytes, left - (uint64_t)bytes);
    return TL_OK;
}

static tl_status read_npy(const tl_source *source, tl_tensor **out) {
    header_parser parser = {0};
    uint64_t data = 0;
    TL_TRY(read_header(source, &parser, &data));
    TL_TRY(check_size(source, &parser, data));
    tl_tensor *tensor = NULL;
    TL_TRY(tl_tensor_new(source->ctx, parser.dtype, &parser.shape, &tensor));
    tl_status status =
        tl_source_read(source, data, tl_tensor_data(tensor), tl_tensor_bytes(tensor));
    if (status != TL_OK) {
        tl_tensor_free(tensor);
        return status;
    }
    *out = tensor;
    return TL_OK;
}

tl_status tl_tensor_load_npy(tl_context *ctx, const char *path, tl_tensor **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "tl_tensor_load_npy: out is NULL");
    *out = NULL;
    TL_CHECK(ctx && path, TL_INVALID_ARGUMENT, "tl_tensor_load_npy: %s is NULL",
             ctx ? "path" : "ctx");
    tl_source source;
    TL_TRY(tl_source_open(ctx, path, &source));
    tl_status status = read_npy(&source, out);
    tl_source_close(&source);
    return status;
}

/* --- writing ---------------------------------------------------------------------------------- */

static const char *descr_of(tl_dtype dtype) {
    for (int i = 0; i < TYPES; i++) {
        if (types[i].dtype == dtype) return types[i].descr;
    }
    return NULL;
}

/* A version 1.0 header, padded so that the elements begin at a multiple of 64. Returns its size. */
static size_t format_header(const tl_tensor *tensor, char header[MAX_WRITTEN]) {
    tl_shape shape = tl_tensor_get_shape(tensor);
    char dims[TL_SHAPE_TEXT + 2];
    tl_shape_text(&shape, dims);
    size_t end = strlen(dims) - 1;
    dims[0] = '(';
    /* Python writes a tuple of one with a comma. */
    strcpy(dims + end, shape.rank == 1 ? ",)" : ")");
    const size_t begin = PREFIX + 2;
    int length = snprintf(header + begin, MAX_WRITTEN - begin,
                          "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
                          descr_of(tl_tensor_dtype(tensor)), dims);
    size_t used = begin + (size_t)length;
    size_t size = (used + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    memset(header + used, ' ', size - used);
    header[size - 1] = '\n';
    memcpy(header, magic, sizeof magic);
    header[6] = 1;
    header[7] = 0;
    header[8] = (char)((size - begin) & 0xff);
    header[9] = (char)((size - begin) >> 8);
    return size;
}

tl_status tl_tensor_save_npy(const tl_tensor *tensor, const char *path) {
    TL_CHECK(tensor && path, TL_INVALID_ARGUMENT, "tl_tensor_save_npy: %s is NULL",
             tensor ? "path" : "tensor");
    tl_dtype dtype = tl_tensor_dtype(tensor);
    TL_CHECK(descr_of(dtype), TL_UNSUPPORTED, "%s: NumPy has no dtype for %s", path,
             tl_dtype_name(dtype));
    char header[MAX_WRITTEN];
    size_t size = format_header(tensor, header);
    tl_writer writer;
    TL_TRY(tl_writer_open(tl_tensor_context(tensor), path, &writer));
    tl_status status = tl_writer_write(&writer, header, size);
    if (status == TL_OK) {
        status = tl_writer_write(&writer, tl_tensor_const_data(tensor), tl_tensor_bytes(tensor));
    }
    if (status == TL_OK) return tl_writer_commit(&writer);
    tl_writer_abandon(&writer);
    return status;
}
