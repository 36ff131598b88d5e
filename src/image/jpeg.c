/* JPEG (ITU-T T.81): a walk over all segments that holds them to the standard, then a decoder of
 * pixels that need not be trusted with the rest.
 *
 * The walk matters. stb_image 2.27 writes past its tables when a Huffman table lists more than 256
 * codes, decodes with tables that were never defined, and turns a scan that ends early into grey
 * blocks without a word. */
#include <string.h>

#include "image/codec.h"

enum {
    SOF0 = 0xc0,
    SOF2 = 0xc2,
    DHT = 0xc4,
    SOF15 = 0xcf,
    RST0 = 0xd0,
    RST7 = 0xd7,
    EOI = 0xd9,
    SOS = 0xda,
    DQT = 0xdb,
    DRI = 0xdd,
    APP0 = 0xe0,
    APP1 = 0xe1,
    APP14 = 0xee,
    APP15 = 0xef,
    COM = 0xfe
};

/* Each scan of a progressive picture visits every block again, however few bytes it has. Encoders
 * write about ten. */
enum { MAX_SCANS = 100, MAX_COMPONENTS = 4 };

typedef struct component {
    int id, h, v, table;
    bool scanned;
} component;

typedef struct jpeg {
    const tl_encoded *in;
    size_t at;  /* the next byte */
    size_t end; /* of the segment being read, or of the file */
    int width, height, count;
    bool progressive, adobe;
    component component[MAX_COMPONENTS];
    int h_max, v_max;
    bool quantisation[4], dc[4], ac[4]; /* tables that were defined */
    int restart_interval, scans, orientation;
} jpeg;

/* What a scan header says. */
typedef struct scan {
    int count, index[MAX_COMPONENTS];
    int first, last, high; /* spectral selection; successive approximation's earlier bit */
} scan;

static tl_status corrupt(const jpeg *j, const char *what) {
    return tl_fail(TL_CORRUPT, "%s: byte %zu: %s", j->in->name, j->at, what);
}

static tl_status truncated(const jpeg *j) {
    return tl_fail(TL_TRUNCATED, "%s: the JPEG data ends at byte %zu before its end marker",
                   j->in->name, j->in->size);
}

static unsigned peek(const jpeg *j, size_t ahead) {
    return j->in->data[j->at + ahead];
}

static unsigned take8(jpeg *j) {
    return j->in->data[j->at++];
}

static unsigned take16(jpeg *j) {
    unsigned high = take8(j);
    return high << 8 | take8(j);
}

static size_t left(const jpeg *j) {
    return j->end - j->at;
}

/* Enters the segment whose length field comes next. */
static tl_status open_segment(jpeg *j) {
    j->end = j->in->size;
    if (left(j) < 2) return truncated(j);
    size_t length = (size_t)peek(j, 0) << 8 | peek(j, 1);
    if (length < 2) return corrupt(j, "a segment's length is below 2");
    if (left(j) < length) return truncated(j);
    j->end = j->at + length;
    j->at += 2;
    return TL_OK;
}

static tl_status read_quantisation(jpeg *j) {
    while (left(j) > 0) {
        unsigned kind = take8(j);
        size_t size = kind >> 4 ? 128 : 64;
        if (kind >> 4 > 1 || (kind & 15) > 3)
            return corrupt(j, "a quantisation table's number or precision is out of range");
        if (left(j) < size) return corrupt(j, "a quantisation table is longer than its segment");
        j->quantisation[kind & 15] = true;
        j->at += size;
    }
    return TL_OK;
}

/* A canonical code (T.81 annex C): codes of each length follow those of the length before, and all
 * must fit. */
static bool code_fits(const unsigned char count[16], size_t *symbols) {
    unsigned code = 0;
    *symbols = 0;
    for (int bits = 1; bits <= 16; bits++) {
        code += count[bits - 1];
        *symbols += count[bits - 1];
        if (code > 1u << bits) return false;
        code <<= 1;
    }
    return *symbols <= 256;
}

