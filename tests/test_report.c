/* The report of a run made up for the purpose: names nobody sane would choose, one class never
 * met, a page that is checked as XML. */
#include "support.h"

#include <jansson.h>

#include "check_page.h"
#include "finetune/report.h"

#define EVIL "<b>&\"quoted\"'</b>"

static tl_report *new_report(tl_context *ctx, int classes, int epochs) {
    tl_report *r = tl_alloc_zero(ctx, sizeof *r);
    r->ctx = ctx;
    r->backbone = tl_strdup(ctx, "efficientnet_lite0");
    r->class_count = classes;
    r->class_name = tl_alloc_zero(ctx, (size_t)classes * sizeof *r->class_name);
    for (int i = 0; i < classes; i++) r->class_name[i] = tl_format(ctx, "class %02d", i);
    r->epochs_run = epochs;
    r->best_epoch = epochs > 3 ? epochs - 2 : 1;
    r->epoch = tl_alloc_zero(ctx, (size_t)epochs * sizeof *r->epoch);
    for (int i = 0; i < epochs; i++) {
        double t = (double)(i + 1);
        r->epoch[i] = (tl_epoch){1.6 * exp(-t / 4) + 0.05, 1 - 0.6 * exp(-t / 3),
                                 1.4 * exp(-t / 4) + 0.1 + 0.01 * t, 0.97 - 0.5 * exp(-t / 3)};
    }
    r->train_images = 320;
    r->seconds = 83.4;
    r->features_seconds = 61;
    r->head_seconds = 3.7;
    r->threads = 2;
    r->peak_rss_mb = 312.4;
    r->param_count = 3380000;
    r->trained_count = 6405;
    r->settings = json_pack("{s:s, s:f, s:n, s:b, s:s}", "backbone", "lite0.pth", "lr", 1e-3, "val",
                            "nesterov", 0, "head", "256,relu,dropout:0.5");
    return r;
}

/* Mostly right answers; class `absent` neither occurs nor is answered. */
static void evaluate(tl_report *r, int64_t count, int absent) {
    int classes = r->class_count;
    float *p = tl_alloc_zero(r->ctx, (size_t)(count * classes) * sizeof *p);
    int32_t *labels = tl_alloc_zero(r->ctx, (size_t)count * sizeof *labels);
    uint64_t state = 7;
    for (int64_t i = 0; i < count; i++) {
        int32_t truth = (int32_t)(i % classes);
        if (truth == absent) truth = 0;
        int answer = support_random(&state) > 0.5f ? (truth * 2 + 1) % classes : truth;
        if (answer == absent) answer = truth;
        labels[i] = truth;
        p[i * classes + answer] = 1;
    }
    assert_ok(tl_evaluation_create(r->ctx, classes, count, p, labels, &r->evaluation));
    r->val_images = count;
    tl_free(r->ctx, p);
    tl_free(r->ctx, labels);
}

static void add_mistake(tl_report *r, const char *path, const unsigned char *jpeg, size_t size) {
    tl_mistake *m = &r->mistake[r->mistake_count++];
    *m = (tl_mistake){.truth = 0, .answer = 1, .confidence = 0.987, .jpeg_size = size};
    m->path = tl_strdup(r->ctx, path);
    if (!jpeg) return;
    m->jpeg = tl_alloc(r->ctx, size);
    memcpy(m->jpeg, jpeg, size);
}

static void add_skipped(tl_report *r, const char *path, const char *reason) {
    size_t count = (size_t)r->skipped_count + 1;
    r->skipped = tl_realloc(r->ctx, r->skipped, count * sizeof *r->skipped);
    r->skipped[r->skipped_count++] =
        (tl_skipped){tl_strdup(r->ctx, path), tl_strdup(r->ctx, reason)};
}

static void rename_class(tl_report *r, int index, const char *name) {
    tl_free(r->ctx, r->class_name[index]);
    r->class_name[index] = tl_strdup(r->ctx, name);
}

static char *render(tl_report *r) {
    tl_text html = {.ctx = r->ctx};
    tl_report_html(r, &html);
    assert_false(html.failed);
    assert_int_equal(strlen(html.data), html.length);
    return html.data;
}

/* --- tests -------------------------------------------------------------------------------------
 */

