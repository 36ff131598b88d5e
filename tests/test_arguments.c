/* Every public function with every bad argument: NULL, negative, zero and huge numbers, NaN, no
 * enum value, text that is no UTF-8. Nothing may crash or hang, what is refused is explained, and
 * the caller's floating-point state stays as it was. Each call has a process of its own. The calls
 * are written by make_arguments.py from the headers. */
#include "float_control.h"
#include "support.h"

#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { SIDE = 8, CLASSES = 2, PICTURES = 4, SECONDS_A_CALL = 60 };

/* One good object of every kind, and what good calls pass. */
typedef struct fixture {
    tl_context *context;
    tl_dataset *dataset;
    tl_evaluation *evaluation;
    tl_finetune_options *finetune_options;
    tl_layer *layer;
    tl_loader *loader;
    tl_model *model;
    tl_optimizer *optimizer;
    tl_report *report;
    tl_tensor *tensor, *gradient, *batch;
    tl_trainer *trainer;
    tl_model *trained;
    char *root; /* a new folder, for all files */
    char folder[128], picture[160], saved[128], npy[128], scratch[128];
    unsigned char *saved_bytes, *picture_bytes;
    size_t saved_size, picture_size;
    float floats[64], probabilities[CLASSES * 2];
    unsigned char pixels[SIDE * SIDE * 3];
    int64_t shape[2], other_shape[2];
    int ranks[1], order[2];
    int32_t labels[2];
    const char *layer_names[1], *names[8];
    const tl_tensor *layer_inputs[1];
    tl_context_options context_space;
    tl_finetune_options finetune_space;
    tl_loader_options loader_space;
    tl_optimizer_options optimizer_space;
    tl_trainer_options trainer_space;
    tl_memory memory;
    union {
        void *pointer;
        double real;
        int64_t whole;
    } out;
} fixture;

typedef struct call {
    tl_status (*run)(fixture *f);
    const char *what;
    bool good; /* all arguments are, so that it has to succeed */
} call;

#include "arguments_calls.h"

enum { CALL_COUNT = sizeof calls / sizeof calls[0] };

static const char *const class_names[CLASSES] = {"blue", "red"};

/* --- the fixture --------------------------------------------------------------------------- */

/* A BMP of one colour, 24 bits a pixel. */
static void write_picture(const char *path, unsigned char blue) {
    unsigned char file[54 + SIDE * SIDE * 3] = {'B', 'M'};
    const uint32_t header[] = {sizeof file, 0, 54, 40, SIDE, SIDE, 1 | 24u << 16};
    memcpy(file + 2, header, sizeof header);
    for (size_t i = 54; i < sizeof file; i += 3) {
        file[i] = blue;
        file[i + 2] = (unsigned char)(255 - blue);
    }
    write_bytes(path, file, sizeof file);
}

static void write_pictures(fixture *f) {
    assert_int_equal(mkdir(f->folder, 0700), 0);
    for (int c = 0; c < CLASSES; c++) {
        char path[160];
        snprintf(path, sizeof path, "%s/%s", f->folder, class_names[c]);
        assert_int_equal(mkdir(path, 0700), 0);
        for (int i = 0; i < PICTURES; i++) {
            snprintf(f->picture, sizeof f->picture, "%s/%s/%d.bmp", f->folder, class_names[c], i);
            write_picture(f->picture, (unsigned char)(200 * c + 5 * i));
        }
    }
}

static tl_model *make_model(tl_context *ctx) {
    tl_model *model = NULL;
    assert_ok(tl_model_create_empty(ctx, SIDE, SIDE, 3, &model));
    assert_ok(tl_model_add(model, "conv2d", "conv", "filters=4 kernel=3", NULL, 0, 1));
    assert_ok(tl_model_set_head(model, "gap", "", "softmax", CLASSES, class_names, 1));
    return model;
}

static unsigned char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*size);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static void name_places(fixture *f) {
    char *root = f->root = make_folder();
    snprintf(f->folder, sizeof f->folder, "%s/pictures", root);
    snprintf(f->saved, sizeof f->saved, "%s/model", root);
    snprintf(f->npy, sizeof f->npy, "%s/tensor.npy", root);
    snprintf(f->scratch, sizeof f->scratch, "%s/scratch", root);
}

static void make_layer(fixture *f) {
    const int64_t gradient_shape[2] = {4, 3};
    const tl_tensor *output = NULL;
    assert_ok(tl_tensor_create(f->context, TL_F32, 2, f->shape, &f->tensor));
    assert_ok(tl_tensor_create(f->context, TL_F32, 2, gradient_shape, &f->gradient));
    f->layer_inputs[0] = f->tensor;
    assert_ok(tl_layer_create(f->context, "dense", "units=3", 1, f->ranks, f->shape, 1, &f->layer));
    assert_ok(tl_layer_forward(f->layer, f->layer_inputs, true, &output));
}

static void make_trainer(fixture *f) {
    const int64_t shape[4] = {2, SIDE, SIDE, 3};
    tl_optimizer_options optimizer;
    tl_optimizer_options_init(&optimizer, sizeof optimizer);
    assert_ok(tl_optimizer_create(f->context, &optimizer, &f->optimizer));
    assert_ok(tl_tensor_create(f->context, TL_F32, 4, shape, &f->batch));
    f->memory.size = sizeof f->memory;
    f->trained = make_model(f->context);
    tl_trainer_options options;
    tl_trainer_options_init(&options, sizeof options);
    assert_ok(tl_trainer_create(f->trained, &options, &f->trainer));
}

