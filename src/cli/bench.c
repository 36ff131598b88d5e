#include "cli/common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ISAS = 16 };

static const cli_flag flags[] = {
    CLI_FLAG_ARCH,
    {"--mode", CLI_TEXT, .value = "infer|train", .choices = true,
     .help = "forward, or a whole training step of all layers", .preset = "infer"},
    {"--batch", CLI_COUNT, .value = "N", .help = "pictures a run", .preset = "1"},
    CLI_FLAG_THREADS,
    CLI_FLAG_DTYPE,
    CLI_FLAG_LOW_MEMORY,
    {"--iters", CLI_COUNT, .value = "N", .help = "timed runs, after one to warm up",
     .preset = "10"},
    {"--isa", CLI_TEXT, .value = "NAME", .help = "highest instruction set to use"},
    {"--layers", CLI_SWITCH, .help = "time every layer, too"},
    {"--list-isa", CLI_SWITCH, .help = "list the instruction sets of this machine and build"},
    CLI_FLAG_JSON,
    {0},
};

typedef struct job {
    const cli_session *session;
    bool training;
    int64_t batch, iterations;
    tl_model *model;
    tl_trainer *trainer;
    tl_tensor *input;
    int32_t *labels;
    double *times;    /* seconds of each iteration, sorted when done */
    json_t *layers;   /* with --layers: described, each with its least times */
    double predicted; /* peak of memory, bytes */
} job;

/* What there is, and which of it --isa or TL_ISA choose. */
static int show_isa(const cli_args *args, const char *chosen) {
    const char *names[MAX_ISAS];
    int count = tl_isa_list(names, MAX_ISAS);
    if (count > MAX_ISAS) count = MAX_ISAS;
    if (!cli_given(args, "--json")) {
        for (int i = 0; i < count; i++)
            printf("%s%s\n", names[i], strcmp(names[i], chosen) == 0 ? " (chosen)" : "");
        return CLI_OK;
    }
    json_t *list = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(list, json_string(names[i]));
    return cli_print_json(args, json_pack("{s:o, s:s}", "isa", list, "chosen", chosen));
}

static int list_isa(const cli_args *args) {
    cli_session session;
    int result = cli_session_open(&session, args);
    if (result != CLI_OK) return result;
    return cli_session_close(&session, show_isa(args, tl_context_isa(session.ctx)));
}

/* Values in [-1, 1) from a fixed sequence (Knuth's multiplicative hash of the index): zeros would
 * let denormals or short cuts distort the time. */
static void fill_input(tl_tensor *input) {
    float *data = tl_tensor_data(input);
    for (int64_t i = 0; i < tl_tensor_count(input); i++)
        data[i] = (float)((uint32_t)i * 2654435761u >> 8) / (float)(1 << 23) - 1;
}

static tl_status prepare_training(job *work) {
    tl_optimizer_options optimizer;
    tl_optimizer_options_init(&optimizer, sizeof optimizer);
    optimizer.name = "sgd";
    /* Random weights and one batch over and over: a step that hardly moves cannot diverge. */
    optimizer.lr = 1e-6;
    tl_trainer_options options;
    tl_trainer_options_init(&options, sizeof options);
    options.optimizer = &optimizer;
    options.batch = (int)work->batch;
    options.batch_norm_training = true;
    options.dtype = work->session->dtype;
    tl_memory memory = {.size = sizeof memory};
    tl_status status = tl_model_freeze(work->model, "", false);
    if (status == TL_OK) status = tl_trainer_memory(work->model, &options, &memory);
    if (status != TL_OK) return status;
    work->predicted = cli_predicted_rss(work->session, memory.total);
    status = tl_trainer_create(work->model, &options, &work->trainer);
    if (status != TL_OK) return status; /* one that cannot tell classes, for instance */
    int classes = tl_model_class_count(work->model);
    for (int64_t i = 0; i < work->batch; i++) work->labels[i] = (int32_t)(i % classes);
    return TL_OK;
}

static tl_status prepare_inference(job *work) {
    tl_memory memory = {.size = sizeof memory};
    tl_status status = tl_model_memory(work->model, (int)work->batch, &memory);
    work->predicted = cli_predicted_rss(work->session, memory.total);
    return status;
}

