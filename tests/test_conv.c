/* The convolution drivers against a plain convolution in float64, for every instruction set, over
 * seeded odd shapes; and their independence of the number of threads, bit by bit. */
#include "kernelcheck.h"

#include "amx_table.h"
#include "base/context_struct.h"
#include "compute/conv.h"
#include "compute/winograd.h"

enum { THREADS = 3 };

typedef struct conv_case {
    tl_conv conv;
    bool bias, residual, add;
    tl_act act;
    bool out_f32, follow;
} conv_case;

static int64_t out_size(int64_t in, int kernel, int stride, int dilation, int pads) {
    return (in + pads - (kernel - 1) * dilation - 1) / stride + 1;
}

static tl_conv make_conv(int n, int h, int w, int ic, int oc, int k, int stride, int dilation,
                         int top, int left, int bottom, int right, int groups) {
    return (tl_conv){.n = n,
                     .h = h,
                     .w = w,
                     .ic = ic,
                     .oh = out_size(h, k, stride, dilation, top + bottom),
                     .ow = out_size(w, k, stride, dilation, left + right),
                     .oc = oc,
                     .kh = k,
                     .kw = k,
                     .stride_h = stride,
                     .stride_w = stride,
                     .dilation_h = dilation,
                     .dilation_w = dilation,
                     .pad_top = top,
                     .pad_left = left,
                     .groups = groups};
}

/* A filter of any shape that leaves the image its size. */
static tl_conv make_same(int n, int h, int w, int ic, int oc, int kh, int kw) {
    tl_conv c = make_conv(n, h, w, ic, oc, 1, 1, 1, 0, 0, 0, 0, 1);
    c.kh = kh;
    c.kw = kw;
    c.pad_top = kh / 2;
    c.pad_left = kw / 2;
    return c;
}

/* Every tap of every output: calls visit(output index, weight index, input index). */
typedef void (*visit_fn)(void *arg, int64_t y, int64_t w, int64_t x);

static void visit_filter(const tl_conv *c, int64_t n, int64_t oy, int64_t ox, int64_t o,
                         visit_fn visit, void *arg) {
    int64_t icg = c->ic / c->groups, group = o / (c->oc / c->groups);
    int64_t y = ((n * c->oh + oy) * c->ow + ox) * c->oc + o;
    for (int i = 0; i < c->kh; i++) {
        for (int j = 0; j < c->kw; j++) {
            int64_t iy = oy * c->stride_h - c->pad_top + i * c->dilation_h;
            int64_t ix = ox * c->stride_w - c->pad_left + j * c->dilation_w;
            if (iy < 0 || iy >= c->h || ix < 0 || ix >= c->w) continue;
            int64_t x = ((n * c->h + iy) * c->w + ix) * c->ic + group * icg;
            int64_t w = ((o * c->kh + i) * c->kw + j) * icg;
            for (int64_t k = 0; k < icg; k++) visit(arg, y, w + k, x + k);
        }
    }
}

static void visit_all(const tl_conv *c, visit_fn visit, void *arg) {
    for (int64_t n = 0; n < c->n; n++) {
        for (int64_t oy = 0; oy < c->oh; oy++) {
            for (int64_t ox = 0; ox < c->ow; ox++) {
                for (int64_t o = 0; o < c->oc; o++) visit_filter(c, n, oy, ox, o, visit, arg);
            }
        }
    }
}

typedef struct plain {
    const float *x, *w, *dy;
    exact *y, *dx, *dw;
} plain;

static void visit_passes(void *arg, int64_t y, int64_t w, int64_t x) {
    const plain *p = arg;
    double xv = (double)p->x[x], wv = (double)p->w[w], dyv = (double)p->dy[y];
    exact_add(&p->y[y], xv * wv);
    exact_add(&p->dx[x], dyv * wv);
    exact_add(&p->dw[w], dyv * xv);
}

static double plain_act(tl_act act, double v) {
    switch (act) {
    case TL_ACT_RELU:
        return v > 0 ? v : 0;
    case TL_ACT_RELU6:
        return fmin(fmax(v, 0), 6);
    case TL_ACT_SIGMOID:
        return 1 / (1 + exp(-v));
    case TL_ACT_SILU:
        return v / (1 + exp(-v));
    case TL_ACT_HARD_SWISH:
        return v * fmin(fmax(v + 3, 0), 6) / 6;
    case TL_ACT_HARD_SIGMOID:
        return fmin(fmax(v + 3, 0), 6) / 6;
    case TL_ACT_GELU:
        return v * 0.5 * erfc(-v * sqrt(0.5));
    default:
        return v;
    }
}

