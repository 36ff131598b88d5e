/* Tensors: creation, views, permutation, conversion. */
#include "support.h"

#include "tensor/tensor.h"

static void sizes_are_checked(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_tensor *t = NULL;
    assert_fails(tl_tensor_create(ctx, TL_F32, 7, (int64_t[7]){0}, &t), TL_INVALID_ARGUMENT,
                 "rank is 7");
    assert_fails(tl_tensor_create(ctx, (tl_dtype)99, 1, (int64_t[]){1}, &t), TL_INVALID_ARGUMENT,
                 "99");
    assert_fails(tl_tensor_create(ctx, TL_F32, 2, (int64_t[]){3, -1}, &t), TL_INVALID_ARGUMENT,
                 "[3, -1]");
    assert_fails(tl_tensor_create(ctx, TL_F32, 3, (int64_t[]){INT64_MAX, 2, 0}, &t), TL_LIMIT,
                 "too large");
    assert_fails(tl_tensor_create(ctx, TL_F32, 2, NULL, &t), TL_INVALID_ARGUMENT, "shape is NULL");
    assert_fails(tl_tensor_create(NULL, TL_F32, 0, NULL, &t), TL_INVALID_ARGUMENT, "ctx");
    assert_fails(tl_tensor_create(ctx, TL_F32, 0, NULL, NULL), TL_INVALID_ARGUMENT, "out");
    assert_null(t);
    float data[6] = {0};
    assert_fails(tl_tensor_wrap(ctx, TL_F32, 1, (int64_t[]){7}, data, sizeof data, &t), TL_SHAPE,
                 "24 bytes given, [7] of f32 needs 28");
    assert_ok(tl_tensor_create(ctx, TL_F32, 2, (int64_t[]){0, 5}, &t));
    assert_int_equal(tl_tensor_count(t), 0);
    tl_tensor_free(t);
    tl_tensor_free(NULL);
    tl_context_free(ctx);
}

static void views_share_and_keep_alive(void **state) {
    (void)state;
    counting_allocator allocator = {0};
    tl_context *ctx = make_context(1, &allocator);
    tl_tensor *t = NULL, *rows = NULL, *flat = NULL;
    assert_ok(tl_tensor_create(ctx, TL_F32, 2, (int64_t[]){4, 3}, &t));
    assert_int_equal((uintptr_t)tl_tensor_data(t) % 64, 0);
    float *data = tl_tensor_data(t);
    for (int i = 0; i < 12; i++) data[i] = (float)i;
    assert_ok(tl_tensor_slice(t, 1, 3, &rows));
    assert_ok(tl_tensor_reshape(rows, 1, (int64_t[]){-1}, &flat));
    assert_int_equal(tl_tensor_shape(flat)[0], 6);
    tl_tensor *bad = NULL;
    assert_fails(tl_tensor_slice(t, 3, 5, &bad), TL_INVALID_ARGUMENT, "[3, 5)");
    assert_fails(tl_tensor_reshape(t, 2, (int64_t[]){5, -1}, &bad), TL_SHAPE, "[4, 3]");
    assert_fails(tl_tensor_reshape(t, 2, (int64_t[]){-1, -1}, &bad), TL_INVALID_ARGUMENT, "-1");
    tl_tensor_free(t);
    assert_true(((const float *)tl_tensor_const_data(flat))[0] == 3.0f);
    tl_tensor_free(rows);
    tl_tensor_free(flat);
    tl_context_free(ctx);
    assert_int_equal(allocator.live, 0);
}

static void permute_moves_every_element(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_tensor *t = NULL, *p = NULL;
    assert_ok(tl_tensor_create(ctx, TL_I32, 4, (int64_t[]){2, 3, 4, 5}, &t));
    int32_t *data = tl_tensor_data(t);
    for (int i = 0; i < 120; i++) data[i] = i;
    assert_ok(tl_tensor_permute(t, (int[]){0, 2, 3, 1}, &p));
    const int32_t *out = tl_tensor_const_data(p);
    for (int n = 0; n < 2; n++)
        for (int c = 0; c < 3; c++)
            for (int h = 0; h < 4; h++)
                for (int w = 0; w < 5; w++)
                    assert_int_equal(out[((n * 4 + h) * 5 + w) * 3 + c],
                                     data[((n * 3 + c) * 4 + h) * 5 + w]);
    tl_tensor *bad = NULL;
    assert_fails(tl_tensor_permute(t, (int[]){0, 1, 1, 2}, &bad), TL_INVALID_ARGUMENT,
                 "permutation");
    tl_tensor_free(p);
    tl_tensor_free(t);
    tl_context_free(ctx);
}

static void every_dtype_converts(void **state) {
    (void)state;
    float out[8];
    /* Half values: 1, -2, largest, smallest subnormal, infinity. Source: IEEE 754-2019. */
    uint16_t half[] = {0x3c00, 0xc000, 0x7bff, 0x0001, 0x7c00, 0x8000};
    tl_convert_to_f32(TL_F16, half, out, 6);
    assert_true(out[0] == 1.0f && out[1] == -2.0f && out[2] == 65504.0f && out[3] == 0x1p-24f);
    assert_true(isinf(out[4]) && out[5] == 0.0f && signbit(out[5]));
    uint16_t bf16[] = {0x3f80, 0xc000, 0x7fc0};
    tl_convert_to_f32(TL_BF16, bf16, out, 3);
    assert_true(out[0] == 1.0f && out[1] == -2.0f && isnan(out[2]));
    tl_convert_to_f32(TL_F64, (double[]){0.5, -1e300}, out, 2);
    assert_true(out[0] == 0.5f && isinf(out[1]));
    tl_convert_to_f32(TL_I8, (int8_t[]){-128, 127}, out, 2);
    assert_true(out[0] == -128.0f && out[1] == 127.0f);
    tl_convert_to_f32(TL_U8, (uint8_t[]){255}, out, 1);
    assert_true(out[0] == 255.0f);
    tl_convert_to_f32(TL_I16, (int16_t[]){-300}, out, 1);
    assert_true(out[0] == -300.0f);
    tl_convert_to_f32(TL_I32, (int32_t[]){1 << 20}, out, 1);
    assert_true(out[0] == 1048576.0f);
    tl_convert_to_f32(TL_I64, (int64_t[]){-5}, out, 1);
    assert_true(out[0] == -5.0f);
    tl_convert_to_f32(TL_BOOL, (uint8_t[]){0, 2}, out, 2);
    assert_true(out[0] == 0.0f && out[1] == 1.0f);
    for (int d = TL_F32; d <= TL_BOOL; d++) {
        assert_non_null(tl_dtype_name((tl_dtype)d));
        assert_true(tl_dtype_size((tl_dtype)d) > 0);
    }
    assert_null(tl_dtype_name((tl_dtype)-1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(views_share_and_keep_alive),
        cmocka_unit_test(permute_moves_every_element),
        cmocka_unit_test(every_dtype_converts),
    };
    return cmocka_run_group_tests_name("tensor", tests, NULL, NULL);
}
