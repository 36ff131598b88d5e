#include "io/json.h"

#include <inttypes.h>
#include <string.h>

#include "io/stream.h"

enum { MAX_DEPTH = 64 };

/* Bytes that jansson 2.14 takes on a 64-bit machine, malloc's own overhead and the growth of hash
 * tables and arrays included. */
enum { COST_OBJECT = 224, COST_ARRAY = 128, COST_STRING = 80, COST_MEMBER = 80, COST_ITEM = 56 };

typedef struct scan_state {
    const tl_json_text *text;
    uint64_t cost, longest, members;
    int depth;
} scan_state;

static tl_status scan_mark(scan_state *scan, char c, size_t at) {
    switch (c) {
    case '{':
    case '[':
        TL_CHECK(++scan->depth <= MAX_DEPTH, TL_LIMIT,
                 "%s: byte %" PRIu64 ": the %s nests deeper than %d levels", scan->text->file,
                 scan->text->offset + at, scan->text->what, MAX_DEPTH);
        scan->cost += c == '{' ? COST_OBJECT : COST_ARRAY;
        break;
    case '}':
    case ']':
        scan->depth--;
        break;
    case ':':
        scan->cost += COST_MEMBER;
        if (scan->depth == 1) scan->members++;
        break;
    case ',':
        scan->cost += COST_ITEM;
        break;
    default:
        break;
    }
    return TL_OK;
}

/* Index of the quote that ends the string whose first quote is at `at`, or `size`. */
static size_t string_end(const char *text, size_t size, size_t at) {
    for (at++; at < size && text[at] != '"'; at++) {
        if (text[at] == '\\') at++;
    }
    return at < size ? at : size;
}

tl_status tl_json_estimate(const tl_json_text *text, tl_json_cost *cost) {
    scan_state scan = {.text = text};
    for (size_t at = 0; at < text->size; at++) {
        if (text->text[at] == '"') {
            size_t end = string_end(text->text, text->size, at);
            uint64_t length = end - at;
            scan.cost += COST_STRING + length;
            if (length > scan.longest) scan.longest = length;
            at = end;
        } else {
            TL_TRY(scan_mark(&scan, text->text[at], at));
        }
    }
    /* The parser's token buffer doubles as it grows. */
    *cost =
        (tl_json_cost){.bytes = text->size + scan.cost + 3 * scan.longest, .members = scan.members};
    return TL_OK;
}

tl_status tl_json_parse(const tl_json_text *text, json_t **out) {
    json_error_t error;
    *out = json_loadb(text->text, text->size, JSON_REJECT_DUPLICATES, &error);
    if (*out) return TL_OK;
    /* jansson leaves the text empty where some allocations failed, and takes others for a syntax
     * error, which nothing here can tell apart. */
    if (json_error_code(&error) == json_error_out_of_memory || error.text[0] == '\0') {
        return tl_fail(TL_NO_MEMORY, "out of memory: parsing the %s of %s", text->what, text->file);
    }
    char quoted[TL_QUOTE_TEXT];
    return tl_fail(TL_CORRUPT, "%s: byte %" PRIu64 ": the %s is no valid JSON: %s", text->file,
                   text->offset + (uint64_t)error.position, text->what,
                   tl_quote(error.text, strlen(error.text), quoted));
}