typedef struct conv_data {
    size_t xs, ws, ys, cs;
    guarded x, w, b, r, dy; /* input, weights, bias, residual, gradient of the output */
    guarded x_elements, r_elements, dy_elements; /* the same as the kernels want them */
    plain plain;
} conv_data;

static void round_to_bf16(guarded *g) {
    guarded half = guarded_bytes_make(g->count * sizeof(bf16));
    tl_ref_narrow(g->data, half.data, (int64_t)g->count);
    tl_ref_widen(half.data, g->data, (int64_t)g->count);
    guarded_free(&half);
}

static guarded to_elements(const guarded *floats, bool narrow) {
    if (!narrow) return guarded_copy(floats);
    guarded half = guarded_bytes_make(floats->count * sizeof(uint16_t));
    tl_ref_narrow(floats->data, half.data, (int64_t)floats->count);
    return half;
}

static void from_elements(guarded *elements, bool narrow, guarded *floats) {
    if (narrow)
        tl_ref_widen(elements->data, floats->data, (int64_t)floats->count);
    else
        memcpy(floats->data, elements->data, floats->size);
    guarded_free(elements);
}

static conv_data make_data(const conv_case *t, uint64_t *seed) {
    const tl_conv *c = &t->conv;
    conv_data d = {.xs = (size_t)(c->n * c->h * c->w * c->ic),
                   .ws = (size_t)(c->oc * c->kh * c->kw * (c->ic / c->groups)),
                   .ys = (size_t)(c->n * c->oh * c->ow * c->oc),
                   .cs = (size_t)c->oc};
    d.x = guarded_random(d.xs, seed);
    d.w = guarded_random(d.ws, seed);
    d.b = guarded_random(d.cs, seed);
    d.r = guarded_random(d.ys, seed);
    d.dy = guarded_random(d.ys, seed);
    if (c->bf16) { /* so that operands are the same for the plain convolution */
        guarded *all[] = {&d.x, &d.w, &d.r, &d.dy};
        for (int i = 0; i < 4; i++) round_to_bf16(all[i]);
    }
    d.x_elements = to_elements(&d.x, c->bf16);
    d.r_elements = to_elements(&d.r, c->bf16);
    d.dy_elements = to_elements(&d.dy, c->bf16);
    d.plain = (plain){d.x.data,
                      d.w.data,
                      d.dy.data,
                      calloc(d.ys, sizeof(exact)),
                      calloc(d.xs, sizeof(exact)),
                      calloc(d.ws, sizeof(exact))};
    visit_all(c, visit_passes, &d.plain);
    return d;
}

static void free_data(conv_data *d) {
    guarded_free(&d->x);
    guarded_free(&d->w);
    guarded_free(&d->b);
    guarded_free(&d->r);
    guarded_free(&d->dy);
    guarded_free(&d->x_elements);
    guarded_free(&d->r_elements);
    guarded_free(&d->dy_elements);
    free(d->plain.y);
    free(d->plain.dx);
    free(d->plain.dw);
}

/* What a follower saw of y: copies of its rows, and of each part where its rows begin and end. */
typedef struct follower {
    char *y, *seen;
    size_t row; /* bytes */
    int64_t next[TL_FOLLOW_PARTS], first[TL_FOLLOW_PARTS], ranges[TL_FOLLOW_PARTS];
} follower;

static void follow_rows(void *arg, const tl_followed *rows) {
    follower *f = arg;
    size_t begin = (size_t)rows->begin * f->row, end = (size_t)rows->end * f->row;
    memcpy(f->seen + begin, f->y + begin, end - begin);
    if (rows->first)
        f->first[rows->part] = rows->begin;
    else if (f->next[rows->part] != rows->begin)
        f->ranges[rows->part] = INT64_MIN / 2; /* threads cannot assert */
    f->next[rows->part] = rows->end;
    f->ranges[rows->part]++;
}

