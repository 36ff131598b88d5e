/* Compares the tensors of a file with a list of them that the framework of its origin made. Include
 * "hostile.h" first. */
#ifndef TL_TESTS_TENSOR_LIST_H
#define TL_TESTS_TENSOR_LIST_H

static inline tl_dtype dtype_of(const char *torch_name) {
    static const char *const names[] = {"float32", "float64", "float16", "bfloat16", "int8",
                                        "uint8",   "int16",   "int32",   "int64",    "bool"};
    for (int i = 0; i < 10; i++) {
        if (strcmp(names[i], torch_name) == 0) return (tl_dtype)i;
    }
    fail_msg("dtype %s", torch_name);
    return TL_F32;
}

/* One line of the expected tensors: name dtype dims... : values... */
static inline void check_line(const tl_weights *weights, char *line) {
    char *rest = line;
    const char *name = strtok_r(rest, " ", &rest);
    int index = tl_weights_find(weights, name);
    if (index < 0) fail_msg("%s: no tensor %s", weights->source.name, name);
    const tl_weight *item = &weights->item[index];
    assert_int_equal(item->dtype, dtype_of(strtok_r(NULL, " ", &rest)));
    tl_shape shape = {0};
    const char *word;
    while ((word = strtok_r(NULL, " ", &rest)) && *word != ':') {
        shape.dim[shape.rank++] = strtol(word, NULL, 10);
    }
    assert_true(tl_shape_equal(&shape, &item->shape));
    size_t count = (size_t)tl_shape_count(&shape);
    float *out = calloc(count + 1, sizeof *out);
    assert_ok(tl_weights_read(weights, index, out));
    for (size_t i = 0; i < count; i++) {
        word = strtok_r(NULL, " \n", &rest);
        assert_non_null(word);
        float expected = strtof(word, NULL);
        if (memcmp(&expected, &out[i], sizeof expected) != 0) {
            fail_msg("%s: %s[%zu] is %a, expected %a", weights->source.name, name, i,
                     (double)out[i], (double)expected);
        }
    }
    free(out);
}

static inline void check_tensor_list(const char *path, const char *expected, const char *format) {
    tl_context *ctx = hostile_context();
    size_t before = hostile.live;
    tl_source source;
    tl_weights *weights = NULL;
    assert_ok(tl_source_open(ctx, path, &source));
    assert_ok(tl_weights_open(ctx, &source, &weights));
    assert_string_equal(weights->format, format);
    FILE *lines = fopen(expected, "r");
    assert_non_null(lines);
    char line[4096];
    int count = 0;
    for (; fgets(line, sizeof line, lines); count++) check_line(weights, line);
    fclose(lines);
    assert_int_equal(weights->count, count);
    assert_true(count > 0);
    tl_weights_free(weights);
    assert_int_equal(hostile.live, before);
    tl_context_free(ctx);
}

#endif