static void make_report(fixture *f) {
    const char *const settings[][2] = {
        {"backbone", f->saved}, {"data", f->folder}, {"epochs", "1"}, {"val_split", "0.5"}};
    assert_ok(tl_finetune_options_create(f->context, &f->finetune_options));
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        assert_ok(tl_finetune_options_set(f->finetune_options, settings[i][0], settings[i][1]));
    assert_ok(tl_finetune(f->context, f->finetune_options, NULL, &f->report));
}

/* All but the loader, whose reader thread would not survive fork(). */
static void make_fixture(fixture *f) {
    *f = (fixture){.shape = {4, 6},
                   .other_shape = {6, 4},
                   .ranks = {2},
                   .order = {1, 0},
                   .labels = {0, 1},
                   .layer_names = {"conv"},
                   .probabilities = {0.25f, 0.75f, 0.5f, 0.5f}};
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.memory_limit = (size_t)512 << 20;
    assert_ok(tl_context_create(&options, &f->context));
    name_places(f);
    write_pictures(f);
    f->picture_bytes = read_file(f->picture, &f->picture_size);
    f->model = make_model(f->context);
    assert_ok(tl_model_save(f->model, f->saved));
    tl_model_free(f->model);
    assert_ok(tl_model_load(f->context, f->saved, &f->model)); /* with golden vectors */
    f->saved_bytes = read_file(f->saved, &f->saved_size);
    make_layer(f);
    assert_ok(tl_tensor_save_npy(f->tensor, f->npy));
    make_trainer(f);
    make_report(f);
    assert_ok(
        tl_evaluation_create(f->context, CLASSES, 2, f->probabilities, f->labels, &f->evaluation));
    assert_ok(tl_dataset_open(f->context, f->folder, &f->dataset));
}

static void free_fixture(fixture *f) {
    tl_dataset_free(f->dataset);
    tl_evaluation_free(f->evaluation);
    tl_report_free(f->report);
    tl_finetune_options_free(f->finetune_options);
    tl_trainer_free(f->trainer);
    tl_model_free(f->trained);
    tl_optimizer_free(f->optimizer);
    tl_layer_free(f->layer);
    tl_tensor_free(f->tensor);
    tl_tensor_free(f->gradient);
    tl_tensor_free(f->batch);
    tl_model_free(f->model);
    tl_context_free(f->context);
    free(f->saved_bytes);
    free(f->picture_bytes);
    remove_folder(f->root);
}

/* --- the calls ----------------------------------------------------------------------------- */

static int complain(const call *c, tl_status status, const char *what) {
    fprintf(stderr, "%s: %s: %s (%s)\n", c->what, what, tl_status_name(status), tl_last_error());
    return 1;
}

/* Its thread reads the dataset and the model, which other calls may free. */
static bool start_loader(fixture *f) {
    tl_loader_options options;
    tl_loader_options_init(&options, sizeof options);
    options.batch = 2;
    return tl_loader_create(f->dataset, f->model, &options, &f->loader) == TL_OK &&
           tl_loader_start(f->loader, 0) == TL_OK;
}

/* In the child. Returns 0 when the call did what it should. */
static int try_call(fixture *f, const call *c) {
    if (strncmp(c->what, "tl_loader_", 10) == 0 && !start_loader(f))
        return complain(c, TL_OK, "no loader");
    uint64_t control = float_unusual_control();
    float_set_control(control);
    tl_status status = c->run(f);
    if (float_control() != control)
        return complain(c, status, "the floating-point state is another");
    if (c->good && status != TL_OK) return complain(c, status, "a good call failed");
    if (status != TL_OK && !*tl_last_error()) return complain(c, status, "refused without a text");
    if (strstr(c->what, "= NULL") && status != TL_OK && status != TL_INVALID_ARGUMENT)
        return complain(c, status, "NULL is no INVALID_ARGUMENT");
    if (strcmp(tl_status_name(status), "UNKNOWN") == 0) return complain(c, status, "no status");
    return 0;
}

static bool survives(fixture *f, const call *c) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        /* cmocka's handlers would go on with the next test. */
        for (int i = 0; i < 4; i++)
            signal((const int[]){SIGSEGV, SIGBUS, SIGFPE, SIGILL}[i], SIG_DFL);
        /* Bad paths are good names of files, too. */
        if (chdir(f->root) != 0) _exit(2);
        alarm(SECONDS_A_CALL);
        _exit(try_call(f, c));
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        fprintf(stderr, "%s: ended by signal %d\n", c->what, WTERMSIG(status));
    else if (WEXITSTATUS(status) > 1)
        fprintf(stderr, "%s: ended with status %d\n", c->what, WEXITSTATUS(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void try_all(bool good) {
    fixture f;
    make_fixture(&f);
    int tried = 0, failed = 0;
    for (int i = 0; i < CALL_COUNT; i++) {
        if (calls[i].good != good) continue;
        tried++;
        failed += !survives(&f, &calls[i]);
    }
    free_fixture(&f);
    printf("%d calls\n", tried);
    assert_true(tried > 100);
    assert_int_equal(failed, 0);
}

static void test_good_calls_succeed(void **state) {
    (void)state;
    try_all(true);
}

static void test_bad_calls_are_refused_or_ignored(void **state) {
    (void)state;
    try_all(false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_calls_succeed),
        cmocka_unit_test(test_bad_calls_are_refused_or_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