/* Of neighbouring parts that make up all rows. */
static void assert_followed(const follower *f, int64_t parts, int64_t rows) {
    int64_t at = 0;
    for (int64_t i = 0; i < parts; i++) {
        assert_true(f->ranges[i] > 0 && f->first[i] == at);
        at = f->next[i];
    }
    assert_true(at == rows);
    assert_memory_equal(f->seen, f->y, (size_t)rows * f->row);
}

/* Results of all passes on one context. */
typedef struct passes {
    guarded y, dx, dw, db;
    follower follower;
} passes;

static void assert_same(const guarded *a, const guarded *b) {
    assert_memory_equal(a->data, b->data, a->count * sizeof(float));
}

/* A few output channels at a time, last ones first, give the same bytes. */
static void assert_packs_in_parts(tl_context *ctx, const tl_conv *c, const conv_data *d,
                                  const guarded *packed) {
    int64_t unit = tl_conv_pack_unit(ctx, c), filter = (int64_t)d->ws / c->oc;
    guarded parts = guarded_make(packed->count);
    for (int64_t begin = (c->oc - 1) / unit * unit; begin >= 0; begin -= unit) {
        int64_t end = begin + unit < c->oc ? begin + unit : c->oc;
        tl_conv_pack_part(ctx, c, begin, end, d->w.data + begin * filter, NULL, parts.data);
    }
    assert_same(&parts, packed);
    guarded_free(&parts);
}

/* What the buffers hold before, by the seed. */
static passes random_passes(const conv_data *d, uint64_t seed) {
    return (passes){.y = guarded_random(d->ys, &seed),
                    .dx = guarded_random(d->xs, &seed),
                    .dw = guarded_random(d->ws, &seed),
                    .db = guarded_random(d->cs, &seed)};
}

/* Not every way can. */
static bool writes_f32(const tl_context *ctx, const conv_case *t) {
    return t->out_f32 && tl_conv_writes_f32(ctx, &t->conv);
}

static passes run_passes(tl_context *ctx, const conv_case *t, const conv_data *d, uint64_t seed) {
    const tl_conv *c = &t->conv;
    guarded packed = guarded_make(tl_conv_packed_bytes(ctx, c) / sizeof(float));
    guarded work[3];
    for (int i = 0; i < 3; i++)
        work[i] = guarded_make((tl_conv_work_bytes(ctx, c, (tl_conv_pass)i) + 63) / 64 * 16);
    passes p = random_passes(d, seed);
    tl_conv_pack(ctx, c, d->w.data, NULL, packed.data);
    assert_packs_in_parts(ctx, c, d, &packed);
    bool out_f32 = writes_f32(ctx, t), y_bf16 = c->bf16 && !out_f32;
    guarded y = to_elements(&p.y, y_bf16), dx = to_elements(&p.dx, c->bf16);
    const guarded *residual = y_bf16 ? &d->r_elements : &d->r;
    const void *x = d->x_elements.data, *dy = d->dy_elements.data;
    guarded seen = guarded_bytes_make(y.size);
    p.follower = (follower){.y = (char *)y.data,
                            .seen = (char *)seen.data,
                            .row = (size_t)c->oc * (y_bf16 ? 2 : sizeof(float))};
    tl_follow follow = {.rows = follow_rows, .arg = &p.follower};
    tl_epilogue e = {.bias = t->bias ? d->b.data : NULL,
                     .residual = t->residual ? residual->data : NULL,
                     .act = t->act,
                     .out_f32 = out_f32,
                     .follow = t->follow ? &follow : NULL};
    tl_conv_forward(ctx, c, x, packed.data, &e, y.data, work[0].data);
    if (t->follow) assert_followed(&p.follower, follow.parts, c->n * c->oh * c->ow);
    guarded_free(&seen);
    p.follower.y = p.follower.seen = NULL;
    tl_conv_backward_data(ctx, c, dy, d->w.data, t->add, dx.data, work[1].data);
    tl_conv_backward_weights(ctx, c, x, dy, p.dw.data, p.db.data, work[2].data);
    from_elements(&y, y_bf16, &p.y);
    from_elements(&dx, c->bf16, &p.dx);
    guarded_free(&packed);
    for (int i = 0; i < 3; i++) guarded_free(&work[i]);
    return p;
}

