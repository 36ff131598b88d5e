/* Translates names of our parameters into those of a naming scheme, by tables of patterns. */
#include <stdio.h>
#include <string.h>

#include "model/model.h"

const tl_name_rule tl_pytorch_params[] = {
    {"weight", "weight"}, {"bias", "bias"},         {"weight", "gamma"},
    {"bias", "beta"},     {"running_mean", "mean"}, {"running_var", "variance"},
    {NULL, NULL},
};
const char *const tl_pytorch_ignored[] = {"*.num_batches_tracked", NULL};

/* What the wildcards of a pattern matched. */
enum { MAX_CAPTURES = 4 };
typedef struct captures {
    int count;
    struct {
        const char *text;
        size_t length;
        bool block; /* by '#' */
    } item[MAX_CAPTURES];
} captures;

/* Length of "STAGE.INDEX" at the start of `text`; 0 when there is none. */
static size_t block_length(const char *text) {
    size_t stage = strspn(text, "0123456789");
    if (stage == 0 || text[stage] != '.') return 0;
    size_t index = strspn(text + stage + 1, "0123456789");
    return index == 0 ? 0 : stage + 1 + index;
}

/* Whether `text` matches; for a '*' the shortest run that lets the rest match. Patterns are our
 * own and have few wildcards, so that backtracking is cheap. */
static bool match(const char *pattern, const char *text, captures *found) {
    while (*pattern && *pattern != '*' && *pattern != '#')
        if (*pattern++ != *text++) return false;
    if (!*pattern) return !*text;
    int slot = found->count;
    if (slot == MAX_CAPTURES) return false;
    bool block = *pattern == '#';
    size_t shortest = block ? block_length(text) : 0;
    size_t longest = block ? shortest : strlen(text);
    if (block && shortest == 0) return false;
    for (size_t length = shortest; length <= longest; length++) {
        found->item[slot].text = text;
        found->item[slot].length = length;
        found->item[slot].block = block;
        found->count = slot + 1;
        if (match(pattern + 1, text + length, found)) return true;
    }
    found->count = slot;
    return false;
}

static int block_number(tl_block_counter *counter, const char *text, size_t length) {
    if (strlen(counter->block) != length || memcmp(counter->block, text, length) != 0) {
        snprintf(counter->block, sizeof counter->block, "%.*s", (int)length, text);
        counter->number++;
    }
    return counter->number;
}

/* Writes `pattern` with its wildcards replaced; returns the length, or capacity when too long. */
static size_t fill(const char *pattern, const captures *found, tl_block_counter *counter, char *out,
                   size_t capacity) {
    size_t used = 0;
    int next = 0;
    for (; *pattern && used + 1 < capacity; pattern++) {
        int written = 1;
        if (*pattern != '*' && *pattern != '#')
            out[used] = *pattern;
        else if (found->item[next].block)
            written =
                snprintf(out + used, capacity - used, "%d",
                         block_number(counter, found->item[next].text, found->item[next].length));
        else
            written = snprintf(out + used, capacity - used, "%.*s", (int)found->item[next].length,
                               found->item[next].text);
        if (*pattern == '*' || *pattern == '#') next++;
        used += (size_t)written;
    }
    if (used >= capacity) return capacity;
    out[used] = '\0';
    return used;
}

static size_t translate(const tl_name_rule *rules, const char *internal, tl_block_counter *counter,
                        char *out, size_t capacity) {
    for (const tl_name_rule *rule = rules; rule->internal; rule++) {
        captures found = {0};
        if (match(rule->internal, internal, &found))
            return fill(rule->external, &found, counter, out, capacity);
    }
    return capacity;
}

bool tl_name_translate(const tl_naming *naming, const char *internal, tl_block_counter *counter,
                       char external[TL_NAME_CAPACITY]) {
    const char *dot = strrchr(internal, '.');
    char node[TL_NAME_CAPACITY];
    if (!dot || (size_t)(dot - internal) >= sizeof node) return false;
    snprintf(node, sizeof node, "%.*s", (int)(dot - internal), internal);
    size_t used = translate(naming->nodes, node, counter, external, TL_NAME_CAPACITY);
    if (used + 1 >= TL_NAME_CAPACITY) return false;
    external[used++] = '.';
    return translate(naming->params, dot + 1, counter, external + used, TL_NAME_CAPACITY - used) <
           TL_NAME_CAPACITY - used;
}

bool tl_name_ignored(const tl_naming *naming, const char *external) {
    for (const char *const *pattern = naming->ignored; *pattern; pattern++)
        if (match(*pattern, external, &(captures){0})) return true;
    return false;
}
