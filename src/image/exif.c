/* Orientation of pictures (Exif 2.32, section 4.6.4, tag 274). Cameras store the sensor's rows and
 * say how to hold them; see docs/decisions/exif.md. */
#include <string.h>

#include "image/codec.h"

enum { TAG_ORIENTATION = 0x112, TYPE_SHORT = 3, ENTRY_SIZE = 12 };

typedef struct tiff {
    const unsigned char *data;
    size_t size;
    bool big_endian;
} tiff;

static unsigned read16(const tiff *t, size_t at) {
    unsigned a = t->data[at], b = t->data[at + 1];
    return t->big_endian ? a << 8 | b : b << 8 | a;
}

static size_t read32(const tiff *t, size_t at) {
    size_t first = read16(t, at), second = read16(t, at + 2);
    return t->big_endian ? first << 16 | second : second << 16 | first;
}

int tl_exif_orientation(const unsigned char *data, size_t size) {
    tiff t = {data, size, false};
    if (size < 8) return 1;
    if (memcmp(data, "MM\0*", 4) == 0)
        t.big_endian = true;
    else if (memcmp(data, "II*\0", 4) != 0)
        return 1;
    size_t directory = read32(&t, 4);
    if (directory > size - 2) return 1;
    size_t count = read16(&t, directory);
    for (size_t i = 0, at = directory + 2; i < count && at + ENTRY_SIZE <= size;
         i++, at += ENTRY_SIZE) {
        if (read16(&t, at) != TAG_ORIENTATION) continue;
        unsigned value = read16(&t, at + 8);
        bool valid = read16(&t, at + 2) == TYPE_SHORT && value >= 1 && value <= 8;
        return valid ? (int)value : 1;
    }
    return 1;
}

/* In which corner of the stored picture the upright one begins, and which way it goes on. */
typedef struct walk {
    bool from_right, from_bottom;
    bool swapped; /* rows become columns */
} walk;

static const walk walks[9] = {
    [2] = {true, false, false}, [3] = {true, true, false}, [4] = {false, true, false},
    [5] = {false, false, true}, [6] = {false, true, true}, [7] = {true, true, true},
    [8] = {true, false, true},
};

tl_status tl_image_orient(tl_context *ctx, tl_image *image, int orientation) {
    if (orientation < 2 || orientation > 8) return TL_OK;
    walk w = walks[orientation];
    ptrdiff_t width = image->width, height = image->height;
    ptrdiff_t start = (w.from_right ? width - 1 : 0) + (w.from_bottom ? (height - 1) * width : 0);
    ptrdiff_t column = w.from_right ? -1 : 1, row = w.from_bottom ? -width : width;
    ptrdiff_t along = w.swapped ? row : column, down = w.swapped ? column : row;
    tl_image out;
    TL_TRY(tl_image_create(ctx, w.swapped ? image->height : image->width,
                           w.swapped ? image->width : image->height, &out));
    unsigned char *to = out.pixels;
    for (ptrdiff_t y = 0; y < out.height; y++) {
        for (ptrdiff_t x = 0; x < out.width; x++, to += 3)
            memcpy(to, image->pixels + (start + y * down + x * along) * 3, 3);
    }
    tl_image_free(ctx, image);
    *image = out;
    return TL_OK;
}
