/* Folders of pictures: scanning, splitting, loading. */
#include "pictures.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/crc32.h"
#include "data/dataset.h"
#include "tensor/tensor.h"

static char *root;     /* a fresh folder */
static size_t at_rest; /* bytes of the context alone */

static int set_up_folder(void **state) {
    (void)state;
    ctx = make_context(2, NULL);
    tl_context_memory(ctx, &at_rest, NULL);
    root = make_folder();
    return 0;
}

static int tear_down_folder(void **state) {
    (void)state;
    size_t current;
    tl_context_memory(ctx, &current, NULL);
    tl_context_free(ctx);
    remove_folder(root);
    return current == at_rest ? 0 : 1;
}

/* root/name; the buffer is shared by all calls. */
static const char *at(const char *name) {
    static char path[8192];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static void folder(const char *name) {
    assert_int_equal(mkdir(at(name), 0755), 0);
}

static void picture(const char *name, uint64_t seed) {
    write_noise_bmp(at(name), 8, 6, seed);
}

static void text(const char *name) {
    write_bytes(at(name), "no picture", 10);
}

/* `count` pictures in each of two classes, "a" and "b". */
static void two_classes(int count) {
    folder("a");
    folder("b");
    for (int i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "a/%03d.bmp", i);
        picture(name, (uint64_t)i);
        snprintf(name, sizeof name, "b/%03d.bmp", i);
        picture(name, 1000 + (uint64_t)i);
    }
}

static tl_dataset *opened(void) {
    tl_dataset *dataset;
    assert_ok(tl_dataset_open(ctx, root, &dataset));
    return dataset;
}

static const char *name_of(const tl_dataset *dataset, int64_t index) {
    return tl_dataset_path(dataset, index) + strlen(root) + 1;
}

/* The reason for which root/name was skipped; fails when it was not. */
static const char *reason_for(const tl_dataset *dataset, const char *name) {
    for (int64_t i = 0; i < tl_dataset_skipped_count(dataset); i++)
        if (strcmp(tl_dataset_skipped_path(dataset, i), at(name)) == 0)
            return tl_dataset_skipped_reason(dataset, i);
    fail_msg("%s was not skipped", name);
    return NULL;
}

/* --- scanning -------------------------------------------------------------------------------- */

static void pictures_come_in_byte_order(void **state) {
    (void)state;
    folder("b");
    folder("B");
    folder("b/deep");
    folder("b/deep/er");
    picture("b/z.bmp", 1);
    picture("b/A.BMP", 1);
    picture("b/deep.jpeg", 1);
    picture("b/deep/1.PnG", 1);
    picture("b/deep/er/2.jpg", 1);
    picture("B/only.bmp", 1);
    text("b/notes.txt");
    text("b/.hidden.jpg");
    text("b/._z.bmp");
    text("readme.md");
    folder(".ipynb_checkpoints");
    tl_dataset *dataset = opened();
    static const char *const names[] = {"B/only.bmp",   "b/A.BMP",         "b/deep.jpeg",
                                        "b/deep/1.PnG", "b/deep/er/2.jpg", "b/z.bmp"};
    assert_int_equal(tl_dataset_class_count(dataset), 2);
    assert_string_equal(tl_dataset_class_name(dataset, 0), "B");
    assert_string_equal(tl_dataset_class_name(dataset, 1), "b");
    assert_int_equal(tl_dataset_count(dataset), 6);
    assert_int_equal(tl_dataset_skipped_count(dataset), 0);
    for (int i = 0; i < 6; i++) {
        assert_string_equal(name_of(dataset, i), names[i]);
        assert_int_equal(tl_dataset_label(dataset, i), i > 0);
    }
    assert_null(tl_dataset_path(dataset, 6));
    assert_null(tl_dataset_path(dataset, -1));
    assert_int_equal(tl_dataset_label(dataset, 6), -1);
    assert_null(tl_dataset_class_name(dataset, 2));
    assert_null(tl_dataset_skipped_path(dataset, 0));
    tl_dataset_free(dataset);
}

