/* The recipe from end to end, on pictures drawn here and a small backbone with fixed weights. */
#include "support.h"

#include <dirent.h>
#include <jansson.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "check_page.h"
#include "finetune/samples.h"
#include "small_network.h"

enum { SIDE = 32, CLASSES = 3, PICTURES = 20, PATH_CAPACITY = 256, LONG_PATH = 1024 };

static const char *const class_names[CLASSES] = {"disc", "square", "stripes"};

/* --- pictures ----------------------------------------------------------------------------- */

static void put(unsigned char *at, unsigned value, int bytes) {
    for (int i = 0; i < bytes; i++) at[i] = (unsigned char)(value >> (8 * i));
}

/* Whether the shape of a class, moved by (dx, dy), covers a pixel. */
static bool covers(int label, int x, int y, int dx, int dy) {
    int a = x - SIDE / 2 - dx, b = y - SIDE / 2 - dy;
    if (label == 0) return a * a + b * b < 81;
    if (label == 1) return abs(a) < 8 && abs(b) < 8;
    return (x + dx) % 8 < 3;
}

/* A 24-bit BMP of SIDE x SIDE: a coloured shape on a noisy ground. */
static void draw_picture(const char *path, int label, uint64_t seed) {
    enum { HEADER = 54, SIZE = HEADER + SIDE * SIDE * 3 };
    static unsigned char file[SIZE];
    memset(file, 0, HEADER);
    memcpy(file, "BM", 2);
    put(file + 2, SIZE, 4);
    put(file + 10, HEADER, 4);
    put(file + 14, 40, 4);
    put(file + 18, SIDE, 4);
    put(file + 22, SIDE, 4);
    put(file + 26, 1, 2);
    put(file + 28, 24, 2);
    uint64_t state = seed;
    int dx = (int)(support_random(&state) * 6), dy = (int)(support_random(&state) * 6);
    unsigned char *pixel = file + HEADER;
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++, pixel += 3) {
            bool inside = covers(label, x, y, dx, dy);
            for (int c = 0; c < 3; c++) {
                float light = inside ? (c == label ? 220.0f : 60.0f) : 128.0f;
                pixel[2 - c] = (unsigned char)(light + 30.0f * support_random(&state));
            }
        }
    write_bytes(path, file, SIZE);
}

static void draw_folder(const char *root, int classes, int pictures, uint64_t seed) {
    char path[LONG_PATH];
    mkdir(root, 0755);
    for (int c = 0; c < classes; c++) {
        snprintf(path, sizeof path, "%s/%s", root, class_names[c]);
        mkdir(path, 0755);
        for (int i = 0; i < pictures; i++) {
            snprintf(path, sizeof path, "%s/%s/%02d.bmp", root, class_names[c], i);
            draw_picture(path, c, seed + (uint64_t)(c * 1000 + i));
        }
    }
}

/* --- a place for a test ------------------------------------------------------------------- */

typedef struct place {
    tl_context *ctx;
    char *folder;
    size_t idle; /* bytes the context holds by itself */
    char data[PATH_CAPACITY], backbone[PATH_CAPACITY], out[PATH_CAPACITY], report[PATH_CAPACITY];
} place;

static place open_place(int threads) {
    place p = {.ctx = make_context(threads, NULL), .folder = make_folder()};
    tl_context_memory(p.ctx, &p.idle, NULL);
    snprintf(p.data, sizeof p.data, "%s/data", p.folder);
    snprintf(p.backbone, sizeof p.backbone, "%s/backbone.safetensors", p.folder);
    snprintf(p.out, sizeof p.out, "%s/model.safetensors", p.folder);
    snprintf(p.report, sizeof p.report, "%s/report.html", p.folder);
    draw_folder(p.data, CLASSES, PICTURES, 1);
    tl_model *model = small_network(p.ctx, SIDE);
    assert_ok(tl_model_save(model, p.backbone));
    tl_model_free(model);
    return p;
}

static void close_place(place *p) {
    size_t live = 0;
    tl_context_memory(p->ctx, &live, NULL);
    assert_int_equal(live, p->idle); /* every test frees what it made */
    tl_context_free(p->ctx);
    remove_folder(p->folder);
}

static tl_finetune_options base_options(const place *p) {
    tl_finetune_options o;
    tl_finetune_options_init(&o, sizeof o);
    o.backbone = p->backbone;
    o.data = p->data;
    o.preprocess = "keras-tf";
    o.val_split = 0.25;
    o.lr = 0.02;
    o.batch = 8;
    o.epochs = 8;
    o.out = p->out;
    return o;
}

static int count_entries(const char *folder) {
    int count = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; (e = readdir(dir));) count += e->d_name[0] != '.';
    for (rewinddir(dir);;) { /* a temporary would be hidden */
        struct dirent *e = readdir(dir);
        if (!e) break;
        if (e->d_name[0] == '.' && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            fail_msg("%s is left behind", e->d_name);
    }
    closedir(dir);
    return count;
}

static char *read_all(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s cannot be read", path);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*size + 1);
    assert_int_equal(fread(data, 1, *size, file), *size);
    data[*size] = 0;
    fclose(file);
    return data;
}

static double number(const tl_report *report, const char *key) {
    double value = NAN;
    assert_ok(tl_report_number(report, key, &value));
    return value;
}

/* --- from end to end ---------------------------------------------------------------------- */

static void check_saved(const place *p, const tl_report *report) {
    tl_model *model = NULL;
    double error = 1;
    assert_ok(tl_model_load(p->ctx, p->out, &model));
    assert_int_equal(tl_model_class_count(model), CLASSES);
    for (int i = 0; i < CLASSES; i++)
        assert_string_equal(tl_model_class_name(model, i), class_names[i]);
    assert_ok(tl_model_verify(model, &error));
    assert_true(error < 1e-5);
    /* The whole folder holds the validation part too: what was reported must be in its reach. */
    tl_dataset *all = NULL, *train = NULL, *val = NULL;
    tl_evaluation *e = NULL;
    assert_ok(tl_dataset_open(p->ctx, p->data, &all));
    assert_ok(tl_dataset_split(all, 0.25, 0, &train, &val));
    assert_ok(tl_evaluate(model, val, 7, &e));
    assert_true(tl_evaluation_accuracy(e) == number(report, "val_accuracy"));
    assert_true(fabs(tl_evaluation_loss(e) - number(report, "val_loss")) < 1e-5);
    assert_true(fabs(tl_evaluation_macro(e, NULL, NULL) - number(report, "macro_f1")) < 1e-12);
    assert_int_equal(tl_evaluation_count(e), tl_evaluation_count(tl_report_evaluation(report)));
    tl_evaluation_free(e);
    tl_dataset_free(all);
    tl_dataset_free(train);
    tl_dataset_free(val);
    tl_model_free(model);
}

