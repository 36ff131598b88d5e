/* The ONNX reader and importer against hostile files. What they make of good ones is in
 * test_onnx_import.c. */
#include "support.h"

#include <sys/stat.h>
#include <unistd.h>

#include "hostile.h"
#include "model/model.h"
#include "onnx_writer.h"

/* As hostile_read: imports and sums up the parameters. */
static tl_status import_bytes(tl_context *ctx, const void *data, size_t size, uint64_t *sum) {
    tl_source source;
    tl_model *model = NULL;
    tl_status status = tl_source_from_memory(ctx, "hostile", data, size, &source);
    if (status != TL_OK) return status;
    status = tl_model_from_onnx(ctx, &source, &model);
    *sum = 0;
    for (int i = 0; status == TL_OK && i < tl_model_param_count(model); i++) {
        const tl_tensor *value = tl_model_param(model, i);
        const unsigned char *bits = tl_tensor_const_data(value);
        size_t count = (size_t)tl_tensor_count(value) * sizeof(float);
        for (size_t k = 0; k < count; k++) *sum = *sum * 1099511628211u + bits[k];
    }
    tl_model_free(model);
    tl_source_close(&source);
    return status;
}

/* --- the wire format -------------------------------------------------------------------------- */

static void build_empty(bytes *b) {
    (void)b;
}

static void build_long_varint(bytes *b) {
    pb_tag(b, 1, 0);
    put_repeated(b, "\xff", 10);
    put_text(b, "\x01");
}

static void build_cut_varint(bytes *b) {
    pb_tag(b, 1, 0);
    put_repeated(b, "\xff", 3);
}

static void build_length_past_parent(bytes *b) {
    bytes graph = {0}, node = {0};
    pb_tag(&node, 4, 2);
    pb_varint(&node, 1000); /* inside the file, past the node */
    put_text(&node, "Relu");
    pb_message(&graph, 1, &node);
    put_stem(&graph);
    finish_model(b, &graph, 13);
    put_repeated(b, " ", 2000);
}

static void build_huge_length(bytes *b) {
    pb_int(b, 1, 8);
    pb_tag(b, 7, 2);
    pb_varint(b, UINT64_MAX);
}

static void build_field_zero(bytes *b) {
    pb_int(b, 1, 8);
    pb_int(b, 0, 1);
}

static void build_group(bytes *b) {
    pb_int(b, 1, 8);
    pb_tag(b, 2, 3);
}

static void build_number_for_text(bytes *b) {
    bytes graph = {0}, node = {0};
    pb_int(&node, 4, 7);
    pb_message(&graph, 1, &node);
    finish_model(b, &graph, 13);
}

static void build_text_for_number(bytes *b) {
    bytes graph = {0}, tensor = {0};
    pb_text(&tensor, 2, "float");
    pb_message(&graph, 5, &tensor);
    finish_model(b, &graph, 13);
}

static void build_nested_graphs(bytes *b) {
    bytes inner = {0};
    for (int level = 0; level < 10000; level++) {
        bytes attr = {0}, node = begin_node("If", "c", "y"), graph = {0};
        pb_message(&attr, 6, &inner);
        pb_message(&node, 5, &attr);
        pb_message(&graph, 1, &node);
        inner = graph;
    }
    put_input(&inner, "c", 4, (int64_t[]){1, 3, 4, 4});
    put_output(&inner, "y");
    finish_model(b, &inner, 13);
}

/* --- tensors ---------------------------------------------------------------------------------- */

/* A whole network but for its weights. */
static void build_around(bytes *b, bytes *weights) {
    bytes graph = {0};
    pb_message(&graph, 5, weights);
    put_input(&graph, "x", 4, (int64_t[]){1, 3, 4, 4});
    put_node(&graph, "Conv", "x w", "y");
    put_output(&graph, "y");
    finish_model(b, &graph, 13);
}

static void build_with_dims(bytes *b, int rank, const int64_t *dims) {
    bytes tensor = begin_tensor("w", 1, rank, dims);
    pb_data(&tensor, 9, "1234", 4);
    build_around(b, &tensor);
}

