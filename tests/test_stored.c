/* Weights that stay in their file: what is in memory when, files that vanish or change, one packed
 * copy for all threads. */
#include "support.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "model/model.h"

enum { SIDE = 6, CHANNELS = 64, CLASSES = 3 };

static tl_model *make_net(tl_context *ctx) {
    tl_model *model = NULL;
    assert_ok(tl_model_create_empty(ctx, SIDE, SIDE, CHANNELS, &model));
    assert_ok(
        tl_model_add(model, "conv2d", "conv1", "filters=256 kernel=3 pad=1 bias=0", NULL, 0, 1));
    assert_ok(tl_model_add(model, "batch_norm", "bn1", NULL, NULL, 0, 1));
    assert_ok(tl_model_add(model, "relu", "relu", NULL, NULL, 0, 1));
    assert_ok(tl_model_add(model, "conv2d", "conv2", "filters=32 kernel=1", NULL, 0, 2));
    model->features = tl_model_layer_count(model) - 1;
    assert_ok(tl_model_set_head(model, "gap", "", "softmax", CLASSES, NULL, 7));
    return model;
}

static tl_tensor *make_input(tl_context *ctx, int64_t batch) {
    const int64_t shape[4] = {batch, SIDE, SIDE, CHANNELS};
    tl_tensor *input = NULL;
    assert_ok(tl_tensor_create(ctx, TL_F32, 4, shape, &input));
    uint64_t seed = 3;
    for (int64_t i = 0; i < tl_tensor_count(input); i++)
        tl_tensor_f32(input)[i] = support_random(&seed);
    return input;
}

/* A network, and a copy of it that was loaded from `path`. */
typedef struct pair {
    tl_context *ctx;
    char *folder;
    char path[4200], other[4200];
    tl_model *model, *copy;
    tl_tensor *input;
} pair;

static void open_pair(pair *p, int threads) {
    p->ctx = make_context(threads, NULL);
    p->folder = make_folder();
    snprintf(p->path, sizeof p->path, "%s/model", p->folder);
    snprintf(p->other, sizeof p->other, "%s/other", p->folder);
    p->model = make_net(p->ctx);
    p->input = make_input(p->ctx, 4);
    assert_ok(tl_model_save(p->model, p->path));
    assert_ok(tl_model_load(p->ctx, p->path, &p->copy));
}

static void close_pair(pair *p) {
    tl_tensor_free(p->input);
    tl_model_free(p->model);
    tl_model_free(p->copy);
    remove_folder(p->folder);
    tl_context_free(p->ctx);
}

static int values_in_memory(const tl_model *model) {
    int count = 0;
    for (int i = 0; i < model->graph->param_count; i++)
        count += model->graph->param[i].value != NULL;
    return count;
}

static void assert_same_answer(const pair *p) {
    tl_tensor *a = NULL, *b = NULL;
    assert_ok(tl_model_run(p->model, p->input, &a));
    assert_ok(tl_model_run(p->copy, p->input, &b));
    assert_memory_equal(tl_tensor_const_data(a), tl_tensor_const_data(b), tl_tensor_bytes(a));
    tl_tensor_free(a);
    tl_tensor_free(b);
}

static void assert_same_values(const tl_model *a, tl_model *b) {
    for (int i = 0; i < tl_model_param_count(b); i++) {
        const tl_tensor *x = a->graph->param[i].value, *y = tl_model_param(b, i);
        assert_non_null(y);
        assert_memory_equal(tl_tensor_const_data(x), tl_tensor_const_data(y), tl_tensor_bytes(x));
    }
}

static void assert_same_files(const pair *p) {
    char command[9000];
    snprintf(command, sizeof command, "cmp '%s' '%s'", p->path, p->other);
    assert_int_equal(system(command), 0);
}

/* Predicting needs no values, and values come back bit for bit, from the open file. */
static void test_values_stay_in_the_file(void **state) {
    (void)state;
    for (int threads = 1; threads <= 3; threads += 2) {
        pair p;
        open_pair(&p, threads);
        assert_int_equal(values_in_memory(p.copy), 0);
        assert_same_answer(&p);
        assert_int_equal(values_in_memory(p.copy), 0);
        assert_ok(tl_model_save(p.copy, p.other));
        assert_same_files(&p);
        assert_int_equal(unlink(p.other), 0);
        /* Its file replaced by itself, then gone. */
        assert_ok(tl_model_save(p.copy, p.path));
        assert_ok(tl_model_save(p.copy, p.other));
        assert_same_files(&p);
        assert_int_equal(unlink(p.path), 0);
        assert_int_equal(values_in_memory(p.copy), 0);
        assert_same_values(p.model, p.copy);
        assert_int_equal(values_in_memory(p.copy), p.copy->graph->param_count);
        assert_same_answer(&p);
        close_pair(&p);
    }
}

static void test_memory_is_not_kept(void **state) {
    (void)state;
    pair p;
    open_pair(&p, 2);
    tl_source source;
    unsigned char *bytes = NULL;
    size_t size = 0;
    assert_ok(tl_source_open(p.ctx, p.path, &source));
    assert_ok(tl_source_read_all(&source, 1 << 24, &bytes, &size));
    tl_source_close(&source);
    tl_model_free(p.copy);
    assert_ok(tl_model_load_memory(p.ctx, bytes, size, &p.copy));
    memset(bytes, 0xff, size);
    tl_free(p.ctx, bytes);
    assert_same_answer(&p);
    assert_same_values(p.model, p.copy);
    close_pair(&p);
}