static void test_learns_and_saves(void **state) {
    (void)state;
    place p = open_place(2);
    tl_finetune_options o = base_options(&p);
    o.report = p.report;
    o.head = "16,relu,dropout:0.1";
    tl_model *model = NULL;
    tl_report *report = NULL;
    assert_ok(tl_finetune(p.ctx, &o, &model, &report));
    assert_true(number(report, "val_accuracy") >= 0.9);
    assert_true(number(report, "images") == CLASSES * PICTURES);
    assert_true(number(report, "skipped") == 0);
    assert_true(number(report, "threads") == 2);
    assert_true(number(report, "seconds") >= number(report, "head_seconds"));
    assert_true(number(report, "features_seconds") > 0);
    check_saved(&p, report);
    size_t size = 0;
    char *html = read_all(p.report, &size);
    check_page(html);
    free(html);
    float answer[CLASSES];
    char path[LONG_PATH];
    snprintf(path, sizeof path, "%s/square/00.bmp", p.data);
    assert_ok(tl_model_predict_file(model, path, answer));
    assert_true(answer[1] > answer[0] && answer[1] > answer[2]);
    tl_model_free(model);
    tl_report_free(report);
    assert_int_equal(count_entries(p.folder), 4);
    close_place(&p);
}

static json_t *metadata_summary(const place *p) {
    tl_model *model = NULL;
    char *text = NULL;
    assert_ok(tl_model_load(p->ctx, p->out, &model));
    assert_ok(tl_model_describe(model, &text));
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    tl_string_free(p->ctx, text);
    tl_model_free(model);
    json_t *summary = json_incref(json_object_get(root, "training"));
    json_decref(root);
    return summary;
}

static void test_summary_in_the_model(void **state) {
    (void)state;
    place p = open_place(1);
    tl_finetune_options o = base_options(&p);
    o.epochs = 2;
    assert_ok(tl_finetune(p.ctx, &o, NULL, NULL));
    json_t *summary = metadata_summary(&p);
    assert_true(json_is_object(summary));
    const char *present[] = {"classes",     "images",    "skipped",  "epochs_run",
                             "best_epoch",  "val_loss",  "history",  "per_class",
                             "confusion",   "settings",  "backbone", "train_accuracy",
                             "weighted_f1", "train_loss"};
    const char *absent[] = {"seconds", "features_seconds", "head_seconds",
                            "threads", "peak_rss_mb",      "skipped_files"};
    for (size_t i = 0; i < sizeof present / sizeof *present; i++)
        if (!json_object_get(summary, present[i])) fail_msg("no %s", present[i]);
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        if (json_object_get(summary, absent[i])) fail_msg("%s is in the model", absent[i]);
    const json_t *settings = json_object_get(summary, "settings");
    assert_true(json_real_value(json_object_get(settings, "lr")) == 0.02);
    assert_null(json_object_get(settings, "data")); /* nobody's paths in a model */
    json_decref(summary);
    close_place(&p);
}

/* --- the same bits ------------------------------------------------------------------------ */

