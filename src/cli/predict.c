#include "cli/common.h"

#include <stdio.h>
#include <stdlib.h>

static const cli_flag flags[] = {
    CLI_FLAG_MODEL("FILE|NAME"),
    {"--top", CLI_COUNT, .value = "K", .help = "most probable classes to show", .preset = "5"},
    CLI_FLAG_PREPROCESS,
    CLI_FLAG_DTYPE,
    CLI_FLAG_THREADS,
    CLI_FLAG_LOW_MEMORY,
    CLI_FLAG_PACKED_CACHE,
    CLI_FLAG_JSON,
    {0},
};

typedef struct answer {
    float probability;
    int index;
} answer;

/* Most probable first; equal ones in class order. */
static int compare(const void *left, const void *right) {
    const answer *a = left, *b = right;
    if (a->probability != b->probability) return a->probability < b->probability ? 1 : -1;
    return a->index - b->index;
}

static int print_json(const cli_session *session, const tl_model *model, const char *image,
                      const answer *answers, int top) {
    json_t *list = json_array();
    for (int i = 0; i < top; i++) {
        json_t *name = cli_json_text(tl_model_class_name(model, answers[i].index));
        json_array_append_new(list, json_pack("{s:o, s:f}", "class", name, "probability",
                                              (double)answers[i].probability));
    }
    json_t *object = json_pack("{s:o, s:o}", "image", cli_json_text(image), "top", list);
    return cli_print_computed(session, model, object);
}

static void print_text(const tl_model *model, const char *image, const answer *answers, int top) {
    printf("%s\n", image);
    for (int i = 0; i < top; i++) {
        printf("  %6.2f%%  ", 100 * (double)answers[i].probability);
        cli_put(stdout, tl_model_class_name(model, answers[i].index));
        putchar('\n');
    }
}

static int predict(const cli_session *session, const tl_model *model, const char *image,
                   float *probabilities, answer *answers) {
    if (tl_model_predict_file(model, image, probabilities) != TL_OK) return cli_failed(session);
    int classes = tl_model_class_count(model);
    for (int i = 0; i < classes; i++) answers[i] = (answer){probabilities[i], i};
    qsort(answers, (size_t)classes, sizeof *answers, compare);
    int64_t asked = cli_whole(session->args, "--top");
    int top = asked < classes ? (int)asked : classes;
    if (cli_given(session->args, "--json")) return print_json(session, model, image, answers, top);
    print_text(model, image, answers, top);
    return CLI_OK;
}

/* A picture that cannot be read costs its own answer and the exit status, not the others. */
static int predict_all(const cli_session *session, tl_model *model) {
    size_t classes = (size_t)tl_model_class_count(model);
    float *probabilities = calloc(classes, sizeof *probabilities);
    answer *answers = calloc(classes, sizeof *answers);
    int result = CLI_OK;
    if (!probabilities || !answers) {
        result = cli_fail(session->args, "out of memory");
    } else {
        for (int i = 0; i < session->args->operand_count; i++) {
            const char *image = session->args->operands[i];
            int status = predict(session, model, image, probabilities, answers);
            if (status != CLI_OK) result = status;
        }
    }
    free(answers);
    free(probabilities);
    return result;
}

static int run(const cli_args *args) {
    return cli_with_model(args, cli_text(args, "--model"), predict_all);
}

const cli_command cli_predict = {
    .name = "predict",
    .summary = "name what pictures show",
    .operands = "IMAGE...",
    .least = 1,
    .most = -1,
    .flags = flags,
    .run = run,
};
