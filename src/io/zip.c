#include "io/zip.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "io/stream.h"

enum {
    LOCAL_SIZE = 30,
    CENTRAL_SIZE = 46,
    END_SIZE = 22,
    END64_SIZE = 56,
    LOCATOR_SIZE = 20,
    MAX_COMMENT = 65535,
    FLAG_ENCRYPTED = 1 << 0,
    FLAG_DESCRIPTOR = 1 << 3, /* local sizes and checksum are 0: they follow the data */
    FLAG_STRONG = 1 << 6,
    FLAG_MASKED = 1 << 13,
    EXTRA_ZIP64 = 1
};

/* Signatures as little-endian numbers: "PK" and two bytes. */
#define SIGNATURE_LOCAL 0x04034b50u
#define SIGNATURE_CENTRAL 0x02014b50u
#define SIGNATURE_END 0x06054b50u
#define SIGNATURE_END64 0x06064b50u
#define SIGNATURE_LOCATOR 0x07064b50u

/* --- the end records -------------------------------------------------------------------------- */

typedef struct directory {
    uint64_t offset, size, count;
    uint64_t limit; /* where the first end record begins */
} directory;

/* Offset of the end record: the last signature whose comment ends with the file. */
static tl_status find_end(const tl_source *source, uint64_t *offset) {
    uint64_t most = END_SIZE + MAX_COMMENT;
    size_t size = (size_t)(source->size < most ? source->size : most);
    unsigned char *tail = tl_alloc(source->ctx, size);
    TL_CHECK_MEMORY(tail);
    tl_status status = tl_source_read(source, source->size - size, tail, size);
    bool found = false;
    for (size_t i = END_SIZE; i <= size && status == TL_OK && !found; i++) {
        const unsigned char *p = tail + size - i;
        found = tl_le32(p) == SIGNATURE_END && tl_le16(p + 20) == i - END_SIZE;
        if (found) *offset = source->size - i;
    }
    tl_free(source->ctx, tail);
    TL_TRY(status);
    TL_CHECK(found, TL_TRUNCATED,
             "%s: no ZIP end record in the last %zu bytes of %" PRIu64 ": the file is cut off",
             source->name, size, source->size);
    return TL_OK;
}

/* The ZIP64 record that a locator just before the end record at `end` points to. */
static tl_status read_end64(const tl_source *source, uint64_t end, bool *found, directory *out) {
    unsigned char locator[LOCATOR_SIZE], record[END64_SIZE];
    *found = false;
    if (end < LOCATOR_SIZE) return TL_OK;
    TL_TRY(tl_source_read(source, end - LOCATOR_SIZE, locator, LOCATOR_SIZE));
    if (tl_le32(locator) != SIGNATURE_LOCATOR) return TL_OK;
    uint64_t at = tl_le64(locator + 8), locator_at = end - LOCATOR_SIZE;
    TL_CHECK(locator_at >= END64_SIZE && at <= locator_at - END64_SIZE, TL_CORRUPT,
             "%s: byte %" PRIu64 ": ZIP64 record at %" PRIu64 ", expected before its locator",
             source->name, locator_at, at);
    TL_TRY(tl_source_read(source, at, record, END64_SIZE));
    TL_CHECK(tl_le32(record) == SIGNATURE_END64 && tl_le64(record + 4) == locator_at - at - 12,
             TL_CORRUPT, "%s: byte %" PRIu64 ": no ZIP64 end record that reaches to its locator",
             source->name, at);
    TL_CHECK(tl_le32(record + 16) == 0 && tl_le32(record + 20) == 0 && tl_le32(locator + 4) == 0,
             TL_UNSUPPORTED, "%s: byte %" PRIu64 ": a ZIP archive on several disks", source->name,
             at);
    TL_CHECK(tl_le64(record + 24) == tl_le64(record + 32), TL_CORRUPT,
             "%s: byte %" PRIu64 ": %" PRIu64 " entries on this disk of %" PRIu64, source->name, at,
             tl_le64(record + 24), tl_le64(record + 32));
    *out = (directory){.offset = tl_le64(record + 48),
                       .size = tl_le64(record + 40),
                       .count = tl_le64(record + 32),
                       .limit = at};
    *found = true;
    return TL_OK;
}

/* A field of the end record agrees with the ZIP64 one, or says that only that one counts. */
static bool agrees(uint64_t field, uint64_t saturated, uint64_t wide) {
    return field == wide || field == saturated;
}