static void a_slash_at_the_end_changes_nothing(void **state) {
    (void)state;
    two_classes(1);
    tl_dataset *dataset;
    assert_ok(tl_dataset_open(ctx, at(""), &dataset));
    assert_string_equal(name_of(dataset, 0), "a/000.bmp");
    tl_dataset_free(dataset);
}

static void missing_and_empty_folders_are_errors(void **state) {
    (void)state;
    tl_dataset *dataset;
    char too_long[PATH_MAX + 10];
    memset(too_long, 'x', sizeof too_long);
    too_long[sizeof too_long - 1] = 0;
    assert_fails(tl_dataset_open(ctx, too_long, &dataset), TL_LIMIT, "bytes");
    assert_fails(tl_dataset_open(ctx, "", &dataset), TL_INVALID_ARGUMENT, NULL);
    assert_fails(tl_dataset_open(ctx, NULL, &dataset), TL_INVALID_ARGUMENT, NULL);
    assert_fails(tl_dataset_open(ctx, at("missing"), &dataset), TL_NOT_FOUND, "missing");
    assert_null(dataset);
    text("file");
    assert_fails(tl_dataset_open(ctx, at("file"), &dataset), TL_INVALID_ARGUMENT, "no folder");
    assert_fails(tl_dataset_open(ctx, root, &dataset), TL_INVALID_ARGUMENT, "no class folders");
    folder("cats");
    text("cats/list.txt");
    assert_fails(tl_dataset_open(ctx, root, &dataset), TL_INVALID_ARGUMENT, "cats");
    assert_int_equal(symlink("nowhere", at("cats/x.png")), 0);
    assert_fails(tl_dataset_open(ctx, root, &dataset), TL_INVALID_ARGUMENT, "link to nothing");
    picture("cats/one.bmp", 1);
    assert_ok(tl_dataset_open(ctx, root, &dataset)); /* one class is for others to judge */
    tl_dataset_free(dataset);
}