static void free_passes(passes *p) {
    guarded_free(&p->y);
    guarded_free(&p->dx);
    guarded_free(&p->dw);
    guarded_free(&p->db);
}

/* What rounding to bf16 may add: half a unit of 8 bits, of the result unless that is a float, and
 * of the sum before an activation that is no clamp. */
static double rounding_bound(const conv_case *t, bool out_f32, tl_act act, const exact *sum,
                             double want) {
    if (!t->conv.bf16) return 0;
    double rounded = out_f32 ? 0 : fabs(want);
    if (act > TL_ACT_RELU6) rounded += 1.2 * fabs(sum->value);
    return 0x1p-8 * rounded;
}

/* Winograd's method in bf16 rounds both factors of all products, at random, so that errors add up
 * as their squares do: to about 1.5 * 2^-8 of a term's magnitude for each root of the number of
 * terms (docs/decisions/bf16.md), half as much again at an edge; of values as many as are compared
 * here some are six times as far off. */
static double factors_bound(const tl_context *ctx, const conv_case *t, const exact *sum) {
    if (!t->conv.bf16 || !tl_winograd_choose_data(ctx, &t->conv).m || !sum->terms) return 0;
    return 14 * 0x1p-8 * sum->magnitude / sqrt((double)sum->terms);
}

/* Compares with sums that were begun with what the buffers of this seed held. */
static void compare_passes(const tl_context *ctx, const conv_case *t, const conv_data *d,
                           const passes *p, uint64_t seed, worst w[3]) {
    /* Winograd's method carries a tile's errors to each of its pixels, also to those at an edge
     * that are a sum of few: the more so the longer the tile. */
    tl_winograd form = tl_winograd_choose_data(ctx, &t->conv);
    double slack = !form.m ? 1.0 : form.r < 7 ? 4.0 : 16.0;
    passes before = random_passes(d, seed);
    if (t->conv.bf16) round_to_bf16(&before.dx);
    for (size_t i = 0; i < d->ys; i++) {
        exact sum = d->plain.y[i];
        if (t->bias) exact_add(&sum, (double)d->b.data[i % d->cs]);
        if (t->residual) exact_add(&sum, (double)d->r.data[i]);
        double want = plain_act(t->act, sum.value);
        worst_compare(&w[0], (double)p->y.data[i], want,
                      slack * 1.2 * exact_bound(&sum) + 1e-6 * fabs(want) +
                          1.2 * factors_bound(ctx, t, &sum) +
                          rounding_bound(t, writes_f32(ctx, t), t->act, &sum, want));
    }
    for (size_t i = 0; i < d->xs; i++) {
        exact sum = d->plain.dx[i];
        if (t->add) exact_add(&sum, (double)before.dx.data[i]);
        worst_compare(&w[1], (double)p->dx.data[i], sum.value,
                      slack * exact_bound(&sum) + factors_bound(ctx, t, &sum) +
                          rounding_bound(t, false, TL_ACT_NONE, &sum, sum.value));
    }
    for (size_t i = 0; i < d->ws; i++) {
        exact sum = d->plain.dw[i];
        exact_add(&sum, (double)before.dw.data[i]);
        worst_compare(&w[2], (double)p->dw.data[i], sum.value,
                      slack * exact_bound(&sum) + factors_bound(ctx, t, &sum));
    }
    for (size_t o = 0; o < d->cs; o++) {
        exact sum = {0};
        exact_add(&sum, (double)before.db.data[o]);
        for (size_t i = o; i < d->ys; i += d->cs) exact_add(&sum, (double)d->dy.data[i]);
        worst_compare(&w[2], (double)p->db.data[o], sum.value, exact_bound(&sum));
    }
    free_passes(&before);
}

typedef struct conv_contexts {
    int count;
    tl_isa isa[MAX_TABLES];
    tl_context *one[MAX_TABLES], *many[MAX_TABLES];
    worst worst[MAX_TABLES][3];
} conv_contexts;

static tl_context *isa_context(const char *isa, int threads) {
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = threads;
    options.isa = isa;
    tl_context *ctx = NULL;
    assert_ok(tl_context_create(&options, &ctx));
    return ctx;
}

