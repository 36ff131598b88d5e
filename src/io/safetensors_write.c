#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#include "base/bytes.h"
#include "io/weights.h"

enum { ALIGNMENT = 64 };

/* Adds `value`, whose reference is taken over, and refuses a key that is there already. */
static tl_status add_member(json_t *object, const char *key, json_t *value, const char *what) {
    char quoted[TL_QUOTE_TEXT];
    tl_quote(key, strlen(key), quoted);
    tl_status status = TL_OK;
    if (!tl_utf8_valid(key, strlen(key))) {
        status = tl_fail(TL_INVALID_ARGUMENT, "%s \"%s\" is not UTF-8", what, quoted);
    } else if (json_object_get(object, key)) {
        status = tl_fail(TL_INVALID_ARGUMENT, "%s \"%s\" is given twice", what, quoted);
    }
    if (status != TL_OK) {
        json_decref(value);
        return status;
    }
    TL_CHECK(json_object_set_new_nocheck(object, key, value) == 0, TL_NO_MEMORY,
             "out of memory: the header's entry of %s \"%s\"", what, quoted);
    return TL_OK;
}

static tl_status add_metadata(json_t *header, int count, const char *const *keys,
                              const char *const *values) {
    if (count == 0) return TL_OK;
    json_t *metadata = json_object();
    TL_TRY(add_member(header, "__metadata__", metadata, "entry"));
    for (int i = 0; i < count; i++) {
        char quoted[TL_QUOTE_TEXT];
        TL_CHECK(tl_utf8_valid(values[i], strlen(values[i])), TL_INVALID_ARGUMENT,
                 "metadata \"%s\": the value is not UTF-8",
                 tl_quote(keys[i], strlen(keys[i]), quoted));
        TL_TRY(add_member(metadata, keys[i], json_string_nocheck(values[i]), "metadata key"));
    }
    return TL_OK;
}

/* Bytes of the entry's data. */
static tl_status entry_bytes(const tl_safetensors_entry *entry, int64_t *bytes) {
    int64_t count = tl_shape_count(&entry->shape);
    int64_t size = (int64_t)tl_dtype_size(entry->dtype);
    char quoted[TL_QUOTE_TEXT];
    tl_quote(entry->name, strlen(entry->name), quoted);
    TL_CHECK(size > 0, TL_INVALID_ARGUMENT, "tensor \"%s\": %d is no dtype", quoted,
             (int)entry->dtype);
    TL_CHECK(count >= 0 && !__builtin_mul_overflow(count, size, bytes), TL_LIMIT,
             "tensor \"%s\": the size overflows", quoted);
    TL_CHECK(entry->data || entry->read || count == 0, TL_INVALID_ARGUMENT,
             "tensor \"%s\": data is NULL", quoted);
    TL_CHECK(strcmp(entry->name, "__metadata__") != 0, TL_INVALID_ARGUMENT,
             "tensor \"%s\": the name is reserved by the format", quoted);
    return TL_OK;
}

/* The format writes our dtypes' names in capitals. */
static json_t *dtype_text(tl_dtype dtype) {
    char text[8] = "";
    const char *name = tl_dtype_name(dtype);
    for (size_t i = 0; name[i] && i + 1 < sizeof text; i++)
        text[i] = (char)(name[i] >= 'a' && name[i] <= 'z' ? name[i] - 'a' + 'A' : name[i]);
    return json_string(text);
}