static void make_socket(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    const char *path = at(name);
    assert_true(strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
}

static void special_entries_are_named_and_never_block(void **state) {
    (void)state;
    two_classes(2);
    picture("loose.png", 1);
    assert_int_equal(mkfifo(at("a/fifo.png"), 0600), 0);
    assert_int_equal(symlink("/dev/zero", at("a/zero.jpg")), 0);
    assert_int_equal(symlink("gone.jpg", at("b/dangling.jpg")), 0);
    assert_int_equal(symlink("self.jpg", at("b/self.jpg")), 0);
    make_socket("b/s.jpg");
    tl_dataset *dataset = opened();
    assert_int_equal(tl_dataset_count(dataset), 4);
    assert_int_equal(tl_dataset_skipped_count(dataset), 6);
    assert_string_equal(reason_for(dataset, "a/fifo.png"), "is a FIFO, not a file");
    assert_string_equal(reason_for(dataset, "a/zero.jpg"), "is a device, not a file");
    assert_string_equal(reason_for(dataset, "b/s.jpg"), "is a socket, not a file");
    assert_string_equal(reason_for(dataset, "b/dangling.jpg"), "is a link to nothing");
    assert_non_null(strstr(reason_for(dataset, "b/self.jpg"), "symbolic links"));
    assert_non_null(strstr(reason_for(dataset, "loose.png"), "outside"));
    tl_dataset_free(dataset);
}

static void folder_loops_are_entered_once(void **state) {
    (void)state;
    two_classes(2);
    folder("a/deep");
    picture("a/deep/x.bmp", 1);
    assert_int_equal(symlink("..", at("a/deep/up")), 0);
    assert_int_equal(symlink("../..", at("a/deep/root")), 0);
    assert_int_equal(symlink(".", at("a/here")), 0);
    assert_int_equal(symlink("a", at("c")), 0); /* a class may be a link to another */
    tl_dataset *dataset = opened();
    assert_int_equal(tl_dataset_class_count(dataset), 3);
    assert_int_equal(tl_dataset_count(dataset), 3 + 2 + 3);
    tl_dataset_free(dataset);
}

static void unreadable_entries_are_skipped(void **state) {
    (void)state;
    const bool superuser = geteuid() == 0; /* who may read everything: be nobody meanwhile */
    two_classes(2);
    picture("a/secret.bmp", 1);
    folder("b/closed");
    assert_int_equal(chmod(at("a/secret.bmp"), 0), 0);
    assert_int_equal(chmod(at("b/closed"), 0), 0);
    assert_int_equal(chmod(root, 0755), 0);
    if (superuser) assert_int_equal(seteuid(65534), 0);
    tl_dataset *dataset = opened();
    if (superuser) assert_int_equal(seteuid(0), 0);
    assert_int_equal(tl_dataset_count(dataset), 4);
    assert_string_equal(reason_for(dataset, "a/secret.bmp"), "cannot be read");
    assert_non_null(strstr(reason_for(dataset, "b/closed"), "cannot be opened"));
    tl_dataset_free(dataset);
    assert_int_equal(chmod(at("b/closed"), 0700), 0);
}

static void odd_names_are_taken_as_they_are(void **state) {
    (void)state;
    two_classes(1);
    char longest[300] = "a/";
    memset(longest + 2, 'n', 251);
    strcpy(longest + 253, ".bmp");
    picture("a/new\nline.bmp", 1);
    picture("a/\xff\xfe.bmp", 2);
    picture("a/%s%n.bmp", 3);
    picture(longest, 4);
    tl_dataset *dataset = opened();
    assert_int_equal(tl_dataset_count(dataset), 6);
    tl_dataset_free(dataset);
    folder("\xc3\x28");
    assert_fails(tl_dataset_open(ctx, root, &dataset), TL_INVALID_ARGUMENT, "UTF-8");
}

static void paths_beyond_the_limit_are_skipped(void **state) {
    (void)state;
    two_classes(1);
    char name[201], inner[64];
    memset(name, 'd', 200);
    name[200] = 0;
    int fd = open(at("a"), O_RDONLY | O_DIRECTORY);
    for (int depth = 0; depth < 25; depth++) {
        assert_int_equal(mkdirat(fd, name, 0755), 0);
        int next = openat(fd, name, O_RDONLY | O_DIRECTORY);
        close(fd);
        fd = next;
    }
    close(fd);
    tl_dataset *dataset = opened();
    assert_int_equal(tl_dataset_count(dataset), 2);
    assert_int_equal(tl_dataset_skipped_count(dataset), 1);
    assert_non_null(strstr(tl_dataset_skipped_reason(dataset, 0), "longer"));
    tl_dataset_free(dataset);
    snprintf(inner, sizeof inner, "a/%s", "000.bmp");
    assert_int_equal(access(at(inner), R_OK), 0);
}

/* --- splitting ------------------------------------------------------------------------------- */

static int count_label(const tl_dataset *dataset, int label) {
    int count = 0;
    for (int64_t i = 0; i < tl_dataset_count(dataset); i++)
        count += tl_dataset_label(dataset, i) == label;
    return count;
}

static bool contains(const tl_dataset *dataset, const char *path) {
    for (int64_t i = 0; i < tl_dataset_count(dataset); i++)
        if (strcmp(tl_dataset_path(dataset, i), path) == 0) return true;
    return false;
}

static void a_split_is_stratified_and_complete(void **state) {
    (void)state;
    static const struct {
        double fraction;
        int expected;
    } table[] = {{0.2, 2}, {0.25, 3}, {0.001, 1}, {0.999, 9}, {0.5, 5}};
    two_classes(10);
    picture("b/extra.bmp", 7);
    tl_dataset *dataset = opened(), *train, *validation;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        assert_ok(tl_dataset_split(dataset, table[i].fraction, 1, &train, &validation));
        assert_int_equal(count_label(validation, 0), table[i].expected);
        assert_int_equal(count_label(train, 0), 10 - table[i].expected);
        assert_int_equal(tl_dataset_count(train) + tl_dataset_count(validation), 21);
        assert_int_equal(tl_dataset_class_count(validation), 2);
        for (int64_t k = 0; k < tl_dataset_count(train); k++)
            assert_false(contains(validation, tl_dataset_path(train, k)));
        tl_dataset_free(train);
        tl_dataset_free(validation);
    }
    tl_dataset_free(dataset);
}