/* With the tables of the machine, for floats those that differ, or for bf16 those that exist; and
 * with those that only tests have. */
static void make_contexts(conv_contexts *all, bool narrow) {
    const tl_isa *found[MAX_TABLES];
    int count = tl_isa_available(found, MAX_TABLES);
    *all = (conv_contexts){0};
    for (int i = 0; i < count; i++) {
        bool another = i == 0 || found[i]->f32 != found[i - 1]->f32;
        if (narrow ? found[i]->bf16 != NULL : another) all->isa[all->count++] = *found[i];
    }
    if (narrow) {
        all->isa[all->count++] = (tl_isa){"ref", &tl_kernels_ref, &ref_bf16};
        all->isa[all->count++] = (tl_isa){"model", &tl_kernels_ref, &amx_model_table};
    }
    for (int i = 0; i < all->count; i++) {
        all->one[i] = isa_context("ref", 1);
        all->many[i] = isa_context("ref", THREADS);
        all->one[i]->isa = all->many[i]->isa = &all->isa[i];
    }
}

static void free_contexts(conv_contexts *all) {
    static const char *const names[3] = {"conv forward", "conv backward data",
                                         "conv backward weights"};
    for (int i = 0; i < all->count; i++) {
        for (int pass = 0; pass < 3; pass++)
            worst_report(&all->worst[i][pass], all->isa[i].name, names[pass]);
        tl_context_free(all->one[i]);
        tl_context_free(all->many[i]);
    }
}

/* The guard pages change sides from case to case. */
static void check_case(conv_contexts *all, const conv_case *t, uint64_t *seed) {
    guard.side = guard.side == GUARD_BEHIND ? GUARD_BEFORE : GUARD_BEHIND;
    conv_data d = make_data(t, seed);
    uint64_t start = *seed;
    for (int i = 0; i < all->count; i++) {
        passes one = run_passes(all->one[i], t, &d, start);
        passes many = run_passes(all->many[i], t, &d, start);
        assert_same(&one.y, &many.y);
        assert_same(&one.dx, &many.dx);
        assert_same(&one.dw, &many.dw);
        assert_same(&one.db, &many.db);
        assert_memory_equal(&one.follower, &many.follower, sizeof one.follower);
        compare_passes(all->one[i], t, &d, &one, start, all->worst[i]);
        free_passes(&one);
        free_passes(&many);
    }
    free_data(&d);
}

