/* Numbers in text and checksums. */
#include "support.h"

#include "base/crc32.h"
#include "base/number.h"

static bool parse(const char *text, double *value) {
    return tl_parse_number(text, text + strlen(text), value);
}

static void numbers_are_read_whole(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double value;
    } good[] = {{"0", 0},      {"-0.25", -0.25}, {"40", 40},     {"+1.5", 1.5},
                {".5", 0.5},   {"5.", 5},        {"1e-3", 1e-3}, {"0.1", 0.1},
                {"2E+2", 200}, {"0.08", 0.08},   {"1e-320", 0},  {"123456789.125", 123456789.125}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        double value = -1;
        assert_true(parse(good[i].text, &value));
        assert_true(fabs(value - good[i].value) <= 1e-15 * fabs(good[i].value));
    }
}

static void other_text_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"",    "-",     ".",  "1e",  "1e+", "0x10",
                                      "nan", "inf",   " 1", "1 ",  "1,5", "1.2.3",
                                      "--1", "1e999", "e5", "+-1", "1f"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double value = 7;
        assert_false(parse(bad[i], &value));
        assert_true(value == 7);
    }
}

static void crc32_has_the_known_check_value(void **state) {
    (void)state;
    /* The check value that catalogues of CRCs give for "123456789". */
    assert_int_equal(tl_crc32(0, "123456789", 9), 0xcbf43926u);
    assert_int_equal(tl_crc32(0, "", 0), 0);
    assert_int_equal(tl_crc32(tl_crc32(0, "12345", 5), "6789", 4), 0xcbf43926u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_read_whole),
        cmocka_unit_test(other_text_is_refused),
        cmocka_unit_test(crc32_has_the_known_check_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
