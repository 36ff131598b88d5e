#include "io/stream.h"

#include <stdio.h>
#include <string.h>

#include "base/crc32.h"

enum { PIECE = 256 * 1024 };

tl_status tl_source_visit(const tl_source *source, uint64_t offset, uint64_t count,
                          tl_visit_fn visit, void *arg) {
    if (source->memory && offset <= source->size && count <= source->size - offset) {
        visit(arg, source->memory + offset, (size_t)count);
        return TL_OK;
    }
    unsigned char *piece = tl_alloc(source->ctx, count < PIECE ? (size_t)count : PIECE);
    TL_CHECK_MEMORY(piece);
    tl_status status = TL_OK;
    while (count > 0 && status == TL_OK) {
        size_t size = count < PIECE ? (size_t)count : PIECE;
        status = tl_source_read(source, offset, piece, size);
        if (status == TL_OK) visit(arg, piece, size);
        offset += size;
        count -= size;
    }
    tl_free(source->ctx, piece);
    return status;
}

static void visit_crc(void *arg, const unsigned char *data, size_t size) {
    uint32_t *crc = arg;
    *crc = tl_crc32(*crc, data, size);
}

tl_status tl_source_crc32(const tl_source *source, uint64_t offset, uint64_t count, uint32_t *crc) {
    *crc = 0;
    return tl_source_visit(source, offset, count, visit_crc, crc);
}

const char *tl_quote(const char *text, size_t length, char buffer[TL_QUOTE_TEXT]) {
    static const char dots[] = "...";
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (used + 4 + sizeof dots > TL_QUOTE_TEXT) {
            memcpy(buffer + used, dots, sizeof dots);
            return buffer;
        }
        bool plain = c >= 0x20 && c < 0x7f && c != '\\';
        used += (size_t)snprintf(buffer + used, TL_QUOTE_TEXT - used, plain ? "%c" : "\\x%02x", c);
    }
    buffer[used] = '\0';
    return buffer;
}

/* Number of continuation bytes after `lead`, and the range that the first of them must be in;
 * -1 for a byte that cannot begin a character. */
static int utf8_tail(unsigned char lead, unsigned char *low, unsigned char *high) {
    *low = 0x80;
    *high = 0xbf;
    if (lead == 0) return -1;
    if (lead < 0x80) return 0;
    if (lead < 0xc2 || lead > 0xf4) return -1;
    if (lead == 0xe0) *low = 0xa0;
    if (lead == 0xed) *high = 0x9f;
    if (lead == 0xf0) *low = 0x90;
    if (lead == 0xf4) *high = 0x8f;
    return lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
}

bool tl_utf8_valid(const char *text, size_t length) {
    const unsigned char *p = (const unsigned char *)text;
    const unsigned char *end = p + length;
    while (p < end) {
        unsigned char low, high;
        int tail = utf8_tail(*p++, &low, &high);
        if (tail < 0 || end - p < tail) return false;
        for (; tail > 0; tail--, p++) {
            if (*p < low || *p > high) return false;
            low = 0x80;
            high = 0xbf;
        }
    }
    return true;
}
