/* Building a text piece by piece, for pages and JSON. Names of files and classes are bytes from
 * outside: they go through tl_text_escaped() or tl_json_string(), which also replace what is no
 * UTF-8 by U+FFFD. */
#ifndef TL_FINETUNE_TEXT_H
#define TL_FINETUNE_TEXT_H

#include "base/context.h"

/* {.ctx = ctx} is an empty text. After a failed allocation nothing more is added; whoever takes
 * the text checks `failed` once. */
typedef struct tl_text {
    tl_context *ctx;
    char *data; /* NUL-terminated once anything was added; freed with tl_free() */
    size_t length, capacity;
    bool failed;
} tl_text;

void tl_text_add(tl_text *text, const char *piece);
/* Not for floating-point numbers: printf's follow the locale of the process. */
void tl_text_printf(tl_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* With a point and `decimals` (0..9) digits; "n/a" for what is not finite or beyond 1e9. */
void tl_text_fixed(tl_text *text, double value, int decimals);
/* With & < > " ' as entities. */
void tl_text_escaped(tl_text *text, const char *piece);
void tl_text_base64(tl_text *text, const unsigned char *data, size_t size);

struct json_t;
/* A JSON string of any bytes; NULL when memory is out. */
struct json_t *tl_json_string(tl_context *ctx, const char *bytes);

#endif
