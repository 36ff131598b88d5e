#include "finetune/options.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "base/options.h"
#include "finetune/text.h"
#include "model/model.h"

typedef enum option_type {
    OPTION_TEXT,
    OPTION_BOOL,
    OPTION_INT,
    OPTION_REAL,
    OPTION_SEED
} option_type;

enum {
    REQUIRED = 1,
    PLACE = 2,
    OWN = 4 /* -1 in the struct leaves it to the optimiser */
};

typedef struct option {
    const char *name;
    size_t offset;
    option_type type;
    unsigned flags;
    double min, max;     /* OPTION_INT; OPTION_REAL, for which see `open` */
    bool open;           /* OPTION_REAL: the bounds themselves are excluded */
    const char *choices; /* OPTION_TEXT: "a, b, c"; NULL = any text */
    tl_status (*check)(tl_context *ctx, const char *text); /* OPTION_TEXT, when given; or NULL */
} option;

/* Texts with a grammar of their own are read where they are set, and not after minutes of loading.
 */
static tl_status check_augment(tl_context *ctx, const char *text) {
    (void)ctx;
    tl_augment augment;
    return tl_augment_parse(text, &augment);
}

static tl_status check_preprocess(tl_context *ctx, const char *text) {
    (void)ctx;
    tl_preprocess preprocess;
    return tl_preprocess_preset(text, 224, 224, &preprocess);
}

#define AT(name) #name, offsetof(tl_finetune_options, name)
#define TEXT(name, flags, choices)                                                                 \
    { AT(name), OPTION_TEXT, flags, 0, 0, false, choices, NULL }
#define GRAMMAR(name, check)                                                                       \
    { AT(name), OPTION_TEXT, 0, 0, 0, false, NULL, check }
#define FLAG(name)                                                                                 \
    { AT(name), OPTION_BOOL, 0, 0, 0, false, NULL, NULL }
#define WHOLE(name, min, max)                                                                      \
    { AT(name), OPTION_INT, 0, min, max, false, NULL, NULL }
#define REAL(name, flags, min, max, open)                                                          \
    { AT(name), OPTION_REAL, flags, min, max, open, NULL, NULL }
#define SEED(name)                                                                                 \
    { AT(name), OPTION_SEED, 0, 0, 0, false, NULL, NULL }

static const option table[] = {
    TEXT(backbone, REQUIRED | PLACE, NULL),
    TEXT(data, REQUIRED | PLACE, NULL),
    TEXT(val, PLACE, NULL),
    REAL(val_split, 0, 0, 1, true),
    GRAMMAR(preprocess, check_preprocess),
    WHOLE(image_size, 0, 4096),
    TEXT(pool, 0, "gap, gmp, flatten"),
    GRAMMAR(head, tl_head_check),
    TEXT(activation, 0, "softmax, sigmoid"),
    TEXT(freeze, 0, NULL),
    GRAMMAR(augment, check_augment),
    TEXT(optimizer, 0, "sgd, adam, adamw, rmsprop"),
    TEXT(style, 0, "keras, pytorch"),
    REAL(lr, OWN, 0, 1e6, true),
    REAL(momentum, 0, 0, 1, false),
    FLAG(nesterov),
    REAL(weight_decay, OWN, 0, 1e6, false),
    WHOLE(epochs, 1, 1000000),
    WHOLE(batch, 1, 65536),
    WHOLE(patience, 0, 1000000),
    FLAG(restore_best),
    FLAG(batch_norm_training),
    TEXT(dtype, 0, "f32, bf16"),
    SEED(seed),
    TEXT(out, PLACE, NULL),
    TEXT(report, PLACE, NULL),
    REAL(max_skipped, 0, 0, 1, false),
};
enum { OPTION_COUNT = sizeof table / sizeof table[0] };

/* What tl_finetune_options_create() adds to the struct. */
typedef struct owner {
    tl_context *ctx;
    char *text[OPTION_COUNT];
} owner;

/* --- fields by offset --------------------------------------------------------------------- */

static const void *field(const tl_finetune_options *options, const option *o) {
    return (const char *)options + o->offset;
}

static void *field_for_writing(tl_finetune_options *options, const option *o) {
    return (char *)options + o->offset;
}

static const char *text_of(const tl_finetune_options *options, const option *o) {
    return *(const char *const *)field(options, o);
}

bool tl_option_given(const char *text) {
    return text && *text;
}

/* --- bounds ------------------------------------------------------------------------------- */

enum { EXPECTED_CAPACITY = 128 };

static const char *expected(const option *o, char text[EXPECTED_CAPACITY]) {
    const char *format = o->open ? "a number above %g and below %g" : "a number from %g to %g";
    switch (o->type) {
    case OPTION_TEXT:
        snprintf(text, EXPECTED_CAPACITY, "%s%s", o->choices ? "one of " : "text",
                 o->choices ? o->choices : "");
        break;
    case OPTION_BOOL:
        snprintf(text, EXPECTED_CAPACITY, "true or false");
        break;
    case OPTION_INT:
        snprintf(text, EXPECTED_CAPACITY, "a whole number from %.0f to %.0f", o->min, o->max);
        break;
    case OPTION_REAL:
        snprintf(text, EXPECTED_CAPACITY, format, o->min, o->max);
        break;
    case OPTION_SEED:
        snprintf(text, EXPECTED_CAPACITY, "a whole number from 0 to 18446744073709551615");
        break;
    }
    return text;
}

