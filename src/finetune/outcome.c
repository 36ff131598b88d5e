/* From a finished run to its report: measures, mistakes with thumbnails, skipped files. */
#include <stdlib.h>
#include <string.h>

#include "finetune/recipe.h"
#include "image/image.h"

/* --- worst mistakes ----------------------------------------------------------------------- */

typedef struct candidate {
    int64_t answer; /* index into the answers */
    int guess;
    float confidence;
} candidate;

static int likeliest(const float *p, int classes) {
    int best = 0;
    for (int i = 1; i < classes; i++)
        if (p[i] > p[best]) best = i;
    return best;
}

/* The most confident wrong answers, in order; of equals the earlier picture first. */
static int find_mistakes(const tl_answers *answers, int classes, candidate *list) {
    int used = 0;
    for (int64_t i = 0; i < answers->count; i++) {
        const float *p = answers->probabilities + i * classes;
        int guess = likeliest(p, classes);
        bool full = used == TL_REPORT_MISTAKES;
        if (guess == answers->labels[i]) continue;
        if (full && list[used - 1].confidence >= p[guess]) continue;
        int at = full ? used - 1 : used++;
        for (; at > 0 && list[at - 1].confidence < p[guess]; at--) list[at] = list[at - 1];
        list[at] = (candidate){i, guess, p[guess]};
    }
    return used;
}

static tl_status decode_file(tl_context *ctx, const char *path, tl_image *image) {
    tl_source source;
    TL_TRY(tl_source_open(ctx, path, &source));
    tl_status status = tl_image_decode(&source, image);
    tl_source_close(&source);
    return status;
}

static tl_status shrink(tl_context *ctx, const tl_image *image, tl_image *out) {
    const int side = 192;
    int longest = image->width > image->height ? image->width : image->height;
    int most = longest < side ? longest : side;
    int width = (int)((int64_t)image->width * most / longest);
    int height = (int)((int64_t)image->height * most / longest);
    TL_TRY(tl_image_create(ctx, width > 0 ? width : 1, height > 0 ? height : 1, out));
    const float whole[4] = {0, 0, (float)image->width, (float)image->height};
    tl_status status = tl_image_resample(ctx, image, whole, TL_FILTER_BILINEAR, true, out);
    if (status != TL_OK) tl_image_free(ctx, out);
    return status;
}

static tl_status make_thumbnail(tl_context *ctx, tl_mistake *mistake) {
    tl_image image, small;
    TL_TRY(decode_file(ctx, mistake->path, &image));
    tl_status status = shrink(ctx, &image, &small);
    tl_image_free(ctx, &image);
    if (status != TL_OK) return status;
    status = tl_image_encode_jpeg(ctx, &small, 82, &mistake->jpeg, &mistake->jpeg_size);
    tl_image_free(ctx, &small);
    return status;
}

static tl_status add_mistakes(const tl_run *run, tl_report *r) {
    candidate list[TL_REPORT_MISTAKES];
    int count = find_mistakes(&run->best_answers, r->class_count, list);
    for (int i = 0; i < count; i++) {
        int64_t answer = list[i].answer;
        tl_mistake *m = &r->mistake[i];
        *m = (tl_mistake){.truth = run->best_answers.labels[answer],
                          .answer = list[i].guess,
                          .confidence = (double)list[i].confidence};
        m->path = tl_strdup(r->ctx, tl_dataset_path(run->val, run->best_answers.indices[answer]));
        r->mistake_count = i + 1;
        TL_CHECK_MEMORY(m->path);
        /* A picture that has gone since is shown as an empty frame. */
        if (make_thumbnail(r->ctx, m) == TL_NO_MEMORY) return TL_NO_MEMORY;
    }
    return TL_OK;
}

/* --- skipped files ------------------------------------------------------------------------ */

static int compare_skipped(const void *a, const void *b) {
    return strcmp(((const tl_skipped *)a)->path, ((const tl_skipped *)b)->path);
}