/* Trains with each number of threads and compares the files. */
static void same_at_any_thread_count(void (*change)(tl_finetune_options *)) {
    char *file[2];
    size_t size[2];
    for (int threads = 1; threads <= 2; threads++) {
        place p = open_place(threads);
        tl_finetune_options o = base_options(&p);
        o.epochs = 3;
        o.seed = 99;
        change(&o);
        assert_ok(tl_finetune(p.ctx, &o, NULL, NULL));
        file[threads - 1] = read_all(p.out, &size[threads - 1]);
        close_place(&p);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(file[0], file[1], size[0]);
    free(file[0]);
    free(file[1]);
}

static void change_head_only(tl_finetune_options *o) {
    o->head = "24,relu,dropout:0.3";
}

static void change_everything(tl_finetune_options *o) {
    o->freeze = "none";
    o->batch_norm_training = true;
    o->augment = "flip,rotation:10,shift:0.1,brightness:0.1";
    o->optimizer = "sgd";
    o->momentum = 0.9;
    o->nesterov = true;
    o->lr = 0.01;
}

static void change_last_block(tl_finetune_options *o) {
    o->freeze = "block1";
    o->optimizer = "rmsprop";
    o->style = "pytorch";
    o->lr = 1e-3;
    o->weight_decay = 1e-4;
}

static void change_everything_bf16(tl_finetune_options *o) {
    change_everything(o);
    o->dtype = "bf16";
}

/* Skips the test, by name, on machines without bf16. */
static void need_bf16(void) {
    place p = open_place(1);
    tl_status status = tl_context_check_dtype(p.ctx, TL_BF16);
    close_place(&p);
    if (status == TL_OK) return;
    assert_int_equal(status, TL_UNSUPPORTED);
    skip();
}

static void test_bf16_threads_change_no_bit(void **state) {
    (void)state;
    need_bf16();
    same_at_any_thread_count(change_everything_bf16);
}

/* As good an answer as from f32; what is saved is f32 and proves itself in f32. */
static void test_bf16_learns_as_well(void **state) {
    (void)state;
    need_bf16();
    static const char *const dtypes[2] = {"f32", "bf16"}, *const freezes[2] = {"all", "none"};
    for (int i = 0; i < 2; i++) {
        double accuracy[2], loss[2];
        for (int k = 0; k < 2; k++) {
            place p = open_place(2);
            tl_finetune_options o = base_options(&p);
            o.freeze = freezes[i];
            o.batch_norm_training = i == 1;
            o.dtype = dtypes[k];
            tl_report *report = NULL;
            assert_ok(tl_finetune(p.ctx, &o, NULL, &report));
            accuracy[k] = number(report, "val_accuracy");
            loss[k] = number(report, "val_loss");
            tl_report_free(report);
            tl_model *model = NULL;
            assert_ok(tl_model_load(p.ctx, p.out, &model));
            assert_ok(tl_model_verify(model, NULL));
            tl_model_free(model);
            close_place(&p);
        }
        print_message("freeze %s: accuracy %.3f in f32, %.3f in bf16; loss %.4f, %.4f\n",
                      freezes[i], accuracy[0], accuracy[1], loss[0], loss[1]);
        assert_true(accuracy[1] >= accuracy[0] - 0.1);
        assert_true(loss[0] != loss[1]); /* it was another computation */
    }
}

static void test_threads_change_no_bit(void **state) {
    (void)state;
    same_at_any_thread_count(change_head_only);
    same_at_any_thread_count(change_everything);
    same_at_any_thread_count(change_last_block);
}

typedef struct pair {
    place place;
    tl_model *model;
    tl_dataset *dataset;
    tl_trainer *trainer;
    tl_samples *cached, *fresh;
} pair;

static void open_pair(pair *t, bool last_block) {
    t->place = open_place(2);
    char bad[LONG_PATH];
    snprintf(bad, sizeof bad, "%s/disc/05.bmp", t->place.data);
    write_bytes(bad, "BM no picture", 13);
    assert_ok(tl_dataset_open(t->place.ctx, t->place.data, &t->dataset));
    assert_ok(tl_model_load(t->place.ctx, t->place.backbone, &t->model));
    assert_ok(tl_model_set_preprocess(t->model, "torchvision"));
    assert_ok(tl_model_set_head(t->model, "gap", "", "softmax", CLASSES, NULL, 1));
    assert_ok(tl_model_freeze(t->model, "", true));
    assert_ok(tl_model_freeze(t->model, "head", false));
    if (last_block) assert_ok(tl_model_freeze(t->model, "block2", false));
    tl_trainer_options trainer;
    tl_trainer_options_init(&trainer, sizeof trainer);
    trainer.batch = 7;
    assert_ok(tl_trainer_create(t->model, &trainer, &t->trainer));
    assert_true(tl_trainer_boundary(t->trainer) > 0);
    tl_loader_options loader;
    tl_loader_options_init(&loader, sizeof loader);
    loader.batch = 7;
    loader.shuffle = true;
    loader.seed = 4;
    assert_ok(tl_samples_open(t->dataset, t->model, t->trainer, &loader, &t->cached));
    assert_ok(tl_samples_open(t->dataset, t->model, t->trainer, &loader, &t->fresh));
    tl_watch watch = {0};
    assert_ok(tl_samples_reserve_cache(t->cached));
    assert_ok(tl_samples_cache(t->cached, &watch));
}

static void close_pair(pair *t) {
    tl_samples_free(t->cached);
    tl_samples_free(t->fresh);
    tl_trainer_free(t->trainer);
    tl_model_free(t->model);
    tl_dataset_free(t->dataset);
    close_place(&t->place);
}

static void compare_epoch(pair *t, int64_t epoch) {
    size_t width = (size_t)tl_trainer_feature_count(t->trainer);
    int64_t seen = 0;
    tl_batch a, b;
    assert_ok(tl_samples_start(t->cached, epoch));
    assert_ok(tl_samples_start(t->fresh, epoch));
    do {
        assert_ok(tl_samples_next(t->cached, &a));
        assert_ok(tl_samples_next(t->fresh, &b));
        assert_int_equal(a.count, b.count);
        size_t n = (size_t)a.count;
        if (n == 0) break;
        assert_memory_equal(a.indices, b.indices, n * sizeof *a.indices);
        assert_memory_equal(a.labels, b.labels, n * sizeof *a.labels);
        assert_memory_equal(a.features, b.features, n * width * sizeof *a.features);
        seen += a.count;
    } while (a.count > 0);
    assert_int_equal(seen, CLASSES * PICTURES - 1); /* all but the bad one, the last few too */
}

static void test_cached_features_are_the_same(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        pair t = {0};
        open_pair(&t, i == 1);
        compare_epoch(&t, 0);
        compare_epoch(&t, 1);
        close_pair(&t);
    }
}

/* --- early stopping ----------------------------------------------------------------------- */

static double val_loss_of(const json_t *history, int epoch) {
    return json_real_value(json_object_get(json_array_get(history, (size_t)epoch), "val_loss"));
}

/* Pictures that tell nothing of their class: only the training part's noise can be learned. */
static void draw_noise(const place *p) {
    char path[LONG_PATH];
    for (int c = 0; c < CLASSES; c++)
        for (int i = 0; i < PICTURES; i++) {
            snprintf(path, sizeof path, "%s/%s/%02d.bmp", p->data, class_names[c], i);
            draw_picture(path, 0, (uint64_t)(c * 7919 + i));
        }
}

static void run_early(const place *p, bool restore, int *epochs, int *best, double *loss,
                      json_t **root) {
    tl_finetune_options o = base_options(p);
    o.lr = 0.1;
    o.epochs = 40;
    o.patience = 3;
    o.restore_best = restore;
    tl_report *report = NULL;
    assert_ok(tl_finetune(p->ctx, &o, NULL, &report));
    *epochs = (int)number(report, "epochs_run");
    *best = (int)number(report, "best_epoch");
    *loss = number(report, "val_loss");
    *root = json_loads(tl_report_json(report), 0, NULL);
    check_saved(p, report);
    tl_report_free(report);
}

static void test_early_stopping_restores_the_best(void **state) {
    (void)state;
    place p = open_place(2);
    draw_noise(&p);
    int epochs, best;
    double loss;
    json_t *root;
    run_early(&p, true, &epochs, &best, &loss, &root);
    const json_t *history = json_object_get(root, "history");
    assert_int_equal(json_array_size(history), epochs);
    assert_true(epochs < 40);
    assert_int_equal(best, epochs - 3);
    for (int i = 0; i < epochs; i++) assert_true(val_loss_of(history, i) >= loss - 1e-12);
    assert_true(fabs(val_loss_of(history, best - 1) - loss) < 1e-12);
    json_decref(root);
    int epochs_again;
    run_early(&p, false, &epochs_again, &best, &loss, &root);
    assert_int_equal(epochs_again, epochs);
    assert_int_equal(best, epochs);
    assert_true(fabs(val_loss_of(json_object_get(root, "history"), epochs - 1) - loss) < 1e-12);
    json_decref(root);
    close_place(&p);
}

