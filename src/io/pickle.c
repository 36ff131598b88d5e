#include "io/pickle.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

enum { MAX_GLOBAL_NAME = 255, MAX_PROTOCOL = 5 };

/* Values that every pickle has at these indices. */
enum { VALUE_NONE, VALUE_FALSE, VALUE_TRUE };

static uint32_t *numbers(const tl_pickle_array *array) {
    return array->data;
}

static tl_status push_number(tl_pickle *pickle, tl_pickle_array *array, uint32_t number) {
    void *slot = NULL;
    TL_TRY(tl_pickle_grow(pickle, array, sizeof number, 1, &slot));
    *(uint32_t *)slot = number;
    return TL_OK;
}

/* --- bytes ------------------------------------------------------------------------------------ */

static tl_status refill(tl_pickle *pickle) {
    uint64_t left = pickle->end - pickle->next;
    size_t size = left < TL_PICKLE_WINDOW ? (size_t)left : TL_PICKLE_WINDOW;
    pickle->window_size = 0;
    TL_TRY(tl_source_read(pickle->source, pickle->next, pickle->window, size));
    pickle->window_begin = pickle->next;
    pickle->window_size = size;
    return TL_OK;
}

/* Copies the next `count` bytes. */
static tl_status take(tl_pickle *pickle, void *to, uint64_t count) {
    if (count > pickle->end - pickle->next) {
        return tl_pickle_fail(pickle, TL_TRUNCATED,
                              "the pickle ends within an opcode or before its STOP: %" PRIu64
                              " bytes expected, %" PRIu64 " are left",
                              count, pickle->end - pickle->next);
    }
    if (count > TL_PICKLE_WINDOW) {
        TL_TRY(tl_source_read(pickle->source, pickle->next, to, (size_t)count));
        pickle->next += count;
        return TL_OK;
    }
    uint64_t at = pickle->next - pickle->window_begin;
    if (at > pickle->window_size || count > pickle->window_size - at) {
        TL_TRY(refill(pickle));
        at = 0;
    }
    memcpy(to, pickle->window + at, (size_t)count);
    pickle->next += count;
    return TL_OK;
}

/* An unsigned little-endian number of `size` bytes, 8 at most. */
static tl_status take_number(tl_pickle *pickle, unsigned size, uint64_t *number) {
    unsigned char bytes[8] = {0};
    TL_TRY(take(pickle, bytes, size));
    *number = tl_le64(bytes);
    return TL_OK;
}

/* --- the stack -------------------------------------------------------------------------------- */

static tl_status push(tl_pickle *pickle, uint32_t value) {
    return push_number(pickle, &pickle->stack, value);
}

static tl_status push_new(tl_pickle *pickle, tl_pickle_value value) {
    uint32_t index = 0;
    TL_TRY(tl_pickle_new(pickle, value, &index));
    return push(pickle, index);
}

/* Values above the last mark. */
static uint32_t available(const tl_pickle *pickle) {
    uint32_t floor = pickle->marks.count ? numbers(&pickle->marks)[pickle->marks.count - 1] : 0;
    return pickle->stack.count - floor;
}

static tl_status need(const tl_pickle *pickle, uint32_t count) {
    if (available(pickle) >= count) return TL_OK;
    return tl_pickle_fail(pickle, TL_CORRUPT,
                          "stack underflow: %" PRIu32 " values, %" PRIu32 " expected",
                          available(pickle), count);
}

static uint32_t top(const tl_pickle *pickle) {
    return numbers(&pickle->stack)[pickle->stack.count - 1];
}

static tl_status pop(tl_pickle *pickle, uint32_t *value) {
    TL_TRY(need(pickle, 1));
    *value = top(pickle);
    pickle->stack.count--;
    return TL_OK;
}

/* Takes the last mark away: `begin` is the stack index of the first value above it. */
static tl_status pop_mark(tl_pickle *pickle, uint32_t *begin) {
    if (pickle->marks.count == 0) return tl_pickle_fail(pickle, TL_CORRUPT, "no MARK is open");
    *begin = numbers(&pickle->marks)[--pickle->marks.count];
    return TL_OK;
}

/* --- opcodes ---------------------------------------------------------------------------------- */

static tl_status op_proto(tl_pickle *pickle, unsigned char opcode) {
    (void)opcode;
    uint64_t protocol = 0;
    TL_TRY(take_number(pickle, 1, &protocol));
    if (protocol <= MAX_PROTOCOL) return TL_OK;
    return tl_pickle_fail(pickle, TL_UNSUPPORTED, "pickle protocol %d, at most %d", (int)protocol,
                          MAX_PROTOCOL);
}