static tl_status locate_directory(const tl_source *source, directory *out) {
    uint64_t end = 0;
    TL_TRY(find_end(source, &end));
    unsigned char record[END_SIZE];
    TL_TRY(tl_source_read(source, end, record, END_SIZE));
    uint64_t count = tl_le16(record + 10), size = tl_le32(record + 12);
    uint64_t offset = tl_le32(record + 16);
    TL_CHECK(tl_le16(record + 4) == 0 && tl_le16(record + 6) == 0, TL_UNSUPPORTED,
             "%s: byte %" PRIu64 ": a ZIP archive on several disks", source->name, end);
    TL_CHECK(tl_le16(record + 8) == count, TL_CORRUPT,
             "%s: byte %" PRIu64 ": %u entries on this disk of %" PRIu64, source->name, end,
             tl_le16(record + 8), count);
    bool wide = false;
    TL_TRY(read_end64(source, end, &wide, out));
    if (!wide) {
        *out = (directory){.offset = offset, .size = size, .count = count, .limit = end};
    }
    TL_CHECK(agrees(count, UINT16_MAX, out->count) && agrees(size, UINT32_MAX, out->size) &&
                 agrees(offset, UINT32_MAX, out->offset),
             TL_CORRUPT, "%s: byte %" PRIu64 ": the end record differs from the ZIP64 one",
             source->name, end);
    TL_CHECK(out->offset <= out->limit && out->size == out->limit - out->offset, TL_CORRUPT,
             "%s: byte %" PRIu64 ": a directory of %" PRIu64 " bytes at %" PRIu64
             ", expected to end at %" PRIu64,
             source->name, end, out->size, out->offset, out->limit);
    TL_CHECK(out->count <= TL_ZIP_MAX_ENTRIES, TL_LIMIT,
             "%s: byte %" PRIu64 ": %" PRIu64 " entries, at most %d are allowed", source->name, end,
             out->count, TL_ZIP_MAX_ENTRIES);
    TL_CHECK(out->count <= out->size / CENTRAL_SIZE, TL_CORRUPT,
             "%s: byte %" PRIu64 ": %" PRIu64 " entries in a directory of %" PRIu64 " bytes",
             source->name, end, out->count, out->size);
    return TL_OK;
}

/* --- the central directory -------------------------------------------------------------------- */

/* Replaces fields that are all ones by those of the ZIP64 extra field, which holds only these, in
 * this order. False when it is too short or missing. */
static bool widen(const unsigned char *extra, size_t size, uint64_t *const *fields, int count) {
    const unsigned char *p = NULL;
    size_t left = 0;
    while (size >= 4) {
        size_t length = tl_le16(extra + 2);
        if (length > size - 4) return false;
        if (tl_le16(extra) == EXTRA_ZIP64) {
            p = extra + 4;
            left = length;
        }
        extra += 4 + length;
        size -= 4 + length;
    }
    for (int i = 0; i < count; i++) {
        if (*fields[i] != UINT32_MAX) continue;
        if (left < 8) return false;
        *fields[i] = tl_le64(p);
        p += 8;
        left -= 8;
    }
    return true;
}

/* A name that would leave the folder it is unpacked to. We never unpack, but a file that holds
 * one was made to harm. */
static bool is_unsafe_name(const char *name) {
    if (name[0] == '/' || strchr(name, '\\') || (name[0] != '\0' && name[1] == ':')) return true;
    for (const char *part = name; part; part = strchr(part, '/')) {
        if (*part == '/') part++;
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0')) return true;
    }
    return false;
}

static tl_status check_method(const tl_source *source, const tl_zip_entry *entry,
                              const unsigned char *record, uint64_t compressed) {
    unsigned flags = tl_le16(record + 8), method = tl_le16(record + 10);
    char quoted[TL_QUOTE_TEXT];
    tl_quote(entry->name, strlen(entry->name), quoted);
    TL_CHECK(!(flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED)), TL_UNSUPPORTED,
             "%s: entry \"%s\" is encrypted", source->name, quoted);
    TL_CHECK(method == 0, TL_UNSUPPORTED,
             "%s: entry \"%s\" has compression method %u, expected 0 (stored)", source->name,
             quoted, method);
    TL_CHECK(compressed == entry->size, TL_CORRUPT,
             "%s: entry \"%s\" is stored, but has sizes %" PRIu64 " and %" PRIu64, source->name,
             quoted, compressed, entry->size);
    return TL_OK;
}

static tl_status check_name(const tl_source *source, const char *name, size_t length, uint64_t at) {
    char quoted[TL_QUOTE_TEXT];
    tl_quote(name, length, quoted);
    TL_CHECK(length > 0 && strlen(name) == length, TL_CORRUPT,
             "%s: byte %" PRIu64 ": entry name \"%s\" is empty or has a zero byte", source->name,
             at, quoted);
    TL_CHECK(!is_unsafe_name(name), TL_UNSAFE,
             "%s: byte %" PRIu64 ": entry name \"%s\" leads outside the archive", source->name, at,
             quoted);
    return TL_OK;
}