static tl_status refuse(const option *o, const char *found) {
    char text[EXPECTED_CAPACITY];
    return tl_fail(TL_INVALID_ARGUMENT, "option %s is '%s', expected %s", o->name, found,
                   expected(o, text));
}

/* Whether `value` is one of the items of "a, b, c". */
static bool is_choice(const char *choices, const char *value) {
    size_t length = strlen(value);
    for (const char *item = choices; *item;) {
        size_t item_length = strcspn(item, ",");
        if (length == item_length && memcmp(item, value, length) == 0) return true;
        item += item_length;
        item += strspn(item, ", ");
    }
    return false;
}

static bool in_range(const option *o, double value) {
    if (!isfinite(value)) return false;
    return o->open ? value > o->min && value < o->max : value >= o->min && value <= o->max;
}

static tl_status check_text(tl_context *ctx, const option *o, const char *value) {
    bool given = tl_option_given(value);
    TL_CHECK(given || !(o->flags & REQUIRED), TL_INVALID_ARGUMENT,
             "option %s is missing: it is required", o->name);
    if (o->choices && (!given || !is_choice(o->choices, value)))
        return refuse(o, value ? value : "");
    return given && o->check ? o->check(ctx, value) : TL_OK;
}

static tl_status check_number(const option *o, double value) {
    char found[32];
    if ((o->flags & OWN) && value == -1) return TL_OK;
    snprintf(found, sizeof found, "%g", value);
    return in_range(o, value) ? TL_OK : refuse(o, found);
}

tl_status tl_finetune_options_check(tl_context *ctx, const tl_finetune_options *options) {
    for (int i = 0; i < OPTION_COUNT; i++) {
        const option *o = &table[i];
        if (o->type == OPTION_TEXT) TL_TRY(check_text(ctx, o, text_of(options, o)));
        if (o->type == OPTION_INT) TL_TRY(check_number(o, (double)*(const int *)field(options, o)));
        if (o->type == OPTION_REAL) TL_TRY(check_number(o, *(const double *)field(options, o)));
    }
    return TL_OK;
}

/* --- making ------------------------------------------------------------------------------- */

void tl_finetune_options_init(tl_finetune_options *options, size_t size) {
    const tl_finetune_options defaults = {.val_split = 0.2,
                                          .pool = "gap",
                                          .head = "",
                                          .activation = "softmax",
                                          .freeze = "all",
                                          .optimizer = "adam",
                                          .style = "keras",
                                          .lr = -1,
                                          .weight_decay = -1,
                                          .epochs = 30,
                                          .batch = 32,
                                          .patience = 5,
                                          .restore_best = true,
                                          .dtype = "f32",
                                          .max_skipped = 0.5};
    tl_options_init(options, size, &defaults, sizeof defaults);
}

tl_status tl_finetune_options_copy(const tl_finetune_options *options, tl_finetune_options *out) {
    tl_finetune_options defaults;
    tl_finetune_options_init(&defaults, sizeof defaults);
    *out = defaults;
    TL_TRY(tl_options_read("finetune", options, out, sizeof *out));
    for (int i = 0; i < OPTION_COUNT; i++) {
        const option *o = &table[i];
        if (o->type == OPTION_TEXT && !text_of(out, o))
            *(const char **)field_for_writing(out, o) = text_of(&defaults, o);
    }
    return TL_OK;
}

tl_status tl_finetune_options_create(tl_context *ctx, tl_finetune_options **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "tl_finetune_options_create: out is NULL");
    *out = NULL;
    TL_CHECK(ctx, TL_INVALID_ARGUMENT, "tl_finetune_options_create: ctx is NULL");
    tl_finetune_options *options = tl_alloc(ctx, sizeof *options);
    TL_CHECK_MEMORY(options);
    tl_finetune_options_init(options, sizeof *options);
    owner *own = tl_alloc_zero(ctx, sizeof *own);
    if (!own) {
        tl_free(ctx, options);
        return TL_NO_MEMORY;
    }
    own->ctx = ctx;
    options->owner = own;
    *out = options;
    return TL_OK;
}

void tl_finetune_options_free(tl_finetune_options *options) {
    owner *own = options ? options->owner : NULL;
    if (!own) return;
    tl_context *ctx = own->ctx;
    for (int i = 0; i < OPTION_COUNT; i++) tl_free(ctx, own->text[i]);
    tl_free(ctx, own);
    tl_free(ctx, options);
}

const char *tl_finetune_options_key(int index) {
    return index >= 0 && index < OPTION_COUNT ? table[index].name : NULL;
}

