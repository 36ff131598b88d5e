/* tl_finetune(): from a backbone and a folder of pictures to a classifier. */
#include "finetune/recipe.h"

#include <jansson.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/source.h"

/* --- before anything long ----------------------------------------------------------------- */

static tl_status open_place(tl_context *ctx, const char *option, const char *path,
                            tl_writer *probe) {
    *probe = (tl_writer){.fd = -1};
    if (!tl_option_given(path)) return TL_OK;
    tl_status status = tl_writer_open(ctx, path, probe);
    return status == TL_OK ? TL_OK : tl_fail_in(status, "option %s", option);
}

static tl_status check_two_places(const tl_writer *out, const tl_writer *report) {
    bool same = false;
    if (!out->path || !report->path) return TL_OK;
    TL_TRY(tl_writer_compare(out, report, &same));
    TL_CHECK(!same, TL_INVALID_ARGUMENT,
             "option report: %s is the file of option out: the report would replace the model",
             report->path);
    return TL_OK;
}

/* Whether both files can be put there: better known now than after an hour of training. */
static tl_status check_places(tl_context *ctx, const tl_finetune_options *o) {
    tl_writer out, report = {.fd = -1};
    tl_status status = open_place(ctx, "out", o->out, &out);
    if (status == TL_OK) status = open_place(ctx, "report", o->report, &report);
    if (status == TL_OK) status = check_two_places(&out, &report);
    tl_writer_abandon(&out);
    tl_writer_abandon(&report);
    return status;
}

static tl_status check_dtype(const tl_run *run) {
    tl_dtype dtype;
    TL_TRY(tl_dtype_parse(run->options.dtype, &dtype));
    tl_status status = tl_context_check_dtype(run->ctx, dtype);
    return status == TL_OK ? TL_OK : tl_fail_in(status, "option dtype");
}

static tl_status check(tl_run *run) {
    const tl_finetune_options *o = &run->options;
    TL_TRY(tl_finetune_options_check(run->ctx, o));
    TL_TRY(check_dtype(run));
    return check_places(run->ctx, o);
}

/* --- data --------------------------------------------------------------------------------- */

static tl_status open_folder(tl_run *run, int index, const char *path) {
    TL_TRY(tl_dataset_open(run->ctx, path, &run->scanned[index]));
    int64_t skipped = tl_dataset_skipped_count(run->scanned[index]);
    run->files += tl_dataset_count(run->scanned[index]) + skipped;
    return TL_OK;
}

static tl_status open_data(tl_run *run) {
    const tl_finetune_options *o = &run->options;
    TL_TRY(open_folder(run, 0, o->data));
    int classes = tl_dataset_class_count(run->scanned[0]);
    TL_CHECK(classes >= 2, TL_INVALID_ARGUMENT,
             "option data: %s has one class folder, '%s', expected at least 2", o->data,
             tl_dataset_class_name(run->scanned[0], 0));
    if (tl_option_given(o->val)) {
        TL_TRY(open_folder(run, 1, o->val));
        run->train = run->scanned[0];
        run->val = run->scanned[1];
        return TL_OK;
    }
    run->owns_split = true;
    return tl_dataset_split(run->scanned[0], o->val_split, o->seed, &run->train, &run->val);
}

/* --- model -------------------------------------------------------------------------------- */

static tl_status put_head(tl_run *run) {
    const tl_finetune_options *o = &run->options;
    int classes = tl_dataset_class_count(run->train);
    const char **names = tl_alloc_array(run->ctx, (size_t)classes, sizeof *names);
    TL_CHECK_MEMORY(names);
    for (int i = 0; i < classes; i++) names[i] = tl_dataset_class_name(run->train, i);
    tl_status status =
        tl_model_set_head(run->model, o->pool, o->head, o->activation, classes, names, o->seed);
    tl_free(run->ctx, names);
    return status;
}

/* The validation folder must have the same classes. Both are in byte order of names, so that
 * equal sets have equal numbers too. */
static tl_status check_val_classes(const tl_run *run) {
    if (run->owns_split) return TL_OK;
    size_t classes = (size_t)tl_dataset_class_count(run->val);
    int *map = tl_alloc_array(run->ctx, classes, sizeof *map);
    TL_CHECK_MEMORY(map);
    tl_status status = tl_match_classes(run->model, run->val, map);
    tl_free(run->ctx, map);
    return status == TL_OK ? TL_OK : tl_fail_in(status, "option val: %s", run->options.val);
}