/* --- progress and cancelling -------------------------------------------------------------- */

typedef struct follower {
    int calls, epochs_ended;
    int64_t last_done;
    tl_phase last_phase;
    bool features_ended;
    tl_phase cancel_phase;
    int cancel_epoch; /* 0 = never */
} follower;

static int follow(void *user, const tl_progress *progress) {
    follower *f = user;
    f->calls++;
    assert_true(progress->done <= progress->total && progress->total > 0);
    if (progress->phase == f->last_phase && progress->done < f->last_done)
        assert_true(progress->phase != TL_PHASE_FEATURES);
    f->last_phase = progress->phase;
    f->last_done = progress->done;
    if (progress->phase == TL_PHASE_FEATURES) f->features_ended = progress->done == progress->total;
    if (progress->phase == TL_PHASE_TRAIN && progress->done == progress->total) {
        f->epochs_ended++;
        assert_int_equal(progress->epoch, f->epochs_ended);
        assert_true(isfinite(progress->val_loss) && isfinite(progress->loss));
    }
    return f->cancel_epoch && progress->phase == f->cancel_phase &&
           f->epochs_ended + 1 >= f->cancel_epoch;
}

static void test_progress_tells_every_epoch(void **state) {
    (void)state;
    place p = open_place(1);
    tl_finetune_options o = base_options(&p);
    follower f = {0};
    tl_finetune_options_set_progress(&o, follow, &f);
    o.epochs = 3;
    o.patience = 0;
    assert_ok(tl_finetune(p.ctx, &o, NULL, NULL));
    assert_int_equal(f.epochs_ended, 3);
    assert_true(f.features_ended);
    close_place(&p);
}

static void test_cancel_writes_nothing(void **state) {
    (void)state;
    place p = open_place(2);
    tl_finetune_options o = base_options(&p);
    o.report = p.report;
    const follower when[] = {{.cancel_epoch = 1, .cancel_phase = TL_PHASE_FEATURES},
                             {.cancel_epoch = 3, .cancel_phase = TL_PHASE_TRAIN}};
    for (int i = 0; i < 2; i++) {
        follower f = when[i];
        tl_finetune_options_set_progress(&o, follow, &f);
        tl_model *model = NULL;
        tl_report *report = NULL;
        assert_fails(tl_finetune(p.ctx, &o, &model, &report), TL_CANCELLED, "cancelled");
        assert_null(model);
        assert_null(report);
        assert_int_equal(count_entries(p.folder), 2);
    }
    close_place(&p);
}

/* --- options ------------------------------------------------------------------------------ */

static void test_every_key_can_be_set(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_finetune_options *o = NULL;
    assert_ok(tl_finetune_options_create(ctx, &o));
    static const char *const settings[][2] = {{"backbone", "resnet18"},
                                              {"data", "d"},
                                              {"val", "v"},
                                              {"val_split", "0.3"},
                                              {"preprocess", "keras-tf"},
                                              {"image_size", "96"},
                                              {"pool", "gmp"},
                                              {"head", "8,relu"},
                                              {"activation", "sigmoid"},
                                              {"freeze", "layer1"},
                                              {"augment", "flip"},
                                              {"optimizer", "adamw"},
                                              {"style", "pytorch"},
                                              {"lr", "2e-3"},
                                              {"momentum", "0.5"},
                                              {"nesterov", "true"},
                                              {"weight_decay", ".1"},
                                              {"epochs", "7"},
                                              {"batch", "9"},
                                              {"patience", "0"},
                                              {"restore_best", "false"},
                                              {"batch_norm_training", "1"},
                                              {"dtype", "f32"},
                                              {"seed", "18446744073709551615"},
                                              {"out", "o"},
                                              {"report", "r"},
                                              {"max_skipped", "0"}};
    int count = (int)(sizeof settings / sizeof *settings);
    for (int i = 0; i < count; i++) {
        assert_string_equal(tl_finetune_options_key(i), settings[i][0]);
        assert_ok(tl_finetune_options_set(o, settings[i][0], settings[i][1]));
        assert_ok(tl_finetune_options_set(o, settings[i][0], settings[i][1]));
    }
    assert_null(tl_finetune_options_key(count));
    assert_null(tl_finetune_options_key(-1));
    assert_string_equal(o->backbone, "resnet18");
    assert_string_equal(o->report, "r");
    assert_true(o->val_split == 0.3 && o->lr == 2e-3 && o->weight_decay == 0.1);
    assert_true(o->image_size == 96 && o->epochs == 7 && o->patience == 0);
    assert_true(o->nesterov && !o->restore_best && o->batch_norm_training);
    assert_true(o->seed == UINT64_MAX && o->max_skipped == 0);
    tl_finetune_options_free(o);
    tl_finetune_options_free(NULL);
    size_t live = 1;
    tl_context_memory(ctx, &live, NULL);
    assert_int_equal(live, 0);
    tl_context_free(ctx);
}

static const struct {
    const char *key, *value, *text;
} wrong_values[] = {
    {"val_split", "0", "option val_split is '0', expected a number above 0 and below 1"},
    {"val_split", "1", "above 0 and below 1"},
    {"val_split", "nan", "above 0"},
    {"lr", "0", "above 0"},
    {"lr", "-1", "above 0"},
    {"lr", "1,5", "option lr is '1,5'"},
    {"lr", "", "option lr is ''"},
    {"momentum", "-1", "a number from 0 to 1"},
    {"image_size", "5000", "a whole number from 0 to 4096"},
    {"epochs", "0", "a whole number from 1 to 1000000"},
    {"epochs", "2.5", "a whole number"},
    {"epochs", "12x", "option epochs is '12x'"},
    {"batch", "99999999999", "from 1 to 65536"},
    {"patience", "-1", "from 0 to"},
    {"nesterov", "maybe", "true or false"},
    {"seed", "-1", "a whole number from 0 to 18446744073709551615"},
    {"seed", "18446744073709551616", "whole number"},
    {"seed", "", "whole number"},
    {"pool", "avg", "one of gap, gmp, flatten"},
    {"activation", "relu", "one of softmax, sigmoid"},
    {"optimizer", "ada", "one of sgd, adam, adamw, rmsprop"},
    {"optimizer", "sgd, adam", "one of sgd"},
    {"style", "caffe", "one of keras, pytorch"},
    {"dtype", "f16", "option dtype is 'f16', expected one of f32, bf16"},
    {"max_skipped", "2", "a number from 0 to 1"},
    {"head", "256,swoosh", "swoosh"},
    {"augment", "flip,rotation:400", "from 0 to 180"},
};