static tl_status op_frame(tl_pickle *pickle, unsigned char opcode) {
    (void)opcode;
    uint64_t size = 0;
    TL_TRY(take_number(pickle, 8, &size));
    if (size <= pickle->end - pickle->next) return TL_OK;
    return tl_pickle_fail(pickle, TL_TRUNCATED, "frame of %" PRIu64 " bytes, %" PRIu64 " are left",
                          size, pickle->end - pickle->next);
}

static tl_status op_mark(tl_pickle *pickle, unsigned char opcode) {
    (void)opcode;
    return push_number(pickle, &pickle->marks, pickle->stack.count);
}

static tl_status op_pop(tl_pickle *pickle, unsigned char opcode) {
    if (opcode == '1') return pop_mark(pickle, &pickle->stack.count);
    uint32_t value = 0;
    return pop(pickle, &value);
}

static tl_status op_dup(tl_pickle *pickle, unsigned char opcode) {
    (void)opcode;
    TL_TRY(need(pickle, 1));
    return push(pickle, top(pickle));
}

static tl_status op_constant(tl_pickle *pickle, unsigned char opcode) {
    return push(pickle, opcode == 'N' ? VALUE_NONE : opcode == 0x88 ? VALUE_TRUE : VALUE_FALSE);
}

static tl_status op_int(tl_pickle *pickle, unsigned char opcode) {
    uint64_t number = 0;
    TL_TRY(take_number(pickle, opcode == 'J' ? 4 : opcode == 'M' ? 2 : 1, &number));
    int64_t integer = opcode == 'J' ? (int64_t)(int32_t)(uint32_t)number : (int64_t)number;
    return push_new(pickle, (tl_pickle_value){.kind = TL_PICKLE_INT, .as.integer = integer});
}

static tl_status op_float(tl_pickle *pickle, unsigned char opcode) {
    (void)opcode;
    uint64_t bits = 0;
    TL_TRY(take_number(pickle, 8, &bits));
    return push_new(pickle, (tl_pickle_value){.kind = TL_PICKLE_FLOAT});
}

/* Copies the next `length` bytes to the texts. */
static tl_status push_text(tl_pickle *pickle, tl_pickle_kind kind, uint64_t length) {
    if (length > pickle->end - pickle->next) {
        return tl_pickle_fail(pickle, TL_TRUNCATED,
                              "a text of %" PRIu64 " bytes, %" PRIu64 " are left", length,
                              pickle->end - pickle->next);
    }
    if (length >= UINT32_MAX) return tl_pickle_fail(pickle, TL_LIMIT, "a text of 4 GB or more");
    tl_pickle_value value = {.kind = (uint8_t)kind, .count = (uint32_t)length};
    value.as.text = pickle->texts.count;
    void *room = NULL;
    TL_TRY(tl_pickle_grow(pickle, &pickle->texts, 1, length + 1, &room));
    TL_TRY(take(pickle, room, length));
    ((char *)room)[length] = '\0';
    return push_new(pickle, value);
}

static tl_status op_text(tl_pickle *pickle, unsigned char opcode) {
    uint64_t length = 0;
    bool one_byte = opcode == 0x8c || opcode == 'U' || opcode == 'C';
    bool eight_bytes = opcode == 0x8d || opcode == 0x8e;
    TL_TRY(take_number(pickle, one_byte ? 1 : eight_bytes ? 8 : 4, &length));
    return push_text(pickle, TL_PICKLE_TEXT, length);
}

/* Two's complement of any length: what fits into 64 bits is an int. */
static tl_status op_long(tl_pickle *pickle, unsigned char opcode) {
    uint64_t length = 0, number = 0;
    TL_TRY(take_number(pickle, opcode == 0x8a ? 1 : 4, &length));
    if (length > 8) return push_text(pickle, TL_PICKLE_BIG_INT, length);
    TL_TRY(take_number(pickle, (unsigned)length, &number));
    bool negative = length > 0 && number >> (8 * length - 1) & 1;
    if (negative && length < 8) number |= UINT64_MAX << (8 * length);
    return push_new(pickle,
                    (tl_pickle_value){.kind = TL_PICKLE_INT, .as.integer = (int64_t)number});
}

static tl_status op_empty(tl_pickle *pickle, unsigned char opcode) {
    tl_pickle_kind kind = opcode == '}'   ? TL_PICKLE_DICT
                          : opcode == ']' ? TL_PICKLE_LIST
                          : opcode == ')' ? TL_PICKLE_TUPLE
                                          : TL_PICKLE_OPAQUE;
    return push_new(pickle, (tl_pickle_value){.kind = (uint8_t)kind});
}

