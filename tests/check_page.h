/* A small XML reader for report pages: tags balanced, attributes quoted, entities known, nothing
 * fetched from anywhere. */
#ifndef TL_TESTS_CHECK_PAGE_H
#define TL_TESTS_CHECK_PAGE_H

#include <ctype.h>

#include "support.h"

static inline const char *check_entity(const char *s) {
    const char *end = strchr(s, ';');
    if (!end || end - s > 6) fail_msg("a bare & before: %.30s", s);
    return end + 1;
}

/* At an attribute or the tag's end; returns past the attribute. */
static inline const char *check_attribute(const char *s) {
    while (isalnum((unsigned char)*s) || *s == '-' || *s == ':') s++;
    if (s[0] != '=' || s[1] != '"') fail_msg("attribute without quotes: %.30s", s);
    for (s += 2; *s != '"';) {
        if (*s == '<' || !*s) fail_msg("attribute with <: %.30s", s);
        s = *s == '&' ? check_entity(s) : s + 1;
    }
    return s + 1;
}

static inline int check_xml(const char *html) {
    char open[64][16];
    int depth = 0, tags = 0;
    const char *s = html + strlen("<!DOCTYPE html>");
    while (*s) {
        if (*s == '&') {
            s = check_entity(s);
        } else if (s[0] == '<' && s[1] == '/') {
            size_t length = strcspn(s + 2, ">");
            assert_true(depth > 0);
            depth--;
            if (strlen(open[depth]) != length || memcmp(open[depth], s + 2, length) != 0)
                fail_msg("%s is closed by %.*s", open[depth], (int)length, s + 2);
            s += length + 3;
        } else if (*s == '<') {
            size_t length = strspn(s + 1, "abcdefghijklmnopqrstuvwxyz0123456789");
            assert_true(length > 0 && length < 16 && depth < 64);
            memcpy(open[depth], s + 1, length);
            open[depth][length] = 0;
            s += 1 + length;
            while (*s == ' ') s = check_attribute(s + 1);
            bool empty = *s == '/';
            s += empty;
            if (*s != '>') fail_msg("tag %s does not end: %.30s", open[depth], s);
            s++;
            tags++;
            depth += !empty;
        } else {
            if (*s == '>') fail_msg("a bare >: %.30s", s);
            s++;
        }
    }
    assert_int_equal(depth, 0);
    return tags;
}

/* CSS may hold > between selectors in general; ours must not, for the check above. */
static inline void check_page(const char *html) {
    assert_memory_equal(html, "<!DOCTYPE html>", 15);
    assert_true(check_xml(html) > 100);
    assert_null(strstr(html, "http"));
    assert_null(strstr(html, "<script"));
    assert_null(strstr(html, "<link"));
    assert_null(strstr(html, "url("));
    for (const char *src = html; (src = strstr(src, "src=")); src++)
        assert_memory_equal(src, "src=\"data:image/jpeg;base64,", 28);
}

#endif