static void test_wrong_values_name_the_choices(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_finetune_options *o = NULL;
    assert_ok(tl_finetune_options_create(ctx, &o));
    for (size_t i = 0; i < sizeof wrong_values / sizeof *wrong_values; i++)
        assert_fails(tl_finetune_options_set(o, wrong_values[i].key, wrong_values[i].value),
                     TL_INVALID_ARGUMENT, wrong_values[i].text);
    assert_fails(tl_finetune_options_set(o, "learning_rate", "1"), TL_NOT_FOUND,
                 "backbone, data, val, val_split");
    assert_non_null(strstr(tl_last_error(), "report, max_skipped"));
    assert_fails(tl_finetune_options_set(o, "preprocess", "sepia"), TL_NOT_FOUND, "torchvision");
    assert_fails(tl_finetune_options_set(o, "owner", "1"), TL_NOT_FOUND, "owner");
    assert_fails(tl_finetune_options_set(o, NULL, "1"), TL_INVALID_ARGUMENT, NULL);
    assert_fails(tl_finetune_options_set(o, "lr", NULL), TL_INVALID_ARGUMENT, NULL);
    assert_true(o->lr == -1 && o->epochs == 30); /* nothing wrong was taken over */
    tl_finetune_options_free(o);
    tl_finetune_options mine;
    tl_finetune_options_init(&mine, sizeof mine);
    assert_fails(tl_finetune_options_set(&mine, "data", "x"), TL_INVALID_ARGUMENT,
                 "tl_finetune_options_create");
    assert_ok(tl_finetune_options_set(&mine, "lr", "0.5"));
    tl_context_free(ctx);
}

/* --- what goes wrong ---------------------------------------------------------------------- */

/* Runs and expects a failure, with the output as it was before. */
static void refuse(const place *p, const tl_finetune_options *o, tl_status status,
                   const char *text) {
    write_bytes(p->out, "precious", 8);
    assert_fails(tl_finetune(p->ctx, o, NULL, NULL), status, text);
    size_t size = 0;
    char *kept = read_all(p->out, &size);
    assert_string_equal(kept, "precious");
    free(kept);
    unlink(p->out);
}

static void test_wrong_options_are_refused(void **state) {
    (void)state;
    place p = open_place(1);
    const tl_finetune_options good = base_options(&p);
    tl_finetune_options o;
#define REFUSE(change, status, text) (o = good, (change), refuse(&p, &o, status, text))
    REFUSE(o.backbone = NULL, TL_INVALID_ARGUMENT, "option backbone is missing");
    REFUSE(o.data = "", TL_INVALID_ARGUMENT, "option data is missing");
    REFUSE(o.epochs = -3, TL_INVALID_ARGUMENT, "option epochs is '-3'");
    REFUSE(o.lr = NAN, TL_INVALID_ARGUMENT, "option lr");
    REFUSE(o.dtype = "f16", TL_INVALID_ARGUMENT, "one of f32");
    REFUSE(o.dtype = "", TL_INVALID_ARGUMENT, "option dtype");
    REFUSE(o.size = 0, TL_INVALID_ARGUMENT, "finetune: the options' size is 0");
    REFUSE(o.lr = -0.1, TL_INVALID_ARGUMENT, "option lr is '-0.1'");
    REFUSE(o.augment = "flip,sparkle", TL_INVALID_ARGUMENT, "sparkle");
    REFUSE(o.head = "many", TL_INVALID_ARGUMENT, "many");
    REFUSE(o.activation = "sigmoid", TL_INVALID_ARGUMENT, "2 classes, got 3");
    REFUSE(o.freeze = "blok", TL_INVALID_ARGUMENT, "conv1, bn1, relu, block1, block2");
    REFUSE(o.preprocess = "sepia", TL_NOT_FOUND, "sepia");
    REFUSE(o.momentum = 0.9, TL_INVALID_ARGUMENT, "momentum is for sgd and rmsprop");
    REFUSE(o.data = "/nowhere/at/all", TL_NOT_FOUND, "/nowhere/at/all");
    REFUSE(o.backbone = "/nowhere/x.pth", TL_NOT_FOUND, "/nowhere/x.pth");
    REFUSE(o.report = "/nowhere/r.html", TL_NOT_FOUND, "option report");
    REFUSE((o.optimizer = "sgd", o.lr = 1e5, o.freeze = "none"), TL_DIVERGED, "epoch");
#undef REFUSE
    assert_fails(tl_finetune(NULL, &good, NULL, NULL), TL_INVALID_ARGUMENT, "NULL");
    assert_fails(tl_finetune(p.ctx, NULL, NULL, NULL), TL_INVALID_ARGUMENT, "NULL");
    close_place(&p);
}

/* What is left to the optimiser is its framework's default, and the report says which it was. */
static void test_settings_left_to_the_optimizer(void **state) {
    (void)state;
    static const struct {
        const char *optimizer, *style;
        double lr, weight_decay;
    } cases[] = {{NULL, NULL, 1e-3, 0},
                 {"sgd", "keras", 1e-2, 0},
                 {"adamw", NULL, 1e-3, 0.004},
                 {"adamw", "pytorch", 1e-3, 0.01},
                 {"rmsprop", "pytorch", 1e-2, 0}};
    place p = open_place(1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tl_finetune_options o = base_options(&p);
        o.epochs = 1;
        o.lr = -1;
        o.optimizer = cases[i].optimizer;
        o.style = cases[i].style;
        o.pool = o.head = o.activation = o.freeze = o.dtype = NULL;
        tl_report *report = NULL;
        assert_ok(tl_finetune(p.ctx, &o, NULL, &report));
        json_t *root = json_loads(tl_report_json(report), 0, NULL);
        json_t *settings = json_object_get(root, "settings");
        const char *name = json_string_value(json_object_get(settings, "optimizer"));
        assert_string_equal(name, cases[i].optimizer ? cases[i].optimizer : "adam");
        assert_true(json_real_value(json_object_get(settings, "lr")) == cases[i].lr);
        assert_true(json_real_value(json_object_get(settings, "weight_decay")) ==
                    cases[i].weight_decay);
        json_decref(root);
        tl_report_free(report);
    }
    close_place(&p);
}