static tl_status prepare_input(tl_run *run) {
    const tl_finetune_options *o = &run->options;
    tl_model *model = run->model;
    if (o->image_size > 0) {
        /* A classifier over a flattened map would hold on to the old size. */
        if (tl_graph_output(model->graph) > model->features) TL_TRY(tl_model_remove_head(model));
        TL_TRY(tl_model_resize_input(model, o->image_size, o->image_size));
    }
    if (tl_option_given(o->preprocess)) return tl_model_set_preprocess(model, o->preprocess);
    return tl_model_require_preprocess(model);
}

/* "conv1, bn1, layer1, ...": what layer names begin with, up to their first point. */
static void list_prefixes(const tl_graph *graph, int last, char *text, size_t size) {
    size_t used = 0;
    const char *previous = "";
    size_t previous_length = 0;
    text[0] = 0;
    for (int i = 1; i <= last && used + 64 < size; i++) {
        const char *name = graph->node[i].name;
        size_t length = strcspn(name, ".");
        bool same = length == previous_length && memcmp(name, previous, length) == 0;
        previous = name;
        previous_length = length;
        if (same || length > 48) continue;
        used += (size_t)snprintf(text + used, size - used, "%s%.*s", used ? ", " : "", (int)length,
                                 name);
    }
}

static tl_status find_freeze_layer(const tl_model *model, const char *prefix, int *last) {
    tl_layer_prefix wanted = tl_layer_prefix_make(model->graph, model->features + 1, prefix);
    for (int i = model->features; i > 0; i--)
        if (tl_layer_prefix_matches(&wanted, model->graph->node[i].name)) {
            *last = i;
            return TL_OK;
        }
    char prefixes[512];
    list_prefixes(model->graph, model->features, prefixes, sizeof prefixes);
    return tl_fail(TL_INVALID_ARGUMENT,
                   "option freeze is '%s', expected all, none or the beginning of a layer's name "
                   "(%s)",
                   prefix, prefixes);
}

static tl_status freeze(tl_run *run) {
    const char *what = tl_option_given(run->options.freeze) ? run->options.freeze : "all";
    int last = run->model->features;
    if (strcmp(what, "none") == 0)
        last = -1;
    else if (strcmp(what, "all") != 0)
        TL_TRY(find_freeze_layer(run->model, what, &last));
    return tl_model_freeze_first(run->model, last + 1);
}

static tl_status open_model(tl_run *run) {
    TL_TRY(tl_model_load(run->ctx, run->options.backbone, &run->model));
    TL_CHECK(tl_model_sees_pictures(run->model), TL_INVALID_ARGUMENT,
             "option backbone: %s takes no pictures", run->options.backbone);
    TL_TRY(prepare_input(run));
    TL_TRY(put_head(run));
    TL_TRY(check_val_classes(run));
    return freeze(run);
}

/* --- golden pictures ---------------------------------------------------------------------- */

static tl_status fit_file(const tl_run *run, const char *path, unsigned char *pixels) {
    tl_source source;
    tl_image fitted;
    TL_TRY(tl_source_open(run->ctx, path, &source));
    tl_status status = tl_image_decode_fitted(&source, &run->model->preprocess, &fitted);
    tl_source_close(&source);
    if (status != TL_OK) return status;
    memcpy(pixels, fitted.pixels, (size_t)fitted.width * (size_t)fitted.height * 3);
    tl_image_free(run->ctx, &fitted);
    return TL_OK;
}