static void test_page_is_self_contained_and_escaped(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_report *r = new_report(ctx, 5, 12);
    rename_class(r, 0, EVIL);
    rename_class(r, 1, "bad \xff\xfe utf \xe2\x82");
    rename_class(r, 2, "Katze \xc3\xa4\xf0\x9f\x90\xb1\x01");
    evaluate(r, 60, 4);
    add_mistake(r, "/tmp/pictures/" EVIL "/a\nb.jpg", (const unsigned char *)"\xff\xd8\xff", 3);
    add_mistake(r, "gone.png", NULL, 0);
    add_skipped(r, "x/" EVIL ".jpg", "CORRUPT & broken");
    char *html = render(r);
    check_page(html);
    assert_null(strstr(html, "<b>&"));
    assert_non_null(strstr(html, "&lt;b&gt;&amp;&quot;quoted&quot;&#39;&lt;/b&gt;"));
    assert_non_null(strstr(html, "bad \xef\xbf\xbd\xef\xbf\xbd utf \xef\xbf\xbd"));
    assert_non_null(strstr(html, "Katze \xc3\xa4\xf0\x9f\x90\xb1\xef\xbf\xbd"));
    assert_non_null(strstr(html, "base64,/9j/\""));
    assert_non_null(strstr(html, "98.7%"));
    assert_non_null(strstr(html, "CORRUPT &amp; broken"));
    assert_non_null(strstr(html, "<dt>lr</dt><dd>0.001</dd>"));
    tl_free(ctx, html);
    tl_report_free(r);
    tl_context_free(ctx);
}

static void test_page_in_extreme_cases(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    const int classes[] = {2, 40, 41, 120}, epochs[] = {1, 2, 25, 1000};
    for (int i = 0; i < 4; i++) {
        tl_report *r = new_report(ctx, classes[i], epochs[i]);
        evaluate(r, i ? 500 : 1, -1);
        char *html = render(r);
        check_page(html);
        assert_int_equal(strstr(html, "Confusion matrix") != NULL, classes[i] <= 40);
        assert_null(strstr(html, "nan"));
        assert_null(strstr(html, "n/a"));
        tl_free(ctx, html);
        tl_report_free(r);
    }
    tl_context_free(ctx);
}

static void test_chart_of_a_constant(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_report *r = new_report(ctx, 2, 5);
    for (int i = 0; i < 5; i++) r->epoch[i] = (tl_epoch){0, 1, 0, 1};
    evaluate(r, 10, -1);
    char *html = render(r);
    check_page(html);
    assert_null(strstr(html, "n/a"));
    tl_free(ctx, html);
    tl_report_free(r);
    tl_context_free(ctx);
}

static void test_json_has_every_key(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_report *r = new_report(ctx, 3, 6);
    rename_class(r, 1, "bad \xff name");
    evaluate(r, 30, -1);
    add_skipped(r, "a/b.jpg", "why");
    assert_ok(tl_report_finish(r));
    json_t *root = json_loads(tl_report_json(r), 0, NULL);
    assert_non_null(root);
    const char *keys[] = {"classes",      "images",      "skipped",          "epochs_run",
                          "best_epoch",   "train_loss",  "train_accuracy",   "val_loss",
                          "val_accuracy", "seconds",     "features_seconds", "head_seconds",
                          "threads",      "peak_rss_mb", "history",          "per_class",
                          "macro_f1",     "weighted_f1", "confusion",        "skipped_files"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!json_object_get(root, keys[i])) fail_msg("no %s", keys[i]);
    assert_string_equal(json_string_value(json_array_get(json_object_get(root, "classes"), 1)),
                        "bad \xef\xbf\xbd name");
    assert_int_equal(json_array_size(json_object_get(root, "history")), 6);
    assert_int_equal(json_array_size(json_object_get(root, "confusion")), 3);
    json_decref(root);
    double value = 0;
    assert_ok(tl_report_number(r, "images", &value));
    assert_true(value == 350);
    assert_ok(tl_report_number(r, "val_loss", &value));
    assert_true(value == r->epoch[3].val_loss);
    assert_fails(tl_report_number(r, "classes", &value), TL_NOT_FOUND, "classes");
    assert_fails(tl_report_number(r, "elephants", &value), TL_NOT_FOUND, "elephants");
    tl_report_free(r);
    tl_context_free(ctx);
}

static void test_fixed_numbers(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    tl_text text = {.ctx = ctx};
    const double values[] = {0, -0.0004, 1.005, -12.3456, 99.9996, 1e12, NAN};
    for (int i = 0; i < 7; i++) {
        tl_text_fixed(&text, values[i], 3);
        tl_text_add(&text, " ");
    }
    tl_text_fixed(&text, 2.5, 0);
    assert_string_equal(text.data, "0.000 0.000 1.005 -12.346 100.000 n/a n/a 3");
    tl_free(ctx, text.data);
    tl_context_free(ctx);
}

static void test_base64(void **state) {
    (void)state;
    tl_context *ctx = make_context(1, NULL);
    const char *want[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    for (size_t size = 0; size <= 6; size++) { /* RFC 4648, section 10 */
        tl_text text = {.ctx = ctx};
        tl_text_base64(&text, (const unsigned char *)"foobar", size);
        assert_string_equal(text.data ? text.data : "", want[size]);
        tl_free(ctx, text.data);
    }
    tl_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_is_self_contained_and_escaped),
        cmocka_unit_test(test_page_in_extreme_cases),
        cmocka_unit_test(test_chart_of_a_constant),
        cmocka_unit_test(test_json_has_every_key),
        cmocka_unit_test(test_fixed_numbers),
        cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