static void note_uncached(void *user, tl_log_level level, const char *message) {
    (void)level;
    if (strstr(message, "computed in every epoch")) *(int *)user += 1;
}

/* A run under a limit of its own; how often features were not cached. */
static int run_limited(place *p, size_t limit, size_t *peak) {
    int uncached = 0;
    tl_context_options options;
    tl_context *ctx = NULL, *whole = p->ctx;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.memory_limit = limit;
    options.log = note_uncached;
    options.log_user = &uncached;
    assert_ok(tl_context_create(&options, &ctx));
    p->ctx = ctx;
    tl_finetune_options o = base_options(p);
    o.epochs = 1;
    o.batch = 1;
    o.freeze = "conv1"; /* a large map for each picture */
    assert_ok(tl_finetune(ctx, &o, NULL, NULL));
    tl_context_memory(ctx, NULL, peak);
    tl_context_free(ctx);
    p->ctx = whole;
    return uncached;
}

static void test_a_cache_keeps_to_the_limit(void **state) {
    (void)state;
    place p = open_place(1);
    size_t peak = 0, size = 0, limited_size = 0;
    assert_int_equal(run_limited(&p, 0, &peak), 0);
    char *want = read_all(p.out, &size);
    assert_int_equal(run_limited(&p, peak - peak / 8, &peak), 1);
    char *got = read_all(p.out, &limited_size);
    assert_int_equal(limited_size, size);
    assert_memory_equal(got, want, size);
    free(got);
    free(want);
    close_place(&p);
}

static void put_model(const place *p, const char *backbone) {
    tl_model *model = NULL;
    assert_ok(tl_model_create(p->ctx, backbone, 0, 7, &model));
    assert_ok(tl_model_save(model, p->backbone));
    tl_model_free(model);
}

/* SqueezeNet has features.0 to features.12, the first with weights, the next without. */
static void test_a_frozen_part_is_no_other(void **state) {
    (void)state;
    place p = open_place(2);
    put_model(&p, "squeezenet1_1");
    tl_finetune_options o = base_options(&p);
    tl_model *model = NULL;
    o.preprocess = NULL;
    o.image_size = 32;
    o.epochs = 1;
    o.freeze = "features.1";
    assert_ok(tl_finetune(p.ctx, &o, &model, NULL));
    for (int i = 0; i < model->graph->param_count; i++) {
        const tl_param *param = &model->graph->param[i];
        bool frozen = strncmp(param->name, "features.0.", 11) == 0;
        if (param->learned && param->trainable == frozen)
            fail_msg("%s is %s", param->name, frozen ? "thawed" : "frozen");
    }
    tl_model_free(model);
    close_place(&p);
}

static void test_one_file_cannot_be_model_and_report(void **state) {
    (void)state;
    place p = open_place(1);
    tl_finetune_options o = base_options(&p);
    char other[LONG_PATH], link[LONG_PATH], folder[LONG_PATH];
    snprintf(other, sizeof other, "%s/data/../model.safetensors", p.folder);
    snprintf(link, sizeof link, "%s/link", p.folder);
    assert_int_equal(symlink(p.out, link), 0);
    snprintf(folder, sizeof folder, "%s/here", p.folder);
    assert_int_equal(symlink(".", folder), 0);
    snprintf(folder, sizeof folder, "%s/here/model.safetensors", p.folder);
    const char *const reports[] = {p.out, other, link, folder};
    for (int i = 0; i < 4; i++) {
        o.report = reports[i];
        refuse(&p, &o, TL_INVALID_ARGUMENT, "is the file of option out");
    }
    count_entries(p.folder);
    close_place(&p);
}

/* Written to, but not looked into. Root may do both, and is somebody else meanwhile. */
static void test_a_folder_that_cannot_be_read(void **state) {
    (void)state;
    enum { NOBODY = 65534 };
    place p = open_place(1);
    const bool root = geteuid() == 0;
    char inside[LONG_PATH], out[LONG_PATH + 2], report[LONG_PATH + 2];
    snprintf(inside, sizeof inside, "%s/inside", p.folder);
    snprintf(out, sizeof out, "%s/m", inside);
    snprintf(report, sizeof report, "%s/r", inside);
    assert_int_equal(mkdir(inside, 0300), 0);
    assert_int_equal(chmod(p.folder, 0755), 0);
    if (root) assert_int_equal(chown(inside, NOBODY, NOBODY), 0);
    if (root) assert_int_equal(seteuid(NOBODY), 0);
    assert_null(opendir(inside));
    tl_finetune_options o = base_options(&p);
    o.epochs = 1;
    o.out = out;
    o.report = report;
    assert_ok(tl_finetune(p.ctx, &o, NULL, NULL));
    if (root) assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(inside, 0700), 0);
    assert_int_equal(access(out, F_OK), 0);
    assert_int_equal(access(report, F_OK), 0);
    close_place(&p);
}

static void spoil(const place *p, int label, int index) {
    char path[LONG_PATH];
    snprintf(path, sizeof path, "%s/%s/%02d.bmp", p->data, class_names[label], index);
    write_bytes(path, "no picture", 10);
}