/* The first validation pictures that can be read become the model's golden inputs. */
static tl_status keep_golden(tl_run *run) {
    enum { GOLDEN = 2 };
    const tl_preprocess *p = &run->model->preprocess;
    size_t bytes = (size_t)p->width * (size_t)p->height * 3;
    unsigned char *pixels = tl_alloc_array(run->ctx, GOLDEN, bytes);
    TL_CHECK_MEMORY(pixels);
    int count = 0;
    tl_status status = TL_OK;
    for (int64_t i = 0; i < tl_dataset_count(run->val) && count < GOLDEN; i++) {
        status = fit_file(run, tl_dataset_path(run->val, i), pixels + (size_t)count * bytes);
        if (status == TL_NO_MEMORY) break;
        count += status == TL_OK;
    }
    if (count > 0 && status != TL_NO_MEMORY)
        status = tl_model_set_golden(run->model, count, pixels);
    tl_free(run->ctx, pixels);
    /* No readable picture at all: training will say so, with its own error. */
    return count > 0 || status == TL_NO_MEMORY ? status : TL_OK;
}

/* --- trainer and samples ------------------------------------------------------------------ */

static tl_status open_trainer(tl_run *run) {
    const tl_finetune_options *o = &run->options;
    tl_optimizer_options optimizer;
    tl_optimizer_options_init(&optimizer, sizeof optimizer);
    optimizer.name = o->optimizer;
    optimizer.style = o->style;
    optimizer.lr = o->lr;
    optimizer.momentum = o->momentum;
    optimizer.nesterov = o->nesterov;
    optimizer.weight_decay = o->weight_decay;
    tl_trainer_options options;
    tl_trainer_options_init(&options, sizeof options);
    options.optimizer = &optimizer;
    options.batch = o->batch;
    options.batch_norm_training = o->batch_norm_training;
    options.seed = o->seed;
    TL_TRY(tl_dtype_parse(o->dtype, &options.dtype));
    TL_TRY(tl_trainer_create(run->model, &options, &run->trainer));
    /* What was left to the optimiser is a setting of this run as any other. */
    const tl_optimizer *made = tl_trainer_optimizer(run->trainer);
    run->options.lr = tl_optimizer_lr(made);
    run->options.weight_decay = tl_optimizer_weight_decay(made);
    tl_trainer_set_poll(run->trainer, tl_watch_poll, &run->watch);
    return TL_OK;
}

static tl_status open_samples(tl_run *run) {
    tl_loader_options options;
    tl_loader_options_init(&options, sizeof options);
    options.batch = run->options.batch;
    options.seed = run->options.seed;
    TL_TRY(tl_samples_open(run->val, run->model, run->trainer, &options, &run->val_samples));
    options.shuffle = true;
    options.augment = run->options.augment;
    return tl_samples_open(run->train, run->model, run->trainer, &options, &run->train_samples);
}

/* A cache beyond this would push other things out of memory, or leave the rest of the run too
 * little below the context's limit. Whether there is one changes no result, so it may depend on the
 * machine. */
static bool cache_fits(const tl_run *run, double bytes) {
    double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    return bytes <= memory / 4 && bytes <= (double)tl_memory_left(run->ctx) / 2;
}

/* Whether there is memory for the features of all; otherwise none is taken. */
static bool reserve_cache(tl_run *run, tl_samples *const *samples, int count) {
    double bytes = 0;
    for (int i = 0; i < count; i++) bytes += tl_samples_cache_bytes(samples[i]);
    bool fits = cache_fits(run, bytes);
    for (int i = 0; i < count && fits; i++) fits = tl_samples_reserve_cache(samples[i]) == TL_OK;
    if (fits) return true;
    for (int i = 0; i < count; i++) tl_samples_drop_cache(samples[i]);
    tl_log(run->ctx, TL_LOG_INFO,
           "features of the frozen layers would take %.0f MB: they are computed in every epoch",
           bytes / 1e6);
    return false;
}

/* What the frozen part gives is computed once, unless pictures change from epoch to epoch. */
static tl_status cache_features(tl_run *run) {
    if (tl_trainer_boundary(run->trainer) == 0) return TL_OK;
    tl_augment augment;
    TL_TRY(tl_augment_parse(run->options.augment, &augment));
    bool train_too = !tl_augment_active(&augment);
    tl_samples *const samples[] = {run->val_samples, run->train_samples};
    const int count = train_too ? 2 : 1;
    int64_t total = tl_dataset_count(run->val);
    if (train_too) total += tl_dataset_count(run->train);
    if (!reserve_cache(run, samples, count)) return TL_OK;
    double began = tl_seconds();
    tl_watch_phase(&run->watch, TL_PHASE_FEATURES, total);
    for (int i = count - 1; i >= 0; i--) TL_TRY(tl_samples_cache(samples[i], &run->watch));
    run->features_seconds = tl_seconds() - began;
    TL_TRY(tl_watch_finish(&run->watch));
    return tl_run_check_skipped(run);
}