void tl_finetune_options_set_progress(tl_finetune_options *options, tl_progress_fn progress,
                                      void *user) {
    if (!options) return;
    options->progress = progress;
    options->progress_user = user;
}

/* --- setting by name ---------------------------------------------------------------------- */

static tl_status set_text(tl_finetune_options *options, const option *o, const char *value) {
    owner *own = options->owner;
    TL_CHECK(own, TL_INVALID_ARGUMENT,
             "option %s: text can be set by name only in options made by "
             "tl_finetune_options_create(); set the field instead",
             o->name);
    if (tl_option_given(value) || o->choices) TL_TRY(check_text(own->ctx, o, value));
    char *copy = tl_strdup(own->ctx, value);
    TL_CHECK_MEMORY(copy);
    tl_free(own->ctx, own->text[o - table]);
    own->text[o - table] = copy;
    *(const char **)field_for_writing(options, o) = copy;
    return TL_OK;
}

static tl_status set_bool(tl_finetune_options *options, const option *o, const char *value) {
    bool yes = strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
    if (!yes && strcmp(value, "false") != 0 && strcmp(value, "0") != 0) return refuse(o, value);
    *(bool *)field_for_writing(options, o) = yes;
    return TL_OK;
}

static tl_status set_number(tl_finetune_options *options, const option *o, const char *value) {
    double number;
    if (!tl_parse_number(value, value + strlen(value), &number) || !in_range(o, number))
        return refuse(o, value);
    if (o->type == OPTION_REAL) {
        *(double *)field_for_writing(options, o) = number;
        return TL_OK;
    }
    if (number != floor(number)) return refuse(o, value);
    *(int *)field_for_writing(options, o) = (int)number;
    return TL_OK;
}

/* All 64 bits, which a double could not hold. */
static tl_status set_seed(tl_finetune_options *options, const option *o, const char *value) {
    uint64_t seed = 0;
    for (const char *c = value; *c; c++) {
        bool digit = *c >= '0' && *c <= '9';
        if (!digit || __builtin_mul_overflow(seed, 10u, &seed) ||
            __builtin_add_overflow(seed, (unsigned)(*c - '0'), &seed))
            return refuse(o, value);
    }
    if (!*value) return refuse(o, value);
    *(uint64_t *)field_for_writing(options, o) = seed;
    return TL_OK;
}

static const option *find_option(const char *key) {
    for (int i = 0; i < OPTION_COUNT; i++)
        if (strcmp(table[i].name, key) == 0) return &table[i];
    return NULL;
}

static tl_status unknown_key(const char *key) {
    char keys[512] = "";
    size_t used = 0;
    for (int i = 0; i < OPTION_COUNT; i++)
        used +=
            (size_t)snprintf(keys + used, sizeof keys - used, "%s%s", i ? ", " : "", table[i].name);
    return tl_fail(TL_NOT_FOUND, "unknown option '%s'; the options are: %s", key, keys);
}

tl_status tl_finetune_options_set(tl_finetune_options *options, const char *key,
                                  const char *value) {
    TL_CHECK(options && key && value, TL_INVALID_ARGUMENT,
             "tl_finetune_options_set: options, key or value is NULL");
    const option *o = find_option(key);
    if (!o || o->offset >= options->size) return unknown_key(key);
    switch (o->type) {
    case OPTION_TEXT:
        return set_text(options, o, value);
    case OPTION_BOOL:
        return set_bool(options, o, value);
    case OPTION_INT:
    case OPTION_REAL:
        return set_number(options, o, value);
    case OPTION_SEED:
        return set_seed(options, o, value);
    }
    return unknown_key(key);
}

/* --- writing down ------------------------------------------------------------------------- */

/* JSON numbers are signed here: a larger seed is written as text, as it was given. */
static json_t *seed_json(uint64_t seed) {
    char text[24];
    if (seed <= INT64_MAX) return json_integer((json_int_t)seed);
    snprintf(text, sizeof text, "%" PRIu64, seed);
    return json_string(text);
}

static json_t *value_json(tl_context *ctx, const tl_finetune_options *options, const option *o) {
    const void *value = field(options, o);
    switch (o->type) {
    case OPTION_TEXT:
        return tl_option_given(text_of(options, o)) ? tl_json_string(ctx, text_of(options, o))
                                                    : json_null();
    case OPTION_BOOL:
        return json_boolean(*(const bool *)value);
    case OPTION_INT:
        return json_integer(*(const int *)value);
    case OPTION_REAL:
        return json_real(*(const double *)value);
    case OPTION_SEED:
        return seed_json(*(const uint64_t *)value);
    }
    return NULL;
}

json_t *tl_finetune_options_json(tl_context *ctx, const tl_finetune_options *options, bool places) {
    json_t *object = json_object();
    for (int i = 0; object && i < OPTION_COUNT; i++) {
        const option *o = &table[i];
        if (!places && (o->flags & PLACE)) continue;
        if (json_object_set_new(object, o->name, value_json(ctx, options, o)) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}
