#include "io/weights.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32.h"
#include "io/zip.h"

/* --- opening ---------------------------------------------------------------------------------- */

typedef tl_status (*reader_fn)(tl_weights *weights);

enum { MAGIC_SIZE = 16 };

/* A header length that fits, or the brace that must follow it: either is enough to report what
 * is wrong with a safetensors file instead of calling it unknown. */
static bool looks_like_safetensors(const tl_source *source, const unsigned char *magic) {
    if (source->size < 8) return false;
    return magic[8] == '{' || tl_le64(magic) <= source->size - 8;
}

/* Text where safetensors has a length: the index of a sharded file. */
static bool looks_like_index(const tl_source *source, const unsigned char *magic) {
    return source->size >= 8 && magic[0] == '{' && magic[7] != 0;
}

/* Formats that people have and this build does not read: named, so that they know. */
static const char *other_format(const unsigned char *magic) {
    static const struct {
        const char *magic, *name;
    } known[] = {{"\x93NUMPY", "a NumPy .npy file"},
                 {"\x1f\x8b", "a gzip file"},
                 {"\x89PNG", "a PNG picture"},
                 {"\xff\xd8\xff", "a JPEG picture"},
                 {"GGUF", "a GGUF file"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (memcmp(magic, known[i].magic, strlen(known[i].magic)) == 0) return known[i].name;
    }
    return "of an unknown format";
}

/* PyTorch and Keras both write ZIP archives. */
static tl_status read_zip(tl_weights *weights) {
    tl_zip zip;
    tl_status status = tl_zip_open(&weights->source, &zip);
    bool keras = status == TL_OK && (tl_zip_find(&zip, "config.json") >= 0 ||
                                     tl_zip_find(&zip, "model.weights.h5") >= 0);
    tl_zip_close(&zip);
    TL_TRY(status);
    return keras ? tl_keras_read_zip(weights) : tl_pth_read_zip(weights);
}

static tl_status choose_reader(const tl_source *source, reader_fn *reader) {
    unsigned char magic[MAGIC_SIZE] = {0};
    size_t size = source->size < MAGIC_SIZE ? (size_t)source->size : MAGIC_SIZE;
    TL_TRY(tl_source_read(source, 0, magic, size));
    if (memcmp(magic, "PK\x03\x04", 4) == 0 || memcmp(magic, "PK\x05\x06", 4) == 0) {
        *reader = read_zip;
    } else if (memcmp(magic, "\x89HDF\r\n\x1a\n", 8) == 0) {
        *reader = tl_keras_read_h5;
    } else if (magic[0] == 0x80 && magic[1] >= 2 && magic[1] <= 5 && magic[8] != '{') {
        *reader = tl_pth_read_legacy; /* PROTO, the first opcode of a pickle */
    } else if (looks_like_index(source, magic)) {
        *reader = tl_safetensors_read_index;
    } else if (looks_like_safetensors(source, magic)) {
        *reader = tl_safetensors_read;
    } else {
        TL_CHECK(source->size >= 8, TL_TRUNCATED,
                 "%s: has %" PRIu64 " bytes, a weights file has 8 or more", source->name,
                 source->size);
        return tl_fail(TL_UNSUPPORTED,
                       "%s: byte 0: the file is %s, expected safetensors, a PyTorch .pth, Keras's "
                       ".h5 or .keras, "
                       "or ONNX",
                       source->name, other_format(magic));
    }
    return TL_OK;
}

static int compare_names(const void *a, const void *b) {
    const tl_weight *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static tl_status index_names(tl_weights *weights) {
    size_t count = (size_t)weights->count;
    weights->by_name = tl_alloc_array(weights->ctx, count, sizeof *weights->by_name);
    TL_CHECK_MEMORY(weights->by_name);
    for (size_t i = 0; i < count; i++) weights->by_name[i] = &weights->item[i];
    qsort(weights->by_name, count, sizeof *weights->by_name, compare_names);
    for (size_t i = 1; i < count; i++) {
        const char *name = weights->by_name[i]->name;
        char quoted[TL_QUOTE_TEXT];
        TL_CHECK(strcmp(name, weights->by_name[i - 1]->name) != 0, TL_CORRUPT,
                 "%s: tensor \"%s\" is there twice, expected once", weights->source.name,
                 tl_quote(name, strlen(name), quoted));
    }
    return TL_OK;
}

tl_status tl_weights_open(tl_context *ctx, tl_source *source, tl_weights **out) {
    *out = NULL;
    tl_weights *weights = tl_alloc_zero(ctx, sizeof *weights);
    if (!weights) {
        tl_source_close(source);
        return TL_NO_MEMORY;
    }
    weights->ctx = ctx;
    weights->users = 1;
    weights->allowance = TL_WEIGHTS_FREE_BYTES;
    weights->source = *source;
    *source = (tl_source){.fd = -1};
    reader_fn reader = NULL;
    tl_status status = choose_reader(&weights->source, &reader);
    if (status == TL_OK) status = reader(weights);
    if (status == TL_OK) status = index_names(weights);
    if (status != TL_OK) {
        tl_weights_free(weights);
        return status;
    }
    *out = weights;
    return TL_OK;
}

tl_weights *tl_weights_share(tl_weights *weights) {
    weights->users++;
    return weights;
}

void tl_weights_free(tl_weights *weights) {
    if (!weights || --weights->users > 0) return;
    tl_context *ctx = weights->ctx;
    tl_free(ctx, weights->item);
    tl_free(ctx, weights->metadata_key);
    tl_free(ctx, weights->metadata_value);
    tl_free(ctx, weights->text);
    tl_free(ctx, weights->by_name);
    tl_free(ctx, weights->record);
    tl_chunked_free(ctx, weights->chunked);
    for (int i = 0; i < weights->shard_count; i++) tl_weights_free(weights->shard[i]);
    tl_free(ctx, weights->shard);
    tl_source_close(&weights->source);
    tl_free(ctx, weights);
}

static int compare_key(const void *key, const void *item) {
    const tl_weight *const *weight = item;
    return strcmp(key, (*weight)->name);
}

int tl_weights_find(const tl_weights *weights, const char *name) {
    const tl_weight **found = bsearch(name, weights->by_name, (size_t)weights->count,
                                      sizeof *weights->by_name, compare_key);
    return found ? (int)(*found - weights->item) : -1;
}

const char *tl_weights_metadata(const tl_weights *weights, const char *key) {
    for (int i = 0; i < weights->metadata_count; i++) {
        if (strcmp(weights->metadata_key[i], key) == 0) return weights->metadata_value[i];
    }
    return NULL;
}

/* --- reading ---------------------------------------------------------------------------------- */

static const tl_source *source_of(const tl_weights *weights, const tl_weight *item) {
    return item->shard ? &item->shard->source : &weights->source;
}

/* Elements from the first to the last that the strides reach, both included; 0 when empty. */
static uint64_t element_span(const tl_weight *item, int64_t count) {
    if (count == 0) return 0;
    uint64_t span = 1;
    for (int i = 0; i < item->shape.rank; i++) {
        span += (uint64_t)(item->shape.dim[i] - 1) * (uint64_t)item->stride[i];
    }
    return span;
}

/* Whether the elements lie in order, one right after the other. */
static bool is_run(const tl_weight *item) {
    if (item->chunked) return false;
    int64_t expected = 1;
    for (int i = item->shape.rank - 1; i >= 0; i--) {
        if (item->shape.dim[i] != 1 && item->stride[i] != expected) return false;
        expected *= item->shape.dim[i];
    }
    return true;
}

/* With `out` NULL the values are only checked. */
typedef struct convert_visit {
    const tl_weight *item;
    float *out;
    int64_t first; /* element */
    tl_status status;
    bool checksum;
    uint32_t crc;
} convert_visit;

/* What is only checked passes through this much of the first-level cache. */
enum { CHECKED = 2048 };

static tl_status check_values(const char *name, int64_t first, const void *values, int64_t count) {
    int64_t at = tl_find_unfinite(values, count);
    if (at < 0) return TL_OK;
    float value;
    memcpy(&value, (const char *)values + (size_t)at * sizeof value, sizeof value);
    char quoted[TL_QUOTE_TEXT];
    return tl_fail(TL_CORRUPT, "%s: element %" PRId64 " is %g, expected a finite number",
                   tl_quote(name, strlen(name), quoted), first + at, (double)value);
}

static void check_piece(convert_visit *visit, const unsigned char *data, int64_t count) {
    if (visit->item->dtype == TL_F32 && visit->status == TL_OK)
        visit->status = check_values(visit->item->name, visit->first, data, count);
    if (visit->item->dtype == TL_F32) return;
    float values[CHECKED];
    size_t size = tl_dtype_size(visit->item->dtype);
    for (int64_t i = 0; i < count && visit->status == TL_OK; i += CHECKED) {
        int64_t part = count - i < CHECKED ? count - i : CHECKED;
        tl_convert_to_f32(visit->item->dtype, data + (size_t)i * size, values, part);
        visit->status = check_values(visit->item->name, visit->first + i, values, part);
    }
}

static void visit_convert(void *arg, const unsigned char *data, size_t size) {
    convert_visit *visit = arg;
    int64_t count = (int64_t)(size / tl_dtype_size(visit->item->dtype));
    if (visit->out) {
        tl_convert_to_f32(visit->item->dtype, data, visit->out + visit->first, count);
    } else {
        check_piece(visit, data, count);
    }
    visit->first += count;
    if (visit->checksum) visit->crc = tl_crc32(visit->crc, data, size);
}

static tl_status judge_checksum(const tl_weights *weights, const tl_weight *item,
                                tl_weight_record *record, uint32_t crc) {
    char quoted[TL_QUOTE_TEXT];
    TL_CHECK(crc == record->crc, TL_CORRUPT,
             "%s: tensor \"%s\": the %" PRIu64 " bytes at offset %" PRIu64
             " have CRC %08x, the archive says %08x",
             weights->source.name, tl_quote(item->name, strlen(item->name), quoted), record->size,
             record->offset, (unsigned)crc, (unsigned)record->crc);
    atomic_store(&record->checked, true);
    return TL_OK;
}

/* Converts row-major elements on the way, with the record's checksum when the tensor is all of
 * it. */
static tl_status read_run(const tl_weights *weights, const tl_weight *item, uint64_t bytes,
                          tl_weight_record *unchecked, float *out) {
    convert_visit visit = {.item = item, .out = out, .checksum = unchecked != NULL};
    TL_TRY(tl_source_visit(source_of(weights, item), item->offset, bytes, visit_convert, &visit));
    if (unchecked) TL_TRY(judge_checksum(weights, item, unchecked, visit.crc));
    return visit.status;
}

/* Walks the elements in row-major order through their strides. */
static void gather(const tl_weight *item, const unsigned char *base, float *out, int64_t count) {
    int64_t index[TL_MAX_RANK] = {0};
    size_t size = tl_dtype_size(item->dtype);
    uint64_t at = 0;
    for (int64_t n = 0; n < count; n++) {
        tl_convert_to_f32(item->dtype, base + at * size, &out[n], 1);
        for (int i = item->shape.rank - 1; i >= 0; i--) {
            at += (uint64_t)item->stride[i];
            if (++index[i] < item->shape.dim[i]) break;
            at -= (uint64_t)item->stride[i] * (uint64_t)index[i];
            index[i] = 0;
        }
    }
}

static tl_status read_strided(const tl_weights *weights, const tl_weight *item, uint64_t bytes,
                              float *out, int64_t count) {
    const tl_source *source = source_of(weights, item);
    unsigned char *block = tl_alloc(weights->ctx, (size_t)bytes);
    TL_CHECK_MEMORY(block);
    tl_status status = tl_source_read(source, item->offset, block, (size_t)bytes);
    if (status == TL_OK) gather(item, block, out, count);
    tl_free(weights->ctx, block);
    return status;
}

static tl_status read_or_check(const tl_weights *weights, int index, float *out) {
    const tl_weight *item = &weights->item[index];
    int64_t count = tl_shape_count(&item->shape);
    uint64_t bytes = element_span(item, count) * tl_dtype_size(item->dtype);
    tl_weight_record *record = item->record < 0 ? NULL : &weights->record[item->record];
    if (record && atomic_load(&record->checked)) record = NULL;
    if (is_run(item)) {
        bool whole = record && item->offset == record->offset && bytes == record->size;
        if (!record || whole) return read_run(weights, item, bytes, record, out);
    }
    if (record) {
        uint32_t crc = 0;
        TL_TRY(tl_source_crc32(&weights->source, record->offset, record->size, &crc));
        TL_TRY(judge_checksum(weights, item, record, crc));
    }
    if (is_run(item)) return read_run(weights, item, bytes, NULL, out);
    if (item->chunked)
        return tl_chunks_read(source_of(weights, item), item->chunked, item->dtype, out);
    return read_strided(weights, item, bytes, out, count);
}

tl_status tl_weights_read(const tl_weights *weights, int index, float *out) {
    return read_or_check(weights, index, out);
}

tl_status tl_weights_check(const tl_weights *weights, int index) {
    const tl_weight *item = &weights->item[index];
    if (is_run(item)) return read_or_check(weights, index, NULL);
    int64_t count = tl_shape_count(&item->shape);
    float *values = tl_alloc_array(weights->ctx, (size_t)count, sizeof *values);
    TL_CHECK_MEMORY(values);
    tl_status status = read_or_check(weights, index, values);
    if (status == TL_OK) status = check_values(item->name, 0, values, count);
    tl_free(weights->ctx, values);
    return status;
}

tl_status tl_weights_checksum(const tl_weights *weights, int index, uint32_t *crc) {
    const tl_weight *item = &weights->item[index];
    if (item->chunked) return tl_chunks_checksum(source_of(weights, item), item->chunked, crc);
    uint64_t bytes = element_span(item, tl_shape_count(&item->shape)) * tl_dtype_size(item->dtype);
    const tl_weight_record *record = item->record < 0 ? NULL : &weights->record[item->record];
    bool known = record && atomic_load(&record->checked) && item->offset == record->offset &&
                 bytes == record->size;
    if (!known) return tl_source_crc32(source_of(weights, item), item->offset, bytes, crc);
    *crc = record->crc;
    return TL_OK;
}

tl_status tl_weights_unchanged(const tl_weights *weights, int index) {
    return tl_source_unchanged(source_of(weights, &weights->item[index]));
}

bool tl_weights_divisible(const tl_weights *weights, int index) {
    const tl_weight *item = &weights->item[index];
    bool checked = item->record < 0 || atomic_load(&weights->record[item->record].checked);
    return checked && is_run(item);
}

tl_status tl_weights_read_part(const tl_weights *weights, int index, int64_t first, int64_t count,
                               float *out) {
    const tl_weight *item = &weights->item[index];
    const tl_source *source = source_of(weights, item);
    uint64_t size = tl_dtype_size(item->dtype);
    uint64_t offset = item->offset + (uint64_t)first * size;
    if (item->dtype == TL_F32)
        return tl_source_read(source, offset, out, (size_t)count * sizeof *out);
    convert_visit visit = {.item = item, .out = out};
    return tl_source_visit(source, offset, (uint64_t)count * size, visit_convert, &visit);
}