static void test_bad_pictures_are_skipped_and_named(void **state) {
    (void)state;
    place p = open_place(2);
    spoil(&p, 0, 3);
    spoil(&p, 2, 11);
    spoil(&p, 2, 12);
    tl_finetune_options o = base_options(&p);
    o.report = p.report;
    tl_report *report = NULL;
    for (int cached = 0; cached < 2; cached++) {
        o.freeze = cached ? "all" : "none";
        o.lr = cached ? 0.02 : 1e-3;
        assert_ok(tl_finetune(p.ctx, &o, NULL, &report));
        assert_true(number(report, "skipped") == 3);
        assert_true(number(report, "images") == CLASSES * PICTURES - 3);
        json_t *root = json_loads(tl_report_json(report), 0, NULL);
        const json_t *files = json_object_get(root, "skipped_files");
        assert_int_equal(json_array_size(files), 3);
        const char *first = json_string_value(json_object_get(json_array_get(files, 0), "file"));
        assert_non_null(strstr(first, "disc/03.bmp"));
        json_decref(root);
        size_t size = 0;
        char *html = read_all(p.report, &size);
        check_page(html);
        assert_non_null(strstr(html, "Skipped files (3)"));
        assert_non_null(strstr(html, "stripes/12.bmp"));
        free(html);
        tl_report_free(report);
        unlink(p.out);
    }
    o.max_skipped = 0.04;
    refuse(&p, &o, TL_LIMIT, "3 of 60 pictures");
    for (int c = 0; c < CLASSES; c++)
        for (int i = 0; i < PICTURES; i++) spoil(&p, c, i);
    refuse(&p, &o, TL_LIMIT, NULL);
    close_place(&p);
}

static void test_validation_folder(void **state) {
    (void)state;
    place p = open_place(1);
    char val[PATH_CAPACITY], extra[LONG_PATH];
    snprintf(val, sizeof val, "%s/val", p.folder);
    snprintf(extra, sizeof extra, "%s/zebra", val);
    draw_folder(val, CLASSES, 4, 777);
    tl_finetune_options o = base_options(&p);
    o.val = val;
    tl_report *report = NULL;
    assert_ok(tl_finetune(p.ctx, &o, NULL, &report));
    assert_true(number(report, "images") == CLASSES * PICTURES + CLASSES * 4);
    assert_int_equal(tl_evaluation_count(tl_report_evaluation(report)), CLASSES * 4);
    tl_report_free(report);
    mkdir(extra, 0755);
    strcat(extra, "/1.bmp");
    draw_picture(extra, 0, 5);
    refuse(&p, &o, TL_INVALID_ARGUMENT, "zebra");
    char two[PATH_CAPACITY];
    snprintf(two, sizeof two, "%s/two", p.folder);
    draw_folder(two, 2, 4, 778);
    o.val = two;
    refuse(&p, &o, TL_INVALID_ARGUMENT, "stripes");
    draw_folder(val, CLASSES, 1, 3);
    o.val = NULL;
    snprintf(two, sizeof two, "%s/one", p.folder);
    draw_folder(two, 1, 4, 779);
    o.data = two;
    refuse(&p, &o, TL_INVALID_ARGUMENT, "disc");
    close_place(&p);
}

static void test_sigmoid_and_other_heads(void **state) {
    (void)state;
    place p = open_place(2);
    char two[PATH_CAPACITY];
    snprintf(two, sizeof two, "%s/two", p.folder);
    draw_folder(two, 2, PICTURES, 50);
    tl_finetune_options o = base_options(&p);
    o.data = two;
    o.activation = "sigmoid";
    const char *pools[] = {"gap", "gmp", "flatten"};
    for (int i = 0; i < 3; i++) {
        o.pool = pools[i];
        o.image_size = i == 2 ? 24 : 0;
        tl_model *model = NULL;
        tl_report *report = NULL;
        assert_ok(tl_finetune(p.ctx, &o, &model, &report));
        assert_true(number(report, "val_accuracy") >= 0.9);
        float answer[2];
        char path[LONG_PATH];
        snprintf(path, sizeof path, "%s/square/00.bmp", two);
        assert_ok(tl_model_predict_file(model, path, answer));
        assert_true(answer[1] > 0.5f && fabs(answer[0] + answer[1] - 1) < 1e-6);
        int height = 0;
        tl_model_input_size(model, &height, NULL, NULL);
        assert_int_equal(height, i == 2 ? 24 : SIDE);
        tl_model_free(model);
        tl_report_free(report);
    }
    close_place(&p);
}

/* --- memory runs out ---------------------------------------------------------------------- */

/* Fails allocation number `fail_at` and, with `keep`, all after it. The loader's threads allocate,
 * too, so that which one it hits may vary. */
typedef struct scarce {
    atomic_llong live, calls;
    long long fail_at;
    bool keep;
} scarce;

static void *scarce_alloc(void *user, void *ptr, size_t old_size, size_t new_size) {
    scarce *s = user;
    if (new_size == 0) {
        if (ptr) atomic_fetch_sub(&s->live, (long long)old_size);
        free(ptr);
        return NULL;
    }
    long long call = atomic_fetch_add(&s->calls, 1) + 1;
    if (s->fail_at && (call == s->fail_at || (s->keep && call > s->fail_at))) return NULL;
    void *moved = realloc(ptr, new_size);
    if (moved) atomic_fetch_add(&s->live, (long long)new_size - (long long)(ptr ? old_size : 0));
    return moved;
}

/* One run with few pictures; true when it got through. */
static bool run_scarce(const place *p, scarce *s, const char *data) {
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.alloc = scarce_alloc;
    options.alloc_user = s;
    tl_context *ctx = NULL;
    tl_model *model = NULL;
    tl_report *report = NULL;
    tl_status status = tl_context_create(&options, &ctx);
    if (status == TL_OK) {
        tl_finetune_options o = base_options(p);
        o.data = data;
        o.report = p->report;
        o.epochs = 1;
        o.freeze = "block1";
        status = tl_finetune(ctx, &o, &model, &report);
    }
    if (status != TL_OK && status != TL_NO_MEMORY)
        fail_msg("allocation %lld: %s: %s", s->fail_at, tl_status_name(status), tl_last_error());
    if (status != TL_OK) {
        assert_null(model);
        assert_null(report);
    }
    tl_model_free(model);
    tl_report_free(report);
    tl_context_free(ctx);
    assert_int_equal(atomic_load(&s->live), 0);
    return status == TL_OK;
}