/* Shapes that real networks have, small. */
static void test_named_shapes(void **state) {
    (void)state;
    const tl_conv shapes[] = {
        make_conv(1, 7, 7, 40, 33, 1, 1, 1, 0, 0, 0, 0, 1),  /* pointwise */
        make_conv(2, 8, 8, 24, 48, 1, 2, 1, 0, 0, 0, 0, 1),  /* strided shortcut */
        make_conv(2, 9, 11, 17, 19, 3, 1, 1, 1, 1, 1, 1, 1), /* 3x3 */
        make_conv(2, 14, 14, 32, 64, 3, 1, 1, 1, 1, 1, 1, 1),
        make_conv(3, 15, 13, 40, 70, 3, 1, 1, 1, 1, 1, 1, 1), /* Winograd, large tiles */
        make_conv(1, 33, 34, 33, 40, 3, 1, 1, 2, 2, 2, 2, 1),
        make_conv(1, 33, 36, 33, 40, 3, 1, 1, 0, 1, 0, 0, 1),
        make_conv(1, 30, 33, 33, 32, 3, 1, 1, 0, 2, 1, 0, 1), /* and many, padded unevenly */
        make_conv(2, 7, 9, 64, 35, 3, 1, 1, 1, 1, 1, 1, 1),   /* small tiles */
        make_conv(12, 7, 7, 40, 35, 3, 1, 1, 1, 1, 1, 1, 1),  /* also for both gradients */
        make_conv(3, 30, 29, 33, 47, 3, 1, 1, 1, 1, 1, 1, 1), /* tiles in two blocks */
        make_same(6, 10, 11, 33, 35, 1, 7),                   /* lines of Inception */
        make_same(5, 11, 10, 34, 36, 7, 1),
        make_same(3, 17, 17, 32, 33, 1, 7),
        make_same(9, 8, 8, 37, 32, 1, 3),
        make_same(9, 9, 7, 32, 41, 3, 1),
        make_same(4, 13, 12, 33, 37, 5, 5),
        make_conv(2, 17, 20, 32, 40, 5, 1, 1, 0, 1, 3, 2, 1),
        make_conv(1, 10, 10, 20, 36, 3, 2, 1, 0, 0, 1, 1, 1), /* TensorFlow SAME */
        make_conv(1, 13, 12, 18, 16, 3, 1, 2, 2, 2, 2, 2, 1), /* dilated */
        make_conv(1, 13, 12, 10, 12, 3, 2, 3, 3, 2, 1, 4, 1), /* dilated and strided */
        make_conv(1, 23, 25, 3, 20, 7, 2, 1, 3, 3, 3, 3, 1),  /* ResNet's stem */
        make_conv(2, 16, 18, 3, 32, 3, 2, 1, 0, 0, 1, 1, 1),  /* MobileNet's stem */
        make_conv(2, 15, 70, 3, 32, 3, 2, 1, 0, 0, 1, 1, 1),  /* stems of long lines */
        make_conv(1, 7, 134, 2, 48, 7, 1, 1, 3, 3, 3, 3, 1),
        make_conv(1, 8, 37, 3, 24, 3, 1, 1, 1, 1, 1, 1, 1),
        make_conv(1, 9, 9, 1, 5, 5, 1, 1, 0, 0, 0, 0, 1),     /* one channel */
        make_conv(1, 8, 9, 24, 36, 3, 1, 1, 1, 1, 1, 1, 4),   /* grouped */
        make_conv(1, 8, 9, 12, 24, 3, 2, 1, 1, 1, 1, 1, 12),  /* two filters a channel */
        make_conv(2, 9, 10, 37, 37, 3, 1, 1, 1, 1, 1, 1, 37), /* depthwise */
        make_conv(1, 11, 14, 32, 32, 3, 2, 1, 0, 0, 1, 1, 32),
        make_conv(1, 12, 13, 40, 40, 5, 1, 1, 2, 2, 2, 2, 40),
        make_conv(2, 14, 14, 21, 21, 5, 2, 1, 1, 1, 2, 2, 21),
        make_conv(1, 21, 20, 9, 9, 17, 1, 1, 8, 8, 8, 8, 9), /* depthwise, a large kernel */
        make_conv(1, 15, 15, 19, 19, 3, 1, 2, 2, 2, 2, 2, 19),
        make_conv(5, 1, 1, 300, 70, 1, 1, 1, 0, 0, 0, 0, 1),  /* dense */
        make_conv(1, 3, 3, 2600, 33, 1, 1, 1, 0, 0, 0, 0, 1), /* sums cut into depths */
        make_conv(1, 4, 4, 400, 20, 3, 1, 1, 1, 1, 1, 1, 1),
        make_conv(1, 6, 5, 1024, 20, 1, 1, 1, 0, 0, 0, 0, 1), /* rows 4 KiB apart */
        make_conv(1, 2, 2, 5, 6, 3, 1, 1, 3, 3, 3, 3, 1),     /* windows in the padding */
    };
    for (int narrow = 0; narrow < 2; narrow++) {
        conv_contexts all;
        make_contexts(&all, narrow);
        uint64_t seed = 1;
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            conv_case t = {.conv = shapes[i],
                           .bias = i % 3 != 0,
                           .residual = i % 4 == 1,
                           .add = i % 2 == 1,
                           .follow = i % 5 != 0,
                           .act = (tl_act)(i % 6)};
            t.conv.bf16 = narrow;
            check_case(&all, &t, &seed);
        }
        free_contexts(&all);
    }
}