static void build_negative_dimension(bytes *b) {
    build_with_dims(b, 4, (int64_t[]){2, -3, 1, 1});
}
static void build_overflowing_dimensions(bytes *b) {
    build_with_dims(b, 4, (int64_t[]){INT64_C(1) << 32, INT64_C(1) << 32, 1, 0});
}
static void build_huge_dimensions(bytes *b) {
    build_with_dims(b, 1, (int64_t[]){INT64_MAX / 2});
}
static void build_raw_too_short(bytes *b) {
    build_with_dims(b, 4, (int64_t[]){2, 3, 1, 1});
}
static void build_rank_seven(bytes *b) {
    build_with_dims(b, 7, (int64_t[]){1, 1, 1, 1, 1, 1, 1});
}

static void build_data_twice(bytes *b) {
    bytes tensor = begin_tensor("w", 1, 1, (int64_t[]){1});
    pb_data(&tensor, 9, "1234", 4);
    pb_data(&tensor, 4, "1234", 4);
    build_around(b, &tensor);
}

static void build_list_too_short(bytes *b) {
    bytes tensor = begin_tensor("w", 1, 1, (int64_t[]){2});
    pb_data(&tensor, 4, "1234", 4);
    build_around(b, &tensor);
}

static void build_list_with_rest(bytes *b) {
    bytes tensor = begin_tensor("w", 1, 1, (int64_t[]){1});
    pb_data(&tensor, 4, "123456", 6);
    build_around(b, &tensor);
}

static void build_unknown_type(bytes *b) {
    bytes tensor = begin_tensor("w", 99, 1, (int64_t[]){1});
    build_around(b, &tensor);
}

static void build_text_tensor(bytes *b) {
    bytes tensor = begin_tensor("w", 8, 1, (int64_t[]){1});
    pb_text(&tensor, 6, "word");
    build_around(b, &tensor);
}

static void build_integer_weights(bytes *b) {
    static const char zeros[128];
    bytes tensor = begin_tensor("w", 3, 4, (int64_t[]){32, 3, 1, 1});
    pb_data(&tensor, 9, zeros, 96);
    build_around(b, &tensor);
}

static void build_nan_weight(bytes *b) {
    static const float values[3] = {0, 1, 0.0f / 0.0f};
    bytes tensor = begin_tensor("w", 1, 4, (int64_t[]){1, 3, 1, 1});
    pb_data(&tensor, 9, values, sizeof values);
    build_around(b, &tensor);
}

static void build_sparse(bytes *b) {
    bytes graph = {0};
    put_stem(&graph);
    pb_text(&graph, 15, "");
    finish_model(b, &graph, 13);
}

/* --- external data, in memory ----------------------------------------------------------------- */

static void put_entry(bytes *tensor, const char *key, const char *value) {
    bytes entry = {0};
    pb_text(&entry, 1, key);
    pb_text(&entry, 2, value);
    pb_message(tensor, 13, &entry);
}

/* Weights [2, 3, 3, 3] "w" of 216 bytes that lie elsewhere; NULL leaves a key out. */
static void build_external(bytes *b, const char *location, const char *offset, const char *length) {
    bytes tensor = begin_tensor("w", 1, 4, (int64_t[]){2, 3, 3, 3});
    if (location) put_entry(&tensor, "location", location);
    if (offset) put_entry(&tensor, "offset", offset);
    if (length) put_entry(&tensor, "length", length);
    pb_int(&tensor, 14, 1);
    build_around(b, &tensor);
}

static void build_external_parent(bytes *b) {
    build_external(b, "../w", NULL, NULL);
}
static void build_external_absolute(bytes *b) {
    build_external(b, "/etc/passwd", NULL, NULL);
}
static void build_external_nameless(bytes *b) {
    build_external(b, NULL, NULL, NULL);
}
static void build_external_in_memory(bytes *b) {
    build_external(b, "w", NULL, NULL);
}
static void build_external_offset_wraps(bytes *b) {
    build_external(b, "w", "18446744073709551615", "216");
}
static void build_external_offset_is_text(bytes *b) {
    build_external(b, "w", "12a", NULL);
}

/* --- graphs ----------------------------------------------------------------------------------- */

static void build_duplicate_initializer(bytes *b) {
    bytes graph = {0};
    put_floats(&graph, "w", 1, (int64_t[]){1});
    put_stem(&graph);
    put_classifier(&graph);
    finish_model(b, &graph, 13);
}

