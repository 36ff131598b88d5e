/* Texts in attributes, of fixed length or in the global heap (section III.E). */
#include <string.h>

#include "io/hdf5_parts.h"

static tl_status append(tl_hdf5 *file, tl_hdf5_texts *texts, size_t *capacity, const void *data,
                        size_t size) {
    size_t needed = texts->size + size + 1;
    if (needed > *capacity) {
        size_t more = 2 * needed;
        TL_TRY(tl_hdf5_charge(file, more));
        char *moved = tl_realloc(file->ctx, texts->text, more);
        TL_CHECK_MEMORY(moved);
        texts->text = moved;
        *capacity = more;
    }
    /* What follows a NUL is padding. */
    size_t length = strnlen(data, size);
    memcpy(texts->text + texts->size, data, length);
    texts->text[texts->size + length] = '\0';
    texts->size += length + 1;
    return TL_OK;
}

enum { HEAP_HEAD = 16 /* bytes before a collection's objects, and before an object's data */ };

static tl_status load_collection(tl_hdf5 *file, uint64_t address) {
    unsigned char b[HEAP_HEAD];
    if (file->heap && file->heap_address == address) return TL_OK;
    TL_TRY(tl_hdf5_read(file, address, b, sizeof b, "global heap"));
    TL_HDF5_CHECK(file, memcmp(b, "GCOL", 4) == 0 && b[4] == 1, TL_CORRUPT, address, "%s",
                  "no global heap collection of version 1");
    uint64_t size = tl_le64(b + 8);
    TL_HDF5_CHECK(file, size >= HEAP_HEAD, TL_CORRUPT, address,
                  "global heap of %" PRIu64 " bytes, expected %d or more", size, HEAP_HEAD);
    tl_free(file->ctx, file->heap);
    file->heap = NULL;
    TL_TRY(tl_hdf5_read_block(file, address, size, "global heap", &file->heap));
    file->heap_size = (size_t)size;
    file->heap_address = address;
    return TL_OK;
}

/* Finds object `index` of the collection at `address`, of `length` bytes or more. */
static tl_status find_in_heap(tl_hdf5 *file, uint64_t address, uint32_t index, uint64_t length,
                              const unsigned char **out) {
    TL_TRY(load_collection(file, address));
    for (size_t at = HEAP_HEAD; file->heap_size - at >= HEAP_HEAD;) {
        const unsigned char *head = file->heap + at;
        uint64_t size = tl_le64(head + 8), left = file->heap_size - at - HEAP_HEAD;
        unsigned is = tl_le16(head);
        if (is == 0) break; /* the free space behind all objects */
        TL_HDF5_CHECK(file, size <= left, TL_CORRUPT, address + at,
                      "global heap object of %" PRIu64 " bytes, %" PRIu64 " are left", size, left);
        if (is == index) {
            TL_HDF5_CHECK(file, length <= size, TL_CORRUPT, address + at,
                          "a text of %" PRIu64 " bytes in a global heap object of %" PRIu64, length,
                          size);
            *out = head + HEAP_HEAD;
            return TL_OK;
        }
        size_t padded = ((size_t)size + 7) & ~(size_t)7;
        if (padded > left) break;
        at += HEAP_HEAD + padded;
    }
    return tl_fail(TL_CORRUPT, "%s: byte %" PRIu64 ": the global heap has no object %" PRIu32,
                   file->source->name, file->base + address, index);
}

static tl_status append_variable(tl_hdf5 *file, const unsigned char *element, tl_hdf5_texts *texts,
                                 size_t *capacity) {
    uint64_t length = tl_le32(element);
    const unsigned char *data = (const unsigned char *)"";
    if (length > 0) {
        TL_TRY(find_in_heap(file, tl_le64(element + 4), tl_le32(element + 12), length, &data));
    }
    return append(file, texts, capacity, data, (size_t)length);
}

static tl_status read_elements(tl_hdf5 *file, const tl_hdf5_attribute *a, tl_hdf5_texts *out) {
    size_t size = a->type.size, capacity = 0;
    unsigned char *data = NULL;
    TL_TRY(tl_hdf5_read_block(file, a->offset - file->base, a->count * size, "attribute", &data));
    tl_status status = TL_OK;
    for (uint64_t i = 0; i < a->count && status == TL_OK; i++) {
        const unsigned char *element = data + i * size;
        status = a->type.class == TL_HDF5_TEXT ? append(file, out, &capacity, element, size)
                                               : append_variable(file, element, out, &capacity);
    }
    tl_free(file->ctx, data);
    return status;
}

static tl_status check_texts(const tl_hdf5 *file, const tl_hdf5_attribute *a,
                             const tl_hdf5_texts *texts) {
    char quoted[TL_QUOTE_TEXT];
    const char *text = texts->text;
    for (uint64_t i = 0; i < texts->count; i++) {
        size_t length = strlen(text);
        TL_HDF5_CHECK(file, tl_utf8_valid(text, length), TL_CORRUPT, a->offset - file->base,
                      "attribute \"%s\": text \"%s\" is no UTF-8", file->text + a->name,
                      tl_quote(text, length, quoted));
        text += length + 1;
    }
    return TL_OK;
}

tl_status tl_hdf5_read_texts(tl_hdf5 *file, const tl_hdf5_attribute *a, tl_hdf5_texts *out) {
    *out = (tl_hdf5_texts){.count = a->count};
    if (a->count == 0) return TL_OK; /* h5py writes an empty list as one of numbers */
    TL_HDF5_CHECK(file, a->type.class == TL_HDF5_TEXT || a->type.class == TL_HDF5_VARIABLE_TEXT,
                  TL_UNSUPPORTED, a->offset - file->base, "attribute \"%s\" holds no texts",
                  file->text + a->name);
    tl_status status = read_elements(file, a, out);
    if (status == TL_OK) status = check_texts(file, a, out);
    if (status == TL_OK) return TL_OK;
    tl_free(file->ctx, out->text);
    *out = (tl_hdf5_texts){0};
    return status;
}
