/* NumPy files. */
#include "support.h"

#include "hostile.h"

typedef struct npy_case {
    const char *name;
    int major;
    const char *header;
    size_t data; /* bytes after the header */
    tl_status status;
    const char *text;
} npy_case;

#define F4 "'descr': '<f4', "
#define C_ORDER "'fortran_order': False, "

static const npy_case cases[] = {
    {"good", 1, "{" F4 C_ORDER "'shape': (2, 3), }  \n", 24, TL_OK, ""},
    {"version 2", 2, "{" F4 C_ORDER "'shape': (6,)}\n", 24, TL_OK, ""},
    {"version 3", 3, "{\"shape\": (), " F4 C_ORDER "}\n", 4, TL_OK, ""},
    {"Python 2's long", 1, "{" F4 C_ORDER "'shape': (2L,)}\n", 8, TL_OK, ""},
    {"vector in Fortran order", 1, "{" F4 "'fortran_order': True, 'shape': (1,)}", 4, TL_OK, ""},
    {"empty tensor", 1, "{" F4 C_ORDER "'shape': (0, 7)}", 0, TL_OK, ""},
    {"version 4", 4, "{}", 0, TL_UNSUPPORTED, "byte 6: .npy version 4.0"},
    {"Fortran order", 1, "{" F4 "'fortran_order': True, 'shape': (1, 1)}", 4, TL_UNSUPPORTED,
     "fortran_order is True"},
    {"big endian", 1, "{'descr': '>f4', " C_ORDER "'shape': (1,)}", 4, TL_UNSUPPORTED, "\">f4\""},
    {"structured", 1, "{'descr': [('a', '<f4')], " C_ORDER "'shape': (1,)}", 4, TL_UNSUPPORTED,
     "structured"},
    {"objects", 1, "{'descr': '|O', " C_ORDER "'shape': (1,)}", 8, TL_UNSUPPORTED, "\"|O\""},
    {"rank 7", 1, "{" F4 C_ORDER "'shape': (1, 1, 1, 1, 1, 1, 1)}", 4, TL_LIMIT,
     "more than 6 dimensions"},
    {"one byte short", 1, "{" F4 C_ORDER "'shape': (2,)}", 7, TL_TRUNCATED, "needs 8 bytes, 7"},
    {"one byte more", 1, "{" F4 C_ORDER "'shape': (2,)}", 9, TL_CORRUPT, "1 bytes after the last"},
    {"huge", 1, "{" F4 C_ORDER "'shape': (1000000000000,)}", 8, TL_TRUNCATED, "4000000000000"},
    {"overflow", 1, "{" F4 C_ORDER "'shape': (4294967296, 4294967296)}", 8, TL_CORRUPT,
     "overflows"},
    {"overflow behind a 0", 1, "{" F4 C_ORDER "'shape': (9223372036854775807, 4, 0)}", 8,
     TL_CORRUPT, "overflows"},
    {"2^64", 1, "{" F4 C_ORDER "'shape': (18446744073709551616,)}", 8, TL_CORRUPT,
     "a dimension below 2^63"},
    {"negative", 1, "{" F4 C_ORDER "'shape': (-1,)}", 8, TL_CORRUPT, "expected a dimension"},
    {"no shape", 1, "{" F4 C_ORDER "}", 8, TL_CORRUPT, "lacks"},
    {"key twice", 1, "{" F4 F4 C_ORDER "'shape': ()}", 4, TL_CORRUPT, "once each"},
    {"unknown key", 1, "{" F4 C_ORDER "'shape': (), 'x': 1}", 4, TL_CORRUPT, "once each"},
    {"no dict", 1, "[1]", 4, TL_CORRUPT, "byte 10: header has 0x5b, expected {"},
    {"text after it", 1, "{" F4 C_ORDER "'shape': ()} x", 4, TL_CORRUPT, "the header's end"},
    {"unended text", 1, "{'descr", 4, TL_CORRUPT, "quoted text"},
    {"code", 1, "__import__('os').system('true')", 4, TL_CORRUPT, "expected {"},
};

static size_t build(bytes *b, const npy_case *c) {
    put_text(b, "\x93NUMPY");
    put_number(b, (uint64_t)c->major, 1);
    put_number(b, 0, 1);
    put_number(b, strlen(c->header), c->major == 1 ? 2 : 4);
    put_text(b, c->header);
    size_t begin = b->size;
    for (size_t i = 0; i < c->data; i++) put_number(b, i, 1);
    return begin;
}

static void reads_or_refuses_every_case(void **state) {
    (void)state;
    char *folder = make_folder(), path[4200];
    snprintf(path, sizeof path, "%s/x.npy", folder);
    tl_context *ctx = hostile_context();
    size_t before = hostile.live;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes b = {0};
        size_t begin = build(&b, &cases[i]);
        write_bytes(path, b.data, b.size);
        hostile.peak = hostile.live;
        tl_tensor *tensor = NULL;
        tl_status status = tl_tensor_load_npy(ctx, path, &tensor);
        if (status != cases[i].status ||
            (status != TL_OK && (!strstr(tl_last_error(), cases[i].text) || tensor ||
                                 !strstr(tl_last_error(), path)))) {
            fail_msg("%s: %s %s", cases[i].name, tl_status_name(status), tl_last_error());
        }
        if (status == TL_OK) {
            assert_int_equal(tl_tensor_bytes(tensor), cases[i].data);
            assert_memory_equal(tl_tensor_const_data(tensor), b.data + begin, cases[i].data);
        }
        tl_tensor_free(tensor);
        assert_int_equal(hostile.live, before);
        assert_true(hostile.peak < 100000);
        free(b.data);
    }
    tl_context_free(ctx);
    remove_folder(folder);
}

