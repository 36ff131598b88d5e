/* PNG (W3C recommendation, second edition): a walk over all chunks with their checksums, which
 * stb_image does not verify, then stb_image for the pixels. */
#include <string.h>

#include "base/crc32.h"
#include "image/codec.h"

enum { SIGNATURE = 8, IHDR_END = SIGNATURE + 25, PALETTE_MAX = 256 };
enum { GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGB_ALPHA = 6 };

typedef struct png {
    const tl_encoded *in;
    size_t at; /* the chunk being read */
    int width, height, depth, colour;
    bool interlaced, transparency;
    int palette;   /* entries */
    uint64_t idat; /* bytes of compressed data */
    int orientation;
} png;

typedef struct chunk {
    uint32_t size;
    const unsigned char *type, *data;
} chunk;

static uint32_t get32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(unsigned char *p, uint32_t value) {
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(value >> (24 - 8 * i));
}

static tl_status corrupt(const png *p, const char *what) {
    return tl_fail(TL_CORRUPT, "%s: byte %zu: %s", p->in->name, p->at, what);
}

static bool is(const chunk *c, const char *type) {
    return memcmp(c->type, type, 4) == 0;
}

static int channels(const png *p) {
    static const int count[] = {
        [GREY] = 1, [RGB] = 3, [PALETTE] = 1, [GREY_ALPHA] = 2, [RGB_ALPHA] = 4};
    return count[p->colour];
}

/* Which depths go with which colour type: table 11.1 of the recommendation. */
static bool depth_allowed(int colour, int depth) {
    static const unsigned allowed[] = {
        [GREY] = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 8 | 1 << 16,
        [RGB] = 1 << 8 | 1 << 16,
        [PALETTE] = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 8,
        [GREY_ALPHA] = 1 << 8 | 1 << 16,
        [RGB_ALPHA] = 1 << 8 | 1 << 16,
    };
    return colour <= RGB_ALPHA && depth <= 16 && (allowed[colour] >> depth & 1);
}

static tl_status read_header(png *p, const chunk *c) {
    if (c->size != 13) return corrupt(p, "IHDR has a wrong length");
    TL_TRY(tl_image_check_size(p->in, get32(c->data), get32(c->data + 4)));
    p->width = (int)get32(c->data);
    p->height = (int)get32(c->data + 4);
    p->depth = c->data[8];
    p->colour = c->data[9];
    if (!depth_allowed(p->colour, p->depth)) return corrupt(p, "IHDR has an unknown pixel format");
    if (c->data[10] != 0 || c->data[11] != 0 || c->data[12] > 1)
        return corrupt(p, "IHDR has an unknown compression, filter or interlace method");
    p->interlaced = c->data[12] == 1;
    return TL_OK;
}

static tl_status read_palette(png *p, const chunk *c) {
    if (p->palette || p->idat || p->colour == GREY || p->colour == GREY_ALPHA)
        return corrupt(p, "PLTE is out of place");
    if (c->size == 0 || c->size % 3 != 0 || c->size > PALETTE_MAX * 3)
        return corrupt(p, "PLTE has a wrong length");
    p->palette = (int)(c->size / 3);
    return TL_OK;
}

static tl_status read_transparency(png *p, const chunk *c) {
    if (p->transparency || p->idat || p->colour == GREY_ALPHA || p->colour == RGB_ALPHA)
        return corrupt(p, "tRNS is out of place");
    bool fits = p->colour == PALETTE ? c->size > 0 && c->size <= (uint32_t)p->palette
                                     : c->size == (uint32_t)channels(p) * 2;
    if (!fits) return corrupt(p, "tRNS has a wrong length");
    p->transparency = true;
    return TL_OK;
}

/* The chunk at p->at, with its checksum verified. */
static tl_status read_chunk(const png *p, chunk *c) {
    size_t left = p->in->size - p->at;
    const unsigned char *data = p->in->data + p->at;
    TL_CHECK(left >= 8, TL_TRUNCATED, "%s: ends at byte %zu before the IEND chunk", p->in->name,
             p->in->size);
    *c = (chunk){get32(data), data + 4, data + 8};
    if (c->size > INT32_MAX) return corrupt(p, "a chunk's length is over 2^31 - 1");
    TL_CHECK(left - 8 >= (size_t)c->size + 4, TL_TRUNCATED,
             "%s: ends at byte %zu within a chunk of %u bytes", p->in->name, p->in->size,
             (unsigned)c->size);
    if (tl_crc32(0, c->type, (size_t)c->size + 4) != get32(c->data + c->size))
        return corrupt(p, "a chunk's checksum does not match");
    return TL_OK;
}

static tl_status read_critical(png *p, const chunk *c) {
    bool ancillary = c->type[0] & 0x20;
    TL_CHECK(!is(c, "CgBI"), TL_UNSUPPORTED, "%s: is a PNG in Apple's private CgBI format",
             p->in->name);
    if (is(c, "IHDR")) return corrupt(p, "a second IHDR");
    if (is(c, "PLTE")) return read_palette(p, c);
    if (is(c, "tRNS")) return read_transparency(p, c);
    if (is(c, "eXIf")) p->orientation = tl_exif_orientation(c->data, c->size);
    if (is(c, "IDAT")) {
        if (p->colour == PALETTE && !p->palette) return corrupt(p, "PLTE is missing");
        p->idat += c->size;
    } else if (!ancillary) {
        return corrupt(p, "an unknown critical chunk");
    }
    return TL_OK;
}

