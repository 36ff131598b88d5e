/* Translates names of our parameters into those of a naming scheme, by tables of patterns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

const tl_name_rule tl_pytorch_params[] = {
    {"weight", "weight"}, {"bias", "bias"},         {"weight", "gamma"},
    {"bias", "beta"},     {"running_mean", "mean"}, {"running_var", "variance"},
    {NULL, NULL},
};
const char *const tl_pytorch_ignored[] = {"*.num_batches_tracked", NULL};

const tl_name_rule tl_keras_params[] = {
    {"kernel", "weight"}, {"bias", "bias"},        {"gamma", "gamma"},
    {"beta", "beta"},     {"moving_mean", "mean"}, {"moving_variance", "variance"},
    {NULL, NULL},
};
/* EfficientNet's and MobileNetV3's preprocessing is a layer of the network there. */
const char *const tl_keras_ignored[] = {"normalization*/*", NULL};

const tl_naming tl_naming_torchvision = {
    .scheme = "torchvision",
    .layout = TL_LAYOUT_PYTORCH,
    .nodes = (const tl_name_rule[]){{"*", "*"}, {NULL, NULL}},
    .params = tl_pytorch_params,
    .ignored = tl_pytorch_ignored,
};

/* --- matching ---------------------------------------------------------------------------------
 */