static tl_status add_skipped_of(tl_report *r, const tl_dataset *dataset) {
    for (int64_t i = 0; i < tl_dataset_skipped_count(dataset); i++) {
        tl_skipped *s = &r->skipped[r->skipped_count];
        s->path = tl_strdup(r->ctx, tl_dataset_skipped_path(dataset, i));
        s->reason = tl_strdup(r->ctx, tl_dataset_skipped_reason(dataset, i));
        r->skipped_count++;
        if (!s->path || !s->reason) return TL_NO_MEMORY;
    }
    return TL_OK;
}

/* Reader threads meet bad pictures in any order; the list is sorted so that it is always the
 * same. */
static tl_status add_skipped(const tl_run *run, tl_report *r) {
    const tl_dataset *sources[3];
    int source_count = tl_run_sources(run, sources);
    int64_t count = 0;
    for (int i = 0; i < source_count; i++) count += tl_dataset_skipped_count(sources[i]);
    r->skipped = tl_alloc_zero(r->ctx, (size_t)count * sizeof *r->skipped);
    TL_CHECK_MEMORY(r->skipped);
    for (int i = 0; i < source_count; i++) TL_TRY(add_skipped_of(r, sources[i]));
    qsort(r->skipped, (size_t)r->skipped_count, sizeof *r->skipped, compare_skipped);
    return TL_OK;
}

/* --- the report --------------------------------------------------------------------------- */

static tl_status add_names(const tl_run *run, tl_report *r) {
    const tl_model *model = run->model;
    r->backbone = tl_strdup(r->ctx, model->backbone);
    TL_CHECK_MEMORY(r->backbone);
    r->class_count = tl_model_class_count(model);
    r->class_name = tl_alloc_zero(r->ctx, (size_t)r->class_count * sizeof *r->class_name);
    TL_CHECK_MEMORY(r->class_name);
    for (int i = 0; i < r->class_count; i++) {
        r->class_name[i] = tl_strdup(r->ctx, tl_model_class_name(model, i));
        TL_CHECK_MEMORY(r->class_name[i]);
    }
    return TL_OK;
}

static tl_status add_epochs(const tl_run *run, tl_report *r) {
    r->epochs_run = run->epochs_run;
    r->best_epoch = run->best_epoch;
    size_t count = (size_t)run->epochs_run;
    r->epoch = tl_alloc_array(r->ctx, count, sizeof *r->epoch);
    TL_CHECK_MEMORY(r->epoch);
    memcpy(r->epoch, run->epoch, count * sizeof *r->epoch);
    return TL_OK;
}

static tl_status fill(const tl_run *run, tl_report *r) {
    const tl_answers *answers = &run->best_answers;
    r->threads = tl_context_threads(run->ctx);
    r->train_images = run->train_images;
    r->val_images = answers->count;
    r->param_count = tl_graph_param_elements(run->model->graph, false);
    r->trained_count = tl_graph_param_elements(run->model->graph, true);
    r->features_seconds = run->features_seconds;
    r->head_seconds = run->head_seconds;
    TL_TRY(add_names(run, r));
    TL_TRY(add_epochs(run, r));
    TL_TRY(add_skipped(run, r));
    r->settings = tl_finetune_options_json(run->ctx, &run->options, true);
    TL_CHECK(r->settings, TL_NO_MEMORY, "report: out of memory");
    TL_TRY(tl_evaluation_create(run->ctx, r->class_count, answers->count, answers->probabilities,
                                answers->labels, &r->evaluation));
    return add_mistakes(run, r);
}

tl_status tl_run_report(const tl_run *run, tl_report **out) {
    *out = NULL;
    tl_report *r = tl_alloc_zero(run->ctx, sizeof *r);
    TL_CHECK_MEMORY(r);
    r->ctx = run->ctx;
    tl_status status = fill(run, r);
    if (status != TL_OK) {
        tl_report_free(r);
        return status;
    }
    *out = r;
    return TL_OK;
}