static void test_out_of_memory_leaves_nothing(void **state) {
    (void)state;
    place p = open_place(1);
    char data[PATH_CAPACITY];
    snprintf(data, sizeof data, "%s/few", p.folder);
    draw_folder(data, 2, 3, 9);
    scarce all = {.fail_at = 0};
    assert_true(run_scarce(&p, &all, data));
    size_t want_size, size;
    char *want = read_all(p.out, &want_size);
    long long calls = atomic_load(&all.calls);
    print_message("%lld allocations\n", calls);
    for (int keep = 0; keep < 2; keep++)
        for (long long at = 1; at <= calls; at += 1 + calls / 150) {
            scarce s = {.fail_at = at, .keep = keep};
            unlink(p.out);
            unlink(p.report);
            bool through = run_scarce(&p, &s, data);
            assert_int_equal(access(p.out, F_OK) == 0, through);
            assert_int_equal(access(p.report, F_OK) == 0, through);
        }
    unlink(p.report);
    count_entries(p.folder); /* no temporary either */
    scarce again = {.fail_at = 0};
    assert_true(run_scarce(&p, &again, data));
    char *got = read_all(p.out, &size);
    assert_int_equal(size, want_size);
    assert_memory_equal(got, want, size);
    free(got);
    free(want);
    close_place(&p);
}

/* --- a real backbone ---------------------------------------------------------------------- */

static void test_resnet18(void **state) {
    (void)state;
    place p = open_place(2);
    tl_model *model = NULL;
    assert_ok(tl_model_create(p.ctx, "resnet18", 0, 7, &model));
    assert_ok(tl_model_save(model, p.backbone));
    tl_model_free(model);
    tl_finetune_options o = base_options(&p);
    o.preprocess = NULL;
    o.image_size = 32;
    o.lr = 1e-3;
    tl_report *report = NULL;
    assert_ok(tl_finetune(p.ctx, &o, NULL, &report));
    assert_true(number(report, "val_accuracy") >= 0.9);
    check_saved(&p, report);
    tl_report_free(report);
    close_place(&p);
}

/* --- a loop of one's own ------------------------------------------------------------------ */

static void test_loop_of_ones_own(void **state) {
    (void)state;
    place p = open_place(2);
    tl_dataset *dataset = NULL;
    tl_model *model = NULL;
    tl_trainer *trainer = NULL;
    tl_loader *loader = NULL;
    tl_evaluation *e = NULL;
    assert_ok(tl_dataset_open(p.ctx, p.data, &dataset));
    assert_ok(tl_model_load(p.ctx, p.backbone, &model));
    assert_ok(tl_model_set_preprocess(model, "keras-tf"));
    assert_ok(tl_model_set_head(model, "gap", "", "softmax", CLASSES, class_names, 3));
    assert_ok(tl_model_freeze(model, "conv1", true));
    tl_optimizer_options adam;
    tl_optimizer_options_init(&adam, sizeof adam);
    adam.lr = 2e-3;
    tl_trainer_options options;
    tl_trainer_options_init(&options, sizeof options);
    options.optimizer = &adam;
    assert_ok(tl_trainer_create(model, &options, &trainer));
    tl_loader_options reading;
    tl_loader_options_init(&reading, sizeof reading);
    reading.shuffle = true;
    reading.batch = 16;
    reading.augment = "flip";
    assert_ok(tl_loader_create(dataset, model, &reading, &loader));
    double first = 0, loss = 0;
    for (int epoch = 0; epoch < 6; epoch++) {
        assert_ok(tl_loader_start(loader, epoch));
        for (;;) {
            const tl_tensor *inputs = NULL;
            const int32_t *labels = NULL;
            int64_t count = 0, correct = 0;
            assert_ok(tl_loader_next(loader, &inputs, &labels, &count));
            if (count == 0) break;
            assert_ok(tl_trainer_step(trainer, inputs, labels, &loss, &correct));
            assert_in_range(correct, 0, count);
            if (first == 0) first = loss;
        }
        tl_optimizer *optimizer = tl_trainer_optimizer(trainer);
        assert_ok(tl_optimizer_set_lr(optimizer, tl_optimizer_lr(optimizer) * 0.9));
    }
    assert_true(loss < first / 2);
    assert_ok(tl_evaluate(model, dataset, 32, &e));
    assert_true(tl_evaluation_accuracy(e) > 0.9);
    tl_evaluation_free(e);
    tl_loader_free(loader);
    tl_trainer_free(trainer);
    /* Units that answer for themselves are no distribution to measure. */
    assert_ok(tl_model_remove_head(model));
    add_layer(model, "global_avg_pool", "pool", NULL, NULL);
    add_layer(model, "dense", "fc", "units=3", NULL);
    add_layer(model, "sigmoid", "labels", NULL, NULL);
    assert_fails(tl_evaluate(model, dataset, 32, &e), TL_INVALID_ARGUMENT, "several sigmoid units");
    tl_model_free(model);
    tl_dataset_free(dataset);
    close_place(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns_and_saves),
        cmocka_unit_test(test_summary_in_the_model),
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_bf16_threads_change_no_bit),
        cmocka_unit_test(test_bf16_learns_as_well),
        cmocka_unit_test(test_cached_features_are_the_same),
        cmocka_unit_test(test_early_stopping_restores_the_best),
        cmocka_unit_test(test_progress_tells_every_epoch),
        cmocka_unit_test(test_cancel_writes_nothing),
        cmocka_unit_test(test_every_key_can_be_set),
        cmocka_unit_test(test_wrong_values_name_the_choices),
        cmocka_unit_test(test_wrong_options_are_refused),
        cmocka_unit_test(test_settings_left_to_the_optimizer),
        cmocka_unit_test(test_a_cache_keeps_to_the_limit),
        cmocka_unit_test(test_a_frozen_part_is_no_other),
        cmocka_unit_test(test_one_file_cannot_be_model_and_report),
        cmocka_unit_test(test_a_folder_that_cannot_be_read),
        cmocka_unit_test(test_bad_pictures_are_skipped_and_named),
        cmocka_unit_test(test_validation_folder),
        cmocka_unit_test(test_sigmoid_and_other_heads),
        cmocka_unit_test(test_out_of_memory_leaves_nothing),
        cmocka_unit_test(test_resnet18),
        cmocka_unit_test(test_loop_of_ones_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