static conv_case random_case(uint64_t *seed) {
    int groups = random_between(seed, 0, 3) ? 1 : random_between(seed, 1, 5);
    bool depthwise = random_between(seed, 0, 3) == 0;
    int icg = random_between(seed, 1, groups > 1 ? 9 : 40);
    int ic = icg * groups, oc = groups * random_between(seed, 1, groups > 1 ? 9 : 50);
    if (depthwise) groups = oc = ic;
    tl_conv c = {.n = random_between(seed, 1, 3), .ic = ic, .oc = oc, .groups = groups};
    c.kh = random_between(seed, 1, 5);
    c.kw = random_between(seed, 1, 5);
    c.stride_h = random_between(seed, 1, 3);
    c.stride_w = random_between(seed, 1, 3);
    c.dilation_h = random_between(seed, 1, 2);
    c.dilation_w = random_between(seed, 1, 2);
    c.pad_top = random_between(seed, 0, 3);
    c.pad_left = random_between(seed, 0, 3);
    c.h = (c.kh - 1) * c.dilation_h + random_between(seed, 1, 9);
    c.w = (c.kw - 1) * c.dilation_w + random_between(seed, 1, 9);
    c.oh = out_size(c.h, c.kh, c.stride_h, c.dilation_h, c.pad_top + random_between(seed, 0, 3));
    c.ow = out_size(c.w, c.kw, c.stride_w, c.dilation_w, c.pad_left + random_between(seed, 0, 3));
    return (conv_case){c,
                       random_between(seed, 0, 1),
                       random_between(seed, 0, 1),
                       random_between(seed, 0, 1),
                       (tl_act)random_between(seed, 0, TL_ACT_GELU),
                       !depthwise && random_between(seed, 0, 3) == 0,
                       oc % 3 != 0};
}

static void test_random_shapes(void **state) {
    (void)state;
    /* An emulator takes its time for the loops in float64. */
    int count = getenv("TL_TEST_SLOWER") ? 15 : 150;
    for (int narrow = 0; narrow < 2; narrow++) {
        conv_contexts all;
        make_contexts(&all, narrow);
        uint64_t seed = 2;
        for (int i = 0; i < count; i++) {
            conv_case t = random_case(&seed);
            t.conv.bf16 = narrow;
            check_case(&all, &t, &seed);
        }
        free_contexts(&all);
    }
}

/* A folded scale must give what scaled weights give. */
static void test_packing_scales(void **state) {
    (void)state;
    const tl_conv shapes[] = {make_conv(1, 5, 5, 6, 37, 3, 1, 1, 1, 1, 1, 1, 1),
                              make_conv(1, 5, 5, 9, 9, 3, 1, 1, 1, 1, 1, 1, 9)};
    for (size_t s = 0; s < 2; s++) {
        const tl_conv *c = &shapes[s];
        tl_context *ctx = make_context(1, NULL);
        uint64_t seed = 3;
        size_t filter = (size_t)(c->kh * c->kw * (c->ic / c->groups));
        guarded w = guarded_random(filter * (size_t)c->oc, &seed);
        guarded scale = guarded_random((size_t)c->oc, &seed);
        size_t size = tl_conv_packed_bytes(ctx, c) / sizeof(float);
        guarded folded = guarded_make(size), scaled = guarded_make(size);
        tl_conv_pack(ctx, c, w.data, scale.data, folded.data);
        for (size_t i = 0; i < w.count; i++) w.data[i] *= scale.data[i / filter];
        tl_conv_pack(ctx, c, w.data, NULL, scaled.data);
        assert_same(&folded, &scaled);
        guarded_free(&w);
        guarded_free(&scale);
        guarded_free(&folded);
        guarded_free(&scaled);
        tl_context_free(ctx);
    }
}

/* --- Winograd's method beside the direct way ----------------------------------------------------
 */

/* Root of the mean square of errors, relative to that of the values. */
static double relative_error(const guarded *got, const exact *want) {
    double errors = 0.0, values = 0.0;
    for (size_t i = 0; i < got->count; i++) {
        double error = (double)got->data[i] - want[i].value;
        errors += error * error;
        values += want[i].value * want[i].value;
    }
    return sqrt(errors / values);
}

typedef struct conv_errors {
    double y, dx, dw;
} conv_errors;

static conv_errors errors_of(tl_context *ctx, const conv_case *t, const conv_data *d) {
    passes p = run_passes(ctx, t, d, 1), before = random_passes(d, 1);
    for (size_t i = 0; i < d->ws; i++) p.dw.data[i] -= before.dw.data[i];
    free_passes(&before);
    conv_errors e = {relative_error(&p.y, d->plain.y), relative_error(&p.dx, d->plain.dx),
                     relative_error(&p.dw, d->plain.dw)};
    free_passes(&p);
    return e;
}