static tl_status walk(png *p) {
    chunk c;
    p->at = SIGNATURE;
    TL_TRY(read_chunk(p, &c));
    if (!is(&c, "IHDR") && !is(&c, "CgBI")) return corrupt(p, "IHDR is missing");
    if (is(&c, "IHDR"))
        TL_TRY(read_header(p, &c));
    else
        TL_TRY(read_critical(p, &c));
    for (;;) {
        p->at = (size_t)(c.data - p->in->data) + c.size + 4;
        TL_TRY(read_chunk(p, &c));
        if (is(&c, "IEND")) break;
        TL_TRY(read_critical(p, &c));
    }
    if (!p->idat) return corrupt(p, "there is no IDAT chunk");
    return TL_OK;
}

/* Bytes that the compressed data must give: a filter byte and the samples, row by row, for the
 * whole picture or for each of the seven passes (section 8.2). */
static uint64_t filtered_size(const png *p) {
    static const int x_first[] = {0, 4, 0, 2, 0, 1, 0}, x_step[] = {8, 8, 4, 4, 2, 2, 1};
    static const int y_first[] = {0, 0, 4, 0, 2, 0, 1}, y_step[] = {8, 8, 8, 4, 4, 2, 2};
    uint64_t total = 0;
    for (int pass = p->interlaced ? 0 : 6; pass < 7; pass++) {
        int columns = p->width, rows = p->height;
        if (p->interlaced) {
            columns = (p->width - x_first[pass] + x_step[pass] - 1) / x_step[pass];
            rows = (p->height - y_first[pass] + y_step[pass] - 1) / y_step[pass];
        }
        uint64_t bits = (uint64_t)columns * (uint64_t)channels(p) * (uint64_t)p->depth;
        if (columns > 0) total += (uint64_t)rows * (1 + (bits + 7) / 8);
    }
    return total;
}

/* stb_image reads palette entries that the file does not define from uninitialised memory. It
 * lets a later PLTE overwrite an earlier one, so a black one of full length goes before. */
static tl_status complete_palette(const tl_encoded *in, tl_encoded *out, unsigned char **copy) {
    enum { EXTRA = 12 + PALETTE_MAX * 3 };
    *copy = tl_alloc_zero(in->ctx, in->size + EXTRA);
    TL_CHECK_MEMORY(*copy);
    memcpy(*copy, in->data, IHDR_END);
    put32(*copy + IHDR_END, PALETTE_MAX * 3);
    memcpy(*copy + IHDR_END + 4, "PLTE", 4);
    memcpy(*copy + IHDR_END + EXTRA, in->data + IHDR_END, in->size - IHDR_END);
    *out = (tl_encoded){.ctx = in->ctx, .name = in->name, .data = *copy, .size = in->size + EXTRA};
    return TL_OK;
}

static tl_status composite(const png *p, const unsigned char *rgba, tl_image *out) {
    TL_TRY(tl_image_create(p->in->ctx, p->width, p->height, out));
    size_t count = (size_t)p->width * (size_t)p->height;
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++)
            out->pixels[i * 3 + c] = tl_on_white(rgba[i * 4 + c], rgba[i * 4 + 3]);
    return TL_OK;
}

static tl_status decode_pixels(const png *p, const tl_encoded *in, tl_image *out) {
    /* The compressed data (kept twice while it is gathered), the filtered rows, and up to four
     * pictures of four channels in 16 bits. More means that the data inflates beyond its size. */
    uint64_t pixels = (uint64_t)p->width * (uint64_t)p->height;
    size_t budget = (size_t)(4 * p->idat + filtered_size(p) + 32 * pixels + (64 << 10));
    bool alpha = p->transparency || p->colour == GREY_ALPHA || p->colour == RGB_ALPHA;
    unsigned char *decoded;
    TL_TRY(tl_stb_decode(in, p->width, p->height, alpha ? 4 : 3, budget, &decoded));
    if (!alpha) {
        *out = (tl_image){p->width, p->height, decoded};
        return TL_OK;
    }
    tl_status status = composite(p, decoded, out);
    tl_free(p->in->ctx, decoded);
    return status;
}

static tl_status decode_png(const tl_encoded *in, tl_image *out) {
    png p = {.in = in};
    TL_TRY(walk(&p));
    /* Deflate gives at most 258 bytes for two bits. */
    TL_CHECK(filtered_size(&p) <= 1032 * p.idat, TL_CORRUPT,
             "%s: %llu bytes of compressed data cannot hold %d x %d pixels", in->name,
             (unsigned long long)p.idat, p.width, p.height);
    tl_encoded completed = *in;
    unsigned char *copy = NULL;
    if (p.colour == PALETTE && p.palette < 1 << p.depth)
        TL_TRY(complete_palette(in, &completed, &copy));
    tl_status status = decode_pixels(&p, &completed, out);
    tl_free(in->ctx, copy);
    TL_TRY(status);
    status = tl_image_orient(in->ctx, out, p.orientation);
    if (status != TL_OK) tl_image_free(in->ctx, out);
    return status;
}

const tl_codec tl_codec_png = {"PNG", "\x89PNG\r\n\x1a\n", SIGNATURE, decode_png};