static tl_status read_huffman(jpeg *j) {
    while (left(j) > 0) {
        if (left(j) < 17) return corrupt(j, "a Huffman table is longer than its segment");
        unsigned kind = take8(j);
        if (kind >> 4 > 1 || (kind & 15) > 3)
            return corrupt(j, "a Huffman table's class or number is out of range");
        size_t symbols;
        if (!code_fits(j->in->data + j->at, &symbols))
            return corrupt(j, "a Huffman table has more codes than fit");
        j->at += 16;
        if (left(j) < symbols) return corrupt(j, "a Huffman table is longer than its segment");
        j->at += symbols;
        (kind >> 4 ? j->ac : j->dc)[kind & 15] = true;
    }
    return TL_OK;
}

static tl_status read_components(jpeg *j) {
    j->h_max = j->v_max = 1;
    for (int i = 0; i < j->count; i++) {
        component *c = &j->component[i];
        c->id = (int)take8(j);
        c->h = (int)peek(j, 0) >> 4;
        c->v = (int)take8(j) & 15;
        c->table = (int)take8(j);
        if (c->h < 1 || c->h > 4 || c->v < 1 || c->v > 4 || c->table > 3)
            return corrupt(j, "a component's sampling or table is out of range");
        for (int k = 0; k < i; k++)
            if (j->component[k].id == c->id) return corrupt(j, "two components have one name");
        if (c->h > j->h_max) j->h_max = c->h;
        if (c->v > j->v_max) j->v_max = c->v;
    }
    for (int i = 0; i < j->count; i++)
        TL_CHECK(j->h_max % j->component[i].h == 0 && j->v_max % j->component[i].v == 0,
                 TL_UNSUPPORTED, "%s: JPEG with fractional chroma sampling", j->in->name);
    return TL_OK;
}

static tl_status read_frame(jpeg *j, int marker) {
    if (j->count) return corrupt(j, "a second frame header");
    if (left(j) < 6) return corrupt(j, "the frame header is too short");
    unsigned precision = take8(j);
    TL_CHECK(precision == 8, TL_UNSUPPORTED, "%s: JPEG with %u bits a sample, only 8 are supported",
             j->in->name, precision);
    j->height = (int)take16(j);
    j->width = (int)take16(j);
    j->count = (int)take8(j);
    j->progressive = marker == SOF2;
    TL_TRY(tl_image_check_size(j->in, j->width, j->height));
    TL_CHECK(j->count == 1 || j->count == 3 || j->count == 4, TL_UNSUPPORTED,
             "%s: JPEG with %d components, 1, 3 or 4 are supported", j->in->name, j->count);
    if (left(j) != (size_t)j->count * 3) return corrupt(j, "the frame header has a wrong length");
    return read_components(j);
}

/* Application segments: the Exif block, and Adobe's note on how four components are meant. */
static void read_application(jpeg *j, int marker) {
    const unsigned char *data = j->in->data + j->at;
    if (marker == APP1 && left(j) > 6 && memcmp(data, "Exif\0\0", 6) == 0 && j->orientation == 0)
        j->orientation = tl_exif_orientation(data + 6, left(j) - 6);
    if (marker == APP14 && left(j) >= 12 && memcmp(data, "Adobe", 6) == 0)
        j->adobe = data[11] == 0 || data[11] == 2;
}

static tl_status read_scan_component(jpeg *j, scan *s, int i) {
    int id = (int)take8(j), which = 0;
    unsigned tables = take8(j);
    while (which < j->count && j->component[which].id != id) which++;
    if (which == j->count) return corrupt(j, "a scan names a component that the frame lacks");
    for (int k = 0; k < i; k++)
        if (s->index[k] == which) return corrupt(j, "a scan names a component twice");
    if (tables >> 4 > 3 || (tables & 15) > 3)
        return corrupt(j, "a scan names a Huffman table beyond 3");
    s->index[i] = which;
    /* Bytes after the component list: spectral selection and approximation. */
    const unsigned char *tail = j->in->data + j->end - 3;
    bool dc = tail[0] == 0, refines = tail[2] >> 4 != 0;
    bool needs_dc = dc && !refines, needs_ac = !j->progressive || !dc;
    if ((needs_dc && !j->dc[tables >> 4]) || (needs_ac && !j->ac[tables & 15]))
        return corrupt(j, "a scan uses a Huffman table that is not defined");
    if (!j->quantisation[j->component[which].table])
        return corrupt(j, "a scan uses a quantisation table that is not defined");
    return TL_OK;
}