typedef struct winograd_case {
    conv_case t;
    tl_winograd form;
    double direct, most; /* errors allowed */
} winograd_case;

static void check_winograd_error(tl_context *fast, tl_context *low, const winograd_case *t,
                                 uint64_t *seed) {
    const tl_conv *c = &t->t.conv;
    tl_winograd f = tl_winograd_choose(fast, c);
    assert_memory_equal(&f, &t->form, sizeof f);
    assert_int_equal(tl_winograd_choose(low, c).m, 0);
    assert_int_equal(tl_conv_packed_bytes(fast, c) / (size_t)tl_winograd_points(f),
                     tl_conv_packed_bytes(low, c) / (size_t)(c->kh * c->kw));
    conv_data d = make_data(&t->t, seed);
    conv_errors winograd = errors_of(fast, &t->t, &d), direct = errors_of(low, &t->t, &d);
    print_message(
        "%s F(%d,%d), %d axes, %d channels: relative error %.1e, directly %.1e; gradient of "
        "the input %.1e, directly %.1e; of the weights %.1e, directly %.1e\n",
        c->bf16 ? "bf16" : "f32", f.m, f.r, f.axes, (int)c->ic, winograd.y, direct.y, winograd.dx,
        direct.dx, winograd.dw, direct.dw);
    assert_true(direct.y < t->direct && direct.dx < t->direct && direct.dw < t->direct);
    assert_true(winograd.y < t->most && winograd.dx < t->most && winograd.dw < t->most);
    free_data(&d);
}

static void test_winograd_error(void **state) {
    (void)state;
    const tl_conv large = make_conv(4, 16, 16, 64, 64, 3, 1, 1, 1, 1, 1, 1, 1);
    const tl_conv small = make_conv(24, 7, 7, 64, 64, 3, 1, 1, 1, 1, 1, 1, 1);
    const tl_conv middle = make_same(4, 16, 16, 64, 64, 5, 5);
    const tl_conv line = make_same(4, 17, 17, 64, 64, 1, 3),
                  column = make_same(4, 17, 17, 64, 64, 7, 1);
    winograd_case cases[] = {
        {{.conv = large}, {2, 3, 2}, 2e-3, 6e-3},  {{.conv = small}, {2, 3, 2}, 2e-3, 6e-3},
        {{.conv = large}, {4, 3, 2}, 5e-7, 2e-6},  {{.conv = small}, {2, 3, 2}, 5e-7, 2e-6},
        {{.conv = middle}, {2, 5, 2}, 6e-7, 2e-6}, {{.conv = line}, {4, 3, 1}, 5e-7, 2e-6},
        {{.conv = column}, {3, 7, 1}, 5e-7, 2e-6}};
    cases[0].t.conv.bf16 = cases[1].t.conv.bf16 = true;
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    tl_context *fast, *low;
    assert_ok(tl_context_create(&options, &fast));
    options.low_memory = 1;
    assert_ok(tl_context_create(&options, &low));
    tl_isa with_bf16 = {"ref", &tl_kernels_ref, &ref_bf16};
    const tl_isa *isa = fast->isa;
    uint64_t seed = 4;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fast->isa = low->isa = cases[i].t.conv.bf16 ? &with_bf16 : isa;
        check_winograd_error(fast, low, &cases[i], &seed);
    }
    tl_context_free(fast);
    tl_context_free(low);
}

/* More weights than an int counts, which need memory for more. */
static void test_sizes_do_not_wrap(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_conv c = {.n = 1, .h = 1, .w = 1, .ic = 4096, .oh = 1, .ow = 1, .oc = 8192};
    c.kh = c.kw = 1024;
    c.stride_h = c.stride_w = c.dilation_h = c.dilation_w = 1;
    c.pad_top = c.pad_left = 512;
    for (c.groups = 4096; c.groups >= 1024; c.groups /= 2) {
        int64_t weights = (int64_t)c.kh * c.kw * c.oc * c.ic / c.groups;
        assert_true(tl_conv_packed_bytes(ctx, &c) >= (size_t)weights * sizeof(float));
    }
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_named_shapes),   cmocka_unit_test(test_random_shapes),
        cmocka_unit_test(test_packing_scales), cmocka_unit_test(test_sizes_do_not_wrap),
        cmocka_unit_test(test_winograd_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