static void test_a_file_written_to_is_noticed(void **state) {
    (void)state;
    pair p;
    open_pair(&p, 2);
    size_t before = 0, after = 0;
    tl_context_memory(p.ctx, &before, NULL);
    FILE *file = fopen(p.path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    fputc(1, file);
    fclose(file);
    /* Whatever the file system's clock makes of it. */
    assert_int_equal(utimensat(AT_FDCWD, p.path, (struct timespec[2]){{1, 0}, {1, 0}}, 0), 0);
    tl_tensor *out = NULL;
    assert_fails(tl_model_run(p.copy, p.input, &out), TL_CORRUPT, "was written to");
    assert_null(out);
    assert_null(tl_model_param(p.copy, 0));
    assert_fails(tl_model_save(p.copy, p.other), TL_CORRUPT, "was written to");
    assert_int_not_equal(access(p.other, F_OK), 0);
    tl_context_memory(p.ctx, &after, NULL);
    assert_int_equal(before, after);
    assert_int_equal(truncate(p.path, 100), 0);
    assert_fails(tl_model_run(p.copy, p.input, &out), TL_CORRUPT, "was written to");
    close_pair(&p);
}

static void train(tl_model *model, const tl_tensor *input) {
    static const int32_t labels[4] = {0, 1, 2, 0};
    tl_trainer_options options;
    tl_trainer_options_init(&options, sizeof options);
    options.batch = 4;
    tl_trainer *trainer = NULL;
    double loss;
    assert_ok(tl_trainer_create(model, &options, &trainer));
    for (int i = 0; i < 3; i++) assert_ok(tl_trainer_step(trainer, input, labels, &loss, NULL));
    tl_trainer_free(trainer);
}

/* Training brings into memory what it changes, and no more. */
static void test_training(void **state) {
    (void)state;
    pair p;
    open_pair(&p, 2);
    for (int frozen = 1; frozen >= 0; frozen--) {
        assert_ok(tl_model_freeze(p.model, "", false));
        assert_ok(tl_model_freeze(p.copy, "", false));
        if (frozen) {
            assert_ok(tl_model_freeze_first(p.model, p.model->features + 1));
            assert_ok(tl_model_freeze_first(p.copy, p.copy->features + 1));
        }
        assert_same_answer(&p); /* leaves idle plans whose weights will be old */
        train(p.model, p.input);
        train(p.copy, p.input);
        assert_same_answer(&p);
        assert_int_equal(values_in_memory(p.copy), frozen ? 2 : p.copy->graph->param_count);
    }
    assert_same_values(p.model, p.copy);
    close_pair(&p);
}

/* Growing, cutting and resizing leave values in the file where they can. */
static void test_editing(void **state) {
    (void)state;
    pair p;
    open_pair(&p, 2);
    assert_ok(tl_model_resize_input(p.copy, 2 * SIDE, SIDE));
    assert_ok(tl_model_resize_input(p.copy, SIDE, SIDE));
    assert_int_equal(values_in_memory(p.copy), 0);
    assert_same_answer(&p);
    assert_ok(tl_model_set_head(p.copy, "gmp", "", "softmax", CLASSES, NULL, 8));
    assert_ok(tl_model_set_head(p.model, "gmp", "", "softmax", CLASSES, NULL, 8));
    assert_int_equal(values_in_memory(p.copy), 2);
    assert_same_answer(&p);
    assert_same_values(p.model, p.copy);
    close_pair(&p);
}

enum { THREADS = 8 };
typedef struct crowd {
    const pair *p;
    const tl_tensor *expected;
    pthread_barrier_t start;
} crowd;

static void *run_often(void *arg) {
    crowd *c = arg;
    pthread_barrier_wait(&c->start);
    for (int i = 0; i < 10; i++) {
        tl_tensor *out = NULL;
        bool same = tl_model_run(c->p->copy, c->p->input, &out) == TL_OK &&
                    memcmp(tl_tensor_const_data(out), tl_tensor_const_data(c->expected),
                           tl_tensor_bytes(out)) == 0;
        tl_tensor_free(out);
        if (!same) return c;
    }
    return NULL;
}

/* Eight threads that all want their first answer at once hold one packed copy. */
static void test_one_copy_for_all_threads(void **state) {
    (void)state;
    pair p;
    open_pair(&p, 2);
    tl_tensor *expected = NULL;
    assert_ok(tl_model_run(p.model, p.input, &expected));
    size_t before = 0, peak = 0, run = 0;
    tl_plan_options options = {.to = tl_graph_output(p.copy->graph),
                               .input = tl_tensor_get_shape(p.input)};
    tl_plan_memory memory;
    assert_ok(tl_plan_predict(p.copy->graph, &options, &memory));
    tl_context *ctx = make_context(2, NULL);
    tl_model_free(p.copy);
    assert_ok(tl_model_load(ctx, p.path, &p.copy));
    tl_context_memory(ctx, &before, NULL);

    crowd c = {.p = &p, .expected = expected};
    pthread_t thread[THREADS];
    pthread_barrier_init(&c.start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, run_often, &c), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failed = NULL;
        pthread_join(thread[i], &failed);
        assert_null(failed);
    }
    pthread_barrier_destroy(&c.start);
    tl_context_memory(ctx, &run, &peak);
    assert_true(memory.packed > 500000);
    /* The plans' arenas and tables, and answers on their way. */
    size_t each = memory.activations + 16384;
    assert_true(run < before + memory.packed + THREADS * each);
    assert_true(peak < before + memory.packed + memory.scratch + THREADS * (each + 65536));
    tl_tensor_free(expected);
    tl_model_free(p.copy);
    p.copy = NULL;
    tl_context_free(ctx);
    close_pair(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_stay_in_the_file),
        cmocka_unit_test(test_memory_is_not_kept),
        cmocka_unit_test(test_a_file_written_to_is_noticed),
        cmocka_unit_test(test_training),
        cmocka_unit_test(test_editing),
        cmocka_unit_test(test_one_copy_for_all_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
