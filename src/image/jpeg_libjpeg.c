/* JPEG pixels by libjpeg, which on most systems is libjpeg-turbo: two to three times as fast as
 * stb_image, and it can leave out the fine detail that fitting would average away.
 *
 * Its errors end in a longjmp to pixels_of(). All that depends on the picture's size comes from the
 * context, within a budget, through a memory manager of our own; libjpeg itself allocates only its
 * fixed state, some kilobytes. It prints nothing. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include "image/codec.h"

#include <jpeglib.h>

#include <jerror.h>

enum { ALIGNMENT = 64, ROWS = 16 };

/* In front of each block from the context. */
typedef struct block {
    struct block *next;
} block;

/* What libjpeg calls virtual arrays: all of it is always there. */
struct jvirt_sarray_control {
    JSAMPARRAY rows;
};
struct jvirt_barray_control {
    JBLOCKARRAY rows;
};

typedef struct decoder {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr error;
    struct jpeg_memory_mgr memory;
    struct jpeg_memory_mgr *own; /* libjpeg's, for its fixed state */
    jmp_buf failed;
    tl_status status;
    const tl_jpeg_frame *frame;
    block *blocks;
    size_t left; /* of the budget */
    tl_image out;
} decoder;

/* --- errors ----------------------------------------------------------------------------------- */

static decoder *decoder_of(j_common_ptr info) {
    return info->client_data;
}

static void leave(decoder *d, tl_status status) {
    d->status = status;
    longjmp(d->failed, 1);
}

static void fail_exit(j_common_ptr info) {
    decoder *d = decoder_of(info);
    const char *name = d->frame->in->name;
    if (info->err->msg_code == JERR_OUT_OF_MEMORY)
        leave(d, tl_fail(TL_NO_MEMORY, "%s: out of memory while decoding", name));
    char reason[JMSG_LENGTH_MAX];
    info->err->format_message(info, reason);
    leave(d, tl_fail(TL_CORRUPT, "%s: its picture data is damaged (%s)", name, reason));
}

/* libjpeg goes on with grey blocks where the coded data makes no sense; we do not. What is left are
 * remarks about the container, which was checked before. */
static void emit(j_common_ptr info, int level) {
    int code = info->err->msg_code;
    if (level < 0 && (code == JWRN_HUFF_BAD_CODE || code == JWRN_HIT_MARKER ||
                      code == JWRN_MUST_RESYNC || code == JWRN_JPEG_EOF))
        fail_exit(info);
}

static void say_nothing(j_common_ptr info) {
    (void)info;
}

/* --- memory ----------------------------------------------------------------------------------- */

/* Zeroed, so that damaged input never shows what the memory held before. */
static void *take(j_common_ptr info, size_t size) {
    decoder *d = decoder_of(info);
    size_t whole = size + ALIGNMENT;
    if (size > d->left || whole > d->left)
        leave(d, tl_fail(TL_LIMIT, "%s: decoding needs more memory than its size allows",
                         d->frame->in->name));
    block *taken = tl_alloc_zero(d->frame->in->ctx, whole);
    if (!taken) leave(d, TL_NO_MEMORY);
    d->left -= whole;
    taken->next = d->blocks;
    d->blocks = taken;
    return (char *)taken + ALIGNMENT;
}

static void *take_from(j_common_ptr info, int pool, size_t size) {
    (void)pool;
    return take(info, size);
}

