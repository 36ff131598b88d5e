#include "finetune/text.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool reserve(tl_text *text, size_t extra) {
    if (text->failed) return false;
    size_t needed = text->length + extra + 1;
    if (needed <= text->capacity) return true;
    size_t capacity = text->capacity * 2 > needed ? text->capacity * 2 : needed + 256;
    char *data = tl_realloc(text->ctx, text->data, capacity);
    text->failed = !data;
    if (!data) return false;
    if (!text->data) data[0] = 0;
    text->data = data;
    text->capacity = capacity;
    return true;
}

static void add_bytes(tl_text *text, const char *bytes, size_t count) {
    if (!reserve(text, count)) return;
    memcpy(text->data + text->length, bytes, count);
    text->length += count;
    text->data[text->length] = 0;
}

void tl_text_add(tl_text *text, const char *piece) {
    add_bytes(text, piece, strlen(piece));
}

void tl_text_printf(tl_text *text, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0) text->failed = true;
    if (length >= 0 && reserve(text, (size_t)length)) {
        vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
}

void tl_text_fixed(tl_text *text, double value, int decimals) {
    if (!isfinite(value) || fabs(value) > 1e9) {
        tl_text_add(text, "n/a");
        return;
    }
    long long unit = 1;
    for (int i = 0; i < decimals; i++) unit *= 10;
    long long scaled = llround(fabs(value) * (double)unit);
    tl_text_printf(text, "%s%lld", value < 0 && scaled ? "-" : "", scaled / unit);
    if (decimals) tl_text_printf(text, ".%0*lld", decimals, scaled % unit);
}

/* --- UTF-8 -------------------------------------------------------------------------------- */

static bool continues(unsigned char byte) {
    return (byte & 0xc0) == 0x80;
}

/* Bytes of the well-formed character at `s` (Unicode 15, table 3-7: no overlong forms, no
 * surrogates, nothing past U+10FFFF); 0 when there is none. Control characters other than tab and
 * line ends count as ill-formed: HTML and XML know none. */
static size_t character_length(const unsigned char *s) {
    if (s[0] < 0x80) return (s[0] >= 0x20 && s[0] != 0x7f) || strchr("\t\n\r", s[0]) ? 1 : 0;
    if (s[0] >= 0xc2 && s[0] <= 0xdf) return continues(s[1]) ? 2 : 0;
    if (s[0] >= 0xe0 && s[0] <= 0xef) {
        unsigned char low = s[0] == 0xe0 ? 0xa0 : 0x80, high = s[0] == 0xed ? 0x9f : 0xbf;
        return s[1] >= low && s[1] <= high && continues(s[2]) ? 3 : 0;
    }
    if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        unsigned char low = s[0] == 0xf0 ? 0x90 : 0x80, high = s[0] == 0xf4 ? 0x8f : 0xbf;
        return s[1] >= low && s[1] <= high && continues(s[2]) && continues(s[3]) ? 4 : 0;
    }
    return 0;
}

static const char *entity(char c) {
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

static void add_clean(tl_text *text, const char *piece, bool entities) {
    while (*piece) {
        size_t length = character_length((const unsigned char *)piece);
        const char *name = entities ? entity(*piece) : NULL;
        if (name)
            tl_text_add(text, name);
        else if (length)
            add_bytes(text, piece, length);
        else
            tl_text_add(text, "\xef\xbf\xbd");
        piece += length ? length : 1;
    }
}

void tl_text_escaped(tl_text *text, const char *piece) {
    add_clean(text, piece, true);
}

json_t *tl_json_string(tl_context *ctx, const char *bytes) {
    json_t *string = json_string(bytes);
    if (string) return string;
    tl_text clean = {.ctx = ctx};
    add_clean(&clean, bytes, false);
    string = clean.failed ? NULL : json_string(clean.data ? clean.data : "");
    tl_free(ctx, clean.data);
    return string;
}

/* --- base64, RFC 4648 --------------------------------------------------------------------- */

void tl_text_base64(tl_text *text, const unsigned char *data, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (!reserve(text, (size + 2) / 3 * 4)) return;
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        unsigned bits = (unsigned)data[i] << 16;
        if (left > 1) bits |= (unsigned)data[i + 1] << 8;
        if (left > 2) bits |= data[i + 2];
        char group[4] = {digits[bits >> 18], digits[bits >> 12 & 63],
                         left > 1 ? digits[bits >> 6 & 63] : '=',
                         left > 2 ? digits[bits & 63] : '='};
        add_bytes(text, group, sizeof group);
    }
}
