/* BMP (Windows GDI: BITMAPFILEHEADER, BITMAPCOREHEADER, BITMAPINFOHEADER and its successors).
 * Our own decoder: the format is simple, and stb_image's takes a file that ends early for black. */
#include <string.h>

#include "image/codec.h"

enum { FILE_HEADER = 14, CORE_HEADER = 12, INFO_HEADER = 40, MASKS_HEADER = 52, ALPHA_HEADER = 56 };
enum {
    PLAIN = 0,
    RLE8 = 1,
    RLE4 = 2,
    BITFIELDS = 3,
    EMBEDDED_JPEG = 4,
    EMBEDDED_PNG = 5,
    ALPHA_BITFIELDS = 6
};

typedef struct field {
    uint32_t mask;
    int shift;
    uint32_t max; /* 0: the field is absent */
} field;

typedef struct bmp {
    const tl_encoded *in;
    size_t header, pixels, row; /* size of the header, offset of the pixels, bytes a row */
    int width, height, depth;
    bool top_down;
    uint32_t compression, colours;
    unsigned char palette[256][3];
    field field[4]; /* red, green, blue, alpha */
} bmp;

static uint32_t get16(const bmp *b, size_t at) {
    return (uint32_t)b->in->data[at] | (uint32_t)b->in->data[at + 1] << 8;
}

static uint32_t get32(const bmp *b, size_t at) {
    return get16(b, at) | get16(b, at + 2) << 16;
}

static tl_status corrupt(const bmp *b, const char *what, int64_t found) {
    return tl_fail(TL_CORRUPT, "%s: %s is %lld", b->in->name, what, (long long)found);
}

static tl_status need(const bmp *b, uint64_t end, const char *what) {
    TL_CHECK(b->in->size >= end, TL_TRUNCATED, "%s: has %zu bytes, its %s ends at %llu",
             b->in->name, b->in->size, what, (unsigned long long)end);
    return TL_OK;
}

static tl_status read_size(bmp *b) {
    bool core = b->header == CORE_HEADER;
    int64_t width = core ? (int32_t)get16(b, 18) : (int32_t)get32(b, 18);
    int64_t height = core ? (int32_t)get16(b, 20) : (int32_t)get32(b, 22);
    b->top_down = height < 0;
    if (height < 0) height = -height;
    TL_TRY(tl_image_check_size(b->in, width, height));
    b->width = (int)width;
    b->height = (int)height;
    return TL_OK;
}

static tl_status read_header(bmp *b) {
    TL_TRY(need(b, FILE_HEADER + 4, "header"));
    b->pixels = get32(b, 10);
    b->header = get32(b, 14);
    if (b->header != CORE_HEADER && (b->header < INFO_HEADER || b->header > 1024))
        return corrupt(b, "the size of the BMP header", (int64_t)b->header);
    TL_TRY(need(b, FILE_HEADER + b->header, "header"));
    TL_TRY(read_size(b));
    bool core = b->header == CORE_HEADER;
    b->depth = (int)get16(b, core ? 24 : 28);
    b->compression = core ? PLAIN : get32(b, 30);
    b->colours = core ? 0 : get32(b, 46);
    return TL_OK;
}

static tl_status check_format(const bmp *b) {
    static const char *const unsupported[] = {[RLE8] = "run lengths",
                                              [RLE4] = "run lengths",
                                              [EMBEDDED_JPEG] = "an embedded JPEG",
                                              [EMBEDDED_PNG] = "an embedded PNG"};
    if (b->compression < sizeof unsupported / sizeof *unsupported && unsupported[b->compression])
        return tl_fail(TL_UNSUPPORTED, "%s: is a BMP with %s", b->in->name,
                       unsupported[b->compression]);
    bool masked = b->compression == BITFIELDS || b->compression == ALPHA_BITFIELDS;
    if (!masked && b->compression != PLAIN)
        return corrupt(b, "the BMP compression", b->compression);
    bool paletted = b->depth == 1 || b->depth == 4 || b->depth == 8;
    bool wide = b->depth == 16 || b->depth == 32;
    if (!wide && (masked || !(paletted || b->depth == 24)))
        return corrupt(b, "the number of bits a pixel", b->depth);
    return TL_OK;
}

/* Colours that the file does not define are black. */
static tl_status read_palette(bmp *b) {
    size_t entry = b->header == CORE_HEADER ? 3 : 4, at = FILE_HEADER + b->header;
    size_t count = (size_t)1 << b->depth;
    if (b->colours > 0 && b->colours < count) count = b->colours;
    if (b->pixels < at) return corrupt(b, "the offset of the pixels", (int64_t)b->pixels);
    if (count > (b->pixels - at) / entry) count = (b->pixels - at) / entry;
    TL_TRY(need(b, at + count * entry, "palette"));
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++) b->palette[i][c] = b->in->data[at + i * entry + 2 - c];
    return TL_OK;
}