/* Rows are far enough apart for vector code to run over a row's end. */
static void **take_rows(j_common_ptr info, size_t row_bytes, JDIMENSION count) {
    size_t step = (row_bytes + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void **rows = take(info, count * sizeof *rows);
    char *data = take(info, step * count);
    for (JDIMENSION i = 0; i < count; i++) rows[i] = data + i * step;
    return rows;
}

static JSAMPARRAY take_samples(j_common_ptr info, int pool, JDIMENSION width, JDIMENSION count) {
    (void)pool;
    return (JSAMPARRAY)take_rows(info, width * sizeof(JSAMPLE), count);
}

static JBLOCKARRAY take_blocks(j_common_ptr info, int pool, JDIMENSION width, JDIMENSION count) {
    (void)pool;
    return (JBLOCKARRAY)take_rows(info, width * sizeof(JBLOCK), count);
}

static jvirt_sarray_ptr request_samples(j_common_ptr info, int pool, boolean zeroed,
                                        JDIMENSION width, JDIMENSION count, JDIMENSION most) {
    (void)zeroed, (void)most;
    jvirt_sarray_ptr array = take(info, sizeof *array);
    array->rows = take_samples(info, pool, width, count);
    return array;
}

static jvirt_barray_ptr request_blocks(j_common_ptr info, int pool, boolean zeroed,
                                       JDIMENSION width, JDIMENSION count, JDIMENSION most) {
    (void)zeroed, (void)most;
    jvirt_barray_ptr array = take(info, sizeof *array);
    array->rows = take_blocks(info, pool, width, count);
    return array;
}

static JSAMPARRAY access_samples(j_common_ptr info, jvirt_sarray_ptr array, JDIMENSION first,
                                 JDIMENSION count, boolean writable) {
    (void)info, (void)count, (void)writable;
    return array->rows + first;
}

static JBLOCKARRAY access_blocks(j_common_ptr info, jvirt_barray_ptr array, JDIMENSION first,
                                 JDIMENSION count, boolean writable) {
    (void)info, (void)count, (void)writable;
    return array->rows + first;
}

static void realize(j_common_ptr info) {
    (void)info;
}

static void free_later(j_common_ptr info, int pool) {
    (void)info, (void)pool;
}

/* The pixels, coefficients where all scans come first, and for every component the rows in work. */
static size_t budget(const tl_jpeg_frame *f) {
    int64_t rows = (int64_t)f->width * f->components * 160;
    int64_t coefficients = f->coefficients ? f->blocks * (int64_t)sizeof(JBLOCK) : 0;
    int64_t between = f->coefficients ? (int64_t)f->height * f->components * 2 * ALIGNMENT : 0;
    return (size_t)(rows + coefficients + between + (512 << 10));
}

static void manage_memory(decoder *d) {
    d->left = budget(d->frame);
    d->own = d->info.mem;
    d->memory = (struct jpeg_memory_mgr){.alloc_small = take_from,
                                         .alloc_large = take_from,
                                         .alloc_sarray = take_samples,
                                         .alloc_barray = take_blocks,
                                         .request_virt_sarray = request_samples,
                                         .request_virt_barray = request_blocks,
                                         .realize_virt_arrays = realize,
                                         .access_virt_sarray = access_samples,
                                         .access_virt_barray = access_blocks,
                                         .free_pool = free_later,
                                         .self_destruct = say_nothing,
                                         .max_memory_to_use = d->own->max_memory_to_use,
                                         .max_alloc_chunk = d->own->max_alloc_chunk};
    d->info.mem = &d->memory;
}

static void release(decoder *d) {
    if (d->own) d->info.mem = d->own;
    jpeg_destroy_decompress(&d->info);
    while (d->blocks) {
        block *next = d->blocks->next;
        tl_free(d->frame->in->ctx, d->blocks);
        d->blocks = next;
    }
}

/* --- decoding --------------------------------------------------------------------------------- */

/* As stb_image: the accurate transform, smooth chroma. */
static void begin(decoder *d) {
    const tl_encoded *in = d->frame->in;
    jpeg_create_decompress(&d->info);
    d->info.client_data = d;
    manage_memory(d);
    jpeg_mem_src(&d->info, in->data, (unsigned long)in->size);
    jpeg_read_header(&d->info, TRUE);
    d->info.out_color_space = JCS_RGB;
    d->info.dct_method = JDCT_ISLOW;
    d->info.do_block_smoothing = FALSE;
    d->info.scale_num = 1;
    d->info.scale_denom = (unsigned)d->frame->reduction;
    jpeg_start_decompress(&d->info);
}

static void read_rows(decoder *d) {
    struct jpeg_decompress_struct *info = &d->info;
    const tl_jpeg_frame *f = d->frame;
    int width = (f->width + f->reduction - 1) / f->reduction;
    int height = (f->height + f->reduction - 1) / f->reduction;
    if ((int)info->output_width != width || (int)info->output_height != height ||
        info->output_components != 3)
        leave(d,
              tl_fail(TL_CORRUPT, "%s: decodes to %u x %u pixels, its header says %d x %d",
                      f->in->name, info->output_width, info->output_height, f->width, f->height));
    tl_status status = tl_image_create(f->in->ctx, width, height, &d->out);
    if (status != TL_OK) leave(d, status);
    while (info->output_scanline < info->output_height) {
        JSAMPROW rows[ROWS];
        JDIMENSION left = info->output_height - info->output_scanline;
        JDIMENSION count = left < ROWS ? left : ROWS;
        for (JDIMENSION i = 0; i < count; i++)
            rows[i] = d->out.pixels + (size_t)(info->output_scanline + i) * (size_t)width * 3;
        jpeg_read_scanlines(info, rows, count);
    }
}

static tl_status pixels_of(decoder *d) {
    if (setjmp(d->failed) == 0) {
        begin(d);
        read_rows(d);
    }
    return d->status;
}

tl_status tl_jpeg_pixels(const tl_jpeg_frame *frame, tl_image *out) {
    /* Four components mean several things, and libjpeg leaves their conversion to us. */
    if (frame->components == 4) {
        unsigned char *pixels;
        TL_TRY(tl_stb_decode(frame->in, frame->width, frame->height, 3, tl_stb_jpeg_budget(frame),
                             &pixels));
        *out = (tl_image){frame->width, frame->height, pixels};
        return TL_OK;
    }
    decoder d = {.frame = frame, .status = TL_OK};
    d.info.err = jpeg_std_error(&d.error);
    d.info.client_data = &d;
    d.error.error_exit = fail_exit;
    d.error.emit_message = emit;
    d.error.output_message = say_nothing;
    tl_status status = pixels_of(&d);
    release(&d);
    if (status != TL_OK) {
        tl_image_free(frame->in->ctx, &d.out);
        return status;
    }
    *out = d.out;
    return TL_OK;
}