static tl_status prepare(job *work) {
    int height, width, channels;
    tl_model_input_size(work->model, &height, &width, &channels);
    int64_t picture[] = {work->batch, height, width, channels}, vector[] = {work->batch, channels};
    tl_status status = tl_tensor_create(work->session->ctx, TL_F32, height ? 4 : 2,
                                        height ? picture : vector, &work->input);
    if (status != TL_OK) return status;
    fill_input(work->input);
    return work->training ? prepare_training(work) : prepare_inference(work);
}

static tl_status run_once(job *work) {
    if (work->training) {
        double loss;
        return tl_trainer_step(work->trainer, work->input, work->labels, &loss, NULL);
    }
    tl_tensor *output = NULL;
    tl_status status = tl_model_run(work->model, work->input, &output);
    tl_tensor_free(output);
    return status;
}

/* --- layers ----------------------------------------------------------------------------------- */

static double number_of(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static json_t *described_layers(const job *work) {
    char *text = NULL;
    if (tl_model_describe(work->model, &text) != TL_OK) return NULL;
    json_t *model = json_loads(text, 0, NULL);
    tl_string_free(work->session->ctx, text);
    json_t *layers = json_incref(json_object_get(model, "layers"));
    json_decref(model);
    return layers;
}

static void keep_least(json_t *kept, const json_t *layer, const char *key) {
    double value = number_of(layer, key);
    if (value < number_of(kept, key)) json_object_set_new(kept, key, json_real(value));
}

/* Every layer's least times of the runs so far; then the next run is timed from nothing. */
static tl_status keep_layers(job *work) {
    json_t *layers = described_layers(work);
    if (!layers) return TL_NO_MEMORY;
    for (size_t i = 0; i < json_array_size(work->layers); i++) {
        keep_least(json_array_get(work->layers, i), json_array_get(layers, i), "forward_seconds");
        keep_least(json_array_get(work->layers, i), json_array_get(layers, i), "backward_seconds");
    }
    if (work->layers)
        json_decref(layers);
    else
        work->layers = layers;
    return tl_model_set_timing(work->model, true);
}

/* Those layers that took time themselves, with milliseconds an image. */
static json_t *timed_layers(const job *work) {
    json_t *timed = json_array();
    double scale = 1e3 / (double)work->batch;
    for (size_t i = 0; i < json_array_size(work->layers); i++) {
        const json_t *layer = json_array_get(work->layers, i);
        double forward = scale * number_of(layer, "forward_seconds");
        double backward = scale * number_of(layer, "backward_seconds");
        if (forward + backward <= 0) continue;
        json_array_append_new(timed, json_pack("{s:O, s:O, s:O, s:O, s:f, s:f}", "name",
                                               json_object_get(layer, "name"), "type",
                                               json_object_get(layer, "type"), "output",
                                               json_object_get(layer, "output"), "flops",
                                               json_object_get(layer, "flops"), "forward_ms",
                                               forward, "backward_ms", backward));
    }
    return timed;
}

static void print_layers(const job *work, const json_t *layers) {
    printf("\n%-36s %-14s %-14s %10s %9s%s\n", "layer", "type", "output", "ms", "GFLOP/s",
           work->training ? " ms backward" : "");
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        char shape[CLI_SHAPE_TEXT], backward[16] = "";
        cli_shape_text(json_object_get(layer, "output"), shape);
        if (work->training)
            snprintf(backward, sizeof backward, " %11.4f", number_of(layer, "backward_ms"));
        double forward = number_of(layer, "forward_ms");
        printf("%-36s %-14s %-14s %10.4f %9.1f%s\n",
               json_string_value(json_object_get(layer, "name")),
               json_string_value(json_object_get(layer, "type")), shape, forward,
               forward > 0 ? 1e-6 * number_of(layer, "flops") / forward : 0.0, backward);
    }
}

/* --- measuring -------------------------------------------------------------------------------- */