static bool set_field(field *f, uint32_t mask) {
    *f = (field){mask, 0, 0};
    if (!mask) return true;
    while (!(mask >> f->shift & 1)) f->shift++;
    f->max = mask >> f->shift;
    return (f->max & (f->max + 1)) == 0; /* one run of bits */
}

static tl_status read_fields(bmp *b) {
    uint32_t mask[4] = {0x00ff0000, 0x0000ff00, 0x000000ff, 0};
    if (b->depth == 16) memcpy(mask, (uint32_t[]){31 << 10, 31 << 5, 31, 0}, sizeof mask);
    if (b->compression != PLAIN) {
        /* Part of the larger headers, behind the smallest one. */
        bool alpha = b->compression == ALPHA_BITFIELDS || b->header >= ALPHA_HEADER;
        size_t count = alpha ? 4 : 3;
        TL_TRY(need(b, FILE_HEADER + INFO_HEADER + count * 4, "header"));
        for (size_t i = 0; i < count; i++) mask[i] = get32(b, FILE_HEADER + INFO_HEADER + i * 4);
    }
    for (int i = 0; i < 4; i++)
        if (!set_field(&b->field[i], mask[i]) || (i < 3 && mask[i] == 0))
            return corrupt(b, "a colour mask", mask[i]);
    return TL_OK;
}

static unsigned extract(const field *f, uint32_t pixel) {
    return (unsigned)((uint64_t)((pixel & f->mask) >> f->shift) * 255 / f->max);
}

static void unpack_palette(const bmp *b, const unsigned char *row, unsigned char *to) {
    unsigned mask = (1u << b->depth) - 1;
    for (int x = 0; x < b->width; x++, to += 3) {
        int bit = x * b->depth;
        unsigned index = (unsigned)row[bit / 8] >> (8 - b->depth - bit % 8) & mask;
        memcpy(to, b->palette[index], 3);
    }
}

static void unpack_bgr(const bmp *b, const unsigned char *row, unsigned char *to) {
    for (int x = 0; x < b->width; x++, row += 3, to += 3) {
        to[0] = row[2];
        to[1] = row[1];
        to[2] = row[0];
    }
}

static void unpack_fields(const bmp *b, const unsigned char *row, unsigned char *to) {
    int bytes = b->depth / 8;
    for (int x = 0; x < b->width; x++, row += bytes, to += 3) {
        uint32_t pixel = (uint32_t)row[0] | (uint32_t)row[1] << 8;
        if (bytes == 4) pixel |= (uint32_t)row[2] << 16 | (uint32_t)row[3] << 24;
        unsigned alpha = b->field[3].max ? extract(&b->field[3], pixel) : 255;
        for (int c = 0; c < 3; c++) to[c] = tl_on_white(extract(&b->field[c], pixel), alpha);
    }
}

static void unpack(const bmp *b, tl_image *out) {
    size_t stride = (size_t)b->width * 3;
    for (int y = 0; y < b->height; y++) {
        const unsigned char *row = b->in->data + b->pixels + b->row * (size_t)y;
        unsigned char *to = out->pixels + stride * (size_t)(b->top_down ? y : b->height - 1 - y);
        if (b->depth <= 8)
            unpack_palette(b, row, to);
        else if (b->depth == 24)
            unpack_bgr(b, row, to);
        else
            unpack_fields(b, row, to);
    }
}

static tl_status decode_bmp(const tl_encoded *in, tl_image *out) {
    bmp b = {.in = in};
    TL_TRY(read_header(&b));
    TL_TRY(check_format(&b));
    if (b.depth <= 8) TL_TRY(read_palette(&b));
    if (b.depth == 16 || b.depth == 32) TL_TRY(read_fields(&b));
    if (b.pixels < FILE_HEADER + b.header)
        return corrupt(&b, "the offset of the pixels", (int64_t)b.pixels);
    b.row = ((size_t)b.width * (size_t)b.depth + 31) / 32 * 4; /* rows end at multiples of 4 */
    TL_TRY(need(&b, (uint64_t)b.pixels + (uint64_t)b.row * (uint64_t)b.height, "last row"));
    TL_TRY(tl_image_create(in->ctx, b.width, b.height, out));
    unpack(&b, out);
    return TL_OK;
}

const tl_codec tl_codec_bmp = {"BMP", "BM", 2, decode_bmp};