static tl_dataset *validation_of(uint64_t seed) {
    tl_dataset *dataset = opened(), *train, *validation;
    assert_ok(tl_dataset_split(dataset, 0.3, seed, &train, &validation));
    tl_dataset_free(dataset);
    tl_dataset_free(train);
    return validation;
}

static int common(const tl_dataset *a, const tl_dataset *b) {
    int count = 0;
    for (int64_t i = 0; i < tl_dataset_count(a); i++) count += contains(b, tl_dataset_path(a, i));
    return count;
}

static void a_split_follows_from_seed_and_names(void **state) {
    (void)state;
    two_classes(20);
    tl_dataset *first = validation_of(1), *again = validation_of(1), *other = validation_of(2);
    assert_int_equal(tl_dataset_count(first), 12);
    assert_int_equal(common(first, again), 12);
    assert_true(common(first, other) < 12);
    /* One more picture pushes at most one out. */
    picture("a/another.bmp", 1);
    tl_dataset *grown = validation_of(1);
    assert_true(common(first, grown) >= 11);
    tl_dataset_free(first);
    tl_dataset_free(again);
    tl_dataset_free(other);
    tl_dataset_free(grown);
}

static void impossible_splits_are_refused(void **state) {
    (void)state;
    static const double fractions[] = {0, 1, -0.5, 2, NAN, INFINITY};
    two_classes(3);
    folder("lonely");
    picture("lonely/1.bmp", 1);
    tl_dataset *dataset = opened(), *train, *validation;
    for (size_t i = 0; i < sizeof fractions / sizeof *fractions; i++)
        assert_fails(tl_dataset_split(dataset, fractions[i], 1, &train, &validation),
                     TL_INVALID_ARGUMENT, "fraction");
    assert_fails(tl_dataset_split(dataset, 0.2, 1, &train, &validation), TL_INVALID_ARGUMENT,
                 "lonely");
    assert_null(train);
    assert_null(validation);
    tl_dataset_free(dataset);
}

/* --- loading --------------------------------------------------------------------------------- */

static tl_preprocess small_input(void) {
    tl_preprocess p;
    assert_ok(tl_preprocess_preset("torchvision", 5, 4, &p));
    return p;
}

static tl_loader *loader_of(tl_dataset *dataset, tl_loader_options options) {
    tl_preprocess p = small_input();
    tl_loader *loader;
    assert_ok(tl_loader_open(dataset, &p, &options, &loader));
    return loader;
}

static tl_loader_options options_of(int batch, bool shuffle, const char *augment, int threads) {
    tl_loader_options options;
    tl_loader_options_init(&options, sizeof options);
    options.batch = batch;
    options.shuffle = shuffle;
    options.augment = augment;
    options.threads = threads;
    options.seed = 5;
    return options;
}

/* A checksum over one epoch's batches: their sizes, pixels, labels and indices. */
static uint32_t epoch_crc(tl_loader *loader, int64_t epoch, int64_t *pictures) {
    uint32_t crc = 0;
    assert_ok(tl_loader_start(loader, epoch));
    for (*pictures = 0;;) {
        const tl_tensor *inputs;
        const int32_t *labels;
        int64_t count;
        assert_ok(tl_loader_next(loader, &inputs, &labels, &count));
        if (count == 0) return crc;
        assert_int_equal(tl_tensor_shape(inputs)[0], count);
        crc = tl_crc32(crc, tl_tensor_const_data(inputs), tl_tensor_bytes(inputs));
        crc = tl_crc32(crc, labels, (size_t)count * sizeof *labels);
        crc = tl_crc32(crc, tl_loader_indices(loader), (size_t)count * sizeof(int64_t));
        *pictures += count;
    }
}