/* --- what remains ------------------------------------------------------------------------- */

static tl_status set_summary(tl_run *run, const tl_report *report) {
    json_t *summary = tl_report_summary(report);
    json_t *more = json_pack("{s:s, s:o}", "backbone", run->model->backbone, "settings",
                             tl_finetune_options_json(run->ctx, &run->options, false));
    int failed = json_object_update(summary, more);
    json_decref(more);
    if (failed) {
        json_decref(summary);
        summary = NULL;
    }
    char *text = tl_json_text(run->ctx, summary, JSON_REAL_PRECISION(15));
    TL_CHECK_MEMORY(text);
    tl_status status = tl_model_set_training_summary(run->model, text);
    tl_free(run->ctx, text);
    return status;
}

/* The page is on the disk in full before the model appears, and appears right after it: once the
 * model is there, a renaming is all that could fail. */
static tl_status save(tl_run *run, const tl_report *report) {
    const tl_finetune_options *o = &run->options;
    if (!tl_option_given(o->report))
        return tl_option_given(o->out) ? tl_model_save(run->model, o->out) : TL_OK;
    tl_text html = {.ctx = run->ctx};
    tl_report_html(report, &html);
    tl_writer writer;
    tl_status status = html.failed ? TL_NO_MEMORY : tl_writer_open(run->ctx, o->report, &writer);
    if (status != TL_OK) {
        tl_free(run->ctx, html.data);
        return status;
    }
    status = tl_writer_write(&writer, html.data, html.length);
    tl_free(run->ctx, html.data);
    if (status == TL_OK) status = tl_writer_finish(&writer);
    if (status == TL_OK && tl_option_given(o->out)) status = tl_model_save(run->model, o->out);
    if (status == TL_OK) return tl_writer_commit(&writer);
    tl_writer_abandon(&writer);
    return status;
}

static double peak_rss_mb(void) {
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024; /* Linux counts KiB */
}

static tl_status finish(tl_run *run, tl_report **report) {
    TL_TRY(tl_run_report(run, report));
    TL_TRY(set_summary(run, *report));
    (*report)->seconds = tl_seconds() - run->started;
    (*report)->peak_rss_mb = peak_rss_mb();
    TL_TRY(tl_report_finish(*report));
    return save(run, *report);
}

static tl_status train(tl_run *run, tl_report **report) {
    TL_TRY(check(run));
    TL_TRY(open_data(run));
    TL_TRY(open_model(run));
    TL_TRY(keep_golden(run));
    TL_TRY(open_trainer(run));
    TL_TRY(open_samples(run));
    TL_TRY(cache_features(run));
    TL_TRY(tl_run_fit(run));
    return finish(run, report);
}

static void release(tl_run *run) {
    tl_samples_free(run->train_samples);
    tl_samples_free(run->val_samples);
    tl_trainer_free(run->trainer);
    tl_run_free_fit(run);
    if (run->owns_split) {
        tl_dataset_free(run->train);
        tl_dataset_free(run->val);
    }
    for (int i = 0; i < 2; i++) tl_dataset_free(run->scanned[i]);
    tl_model_free(run->model);
}

tl_status tl_finetune(tl_context *ctx, const tl_finetune_options *options, tl_model **model,
                      tl_report **report) {
    if (model) *model = NULL;
    if (report) *report = NULL;
    TL_CHECK(ctx && options, TL_INVALID_ARGUMENT, "tl_finetune: ctx or options is NULL");
    tl_run run = {.ctx = ctx, .started = tl_seconds()};
    TL_TRY(tl_finetune_options_copy(options, &run.options));
    run.watch.call = run.options.progress;
    run.watch.user = run.options.progress_user;
    tl_report *made = NULL;
    tl_status status = train(&run, &made);
    if (status == TL_OK && model) {
        *model = run.model;
        run.model = NULL;
    }
    if (status == TL_OK && report) {
        *report = made;
        made = NULL;
    }
    tl_report_free(made);
    release(&run);
    return status;
}