/* What the '*' of a pattern matched. */
enum { MAX_CAPTURES = 4 };
typedef struct captures {
    int count;
    struct {
        const char *text;
        size_t length;
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
    for (; *pattern && *pattern != '*'; pattern++) {
        size_t length = *pattern == '#' ? block_length(text) : *pattern == *text;
        if (length == 0) return false;
        text += length;
    }
    if (!*pattern) return !*text;
    int slot = found->count;
    if (slot == MAX_CAPTURES) return false;
    for (size_t length = 0;; length++) {
        found->item[slot].text = text;
        found->item[slot].length = length;
        found->count = slot + 1;
        if (match(pattern + 1, text + length, found)) return true;
        if (!text[length]) break;
    }
    found->count = slot;
    return false;
}

/* --- counting
 * ------------------------------------------------------------------------------------- */

tl_name_walk tl_name_walk_make(const tl_naming *naming, const tl_graph *graph,
                               const tl_weights *weights) {
    return (tl_name_walk){.naming = naming,
                          .graph = graph,
                          .weights = weights,
                          .block_number = naming->first_block - 1,
                          .node = -1};
}

/* Follows which block the walk is in: the first STAGE.INDEX in a node's name. */
static void count_blocks(tl_name_walk *walk, const char *node) {
    const char *block = strpbrk(node, "0123456789");
    while (block && block_length(block) == 0) block = strpbrk(block + 1, "0123456789");
    size_t length = block ? block_length(block) : 0;
    if (length == 0 || length >= sizeof walk->block) return;
    if (strlen(walk->block) == length && memcmp(walk->block, block, length) == 0) return;
    snprintf(walk->block, sizeof walk->block, "%.*s", (int)length, block);
    walk->block_number++;
}

/* The number at the end of an automatic name, such as 5 of "conv2d_5/kernel"; -1 when `name` does
 * not begin with `stem` and a number. */
static long automatic_number(const char *name, const char *stem, size_t stem_length) {
    if (strncmp(name, stem, stem_length) != 0) return -1;
    const char *rest = name + stem_length;
    if (*rest == '/') return 0;
    size_t digits = *rest == '_' ? strspn(rest + 1, "0123456789") : 0;
    bool plausible = digits > 0 && digits < 7 && rest[1 + digits] == '/';
    return plausible ? strtol(rest + 1, NULL, 10) : -1;
}

/* The smallest number in the file: how many such layers the process that wrote it had made for
 * other models before. */
static int first_automatic_number(const tl_weights *weights, const char *stem, size_t length) {
    long first = -1;
    for (int i = 0; weights && i < weights->count; i++) {
        long number = automatic_number(weights->item[i].name, stem, length);
        if (number >= 0 && (first < 0 || number < first)) first = number;
    }
    return first < 0 ? 0 : (int)first;
}

/* Counts the nodes of every rule with a '%', when the walk reaches `node`. */
static void count_numbered(tl_name_walk *walk, int node, const char *name) {
    int slot = -1;
    for (const tl_name_rule *rule = walk->naming->nodes; rule->internal; rule++) {
        const char *mark = strchr(rule->external, '%');
        slot += mark != NULL;
        if (!match(rule->internal, name, &(captures){0})) continue;
        if (!mark || slot >= TL_NUMBERED_RULES || node == walk->node) return;
        if (walk->numbered[slot].count++ == 0)
            walk->numbered[slot].start = first_automatic_number(walk->weights, rule->external,
                                                                (size_t)(mark - rule->external));
        return;
    }
}

/* --- writing
 * -------------------------------------------------------------------------------------- */

/* Where the walk stands, for wildcards that print numbers. */
typedef struct numbers {
    int block, place, automatic;
} numbers;

/* What a wildcard of an external pattern stands for, into text; returns its length. */
static int wildcard_text(char wildcard, const captures *found, int *next, const numbers *n,
                         char *text, size_t capacity) {
    if (wildcard == '#') return snprintf(text, capacity, "%d", n->block);
    if (wildcard == '@') return snprintf(text, capacity, "%d", n->place);
    if (wildcard == '%')
        return n->automatic ? snprintf(text, capacity, "_%d", n->automatic)
                            : snprintf(text, capacity, "%s", "");
    const char *from = found->item[*next].text;
    int length = (int)found->item[(*next)++].length;
    if (wildcard == '+') return snprintf(text, capacity, "%d", atoi(from) + 1);
    if (wildcard == '$') return snprintf(text, capacity, "%c", 'a' + atoi(from) % 26);
    return snprintf(text, capacity, "%.*s", length, from);
}

/* Writes `pattern` with its wildcards replaced; returns the length, or capacity when too long. */
static size_t fill(const char *pattern, const captures *found, const numbers *n, char *out,
                   size_t capacity) {
    size_t used = 0;
    int next = 0;
    for (; *pattern && used + 1 < capacity; pattern++) {
        if (strchr("*+$#@%", *pattern))
            used += (size_t)wildcard_text(*pattern, found, &next, n, out + used, capacity - used);
        else
            out[used++] = *pattern;
    }
    if (used >= capacity) return capacity;
    out[used] = '\0';
    return used;
}

static size_t translate(const tl_name_rule *rules, const char *internal, const tl_name_walk *walk,
                        char *out, size_t capacity) {
    int slot = -1;
    for (const tl_name_rule *rule = rules; rule->internal; rule++) {
        slot += strchr(rule->external, '%') != NULL;
        captures found = {0};
        if (!match(rule->internal, internal, &found)) continue;
        numbers n = {.block = walk->block_number, .place = walk->node - 1};
        if (slot >= 0 && slot < TL_NUMBERED_RULES)
            n.automatic = walk->numbered[slot].start + walk->numbered[slot].count - 1;
        return fill(rule->external, &found, &n, out, capacity);
    }
    return capacity;
}

bool tl_name_translate(tl_name_walk *walk, int param, char external[TL_NAME_CAPACITY]) {
    const tl_param *p = &walk->graph->param[param];
    const tl_node *node = &walk->graph->node[p->node];
    count_blocks(walk, node->name);
    count_numbered(walk, p->node, node->name);
    walk->node = p->node;
    const char *prefix = walk->naming->prefix ? walk->naming->prefix : "";
    size_t used = strlen(prefix);
    memcpy(external, prefix, used + 1);
    used +=
        translate(walk->naming->nodes, node->name, walk, external + used, TL_NAME_CAPACITY - used);
    if (used + 1 >= TL_NAME_CAPACITY) return false;
    if (used > 0 && external[used - 1] == '!') {
        external[used - 1] = '\0';
        return true;
    }
    external[used++] = walk->naming->layout == TL_LAYOUT_KERAS ? '/' : '.';
    const char *own = strrchr(p->name, '.') + 1;
    return translate(walk->naming->params, own, walk, external + used, TL_NAME_CAPACITY - used) <
           TL_NAME_CAPACITY - used;
}

/* --- reading a file's names
 * ----------------------------------------------------------------------- */

bool tl_name_ignored(const tl_naming *naming, const char *external) {
    for (const char *const *pattern = naming->ignored; *pattern; pattern++)
        if (match(*pattern, external, &(captures){0})) return true;
    return false;
}

/* Keras 2 called a depthwise kernel so, Keras 1 put the layer's name before every variable's, and
 * of a batch norm without gamma a .weights.h5 says no more than the order. ConvNeXt's layer scale
 * has no name of its own in an .h5. The '*' stands for the layer. */
static const tl_name_rule keras_synonyms[] = {
    {"*/depthwise_kernel", "*/kernel"},
    {"*/*_W_1", "*/kernel"},
    {"*/*_b_1", "*/bias"},
    {"*/*_W", "*/kernel"},
    {"*/*_b", "*/bias"},
    {"*/variable", "*/gamma"},
    {"*/0", "*/beta"},
    {"*/1", "*/moving_mean"},
    {"*/2", "*/moving_variance"},
    {NULL, NULL},
};

int tl_name_find(const tl_naming *naming, const tl_weights *weights, const char *external) {
    int found = tl_weights_find(weights, external);
    if (found >= 0 || naming->layout != TL_LAYOUT_KERAS) return found;
    for (const tl_name_rule *rule = keras_synonyms; rule->internal && found < 0; rule++) {
        captures text = {0};
        if (!match(rule->internal, external, &text)) continue;
        text.item[1] = text.item[0];
        char name[TL_NAME_CAPACITY];
        if (fill(rule->external, &text, &(numbers){0}, name, sizeof name) < sizeof name)
            found = tl_weights_find(weights, name);
    }
    return found;
}