static void every_dtype_comes_back(void **state) {
    (void)state;
    char *folder = make_folder(), path[4200];
    snprintf(path, sizeof path, "%s/x.npy", folder);
    tl_context *ctx = hostile_context();
    static const int64_t shape[3] = {2, 3, 4};
    for (int rank = 0; rank <= 3; rank++) {
        for (int dtype = TL_F32; dtype <= TL_BOOL; dtype++) {
            tl_tensor *tensor = NULL, *back = NULL;
            assert_ok(tl_tensor_create(ctx, (tl_dtype)dtype, rank, shape, &tensor));
            unsigned char *data = tl_tensor_data(tensor);
            for (size_t i = 0; i < tl_tensor_bytes(tensor); i++) data[i] = (unsigned char)(i & 1);
            if (dtype == TL_BF16) {
                assert_fails(tl_tensor_save_npy(tensor, path), TL_UNSUPPORTED, "bf16");
            } else {
                assert_ok(tl_tensor_save_npy(tensor, path));
                assert_ok(tl_tensor_load_npy(ctx, path, &back));
                assert_int_equal(tl_tensor_dtype(back), dtype);
                assert_int_equal(tl_tensor_rank(back), rank);
                assert_memory_equal(tl_tensor_shape(back), shape, (size_t)rank * sizeof shape[0]);
                assert_memory_equal(tl_tensor_const_data(back), data, tl_tensor_bytes(tensor));
            }
            tl_tensor_free(back);
            tl_tensor_free(tensor);
        }
    }
    tl_context_free(ctx);
    remove_folder(folder);
}

/* The very bytes that NumPy 1.24's np.save() writes for np.arange(3, dtype='<f4'). */
static void writes_what_numpy_writes(void **state) {
    (void)state;
    char *folder = make_folder(), path[4200];
    snprintf(path, sizeof path, "%s/x.npy", folder);
    tl_context *ctx = hostile_context();
    float values[3] = {0, 1, 2};
    const int64_t shape[1] = {3};
    tl_tensor *tensor = NULL;
    assert_ok(tl_tensor_wrap(ctx, TL_F32, 1, shape, values, sizeof values, &tensor));
    assert_ok(tl_tensor_save_npy(tensor, path));
    bytes expected = {0};
    put(&expected, "\x93NUMPY\x01\x00\x76\x00", 10);
    put_text(&expected, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }");
    while (expected.size < 127) put_text(&expected, " ");
    put_text(&expected, "\n");
    put(&expected, values, sizeof values);
    unsigned char got[256];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(got, 1, sizeof got, file), expected.size);
    fclose(file);
    assert_memory_equal(got, expected.data, expected.size);
    free(expected.data);
    tl_tensor_free(tensor);
    tl_context_free(ctx);
    remove_folder(folder);
}

static void small_faults_do_no_harm(void **state) {
    (void)state;
    char *folder = make_folder(), path[4200];
    snprintf(path, sizeof path, "%s/x.npy", folder);
    tl_context *ctx = hostile_context();
    size_t before = hostile.live;
    bytes good = {0};
    build(&good, &cases[0]);
    tl_tensor *tensor = NULL;
    for (size_t size = 0; size < good.size; size++) {
        write_bytes(path, good.data, size);
        assert_fails(tl_tensor_load_npy(ctx, path, &tensor), TL_TRUNCATED, path);
    }
    for (size_t bit = 0; bit < 8 * good.size; bit++) {
        good.data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        write_bytes(path, good.data, good.size);
        if (tl_tensor_load_npy(ctx, path, &tensor) == TL_OK) tl_tensor_free(tensor);
        good.data[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    write_bytes(path, good.data, good.size);
    size_t tried = 0;
    for (size_t n = 1; tried < n; n++) {
        hostile.calls = 0;
        hostile.fail_at = n;
        tl_status status = tl_tensor_load_npy(ctx, path, &tensor);
        hostile.fail_at = 0;
        if (status == TL_OK) tl_tensor_free(tensor);
        assert_int_equal(hostile.live, before);
        if (hostile.calls < n) break;
        tried = n;
        assert_int_equal(status, TL_NO_MEMORY);
    }
    assert_true(tried >= 4);
    free(good.data);
    tl_context_free(ctx);
    remove_folder(folder);
}

static void refuses_what_is_no_file(void **state) {
    (void)state;
    tl_context *ctx = hostile_context();
    tl_tensor *tensor = NULL;
    assert_fails(tl_tensor_load_npy(ctx, "/nowhere/x.npy", &tensor), TL_NOT_FOUND, "/nowhere");
    assert_fails(tl_tensor_load_npy(ctx, "/tmp", &tensor), TL_INVALID_ARGUMENT, "folder");
    assert_fails(tl_tensor_load_npy(ctx, NULL, &tensor), TL_INVALID_ARGUMENT, "path");
    assert_fails(tl_tensor_load_npy(NULL, "x", &tensor), TL_INVALID_ARGUMENT, "ctx");
    assert_fails(tl_tensor_load_npy(ctx, "x", NULL), TL_INVALID_ARGUMENT, "out");
    assert_fails(tl_tensor_save_npy(NULL, "x"), TL_INVALID_ARGUMENT, "tensor");
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_or_refuses_every_case), cmocka_unit_test(every_dtype_comes_back),
        cmocka_unit_test(writes_what_numpy_writes),    cmocka_unit_test(small_faults_do_no_harm),
        cmocka_unit_test(refuses_what_is_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