static int compare_times(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static tl_status measure(job *work) {
    cli_progress bar;
    cli_progress_begin(&bar, "timing");
    tl_status status = run_once(work);
    bool layers = cli_given(work->session->args, "--layers");
    if (status == TL_OK && layers) status = tl_model_set_timing(work->model, true);
    for (int64_t i = 0; i < work->iterations && status == TL_OK; i++) {
        double start = cli_seconds();
        status = run_once(work);
        work->times[i] = cli_seconds() - start;
        if (status == TL_OK && layers) status = keep_layers(work);
        cli_progress_show(&bar, i + 1, work->iterations, "");
    }
    cli_progress_clear(&bar);
    qsort(work->times, (size_t)work->iterations, sizeof *work->times, compare_times);
    return status;
}

/* --- results ---------------------------------------------------------------------------------- */

/* Of the sorted times. */
static double median_of(const job *work) {
    int64_t middle = work->iterations / 2;
    return work->iterations % 2 ? work->times[middle]
                                : (work->times[middle - 1] + work->times[middle]) / 2;
}

static json_t *summary(const job *work) {
    const cli_args *args = work->session->args;
    const tl_context *ctx = work->session->ctx;
    double images = (double)work->batch, least = work->times[0] / images;
    /* A training step is the forward pass plus, in every layer, two products of the same size:
     * the gradients of its input and of its weights. */
    double gflops = tl_model_flops(work->model) * (work->training ? 3 : 1) / least / 1e9;
    return json_pack("{s:s, s:s, s:I, s:i, s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:f}", "network",
                     cli_operand(args) ? cli_operand(args) : cli_text(args, "--arch"), "mode",
                     cli_text(args, "--mode"), "batch", (json_int_t)work->batch, "threads",
                     tl_context_threads(ctx), "dtype", tl_dtype_name(work->session->dtype), "isa",
                     tl_context_isa(ctx), "iters", (json_int_t)work->iterations, "ms_per_image_min",
                     least * 1e3, "ms_per_image_median", median_of(work) / images * 1e3, "gflops",
                     gflops, "peak_rss_mb", cli_peak_rss() / CLI_MB, "predicted_rss_mb",
                     work->predicted / CLI_MB);
}

static void print_summary(const json_t *s) {
#define TEXT(key) json_string_value(json_object_get(s, key))
#define WHOLE(key) (long long)json_integer_value(json_object_get(s, key))
    printf("%s %s batch %lld threads %lld %s %s: min %.3f ms, median %.3f ms an image, "
           "%.1f GFLOP/s, peak memory %.0f MB (%.0f predicted)\n",
           TEXT("network"), TEXT("mode"), WHOLE("batch"), WHOLE("threads"), TEXT("dtype"),
           TEXT("isa"), number_of(s, "ms_per_image_min"), number_of(s, "ms_per_image_median"),
           number_of(s, "gflops"), number_of(s, "peak_rss_mb"), number_of(s, "predicted_rss_mb"));
#undef TEXT
#undef WHOLE
}

static int show(const job *work) {
    const cli_args *args = work->session->args;
    json_t *result = summary(work);
    if (!result) return cli_fail(args, "out of memory");
    if (work->layers) json_object_set_new(result, "layers", timed_layers(work));
    if (cli_given(args, "--json")) return cli_print_json(args, result);
    print_summary(result);
    if (work->layers) print_layers(work, json_object_get(result, "layers"));
    json_decref(result);
    return CLI_OK;
}

static int bench(const cli_session *session, tl_model *model) {
    const cli_args *args = session->args;
    job work = {.session = session,
                .model = model,
                .training = strcmp(cli_text(args, "--mode"), "train") == 0,
                .batch = cli_whole(args, "--batch"),
                .iterations = cli_whole(args, "--iters")};
    work.labels = calloc((size_t)work.batch, sizeof *work.labels);
    work.times = calloc((size_t)work.iterations, sizeof *work.times);
    int result;
    if (!work.labels || !work.times) {
        result = cli_fail(args, "out of memory");
    } else if (prepare(&work) != TL_OK || measure(&work) != TL_OK) {
        result = cli_failed(session);
    } else {
        result = show(&work);
    }
    tl_trainer_free(work.trainer);
    tl_tensor_free(work.input);
    json_decref(work.layers);
    free(work.times);
    free(work.labels);
    return result;
}

static int run(const cli_args *args) {
    if (cli_given(args, "--list-isa")) return list_isa(args);
    return cli_with_model(args, cli_operand(args), bench);
}

const cli_command cli_bench = {
    .name = "bench",
    .summary = "time a network",
    .operands = "[FILE|NAME]",
    .most = 1,
    .flags = flags,
    .run = run,
};