/* Makes a tuple of the stack's values from `begin` on. */
static tl_status make_tuple(tl_pickle *pickle, uint32_t begin) {
    uint32_t tuple;
    TL_TRY(tl_pickle_new(pickle, (tl_pickle_value){.kind = TL_PICKLE_TUPLE}, &tuple));
    for (uint32_t i = begin; i < pickle->stack.count; i++) {
        TL_TRY(tl_pickle_append(pickle, tuple, numbers(&pickle->stack)[i]));
    }
    pickle->stack.count = begin;
    return push(pickle, tuple);
}

static tl_status op_tuple(tl_pickle *pickle, unsigned char opcode) {
    uint32_t begin = 0;
    if (opcode == 't') {
        TL_TRY(pop_mark(pickle, &begin));
    } else {
        uint32_t count = opcode - 0x84u; /* TUPLE1 is 0x85 */
        TL_TRY(need(pickle, count));
        begin = pickle->stack.count - count;
    }
    return make_tuple(pickle, begin);
}

static tl_status op_frozenset(tl_pickle *pickle, unsigned char opcode) {
    (void)opcode;
    TL_TRY(pop_mark(pickle, &pickle->stack.count));
    return push_new(pickle, (tl_pickle_value){.kind = TL_PICKLE_OPAQUE});
}

/* Moves the stack's values from `begin` on into the container below them. */
static tl_status add_members(tl_pickle *pickle, uint32_t begin, tl_pickle_kind kind,
                             const char *operation) {
    uint32_t end = pickle->stack.count;
    pickle->stack.count = begin;
    TL_TRY(need(pickle, 1));
    uint32_t container = top(pickle);
    const tl_pickle_value *value = tl_pickle_at(pickle, container);
    if (value->kind == TL_PICKLE_OPAQUE) return TL_OK;
    if (value->kind != kind) {
        return tl_pickle_fail(pickle, TL_CORRUPT, "%s on %s", operation,
                              tl_pickle_kind_name(value));
    }
    if (kind == TL_PICKLE_DICT && (end - begin) % 2 != 0) {
        return tl_pickle_fail(pickle, TL_CORRUPT, "%s with a key that has no value", operation);
    }
    for (uint32_t i = begin; i < end; i++) {
        TL_TRY(tl_pickle_append(pickle, container, numbers(&pickle->stack)[i]));
    }
    return TL_OK;
}

static tl_status op_append(tl_pickle *pickle, unsigned char opcode) {
    uint32_t begin = 0;
    if (opcode == 'a') {
        TL_TRY(need(pickle, 2));
        begin = pickle->stack.count - 1;
    } else {
        TL_TRY(pop_mark(pickle, &begin));
    }
    return add_members(pickle, begin, TL_PICKLE_LIST, "APPEND");
}

static tl_status op_setitem(tl_pickle *pickle, unsigned char opcode) {
    uint32_t begin = 0;
    if (opcode == 's') {
        TL_TRY(need(pickle, 3));
        begin = pickle->stack.count - 2;
    } else {
        TL_TRY(pop_mark(pickle, &begin));
    }
    return add_members(pickle, begin, TL_PICKLE_DICT, "SETITEM");
}

/* The memo holds indices plus one; 0 is free. No pickle of n bytes needs a number of n or more. */
static tl_status memo_put(tl_pickle *pickle, uint64_t number) {
    TL_TRY(need(pickle, 1));
    if (number >= pickle->next - pickle->begin) {
        return tl_pickle_fail(pickle, TL_LIMIT, "memo number %" PRIu64 " after %" PRIu64 " bytes",
                              number, pickle->next - pickle->begin);
    }
    if (number >= pickle->memo.count) {
        uint64_t missing = number + 1 - pickle->memo.count;
        void *room = NULL;
        TL_TRY(tl_pickle_grow(pickle, &pickle->memo, sizeof(uint32_t), missing, &room));
        memset(room, 0, (size_t)missing * sizeof(uint32_t));
    }
    numbers(&pickle->memo)[number] = top(pickle) + 1;
    return TL_OK;
}

static tl_status op_put(tl_pickle *pickle, unsigned char opcode) {
    uint64_t number = pickle->memo.count;
    if (opcode != 0x94) TL_TRY(take_number(pickle, opcode == 'q' ? 1 : 4, &number));
    return memo_put(pickle, number);
}

