#include "base/number.h"

#include <math.h>

typedef struct cursor {
    const char *at, *end;
} cursor;

static bool take(cursor *c, char symbol) {
    if (c->at == c->end || *c->at != symbol) return false;
    c->at++;
    return true;
}

static bool take_sign(cursor *c) {
    if (take(c, '-')) return true;
    take(c, '+');
    return false;
}

/* Appends digits to *value; returns how many there were. */
static int take_digits(cursor *c, double *value) {
    int count = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++, count++)
        *value = *value * 10 + (*c->at - '0');
    return count;
}

static bool take_exponent(cursor *c, double *exponent) {
    if (!take(c, 'e') && !take(c, 'E')) return true;
    bool negative = take_sign(c);
    double value = 0;
    if (take_digits(c, &value) == 0) return false;
    *exponent += negative ? -value : value;
    return true;
}

bool tl_parse_number(const char *begin, const char *end, double *value) {
    cursor c = {begin, end};
    bool negative = take_sign(&c);
    double mantissa = 0, exponent = 0;
    int digits = take_digits(&c, &mantissa);
    if (take(&c, '.')) {
        int fraction = take_digits(&c, &mantissa);
        digits += fraction;
        exponent = -fraction;
    }
    if (digits == 0 || !take_exponent(&c, &exponent) || c.at != c.end) return false;
    /* Powers of ten up to 10^22 are exact, so the usual cases round once. */
    double scale = pow(10, fabs(exponent));
    double magnitude = exponent < 0 ? mantissa / scale : mantissa * scale;
    if (!isfinite(magnitude)) return false;
    *value = negative ? -magnitude : magnitude;
    return true;
}
