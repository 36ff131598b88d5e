/* JSON out of hostile files: what parsing may cost is known before it begins. */
#ifndef TL_IO_JSON_H
#define TL_IO_JSON_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"

typedef struct tl_json_text {
    const char *file; /* for messages */
    const char *what; /* "header" */
    const char *text;
    size_t size;
    uint64_t offset; /* of the text, added to positions in messages */
} tl_json_text;

typedef struct tl_json_cost {
    uint64_t bytes;   /* that the parsed form and the parser may take, and the text itself */
    uint64_t members; /* of the outermost object */
} tl_json_cost;

/* What is no JSON is left to the parser. Errors: LIMIT (nesting). */
tl_status tl_json_estimate(const tl_json_text *text, tl_json_cost *cost);
/* Refuses repeated keys. The caller calls json_decref(). Errors: CORRUPT, NO_MEMORY. */
tl_status tl_json_parse(const tl_json_text *text, json_t **out);

#endif