static void build_duplicate_output(bytes *b) {
    bytes graph = {0};
    put_stem(&graph);
    put_node(&graph, "Relu", "x", "c");
    put_output(&graph, "c");
    finish_model(b, &graph, 13);
}

static void build_cycle(bytes *b) {
    bytes graph = {0};
    put_stem(&graph);
    put_node(&graph, "Add", "c second", "first");
    put_node(&graph, "Relu", "first", "second");
    put_output(&graph, "second");
    finish_model(b, &graph, 13);
}

static void build_dangling(bytes *b) {
    bytes graph = {0};
    put_stem(&graph);
    put_node(&graph, "Add", "c nobody", "y");
    put_output(&graph, "y");
    finish_model(b, &graph, 13);
}

static void build_no_graph(bytes *b) {
    pb_int(b, 1, 8);
    pb_text(b, 2, "test");
}

static void build_two_graphs(bytes *b) {
    bytes graph = {0};
    build_good(b);
    put_stem(&graph);
    pb_message(b, 7, &graph);
}

static void build_no_output(bytes *b) {
    bytes graph = {0};
    put_stem(&graph);
    finish_model(b, &graph, 13);
}

static void build_unmade_output(bytes *b) {
    bytes graph = {0};
    put_stem(&graph);
    put_output(&graph, "z");
    finish_model(b, &graph, 13);
}

static void build_two_inputs(bytes *b) {
    bytes graph = {0};
    put_input(&graph, "mask", 2, (int64_t[]){1, 4});
    put_stem(&graph);
    put_output(&graph, "c");
    finish_model(b, &graph, 13);
}

static void build_no_input(bytes *b) {
    bytes graph = {0};
    put_floats(&graph, "w", 4, (int64_t[]){2, 3, 3, 3});
    put_node(&graph, "Conv", "x w", "y");
    put_output(&graph, "y");
    finish_model(b, &graph, 13);
}

static void build_vector_input(bytes *b) {
    bytes graph = {0};
    put_input(&graph, "x", 2, (int64_t[]){1, 4});
    put_node(&graph, "Relu", "x", "y");
    put_output(&graph, "y");
    finish_model(b, &graph, 13);
}

static void build_huge_input(bytes *b) {
    bytes graph = {0};
    put_input(&graph, "x", 4, (int64_t[]){1, 3, 100000, 100000});
    put_node(&graph, "Relu", "x", "y");
    put_output(&graph, "y");
    finish_model(b, &graph, 13);
}

static void build_unknown_operators(bytes *b) {
    bytes graph = {0};
    put_stem(&graph);
    put_node(&graph, "Einsum", "c", "a");
    put_node(&graph, "LSTM", "a", "d");
    bytes foreign = begin_node("Relu", "d", "y");
    pb_text(&foreign, 7, "com.example");
    pb_message(&graph, 1, &foreign);
    put_node(&graph, "Loop", "c", "unused");
    put_output(&graph, "y");
    finish_model(b, &graph, 13);
}

static void build_opset(bytes *b, int64_t opset) {
    bytes graph = {0};
    put_stem(&graph);
    put_classifier(&graph);
    finish_model(b, &graph, opset);
}
static void build_opset_99(bytes *b) {
    build_opset(b, 99);
}
static void build_opset_6(bytes *b) {
    build_opset(b, 6);
}
static void build_opset_0(bytes *b) {
    build_opset(b, 0);
}

/* --- convolutions ----------------------------------------------------------------------------- */

static void build_conv(bytes *b, const char *attr, int count, const int64_t *values) {
    bytes graph = {0}, conv = begin_node("Conv", "x w", "y");
    put_input(&graph, "x", 4, (int64_t[]){1, 3, 4, 4});
    put_floats(&graph, "w", 4, (int64_t[]){2, 3, 3, 3});
    if (count)
        put_attr_ints(&conv, attr, count, values);
    else
        put_attr_int(&conv, attr, values[0]);
    pb_message(&graph, 1, &conv);
    put_output(&graph, "y");
    finish_model(b, &graph, 13);
}