/* Reads the record at `record`, of which `left` bytes are there; *used is its size. */
static tl_status read_central(const tl_source *source, const unsigned char *record, size_t left,
                              uint64_t at, char **names, tl_zip_entry *entry, size_t *used) {
    TL_CHECK(left >= CENTRAL_SIZE && tl_le32(record) == SIGNATURE_CENTRAL, TL_CORRUPT,
             "%s: byte %" PRIu64 ": no directory entry here, though the end record counts more",
             source->name, at);
    size_t name = tl_le16(record + 28), extra = tl_le16(record + 30);
    *used = CENTRAL_SIZE + name + extra + tl_le16(record + 32);
    TL_CHECK(*used <= left, TL_CORRUPT,
             "%s: byte %" PRIu64 ": a directory entry of %zu bytes, %zu are left", source->name, at,
             *used, left);
    memcpy(*names, record + CENTRAL_SIZE, name);
    (*names)[name] = '\0';
    TL_TRY(check_name(source, *names, name, at));
    uint64_t compressed = tl_le32(record + 20);
    *entry = (tl_zip_entry){.name = *names,
                            .header = tl_le32(record + 42),
                            .size = tl_le32(record + 24),
                            .crc = tl_le32(record + 16)};
    *names += name + 1;
    uint64_t *const fields[] = {&entry->size, &compressed, &entry->header};
    TL_CHECK(widen(record + CENTRAL_SIZE + name, extra, fields, 3), TL_CORRUPT,
             "%s: byte %" PRIu64 ": the directory entry's extra field is too short", source->name,
             at);
    return check_method(source, entry, record, compressed);
}

static tl_status read_directory(tl_zip *zip, const directory *where, const unsigned char *bytes) {
    const tl_source *source = zip->source;
    char *names = zip->names;
    size_t at = 0;
    for (uint64_t i = 0; i < where->count; i++) {
        size_t used = 0;
        TL_TRY(read_central(source, bytes + at, (size_t)where->size - at, where->offset + at,
                            &names, &zip->entry[i], &used));
        zip->count++;
        at += used;
    }
    TL_CHECK(at == where->size, TL_CORRUPT,
             "%s: byte %" PRIu64 ": %" PRIu64 " bytes after the last of %" PRIu64
             " directory entries, expected none",
             source->name, where->offset + at, where->size - at, where->count);
    return TL_OK;
}

/* --- the local headers ------------------------------------------------------------------------ */

/* The local header must tell the same as the directory; `scratch` holds a name of any length. */
static tl_status read_local(const tl_zip *zip, const directory *where, tl_zip_entry *entry,
                            unsigned char *scratch) {
    const tl_source *source = zip->source;
    unsigned char header[LOCAL_SIZE];
    char quoted[TL_QUOTE_TEXT];
    size_t length = strlen(entry->name);
    tl_quote(entry->name, length, quoted);
    uint64_t left = entry->header < where->offset ? where->offset - entry->header : 0;
    TL_CHECK(left >= LOCAL_SIZE + length, TL_CORRUPT,
             "%s: entry \"%s\": local header at byte %" PRIu64 ", the entries end at %" PRIu64,
             source->name, quoted, entry->header, where->offset);
    TL_TRY(tl_source_read(source, entry->header, header, LOCAL_SIZE));
    size_t extra = tl_le16(header + 28);
    TL_CHECK(tl_le32(header) == SIGNATURE_LOCAL, TL_CORRUPT,
             "%s: byte %" PRIu64 ": no local header, expected that of entry \"%s\"", source->name,
             entry->header, quoted);
    bool same = tl_le16(header + 26) == length && tl_le16(header + 8) == 0 &&
                !(tl_le16(header + 6) & FLAG_ENCRYPTED);
    if (same) {
        TL_TRY(tl_source_read(source, entry->header + LOCAL_SIZE, scratch, length));
        same = memcmp(scratch, entry->name, length) == 0;
    }
    uint64_t before = LOCAL_SIZE + length + extra;
    if (same && !(tl_le16(header + 6) & FLAG_DESCRIPTOR) && left >= before) {
        uint64_t size = tl_le32(header + 22), compressed = tl_le32(header + 18);
        uint64_t *const fields[] = {&size, &compressed};
        TL_TRY(tl_source_read(source, entry->header + LOCAL_SIZE + length, scratch, extra));
        same = widen(scratch, extra, fields, 2) && size == entry->size &&
               compressed == entry->size && tl_le32(header + 14) == entry->crc;
    }
    TL_CHECK(same, TL_CORRUPT,
             "%s: byte %" PRIu64 ": the local header differs from the directory's \"%s\"",
             source->name, entry->header, quoted);
    TL_CHECK(left >= before && entry->size <= left - before, TL_CORRUPT,
             "%s: entry \"%s\": %" PRIu64 " bytes of data at byte %" PRIu64
             ", the entries end at %" PRIu64,
             source->name, quoted, entry->size, entry->header + before, where->offset);
    entry->offset = entry->header + before;
    return TL_OK;
}