static tl_status check_scan(jpeg *j, const scan *s, int low) {
    if (!j->progressive) {
        if (s->first != 0 || s->high != 0 || low != 0)
            return corrupt(j, "a sequential scan asks for progressive decoding");
    } else if (s->first > s->last || s->last > 63 || s->high > 13 || low > 13 ||
               (s->first == 0 && s->last != 0) || (s->first > 0 && s->count > 1)) {
        return corrupt(j, "a scan's spectral selection is out of range");
    }
    for (int i = 0; i < s->count; i++) {
        const component *c = &j->component[s->index[i]];
        if (j->progressive && s->first == 0 && s->high == 0 ? c->scanned
                                                            : c->scanned != j->progressive)
            return corrupt(j, "scans of a component come in a wrong order");
    }
    return TL_OK;
}

static tl_status read_scan_header(jpeg *j, scan *s) {
    if (!j->count) return corrupt(j, "a scan before the frame header");
    TL_CHECK(++j->scans <= MAX_SCANS, TL_LIMIT, "%s: has more than %d scans", j->in->name,
             MAX_SCANS);
    if (left(j) < 1) return corrupt(j, "a scan header is too short");
    s->count = (int)take8(j);
    if (s->count < 1 || s->count > j->count || left(j) != (size_t)s->count * 2 + 3)
        return corrupt(j, "a scan header has a wrong number of components");
    for (int i = 0; i < s->count; i++) TL_TRY(read_scan_component(j, s, i));
    s->first = (int)take8(j);
    s->last = (int)take8(j);
    s->high = (int)peek(j, 0) >> 4;
    TL_TRY(check_scan(j, s, (int)take8(j) & 15));
    for (int i = 0; i < s->count; i++) j->component[s->index[i]].scanned = true;
    return TL_OK;
}

/* Blocks across (or down) a component; those of a scan of its own leave out the padding. */
static int64_t blocks(int pixels, int factor, int factor_max, bool alone) {
    int64_t units = ((int64_t)pixels + 8 * factor_max - 1) / (8 * factor_max);
    int64_t samples = ((int64_t)pixels * factor + factor_max - 1) / factor_max;
    return alone ? (samples + 7) / 8 : units * factor;
}

static int64_t component_blocks(const jpeg *j, int index, bool alone) {
    const component *c = &j->component[index];
    return blocks(j->width, c->h, j->h_max, alone) * blocks(j->height, c->v, j->v_max, alone);
}

/* Skips entropy-coded data up to the marker that ends it; counts its bytes and restarts. */
static tl_status skip_scan_data(jpeg *j, int64_t *bytes, int64_t *restarts) {
    const unsigned char *data = j->in->data;
    *bytes = *restarts = 0;
    for (;;) {
        const unsigned char *mark = memchr(data + j->at, 0xff, j->in->size - j->at);
        if (!mark) return truncated(j);
        size_t marker = (size_t)(mark - data), next = marker + 1;
        while (next < j->in->size && data[next] == 0xff) next++;
        if (next == j->in->size) return truncated(j);
        *bytes += (int64_t)(marker - j->at);
        if (data[next] == 0) {
            ++*bytes;
        } else if (data[next] >= RST0 && data[next] <= RST7) {
            ++*restarts;
        } else {
            j->at = marker;
            return TL_OK;
        }
        j->at = next + 1;
    }
}

/* The fewest bits a block can take in this scan: a sequential one has a DC code and an end of
 * block; runs of empty blocks are free in progressive AC scans. */
static int64_t least_bits(const jpeg *j, const scan *s) {
    if (!j->progressive) return 2;
    return s->first == 0 ? 1 : 0;
}

static tl_status read_scan(jpeg *j) {
    scan s = {0};
    TL_TRY(read_scan_header(j, &s));
    int64_t bytes, restarts, count = 0;
    for (int i = 0; i < s.count; i++) count += component_blocks(j, s.index[i], s.count == 1);
    TL_TRY(skip_scan_data(j, &bytes, &restarts));
    TL_CHECK(bytes * 8 >= count * least_bits(j, &s), TL_TRUNCATED,
             "%s: byte %zu: a scan has %lld bytes for %lld blocks", j->in->name, j->at,
             (long long)bytes, (long long)count);
    if (j->restart_interval) {
        int64_t units = s.count == 1 ? count
                                     : blocks(j->width, 1, j->h_max, false) *
                                           blocks(j->height, 1, j->v_max, false);
        int64_t needed = (units + j->restart_interval - 1) / j->restart_interval - 1;
        TL_CHECK(restarts >= needed, TL_TRUNCATED,
                 "%s: byte %zu: a scan has %lld of %lld restart markers", j->in->name, j->at,
                 (long long)restarts, (long long)needed);
    }
    return TL_OK;
}