static void build_dilations_of_rank_three(bytes *b) {
    build_conv(b, "dilations", 3, (int64_t[]){1, 1, 1});
}
static void build_other_kernel(bytes *b) {
    build_conv(b, "kernel_shape", 2, (int64_t[]){5, 5});
}
static void build_stride_zero(bytes *b) {
    build_conv(b, "strides", 2, (int64_t[]){0, 1});
}
static void build_group_zero(bytes *b) {
    build_conv(b, "group", 0, (int64_t[]){0});
}
static void build_pads_overflow(bytes *b) {
    build_conv(b, "pads", 4, (int64_t[]){INT64_MAX, 1, INT64_MAX, 1});
}
static void build_negative_pads(bytes *b) {
    build_conv(b, "pads", 4, (int64_t[]){-1, 0, 0, 0});
}

/* --- small files that want to be large ---------------------------------------------------------
 */

static void build_empty_nodes(bytes *b) {
    bytes graph = {0};
    for (int i = 0; i < 400000; i++) put_text(&graph, "\x0a"), put_number(&graph, 0, 1);
    finish_model(b, &graph, 13);
}

static void build_many_names(bytes *b) {
    bytes graph = {0};
    put_stem(&graph);
    for (int i = 0; i < 60000; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        put_node(&graph, "Relu", "c", name);
    }
    put_output(&graph, "59999");
    finish_model(b, &graph, 13);
}

/* 100 kB of weights, 4,000 times. */
static void build_shared_weights(bytes *b) {
    bytes graph = {0};
    put_input(&graph, "x", 4, (int64_t[]){1, 160, 8, 8});
    put_floats(&graph, "w", 4, (int64_t[]){160, 160, 1, 1});
    char from[16] = "x", to[32];
    for (int i = 0; i < 4000; i++) {
        char inputs[32];
        snprintf(inputs, sizeof inputs, "%s w", from);
        snprintf(to, sizeof to, "v%d", i);
        put_node(&graph, "Conv", inputs, to);
        snprintf(from, sizeof from, "v%d", i);
    }
    put_output(&graph, from);
    finish_model(b, &graph, 13);
}

static void build_deep_chain(bytes *b) {
    bytes graph = {0};
    put_stem(&graph);
    char from[16] = "c", to[16];
    for (int i = 0; i < 6000; i++) {
        snprintf(to, sizeof to, "v%d", i);
        put_node(&graph, "Relu", from, to);
        memcpy(from, to, sizeof from);
    }
    put_output(&graph, from);
    finish_model(b, &graph, 13);
}

/* --- all of them ------------------------------------------------------------------------------ */