static void batches_hold_what_the_model_wants(void **state) {
    (void)state;
    two_classes(5);
    tl_dataset *dataset = opened();
    tl_preprocess p = small_input();
    tl_loader *loader = loader_of(dataset, options_of(4, false, NULL, 0));
    assert_ok(tl_loader_start(loader, 0));
    static const int64_t sizes[] = {4, 4, 2, 0, 0};
    for (int64_t batch = 0, index = 0; batch < 5; batch++) {
        const tl_tensor *inputs;
        const int32_t *labels;
        int64_t count;
        assert_ok(tl_loader_next(loader, &inputs, &labels, &count));
        assert_int_equal(count, sizes[batch]);
        for (int64_t i = 0; i < count; i++, index++) {
            float expected[4 * 5 * 3];
            tl_image image;
            assert_ok(decode_file(ctx, tl_dataset_path(dataset, index), &image));
            assert_ok(tl_preprocess_apply(ctx, &p, &image, expected));
            assert_memory_equal(expected, tl_tensor_const_f32(inputs) + i * 60, sizeof expected);
            assert_int_equal(labels[i], index >= 5);
            assert_int_equal(tl_loader_indices(loader)[i], index);
            tl_image_free(ctx, &image);
        }
    }
    tl_loader_free(loader);
    tl_dataset_free(dataset);
}

static void batches_do_not_depend_on_threads(void **state) {
    (void)state;
    static const int threads[] = {1, 2, 5};
    two_classes(23);
    text("a/007.bmp");
    text("b/011.bmp");
    uint32_t expected[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        tl_dataset *dataset = opened();
        tl_loader *loader = loader_of(
            dataset, options_of(6, true, "flip,rotation:20,crop:0.3,contrast:0.5", threads[i]));
        for (int64_t epoch = 0; epoch < 3; epoch++) {
            int64_t pictures;
            uint32_t crc = epoch_crc(loader, epoch, &pictures);
            assert_int_equal(pictures, 44);
            if (i == 0) expected[epoch] = crc;
            assert_int_equal(crc, expected[epoch]);
        }
        /* In the order in which the shuffled epoch met them, and once. */
        assert_int_equal(tl_dataset_skipped_count(dataset), 2);
        assert_non_null(strstr(tl_dataset_skipped_reason(dataset, 0), "unknown format"));
        tl_loader_free(loader);
        tl_dataset_free(dataset);
    }
    assert_int_not_equal(expected[0], expected[1]);
    assert_int_not_equal(expected[1], expected[2]);
}

typedef struct onlooker {
    tl_dataset *dataset;
    int64_t seen;
} onlooker;

static void look(void *user, tl_log_level level, const char *message) {
    onlooker *o = user;
    (void)level;
    if (strstr(message, "skipped")) o->seen = tl_dataset_skipped_count(o->dataset);
}

static void a_log_callback_may_look_at_the_dataset(void **state) {
    (void)state;
    two_classes(5);
    text("a/007.bmp");
    onlooker o = {0};
    tl_context_options options;
    tl_context_options_init(&options, sizeof options);
    options.threads = 1;
    options.log = look;
    options.log_user = &o;
    tl_context *own = NULL;
    assert_ok(tl_context_create(&options, &own));
    assert_ok(tl_dataset_open(own, root, &o.dataset));
    tl_loader *loader = loader_of(o.dataset, options_of(4, false, NULL, 1));
    int64_t pictures;
    (void)epoch_crc(loader, 0, &pictures);
    assert_int_equal(o.seen, 1);
    tl_loader_free(loader);
    tl_dataset_free(o.dataset);
    tl_context_free(own);
}