static tl_status op_get(tl_pickle *pickle, unsigned char opcode) {
    uint64_t number = 0;
    TL_TRY(take_number(pickle, opcode == 'h' ? 1 : 4, &number));
    if (number >= pickle->memo.count || numbers(&pickle->memo)[number] == 0) {
        return tl_pickle_fail(pickle, TL_CORRUPT, "memo number %" PRIu64 " was never set", number);
    }
    return push(pickle, numbers(&pickle->memo)[number] - 1);
}

/* A line without its end, as GLOBAL's operands are. */
static tl_status take_line(tl_pickle *pickle, char line[MAX_GLOBAL_NAME + 1]) {
    for (int i = 0; i <= MAX_GLOBAL_NAME; i++) {
        TL_TRY(take(pickle, &line[i], 1));
        if (line[i] != '\n') continue;
        line[i] = '\0';
        return TL_OK;
    }
    return tl_pickle_fail(pickle, TL_LIMIT, "GLOBAL with a name of more than %d bytes",
                          MAX_GLOBAL_NAME);
}

static tl_status push_global(tl_pickle *pickle, const char *module, const char *name) {
    char text[2][TL_QUOTE_TEXT];
    tl_quote(module, strlen(module), text[0]);
    tl_quote(name, strlen(name), text[1]);
    const tl_pickle_global *global = tl_pickle_global_find(module, name);
    if (!global) {
        return tl_pickle_fail(pickle, TL_UNSAFE,
                              "GLOBAL %s.%s is none that weights need, and nothing else is ever "
                              "loaded; save the model's state_dict() alone",
                              text[0], text[1]);
    }
    if (global->role == TL_ROLE_UNSUPPORTED) {
        return tl_pickle_fail(pickle, TL_UNSUPPORTED,
                              "%s.%s: only dense tensors of real numbers "
                              "are read",
                              text[0], text[1]);
    }
    return push_new(pickle, (tl_pickle_value){.kind = TL_PICKLE_GLOBAL,
                                              .as.integer = tl_pickle_global_index(global)});
}

static tl_status op_global(tl_pickle *pickle, unsigned char opcode) {
    (void)opcode;
    char module[MAX_GLOBAL_NAME + 1], name[MAX_GLOBAL_NAME + 1];
    TL_TRY(take_line(pickle, module));
    TL_TRY(take_line(pickle, name));
    return push_global(pickle, module, name);
}

static tl_status op_stack_global(tl_pickle *pickle, unsigned char opcode) {
    (void)opcode;
    uint32_t name = 0, module = 0;
    TL_TRY(pop(pickle, &name));
    TL_TRY(pop(pickle, &module));
    const tl_pickle_value *texts[2] = {tl_pickle_at(pickle, module), tl_pickle_at(pickle, name)};
    if (texts[0]->kind != TL_PICKLE_TEXT || texts[1]->kind != TL_PICKLE_TEXT) {
        return tl_pickle_fail(pickle, TL_CORRUPT, "STACK_GLOBAL with %s and %s, expected texts",
                              tl_pickle_kind_name(texts[0]), tl_pickle_kind_name(texts[1]));
    }
    return push_global(pickle, tl_pickle_text(pickle, texts[0]->as.text),
                       tl_pickle_text(pickle, texts[1]->as.text));
}

/* REDUCE and NEWOBJ: from the table's few callables to what they stand for. */
static tl_status op_call(tl_pickle *pickle, unsigned char opcode) {
    (void)opcode;
    uint32_t args = 0, callee = 0, result = 0;
    TL_TRY(pop(pickle, &args));
    TL_TRY(pop(pickle, &callee));
    TL_TRY(tl_pickle_call(pickle, callee, args, &result));
    return push(pickle, result);
}

/* An OrderedDict's attributes (PyTorch's _metadata) hold nothing of use. */
static tl_status op_build(tl_pickle *pickle, unsigned char opcode) {
    (void)opcode;
    uint32_t state = 0;
    TL_TRY(pop(pickle, &state));
    TL_TRY(need(pickle, 1));
    const tl_pickle_value *object = tl_pickle_at(pickle, top(pickle));
    if (object->kind == TL_PICKLE_DICT || object->kind == TL_PICKLE_OPAQUE) return TL_OK;
    return tl_pickle_fail(pickle, TL_UNSAFE, "BUILD on %s", tl_pickle_kind_name(object));
}

