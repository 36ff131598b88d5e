/* Attributes as text. The text is part of saved models and of hostile JSON, so reading is strict,
 * and neither direction depends on the locale of the process. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "layer/op.h"

/* --- access to the fields of an attribute struct ------------------------------------------------
 */

static int value_count(tl_attr_type type) {
    return type == TL_ATTR_PAIR ? 2 : type == TL_ATTR_PADS ? 4 : 1;
}

static void set_value(const tl_attr_spec *spec, void *attr, int index, double value) {
    unsigned char *field = (unsigned char *)attr + spec->offset;
    if (spec->type == TL_ATTR_FLOAT)
        *(float *)(void *)field = (float)value;
    else
        ((int32_t *)(void *)field)[index] = (int32_t)value;
}

static double get_value(const tl_attr_spec *spec, const void *attr, int index) {
    const unsigned char *field = (const unsigned char *)attr + spec->offset;
    if (spec->type == TL_ATTR_FLOAT) return (double)*(const float *)(const void *)field;
    return ((const int32_t *)(const void *)field)[index];
}

void tl_attr_init(const tl_op *op, void *attr) {
    if (!op->attrs) return;
    memset(attr, 0, op->attr_size);
    for (const tl_attr_spec *spec = op->attrs; spec->name; spec++)
        for (int i = 0; i < value_count(spec->type); i++) set_value(spec, attr, i, spec->initial);
}

/* --- reading
 * --------------------------------------------------------------------------------------- */

/* A piece of the text that is read; not NUL-terminated. */
typedef struct text_range {
    const char *begin, *end;
} text_range;

static int range_length(text_range range) {
    return (int)(range.end - range.begin);
}