static void an_epoch_can_be_abandoned(void **state) {
    (void)state;
    two_classes(30);
    tl_dataset *dataset = opened();
    tl_loader *loader = loader_of(dataset, options_of(4, true, "flip", 3));
    int64_t pictures, count;
    uint32_t expected = epoch_crc(loader, 1, &pictures);
    for (int batches = 0; batches < 6; batches++) {
        const tl_tensor *inputs;
        const int32_t *labels;
        assert_ok(tl_loader_start(loader, 0));
        for (int i = 0; i < batches; i++)
            assert_ok(tl_loader_next(loader, &inputs, &labels, &count));
        assert_int_equal(epoch_crc(loader, 1, &pictures), expected);
    }
    assert_ok(tl_loader_start(loader, 2));
    tl_loader_free(loader); /* with readers at work */
    tl_dataset_free(dataset);
}

static void a_file_may_vanish_or_shrink(void **state) {
    (void)state;
    two_classes(6);
    tl_dataset *dataset = opened();
    tl_loader *loader = loader_of(dataset, options_of(5, false, NULL, 2));
    int64_t pictures;
    epoch_crc(loader, 0, &pictures);
    assert_int_equal(pictures, 12);
    assert_int_equal(unlink(at("a/002.bmp")), 0);
    assert_int_equal(truncate(at("b/003.bmp"), 60), 0);
    for (int64_t epoch = 1; epoch < 4; epoch++) {
        epoch_crc(loader, epoch, &pictures);
        assert_int_equal(pictures, 10);
        assert_int_equal(tl_dataset_skipped_count(dataset), 2);
    }
    assert_string_equal(tl_dataset_skipped_path(dataset, 0), at("a/002.bmp"));
    assert_non_null(strstr(tl_dataset_skipped_reason(dataset, 0), "No such file"));
    assert_string_equal(tl_dataset_skipped_path(dataset, 1), at("b/003.bmp"));
    assert_non_null(strstr(tl_dataset_skipped_reason(dataset, 1), "last row"));
    assert_null(strstr(tl_dataset_skipped_reason(dataset, 1), "003.bmp"));
    tl_loader_free(loader);
    tl_dataset_free(dataset);
}

static void no_readable_picture_is_an_error(void **state) {
    (void)state;
    folder("a");
    text("a/1.jpg");
    text("a/2.png");
    tl_dataset *dataset = opened();
    tl_loader *loader = loader_of(dataset, options_of(2, false, NULL, 1));
    const tl_tensor *inputs;
    const int32_t *labels;
    int64_t count;
    for (int64_t epoch = 0; epoch < 2; epoch++) {
        assert_ok(tl_loader_start(loader, epoch));
        assert_fails(tl_loader_next(loader, &inputs, &labels, &count), TL_LIMIT, "1.jpg");
    }
    assert_int_equal(tl_dataset_skipped_count(dataset), 2);
    tl_loader_free(loader);
    tl_dataset_free(dataset);
}