static int compare_positions(const void *a, const void *b) {
    const tl_zip_entry *x = a, *y = b;
    return x->header < y->header ? -1 : x->header > y->header;
}

static int compare_entry_names(const void *a, const void *b) {
    const tl_zip_entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* No two entries share bytes or a name. Leaves the entries sorted by name. */
static tl_status check_apart(tl_zip *zip) {
    size_t count = (size_t)zip->count;
    tl_zip_entry *entry = zip->entry;
    char quoted[TL_QUOTE_TEXT];
    qsort(entry, count, sizeof *entry, compare_positions);
    for (size_t i = 1; i < count; i++) {
        TL_CHECK(entry[i - 1].offset + entry[i - 1].size <= entry[i].header, TL_CORRUPT,
                 "%s: byte %" PRIu64 ": entry \"%s\" overlaps the one before", zip->source->name,
                 entry[i].header, tl_quote(entry[i].name, strlen(entry[i].name), quoted));
    }
    qsort(entry, count, sizeof *entry, compare_entry_names);
    for (size_t i = 1; i < count; i++) {
        TL_CHECK(strcmp(entry[i - 1].name, entry[i].name) != 0, TL_CORRUPT,
                 "%s: byte %" PRIu64 ": entry \"%s\" is there twice, expected once",
                 zip->source->name, entry[i].header,
                 tl_quote(entry[i].name, strlen(entry[i].name), quoted));
    }
    return TL_OK;
}

/* --- opening ---------------------------------------------------------------------------------- */

static tl_status read_entries(tl_zip *zip, const directory *where, unsigned char *bytes) {
    TL_TRY(tl_source_read(zip->source, where->offset, bytes, (size_t)where->size));
    TL_TRY(read_directory(zip, where, bytes));
    return TL_OK;
}

static tl_status read_locals(tl_zip *zip, const directory *where) {
    unsigned char *scratch = tl_alloc(zip->source->ctx, UINT16_MAX);
    TL_CHECK_MEMORY(scratch);
    tl_status status = TL_OK;
    for (int i = 0; i < zip->count && status == TL_OK; i++) {
        status = read_local(zip, where, &zip->entry[i], scratch);
    }
    tl_free(zip->source->ctx, scratch);
    return status;
}

tl_status tl_zip_open(const tl_source *source, tl_zip *out) {
    *out = (tl_zip){.source = source};
    directory where = {0};
    TL_TRY(locate_directory(source, &where));
    size_t count = (size_t)where.count;
    unsigned char *bytes = tl_alloc(source->ctx, (size_t)where.size);
    TL_CHECK_MEMORY(bytes);
    out->entry = tl_alloc_array(source->ctx, count, sizeof *out->entry);
    /* A record is longer than its name and the NUL. */
    out->names = out->entry ? tl_alloc(source->ctx, (size_t)where.size + 1) : NULL;
    tl_status status = out->names ? read_entries(out, &where, bytes) : TL_NO_MEMORY;
    tl_free(source->ctx, bytes);
    TL_TRY(status);
    TL_TRY(read_locals(out, &where));
    return check_apart(out);
}

void tl_zip_close(tl_zip *zip) {
    if (!zip->source) return;
    tl_free(zip->source->ctx, zip->entry);
    tl_free(zip->source->ctx, zip->names);
    *zip = (tl_zip){0};
}

static int compare_key(const void *key, const void *entry) {
    return strcmp(key, ((const tl_zip_entry *)entry)->name);
}

int tl_zip_find(const tl_zip *zip, const char *name) {
    const tl_zip_entry *found =
        bsearch(name, zip->entry, (size_t)zip->count, sizeof *zip->entry, compare_key);
    return found ? (int)(found - zip->entry) : -1;
}

tl_status tl_zip_check(const tl_zip *zip, int index) {
    const tl_zip_entry *entry = &zip->entry[index];
    uint32_t crc = 0;
    char quoted[TL_QUOTE_TEXT];
    TL_TRY(tl_source_crc32(zip->source, entry->offset, entry->size, &crc));
    TL_CHECK(crc == entry->crc, TL_CORRUPT,
             "%s: entry \"%s\": the %" PRIu64 " bytes at offset %" PRIu64
             " have CRC %08x, the archive says %08x",
             zip->source->name, tl_quote(entry->name, strlen(entry->name), quoted), entry->size,
             entry->offset, (unsigned)crc, (unsigned)entry->crc);
    return TL_OK;
}
