/* Decimal numbers in text. strtod() is no choice: its decimal point follows the locale of the
 * process, which is not ours to set. */
#ifndef TL_BASE_NUMBER_H
#define TL_BASE_NUMBER_H

#include <stdbool.h>

/* Reads a number such as "-0.25" or "1e-3" that fills [begin, end) exactly. The result is within
 * one unit in the last place of the nearest double for up to 15 significant digits; infinities,
 * NaN, hexadecimal and blanks are refused. */
bool tl_parse_number(const char *begin, const char *end, double *value);

#endif