static void loader_options_are_checked(void **state) {
    (void)state;
    two_classes(1);
    tl_dataset *dataset = opened();
    tl_preprocess p = small_input();
    tl_loader *loader;
    const tl_tensor *inputs;
    const int32_t *labels;
    int64_t count;
    static const struct {
        int batch, threads;
        const char *augment, *text;
    } table[] = {{0, 1, NULL, "batch"},    {-1, 1, NULL, "batch"},     {70000, 1, NULL, "batch"},
                 {1, -1, NULL, "threads"}, {1, 2000, NULL, "threads"}, {1, 1, "spin", "spin"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        tl_loader_options options =
            options_of(table[i].batch, false, table[i].augment, table[i].threads);
        assert_fails(tl_loader_open(dataset, &p, &options, &loader), TL_INVALID_ARGUMENT,
                     table[i].text);
        assert_null(loader);
    }
    assert_fails(tl_loader_create(dataset, NULL, NULL, &loader), TL_INVALID_ARGUMENT, "model");
    assert_ok(tl_loader_open(dataset, &p, NULL, &loader));
    assert_fails(tl_loader_next(loader, &inputs, &labels, &count), TL_INVALID_ARGUMENT, "start");
    assert_fails(tl_loader_start(loader, -1), TL_INVALID_ARGUMENT, "epoch");
    tl_loader_free(loader);
    tl_dataset_free(dataset);
}

/* --- lack of memory -------------------------------------------------------------------------- */

static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;

static void *locked_alloc(void *user, void *ptr, size_t old_size, size_t new_size) {
    pthread_mutex_lock(&fault_lock);
    void *result = counting_alloc(user, ptr, old_size, new_size);
    pthread_mutex_unlock(&fault_lock);
    return result;
}

static tl_status scan_split_load(tl_context *faulty) {
    tl_dataset *dataset, *train = NULL, *validation = NULL;
    tl_loader *loader = NULL;
    tl_preprocess p = small_input();
    tl_loader_options options = options_of(2, true, "flip,zoom:0.1", 1);
    tl_status status = tl_dataset_open(faulty, root, &dataset);
    if (status == TL_OK) status = tl_dataset_split(dataset, 0.5, 1, &train, &validation);
    if (status == TL_OK) status = tl_loader_open(train, &p, &options, &loader);
    if (status == TL_OK) status = tl_loader_start(loader, 0);
    for (int64_t count = 1; status == TL_OK && count > 0;) {
        const tl_tensor *inputs;
        const int32_t *labels;
        status = tl_loader_next(loader, &inputs, &labels, &count);
    }
    tl_loader_free(loader);
    tl_dataset_free(train);
    tl_dataset_free(validation);
    tl_dataset_free(dataset);
    return status;
}

static void lack_of_memory_is_survived(void **state) {
    (void)state;
    two_classes(4);
    text("a/bad.jpg");
    for (int keep = 0; keep < 2; keep++) {
        tl_status status = TL_NO_MEMORY;
        for (size_t call = 1; status != TL_OK; call++) {
            counting_allocator allocator = {0};
            tl_context_options options;
            tl_context *faulty;
            tl_context_options_init(&options, sizeof options);
            options.alloc = locked_alloc;
            options.alloc_user = &allocator;
            options.threads = 1;
            assert_ok(tl_context_create(&options, &faulty));
            size_t live = allocator.live;
            allocator.keep_failing = keep;
            allocator.fail_at = allocator.calls + call;
            status = scan_split_load(faulty);
            assert_true(status == TL_OK || status == TL_NO_MEMORY);
            assert_int_equal(allocator.live, live);
            tl_context_free(faulty);
        }
    }
}

#define DATA_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_folder, tear_down_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        DATA_TEST(pictures_come_in_byte_order),
        DATA_TEST(a_slash_at_the_end_changes_nothing),
        DATA_TEST(missing_and_empty_folders_are_errors),
        DATA_TEST(special_entries_are_named_and_never_block),
        DATA_TEST(folder_loops_are_entered_once),
        DATA_TEST(unreadable_entries_are_skipped),
        DATA_TEST(odd_names_are_taken_as_they_are),
        DATA_TEST(paths_beyond_the_limit_are_skipped),
        DATA_TEST(a_split_is_stratified_and_complete),
        DATA_TEST(a_split_follows_from_seed_and_names),
        DATA_TEST(impossible_splits_are_refused),
        DATA_TEST(batches_hold_what_the_model_wants),
        DATA_TEST(batches_do_not_depend_on_threads),
        DATA_TEST(a_log_callback_may_look_at_the_dataset),
        DATA_TEST(an_epoch_can_be_abandoned),
        DATA_TEST(a_file_may_vanish_or_shrink),
        DATA_TEST(no_readable_picture_is_an_error),
        DATA_TEST(loader_options_are_checked),
        DATA_TEST(lack_of_memory_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