static const bad_file bad_files[] = {
    {"empty", build_empty, TL_CORRUPT, "no graph"},
    {"a number of 11 bytes", build_long_varint, TL_CORRUPT, "offset 1: a number is longer than 10"},
    {"a number cut off", build_cut_varint, TL_TRUNCATED, "offset 1: a number runs past"},
    {"length past its parent", build_length_past_parent, TL_TRUNCATED,
     "a length of 1000 runs past"},
    {"length 2^64 - 1", build_huge_length, TL_TRUNCATED, "offset 3: a length of 1844"},
    {"field 0", build_field_zero, TL_CORRUPT, "offset 2: field number 0"},
    {"a group", build_group, TL_CORRUPT, "offset 2: wire type 3"},
    {"a number for text", build_number_for_text, TL_CORRUPT, "op_type has wire type 0, expected 2"},
    {"text for a number", build_text_for_number, TL_CORRUPT, "data_type has wire type 2"},
    {"10,000 nested graphs", build_nested_graphs, TL_UNSUPPORTED, "If (node '')"},
    {"negative dimension", build_negative_dimension, TL_CORRUPT, "dimension 1 of 'w' is -3"},
    {"dimensions overflow", build_overflowing_dimensions, TL_CORRUPT, "dimensions of 'w' overflow"},
    {"2^62 elements", build_huge_dimensions, TL_CORRUPT, "dimensions of 'w' overflow"},
    {"raw data too short", build_raw_too_short, TL_CORRUPT,
     "4 bytes of raw data, its shape needs 24"},
    {"rank 7", build_rank_seven, TL_UNSUPPORTED, "rank 7"},
    {"raw and float data", build_data_twice, TL_CORRUPT, "'w' has its data twice"},
    {"list too short", build_list_too_short, TL_CORRUPT, "holds 1 numbers, its shape needs 2"},
    {"list with a rest", build_list_with_rest, TL_CORRUPT, "has a rest"},
    {"unknown type", build_unknown_type, TL_UNSUPPORTED, "data type 99 of 'w'"},
    {"text in a tensor", build_text_tensor, TL_UNSUPPORTED, "text in a tensor"},
    {"int8 weights", build_integer_weights, TL_UNSUPPORTED, "input 'w' is i8, expected floats"},
    {"NaN weight", build_nan_weight, TL_CORRUPT, "element"},
    {"sparse initializer", build_sparse, TL_UNSUPPORTED, "sparse"},
    {"external ../", build_external_parent, TL_UNSAFE, "'../w' is not a file name beside"},
    {"external absolute", build_external_absolute, TL_UNSAFE, "'/etc/passwd' is not a file name"},
    {"external without name", build_external_nameless, TL_UNSAFE, "'' is not a file name"},
    {"external of memory", build_external_in_memory, TL_UNSUPPORTED, "of a model in memory"},
    {"external offset wraps", build_external_offset_wraps, TL_CORRUPT, "within 63 bits"},
    {"external offset is text", build_external_offset_is_text, TL_CORRUPT,
     "external offset is not"},
    {"duplicate initializer", build_duplicate_initializer, TL_CORRUPT, "'w' is made twice"},
    {"duplicate output", build_duplicate_output, TL_CORRUPT, "'c' is made twice"},
    {"cycle", build_cycle, TL_CORRUPT, "input 'second' is made by no node before this one"},
    {"dangling input", build_dangling, TL_CORRUPT, "input 'nobody' is made by no node"},
    {"no graph", build_no_graph, TL_CORRUPT, "no graph"},
    {"two graphs", build_two_graphs, TL_CORRUPT, "a second graph"},
    {"no output", build_no_output, TL_CORRUPT, "no output"},
    {"output of nobody", build_unmade_output, TL_CORRUPT, "the output 'z' is made by no node"},
    {"two inputs", build_two_inputs, TL_UNSUPPORTED, "several inputs: 'mask' and 'x'"},
    {"no input", build_no_input, TL_CORRUPT, "no input"},
    {"vectors", build_vector_input, TL_UNSUPPORTED, "rank 2, expected pictures"},
    {"huge pictures", build_huge_input, TL_UNSUPPORTED, "100000 x 100000"},
    {"unknown operators", build_unknown_operators, TL_UNSUPPORTED,
     "3 nodes use unsupported operators: Einsum (node ''), LSTM (node ''), Relu (node '')"},
    {"opset 99", build_opset_99, TL_UNSUPPORTED, "opset 99, expected 7 to 21"},
    {"opset 6", build_opset_6, TL_UNSUPPORTED, "opset 6, expected 7 to 21"},
    {"opset 0", build_opset_0, TL_CORRUPT, "no opset_import"},
    {"3 dilations", build_dilations_of_rank_three, TL_CORRUPT,
     "dilations has 3 values, expected 2"},
    {"another kernel", build_other_kernel, TL_CORRUPT, "kernel_shape is not the weights'"},
    {"stride 0", build_stride_zero, TL_CORRUPT, "(Conv, opset 13) at offset"},
    {"group 0", build_group_zero, TL_SHAPE, "3 channels in 0 groups"},
    {"pads overflow", build_pads_overflow, TL_UNSUPPORTED, "padding outside 0 to 4096"},
    {"negative pads", build_negative_pads, TL_UNSUPPORTED, "padding outside 0 to 4096"},
    {"400,000 empty nodes", build_empty_nodes, TL_LIMIT, "more small parts"},
    {"60,000 names", build_many_names, TL_LIMIT, "more small parts"},
    {"shared weights", build_shared_weights, TL_LIMIT, "Conv"},
    {"6,000 layers", build_deep_chain, TL_LIMIT, "at most 4096 nodes"},
};

static void bad_files_are_refused(void **state) {
    (void)state;
    check_bad_files(bad_files, sizeof bad_files / sizeof bad_files[0]);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    bytes good = {0};
    build_good(&good);
    check_every_truncation(&good);
    free(good.data);
}

