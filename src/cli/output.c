#include "cli/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDEST_MATRIX = 24 };

/* Bytes of the UTF-8 sequence at `text`, 0 if there is none. Jansson is the judge, so that what
 * passes here is what it accepts. */
static size_t utf8_length(const char *text) {
    size_t left = strlen(text);
    for (size_t length = 1; length <= 4 && length <= left; length++) {
        json_t *value = json_stringn(text, length);
        if (value) {
            json_decref(value);
            return length;
        }
    }
    return 0;
}

json_t *cli_json_text(const char *text) {
    json_t *value = json_string(text);
    if (value) return value;
    static const char replacement[] = "\xEF\xBF\xBD";
    char *clean = malloc(strlen(text) * (sizeof replacement - 1) + 1);
    if (!clean) return NULL;
    char *end = clean;
    while (*text) {
        size_t length = utf8_length(text);
        const char *from = length ? text : replacement;
        size_t bytes = length ? length : sizeof replacement - 1;
        memcpy(end, from, bytes);
        end += bytes;
        text += length ? length : 1;
    }
    *end = '\0';
    value = json_string(clean);
    free(clean);
    return value;
}

int cli_print_json(const cli_args *args, json_t *object) {
    char *text = object ? json_dumps(object, JSON_REAL_PRECISION(9)) : NULL;
    json_decref(object);
    if (!text) return cli_fail(args, "out of memory");
    puts(text);
    free(text);
    return CLI_OK;
}

int cli_print_computed(const cli_session *session, const tl_model *model, json_t *object) {
    char *text = NULL;
    if (object) json_object_set_new(object, "dtype", json_string(tl_dtype_name(session->dtype)));
    if (object && cli_text(session->args, "--packed-cache")) {
        if (tl_model_packed_cache(model, &text) == TL_OK)
            json_object_set_new(object, "packed_cache", json_loads(text, 0, NULL));
        tl_string_free(session->ctx, text);
    }
    return cli_print_json(session->args, object);
}

void cli_shape_text(const json_t *dimensions, char text[CLI_SHAPE_TEXT]) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < json_array_size(dimensions); i++) {
        size_t left = CLI_SHAPE_TEXT - used;
        int wrote = snprintf(text + used, left, "%s%lld", i ? "x" : "",
                             (long long)json_integer_value(json_array_get(dimensions, i)));
        used += (size_t)wrote < left ? (size_t)wrote : 0;
    }
}

/* Characters of UTF-8 text: every byte but those that continue one. */
static int columns(const char *text) {
    int count = 0;
    for (; *text; text++) count += ((unsigned char)*text & 0xC0) != 0x80;
    return count;
}

static int name_width(const tl_model *model) {
    int width = columns("weighted avg");
    for (int i = 0; i < tl_model_class_count(model); i++) {
        int length = columns(tl_model_class_name(model, i));
        if (length > width) width = length;
    }
    return width;
}

/* A class's name, flush right. */
static void print_name(const tl_model *model, int index, int width) {
    const char *name = tl_model_class_name(model, index);
    printf("%*s", width - columns(name), "");
    cli_put(stdout, name);
}

static void print_report(const tl_model *model, const tl_evaluation *evaluation, int width) {
    long long count = (long long)tl_evaluation_count(evaluation);
    printf("%*s  precision  recall  f1-score  support\n\n", width, "");
    for (int i = 0; i < tl_model_class_count(model); i++) {
        print_name(model, i, width);
        printf("  %9.2f  %6.2f  %8.2f  %7lld\n", tl_evaluation_precision(evaluation, i),
               tl_evaluation_recall(evaluation, i), tl_evaluation_f1(evaluation, i),
               (long long)tl_evaluation_support(evaluation, i));
    }
    double precision, recall;
    double f1 = tl_evaluation_macro(evaluation, &precision, &recall);
    printf("\n%*s  %9s  %6s  %8.2f  %7lld\n", width, "accuracy", "", "",
           tl_evaluation_accuracy(evaluation), count);
    printf("%*s  %9.2f  %6.2f  %8.2f  %7lld\n", width, "macro avg", precision, recall, f1, count);
    f1 = tl_evaluation_weighted(evaluation, &precision, &recall);
    printf("%*s  %9.2f  %6.2f  %8.2f  %7lld\n", width, "weighted avg", precision, recall, f1,
           count);
}

static void print_confusion(const tl_model *model, const tl_evaluation *evaluation, int width) {
    int classes = tl_model_class_count(model);
    if (classes > WIDEST_MATRIX) {
        printf("\nThe confusion matrix of %d classes is in the JSON output and the report.\n",
               classes);
        return;
    }
    puts("\nconfusion matrix (rows: truth, columns: answer, in the order of the rows)\n");
    for (int truth = 0; truth < classes; truth++) {
        print_name(model, truth, width);
        putchar(' ');
        for (int answer = 0; answer < classes; answer++)
            printf(" %4lld", (long long)tl_evaluation_confusion(evaluation, truth, answer));
        putchar('\n');
    }
}

void cli_print_evaluation(const tl_model *model, const tl_evaluation *evaluation) {
    int width = name_width(model);
    print_report(model, evaluation, width);
    print_confusion(model, evaluation, width);
}

static json_t *confusion_json(int classes, const tl_evaluation *evaluation) {
    json_t *rows = json_array();
    for (int truth = 0; truth < classes; truth++) {
        json_t *row = json_array();
        for (int answer = 0; answer < classes; answer++) {
            json_int_t count = tl_evaluation_confusion(evaluation, truth, answer);
            json_array_append_new(row, json_integer(count));
        }
        json_array_append_new(rows, row);
    }
    return rows;
}

json_t *cli_evaluation_json(const tl_model *model, const tl_evaluation *evaluation) {
    int classes = tl_model_class_count(model);
    json_t *per_class = json_array();
    for (int i = 0; i < classes; i++) {
        json_t *entry = json_pack(
            "{s:o, s:f, s:f, s:f, s:I}", "class", cli_json_text(tl_model_class_name(model, i)),
            "precision", tl_evaluation_precision(evaluation, i), "recall",
            tl_evaluation_recall(evaluation, i), "f1", tl_evaluation_f1(evaluation, i), "support",
            (json_int_t)tl_evaluation_support(evaluation, i));
        json_array_append_new(per_class, entry);
    }
    return json_pack(
        "{s:f, s:f, s:f, s:f, s:I, s:o, s:o}", "accuracy", tl_evaluation_accuracy(evaluation),
        "macro_f1", tl_evaluation_macro(evaluation, NULL, NULL), "weighted_f1",
        tl_evaluation_weighted(evaluation, NULL, NULL), "loss", tl_evaluation_loss(evaluation),
        "images", (json_int_t)tl_evaluation_count(evaluation), "confusion",
        confusion_json(classes, evaluation), "per_class", per_class);
}