static tl_status read_segment(jpeg *j, int marker) {
    bool other_frame = marker > SOF2 && marker <= SOF15 && marker != DHT;
    TL_CHECK(!other_frame, TL_UNSUPPORTED,
             "%s: byte %zu: JPEG of a kind (marker %02x) that is neither baseline nor progressive",
             j->in->name, j->at, (unsigned)marker);
    bool known = marker == DHT || (marker >= SOF0 && marker <= SOF2) ||
                 (marker >= SOS && marker <= DRI) || (marker >= APP0 && marker <= APP15) ||
                 marker == COM;
    if (!known) return corrupt(j, "an unexpected marker");
    TL_TRY(open_segment(j));
    if (marker == SOS) return read_scan(j);
    if (marker == DHT) TL_TRY(read_huffman(j));
    if (marker == DQT) TL_TRY(read_quantisation(j));
    if (marker >= SOF0 && marker <= SOF2) TL_TRY(read_frame(j, marker));
    if (marker == DRI) {
        if (left(j) != 2) return corrupt(j, "the restart interval has a wrong length");
        j->restart_interval = (int)take16(j);
    }
    if (marker >= APP0 && marker <= APP15) read_application(j, marker);
    j->at = j->end;
    return TL_OK;
}

/* The next marker. Before the frame header stray bytes are passed over, as some encoders pad. */
static tl_status next_marker(jpeg *j, int *marker) {
    const size_t size = j->in->size;
    while (!j->count && j->at < size && peek(j, 0) != 0xff) j->at++;
    if (j->at < size && peek(j, 0) != 0xff) return corrupt(j, "expected a marker");
    while (j->at < size && peek(j, 0) == 0xff) j->at++;
    if (j->at == size) return truncated(j);
    *marker = (int)take8(j);
    return TL_OK;
}

static tl_status walk(jpeg *j) {
    j->at = 2; /* the signature */
    int marker = 0;
    for (;;) {
        TL_TRY(next_marker(j, &marker));
        if (marker == EOI) break;
        TL_TRY(read_segment(j, marker));
    }
    if (!j->count) return corrupt(j, "the picture ends without a frame header");
    for (int i = 0; i < j->count; i++)
        if (!j->component[i].scanned) return corrupt(j, "a component has no scan");
    TL_CHECK(j->count < 4 || j->adobe, TL_UNSUPPORTED,
             "%s: JPEG with four components that no Adobe segment explains", j->in->name);
    return TL_OK;
}

/* How far the sides may be divided such that fitting still halves the upright picture: what its
 * filter makes of a coarser picture differs less the more it averages. */
static int reduction(const jpeg *j) {
    if (!j->in->target) return 1;
    bool lies = j->orientation >= 5; /* on its side */
    int width = lies ? j->height : j->width, height = lies ? j->width : j->height;
    for (int r = 8; r > 1; r /= 2) {
        if (tl_preprocess_halves(j->in->target, (width + r - 1) / r, (height + r - 1) / r))
            return r;
    }
    return 1;
}

static tl_status decode_jpeg(const tl_encoded *in, tl_image *out) {
    jpeg j = {.in = in, .end = in->size};
    TL_TRY(walk(&j));
    tl_jpeg_frame frame = {.in = in,
                           .width = j.width,
                           .height = j.height,
                           .components = j.count,
                           .coefficients = j.progressive || j.scans > 1,
                           .reduction = reduction(&j)};
    for (int i = 0; i < j.count; i++) frame.blocks += component_blocks(&j, i, false);
    TL_TRY(tl_jpeg_pixels(&frame, out));
    tl_status status = tl_image_orient(in->ctx, out, j.orientation);
    if (status != TL_OK) tl_image_free(in->ctx, out);
    return status;
}

const tl_codec tl_codec_jpeg = {"JPEG", "\xff\xd8", 2, decode_jpeg};