static void no_flipped_bit_does_harm(void **state) {
    (void)state;
    bytes good = {0};
    build_good(&good);
    size_t noticed = check_every_bit_flip(&good);
    print_message("%zu of %zu flipped bits noticed\n", noticed, 8 * good.size);
    assert_true(noticed > good.size);
    free(good.data);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    bytes good = {0};
    build_good(&good);
    check_every_allocation(&good);
    free(good.data);
}

/* --- external data in files ------------------------------------------------------------------- */

typedef struct place {
    char *folder;
    char model[96], data[96];
} place;

static place make_place(void) {
    place p = {.folder = make_folder()};
    snprintf(p.model, sizeof p.model, "%s/m.onnx", p.folder);
    snprintf(p.data, sizeof p.data, "%s/w", p.folder);
    return p;
}

static tl_status load_external(tl_context *ctx, const place *f, const char *offset,
                               const char *length, float *first) {
    bytes b = {0};
    tl_model *model = NULL;
    build_external(&b, "w", offset, length);
    write_bytes(f->model, b.data, b.size);
    free(b.data);
    tl_status status = tl_model_load(ctx, f->model, &model);
    if (status == TL_OK) *first = *(const float *)tl_tensor_const_data(tl_model_param(model, 0));
    tl_model_free(model);
    return status;
}

static void external_data_lies_beside_the_model(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    place f = make_place();
    float values[64], first = 0;
    for (int i = 0; i < 64; i++) values[i] = (float)i;
    assert_fails(load_external(ctx, &f, NULL, NULL, &first), TL_NOT_FOUND, f.data);
    write_bytes(f.data, values, sizeof values);
    assert_ok(load_external(ctx, &f, NULL, NULL, &first));
    assert_true(first == 0);
    assert_ok(load_external(ctx, &f, "40", "216", &first));
    assert_true(first == 10);
    assert_fails(load_external(ctx, &f, "44", NULL, &first), TL_TRUNCATED, "which has 256");
    assert_fails(load_external(ctx, &f, "9223372036854775807", NULL, &first), TL_TRUNCATED, f.data);
    assert_fails(load_external(ctx, &f, "0", "220", &first), TL_CORRUPT, "the shape needs 216");
    remove_folder(f.folder);
    tl_context_free(ctx);
}

static void links_and_devices_are_not_followed(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    place f = make_place();
    float first = 0;
    assert_int_equal(symlink("/etc/passwd", f.data), 0);
    assert_fails(load_external(ctx, &f, NULL, NULL, &first), TL_UNSAFE, "is a link");
    unlink(f.data);
    assert_int_equal(mkfifo(f.data, 0600), 0);
    assert_fails(load_external(ctx, &f, NULL, NULL, &first), TL_UNSAFE, "a special file");
    unlink(f.data);
    assert_int_equal(mkdir(f.data, 0700), 0);
    assert_fails(load_external(ctx, &f, NULL, NULL, &first), TL_UNSAFE, "a folder");
    remove_folder(f.folder);
    tl_context_free(ctx);
}

/* A hundred tensors that are all the same megabyte. */
static void external_bytes_do_not_multiply(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    place f = make_place();
    bytes b = {0}, graph = {0};
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "w%d", i);
        bytes tensor = begin_tensor(name, 1, 1, (int64_t[]){1 << 18});
        put_entry(&tensor, "location", "w");
        pb_int(&tensor, 14, 1);
        pb_message(&graph, 5, &tensor);
    }
    put_stem(&graph);
    put_classifier(&graph);
    finish_model(&b, &graph, 13);
    write_bytes(f.model, b.data, b.size);
    free(b.data);
    float *megabyte = calloc(1 << 18, sizeof *megabyte);
    write_bytes(f.data, megabyte, (size_t)1 << 20);
    free(megabyte);
    tl_model *model = NULL;
    assert_fails(tl_model_load(ctx, f.model, &model), TL_LIMIT, "again and again");
    remove_folder(f.folder);
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(no_flipped_bit_does_harm),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(external_data_lies_beside_the_model),
        cmocka_unit_test(links_and_devices_are_not_followed),
        cmocka_unit_test(external_bytes_do_not_multiply),
    };
    hostile_read = import_bytes;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
