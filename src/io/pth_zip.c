/* The form of torch.save() since PyTorch 1.6: a ZIP archive with PREFIX/data.pkl and one entry
 * PREFIX/data/KEY per storage (caffe2/serialize/inline_container.h, torch/serialization.py). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/pth.h"
#include "io/zip.h"

enum { MAX_PREFIX = 255 };

static const char pickle_name[] = "data.pkl";

typedef struct archive {
    tl_weights *weights;
    tl_zip zip;
    tl_pickle pickle;
    int data;                    /* index of data.pkl */
    char prefix[MAX_PREFIX + 1]; /* of all names, with its slash */
} archive;

static bool is_data_pickle(const char *name) {
    const char *slash = strrchr(name, '/');
    const char *first = strchr(name, '/');
    return first == slash && strcmp(slash ? slash + 1 : name, pickle_name) == 0;
}

/* Index of PREFIX/name, or -1. */
static int find_entry(const archive *a, const char *name) {
    char path[2 * MAX_PREFIX + 16];
    snprintf(path, sizeof path, "%s%s", a->prefix, name);
    return tl_zip_find(&a->zip, path);
}

/* Reads an entry whole, checks it and says whether it begins with `text`. */
static tl_status entry_begins(const archive *a, int index, const char *text, bool *begins) {
    const tl_zip_entry *entry = &a->zip.entry[index];
    char bytes[8] = "";
    size_t size = entry->size < sizeof bytes ? (size_t)entry->size : sizeof bytes;
    TL_TRY(tl_source_read(a->zip.source, entry->offset, bytes, size));
    *begins = strncmp(bytes, text, strlen(text)) == 0;
    return TL_OK;
}

static tl_status find_pickle(archive *a) {
    const tl_zip *zip = &a->zip;
    const char *file = zip->source->name;
    a->data = -1;
    for (int i = 0; i < zip->count; i++) {
        const char *name = zip->entry[i].name;
        if (!is_data_pickle(name)) continue;
        TL_CHECK(a->data < 0, TL_CORRUPT, "%s: byte %" PRIu64 ": a second data.pkl, expected one",
                 file, zip->entry[i].header);
        size_t length = strlen(name) + 1 - sizeof pickle_name;
        TL_CHECK(length <= MAX_PREFIX, TL_LIMIT,
                 "%s: the archive's folder name has %zu bytes, at most %d are allowed", file,
                 length, MAX_PREFIX);
        memcpy(a->prefix, name, length);
        a->prefix[length] = '\0';
        a->data = i;
    }
    TL_CHECK(a->data >= 0, TL_UNSUPPORTED,
             "%s: a ZIP archive of %d entries without data.pkl, expected one by torch.save()", file,
             zip->count);
    TL_CHECK(find_entry(a, "constants.pkl") < 0, TL_UNSUPPORTED,
             "%s: a TorchScript program, expected a state_dict by torch.save()", file);
    int order = find_entry(a, "byteorder");
    bool little = true;
    if (order >= 0) TL_TRY(entry_begins(a, order, "little", &little));
    TL_CHECK(little, TL_UNSUPPORTED, "%s: byteorder is not \"little\"", file);
    return TL_OK;
}

/* The entries' checksums, to be checked as tensors are read. */
static tl_status keep_records(archive *a) {
    tl_weights *weights = a->weights;
    size_t count = (size_t)a->zip.count;
    weights->record = tl_alloc_array(weights->ctx, count, sizeof *weights->record);
    TL_CHECK_MEMORY(weights->record);
    weights->record_count = a->zip.count;
    for (size_t i = 0; i < count; i++) {
        const tl_zip_entry *entry = &a->zip.entry[i];
        tl_weight_record *record = &weights->record[i];
        record->offset = entry->offset;
        record->size = entry->size;
        record->crc = entry->crc;
        atomic_init(&record->checked, false);
    }
    return TL_OK;
}

static tl_status load_pickle(archive *a, uint32_t *root) {
    const tl_source *source = a->zip.source;
    const tl_zip_entry *entry = &a->zip.entry[a->data];
    TL_TRY(tl_zip_check(&a->zip, a->data));
    uint64_t end = entry->offset + entry->size;
    TL_TRY(tl_pickle_init(&a->pickle, source, entry->offset, end, tl_pth_memory_limit(source)));
    TL_TRY(tl_pickle_load(&a->pickle, root));
    TL_CHECK(a->pickle.next == end, TL_CORRUPT,
             "%s: byte %" PRIu64 ": %" PRIu64 " bytes after the pickle's STOP, expected none",
             source->name, a->pickle.next, end - a->pickle.next);
    return TL_OK;
}

static tl_status locate_storages(archive *a) {
    for (uint32_t i = 0; i < a->pickle.storages.count; i++) {
        tl_pickle_storage *storage = tl_pickle_storage_at(&a->pickle, i);
        const char *key = tl_pickle_text(&a->pickle, storage->key), *file = a->zip.source->name;
        char name[MAX_PREFIX + 8], quoted[TL_QUOTE_TEXT];
        snprintf(name, sizeof name, "data/%s", key);
        tl_quote(key, strlen(key), quoted);
        storage->record = find_entry(a, name);
        TL_CHECK(storage->record >= 0, TL_CORRUPT,
                 "%s: byte %" PRIu64 ": storage \"%s\" has no entry data/%s", file, storage->opcode,
                 quoted, quoted);
        const tl_zip_entry *entry = &a->zip.entry[storage->record];
        uint64_t bytes = storage->numel * tl_dtype_size(storage->dtype);
        TL_CHECK(bytes == entry->size, TL_CORRUPT,
                 "%s: byte %" PRIu64 ": storage \"%s\" of %" PRIu64 " %s needs %" PRIu64
                 " bytes, its entry has %" PRIu64,
                 file, storage->opcode, quoted, storage->numel, tl_dtype_name(storage->dtype),
                 bytes, entry->size);
        storage->at = entry->offset;
    }
    return TL_OK;
}

static tl_status read_archive(archive *a) {
    TL_TRY(tl_zip_open(&a->weights->source, &a->zip));
    TL_TRY(find_pickle(a));
    TL_TRY(keep_records(a));
    uint32_t root = 0;
    TL_TRY(load_pickle(a, &root));
    TL_TRY(locate_storages(a));
    return tl_pth_collect(a->weights, &a->pickle, root);
}

tl_status tl_pth_read_zip(tl_weights *weights) {
    weights->format = "pth";
    archive a = {.weights = weights, .pickle.ctx = weights->ctx};
    tl_status status = read_archive(&a);
    tl_pickle_free(&a.pickle);
    tl_zip_close(&a.zip);
    return status;
}