/* NULL when memory is out. */
static json_t *make_entry(const tl_safetensors_entry *entry, int64_t begin, int64_t end) {
    json_t *dims = json_array();
    for (int i = 0; i < entry->shape.rank; i++) {
        if (json_array_append_new(dims, json_integer(entry->shape.dim[i])) == 0) continue;
        json_decref(dims);
        return NULL;
    }
    return json_pack("{s:o,s:o,s:[I,I]}", "dtype", dtype_text(entry->dtype), "shape", dims,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static tl_status add_tensors(json_t *header, int count, const tl_safetensors_entry *entries) {
    int64_t begin = 0;
    for (int i = 0; i < count; i++) {
        int64_t bytes = 0, end = 0;
        TL_TRY(entry_bytes(&entries[i], &bytes));
        TL_CHECK(!__builtin_add_overflow(begin, bytes, &end), TL_LIMIT,
                 "tensor %d: the file's size overflows", i);
        json_t *entry = make_entry(&entries[i], begin, end);
        TL_TRY(add_member(header, entries[i].name, entry, "tensor name"));
        begin = end;
    }
    return TL_OK;
}

/* The length prefix and the header, padded so that the data begins at a multiple of 64. */
static tl_status encode_header(tl_context *ctx, const json_t *header, unsigned char **out,
                               size_t *size) {
    const size_t flags = JSON_COMPACT;
    size_t length = json_dumpb(header, NULL, 0, flags);
    TL_CHECK(length > 0, TL_NO_MEMORY, "out of memory: the header's text");
    *size = (8 + length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    TL_CHECK(*size - 8 <= TL_SAFETENSORS_MAX_HEADER, TL_LIMIT,
             "the header would have %zu bytes, at most %d are allowed", *size - 8,
             TL_SAFETENSORS_MAX_HEADER);
    unsigned char *text = tl_alloc(ctx, *size);
    TL_CHECK_MEMORY(text);
    memset(text, ' ', *size);
    for (int i = 0; i < 8; i++) text[i] = (unsigned char)((uint64_t)(*size - 8) >> (8 * i));
    *out = text;
    if (json_dumpb(header, (char *)text + 8, length, flags) == length) return TL_OK;
    return tl_fail(TL_NO_MEMORY, "out of memory: the header's text");
}

static tl_status write_entry(tl_writer *writer, const tl_safetensors_entry *entries, int index) {
    const tl_safetensors_entry *entry = &entries[index];
    size_t bytes = (size_t)tl_shape_count(&entry->shape) * tl_dtype_size(entry->dtype);
    if (entry->data || !entry->read) return tl_writer_write(writer, entry->data, bytes);
    void *data = tl_alloc(writer->ctx, bytes);
    TL_CHECK_MEMORY(data);
    tl_status status = entry->read(entry->user, index, data);
    if (status == TL_OK) status = tl_writer_write(writer, data, bytes);
    tl_free(writer->ctx, data);
    return status;
}

static tl_status write_all(tl_context *ctx, const char *path, const unsigned char *header,
                           size_t header_size, int count, const tl_safetensors_entry *entries) {
    tl_writer writer;
    TL_TRY(tl_writer_open(ctx, path, &writer));
    tl_status status = tl_writer_write(&writer, header, header_size);
    for (int i = 0; i < count && status == TL_OK; i++) status = write_entry(&writer, entries, i);
    if (status == TL_OK) return tl_writer_commit(&writer);
    tl_writer_abandon(&writer);
    return status;
}

tl_status tl_safetensors_write(tl_context *ctx, const char *path, int count,
                               const tl_safetensors_entry *entries, int metadata_count,
                               const char *const *keys, const char *const *values) {
    json_t *header = json_object();
    TL_CHECK(header, TL_NO_MEMORY, "out of memory: the header of %s", path);
    unsigned char *text = NULL;
    size_t size = 0;
    tl_status status = add_metadata(header, metadata_count, keys, values);
    if (status == TL_OK) status = add_tensors(header, count, entries);
    if (status == TL_OK) status = encode_header(ctx, header, &text, &size);
    json_decref(header);
    if (status != TL_OK) {
        tl_free(ctx, text);
        return status == TL_NO_MEMORY ? status : tl_fail_in(status, "%s", path);
    }
    status = write_all(ctx, path, text, size, count, entries);
    tl_free(ctx, text);
    return status;
}