static bool range_is(text_range range, const char *text) {
    size_t length = (size_t)(range.end - range.begin);
    return strlen(text) == length && memcmp(range.begin, text, length) == 0;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static tl_status fail_value(const tl_op *op, const tl_attr_spec *spec, text_range text,
                            const char *expected) {
    return tl_fail(TL_INVALID_ARGUMENT, "%s: attribute %s is \"%.*s\", expected %s", op->name,
                   spec->name, range_length(text), text.begin, expected);
}

static tl_status parse_choice(const tl_op *op, const tl_attr_spec *spec, text_range text,
                              void *attr) {
    char expected[256] = "";
    for (int i = 0; spec->choices[i]; i++) {
        if (range_is(text, spec->choices[i])) {
            set_value(spec, attr, 0, i);
            return TL_OK;
        }
        size_t used = strlen(expected);
        snprintf(expected + used, sizeof expected - used, "%s%s", i ? ", " : "one of ",
                 spec->choices[i]);
    }
    return fail_value(op, spec, text, expected);
}

static tl_status parse_bool(const tl_op *op, const tl_attr_spec *spec, text_range text,
                            void *attr) {
    bool yes = range_is(text, "1") || range_is(text, "true");
    if (!yes && !range_is(text, "0") && !range_is(text, "false"))
        return fail_value(op, spec, text, "one of 0, 1, false, true");
    set_value(spec, attr, 0, yes);
    return TL_OK;
}

static void describe_numbers(const tl_attr_spec *spec, char *text, size_t size) {
    const char *count = spec->type == TL_ATTR_PAIR    ? "one number or two (height,width)"
                        : spec->type == TL_ATTR_PADS  ? "one number, two (vertical,horizontal) or "
                                                        "four (top,left,bottom,right)"
                        : spec->type == TL_ATTR_FLOAT ? "a number"
                                                      : "a whole number";
    snprintf(text, size, "%s of %.9g to %.9g", count, spec->min, spec->max);
}

/* Numbers of a list of 1, 2 or 4; a shorter list repeats, as PAIR and PADS define. */
static tl_status parse_numbers(const tl_op *op, const tl_attr_spec *spec, text_range text,
                               void *attr) {
    char expected[160];
    describe_numbers(spec, expected, sizeof expected);
    double value[4];
    int count = 0, wanted = value_count(spec->type);
    for (text_range item = {text.begin, text.begin}; item.begin <= text.end;
         item.begin = item.end + 1) {
        item.end = memchr(item.begin, ',', (size_t)(text.end - item.begin));
        if (!item.end) item.end = text.end;
        if (count == wanted || !tl_parse_number(item.begin, item.end, &value[count]) ||
            (spec->type != TL_ATTR_FLOAT && value[count] != floor(value[count])) ||
            !(value[count] >= spec->min && value[count] <= spec->max))
            return fail_value(op, spec, text, expected);
        count++;
    }
    if (count == 3) return fail_value(op, spec, text, expected);
    for (int i = 0; i < wanted; i++) set_value(spec, attr, i, value[i % count]);
    return TL_OK;
}

static tl_status parse_value(const tl_op *op, const tl_attr_spec *spec, text_range text,
                             void *attr) {
    switch (spec->type) {
    case TL_ATTR_CHOICE:
        return parse_choice(op, spec, text, attr);
    case TL_ATTR_BOOL:
        return parse_bool(op, spec, text, attr);
    case TL_ATTR_INT:
    case TL_ATTR_PAIR:
    case TL_ATTR_PADS:
    case TL_ATTR_FLOAT:
        break;
    }
    return parse_numbers(op, spec, text, attr);
}

static tl_status fail_unknown(const tl_op *op, text_range name) {
    char names[256] = "none";
    size_t used = 0;
    for (const tl_attr_spec *spec = op->attrs; spec && spec->name && used < sizeof names; spec++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "",
                                 spec->name);
    return tl_fail(TL_INVALID_ARGUMENT, "%s: no attribute is called \"%.*s\"; there are: %s",
                   op->name, range_length(name), name.begin, names);
}

/* One "name=value"; `seen` has one bit per attribute. */
static tl_status parse_item(const tl_op *op, text_range item, void *attr, uint64_t *seen) {
    const char *equals = memchr(item.begin, '=', (size_t)(item.end - item.begin));
    TL_CHECK(equals, TL_INVALID_ARGUMENT, "%s: attributes have \"%.*s\", expected name=value",
             op->name, range_length(item), item.begin);
    text_range name = {item.begin, equals}, value = {equals + 1, item.end};
    const tl_attr_spec *spec = op->attrs;
    while (spec && spec->name && !range_is(name, spec->name)) spec++;
    if (!spec || !spec->name) return fail_unknown(op, name);
    uint64_t bit = (uint64_t)1 << (spec - op->attrs);
    TL_CHECK(!(*seen & bit), TL_INVALID_ARGUMENT, "%s: attribute %s is given twice", op->name,
             spec->name);
    *seen |= bit;
    return parse_value(op, spec, value, attr);
}

tl_status tl_attr_parse(const tl_op *op, const char *text, void *attr) {
    uint64_t seen = 0;
    text_range item = {text ? text : "", NULL};
    for (;; item.begin = item.end) {
        while (is_blank(*item.begin)) item.begin++;
        if (!*item.begin) break;
        for (item.end = item.begin; *item.end && !is_blank(*item.end);) item.end++;
        TL_TRY(parse_item(op, item, attr, &seen));
    }
    for (const tl_attr_spec *spec = op->attrs; spec && spec->name; spec++)
        TL_CHECK(!spec->required || (seen & (uint64_t)1 << (spec - op->attrs)), TL_INVALID_ARGUMENT,
                 "%s: attribute %s is required", op->name, spec->name);
    return TL_OK;
}

/* --- writing
 * --------------------------------------------------------------------------------------- */

/* "%.9g" with a point, whatever the locale's decimal separator is. */
static void print_number(double value, char *text, size_t size) {
    char local[32];
    snprintf(local, sizeof local, "%.9g", value);
    size_t used = 0;
    bool separator = false;
    for (const char *c = local; *c && used + 1 < size; c++) {
        bool foreign = !is_digit(*c) && *c != '-' && *c != '+' && *c != 'e';
        if (!foreign || !separator) text[used++] = foreign ? '.' : *c;
        separator = foreign;
    }
    text[used] = 0;
}

/* " name=value" into `text`; returns its length. */
static size_t print_item(const tl_attr_spec *spec, const void *attr, char *text, size_t size) {
    int used = snprintf(text, size, "%s=", spec->name);
    if (spec->type == TL_ATTR_CHOICE) {
        used += snprintf(text + used, size - (size_t)used, "%s",
                         spec->choices[(int)get_value(spec, attr, 0)]);
        return (size_t)used;
    }
    for (int i = 0; i < value_count(spec->type); i++) {
        char number[32];
        print_number(get_value(spec, attr, i), number, sizeof number);
        used += snprintf(text + used, size - (size_t)used, "%s%s", i ? "," : "", number);
    }
    return (size_t)used;
}

char *tl_attr_print(tl_context *ctx, const tl_op *op, const void *attr) {
    enum { ITEM_CAPACITY = 160 }; /* a name, four numbers of at most 16 characters, separators */
    size_t count = 0;
    for (const tl_attr_spec *spec = op->attrs; spec && spec->name; spec++) count++;
    char *text = tl_alloc(ctx, count * ITEM_CAPACITY + 1);
    if (!text) return NULL;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (i) text[used++] = ' ';
        used += print_item(&op->attrs[i], attr, text + used, ITEM_CAPACITY - 1);
    }
    text[used] = 0;
    return text;
}