static tl_status op_persistent(tl_pickle *pickle, unsigned char opcode) {
    (void)opcode;
    uint32_t id = 0, result = 0;
    TL_TRY(pop(pickle, &id));
    TL_TRY(tl_pickle_persistent(pickle, id, &result));
    return push(pickle, result);
}

static tl_status op_unsafe(tl_pickle *pickle, unsigned char opcode) {
    return tl_pickle_fail(pickle, TL_UNSAFE, "opcode 0x%02x makes objects of any class", opcode);
}

static tl_status op_unsupported(tl_pickle *pickle, unsigned char opcode) {
    return tl_pickle_fail(pickle, TL_UNSUPPORTED,
                          "opcode 0x%02x is of a pickle that torch.save() does not write", opcode);
}

typedef tl_status (*opcode_fn)(tl_pickle *pickle, unsigned char opcode);

/* Opcode 0 is none, so that lists end with it. */
static const struct {
    opcode_fn run;
    unsigned char opcodes[13];
} families[] = {
    {op_proto, {0x80}},
    {op_frame, {0x95}},
    {op_mark, {'('}},
    {op_pop, {'0', '1'}},
    {op_dup, {'2'}},
    {op_constant, {'N', 0x88, 0x89}},
    {op_int, {'J', 'K', 'M'}},
    {op_long, {0x8a, 0x8b}},
    {op_float, {'G'}},
    {op_text, {'X', 0x8c, 0x8d, 'U', 'T', 'B', 'C', 0x8e}},
    {op_empty, {'}', ']', ')', 0x8f}},
    {op_tuple, {'t', 0x85, 0x86, 0x87}},
    {op_frozenset, {0x91}},
    {op_append, {'a', 'e', 0x90}},
    {op_setitem, {'s', 'u'}},
    {op_get, {'h', 'j'}},
    {op_put, {'q', 'r', 0x94}},
    {op_global, {'c'}},
    {op_stack_global, {0x93}},
    {op_call, {'R', 0x81}},
    {op_build, {'b'}},
    {op_persistent, {'Q'}},
    {op_unsafe, {'i', 'o', 'P', 0x92, 0x82, 0x83, 0x84}},
    {op_unsupported, {'I', 'L', 'F', 'S', 'V', 'd', 'l', 'g', 'p', 0x96, 0x97, 0x98}},
};
enum { FAMILIES = sizeof families / sizeof families[0] };

/* The family of every opcode + 1; 0: it is none. */
static void index_opcodes(unsigned char family[256]) {
    memset(family, 0, 256);
    for (unsigned char i = 0; i < FAMILIES; i++) {
        for (const unsigned char *opcode = families[i].opcodes; *opcode; opcode++) {
            family[*opcode] = (unsigned char)(i + 1);
        }
    }
}

/* --- loading ---------------------------------------------------------------------------------- */

tl_status tl_pickle_load(tl_pickle *pickle, uint32_t *root) {
    pickle->begin = pickle->next;
    pickle->stack.count = pickle->marks.count = pickle->memo.count = 0;
    unsigned char family[256];
    index_opcodes(family);
    for (;;) {
        pickle->opcode = pickle->next;
        unsigned char opcode = 0;
        TL_TRY(take(pickle, &opcode, 1));
        if (opcode == '.') return pop(pickle, root);
        if (!family[opcode]) {
            return tl_pickle_fail(pickle, TL_CORRUPT, "0x%02x is no pickle opcode", opcode);
        }
        TL_TRY(families[family[opcode] - 1].run(pickle, opcode));
    }
}

tl_status tl_pickle_init(tl_pickle *pickle, const tl_source *source, uint64_t begin, uint64_t end,
                         uint64_t memory_limit) {
    *pickle = (tl_pickle){.ctx = source->ctx,
                          .source = source,
                          .next = begin,
                          .end = end,
                          .opcode = begin,
                          .memory_limit = memory_limit};
    uint32_t index = 0;
    TL_TRY(tl_pickle_new(pickle, (tl_pickle_value){.kind = TL_PICKLE_NONE}, &index));
    TL_TRY(tl_pickle_new(pickle, (tl_pickle_value){.kind = TL_PICKLE_BOOL}, &index));
    return tl_pickle_new(pickle, (tl_pickle_value){.kind = TL_PICKLE_BOOL, .as.integer = 1},
                         &index);
}

void tl_pickle_free(tl_pickle *pickle) {
    tl_pickle_array *arrays[] = {&pickle->values, &pickle->cells, &pickle->stack,   &pickle->marks,
                                 &pickle->memo,   &pickle->texts, &pickle->storages};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        tl_free(pickle->ctx, arrays[i]->data);
    }
}
