#include "model/build.h"

#include <stdarg.h>
#include <stdio.h>

tl_builder tl_builder_make(tl_graph *graph) {
    return (tl_builder){.graph = graph, .last = tl_graph_output(graph), .status = TL_OK};
}

void tl_build_scope(tl_builder *builder, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(builder->prefix, sizeof builder->prefix, format, args);
    va_end(args);
}

static void append(tl_builder *builder, const char *op, const char *name, const char *attributes,
                   int input_count, const int *inputs) {
    if (builder->status != TL_OK) return;
    char full[128];
    snprintf(full, sizeof full, "%s%s", builder->prefix, name);
    builder->status =
        tl_graph_add(builder->graph, op, full, attributes, input_count, inputs, &builder->last);
}

void tl_build(tl_builder *builder, const char *op, const char *name) {
    append(builder, op, name, NULL, 1, &builder->last);
}

void tl_build_with(tl_builder *builder, const char *op, const char *name, const char *attributes,
                   ...) {
    char text[256];
    va_list args;
    va_start(args, attributes);
    vsnprintf(text, sizeof text, attributes, args);
    va_end(args);
    append(builder, op, name, text, 1, &builder->last);
}

void tl_build_join(tl_builder *builder, const char *op, const char *name, int input_count,
                   const int *inputs) {
    append(builder, op, name, NULL, input_count, inputs);
}

void tl_build_add(tl_builder *builder, const char *name, int other) {
    tl_build_join(builder, "add", name, 2, (const int[]){builder->last, other});
}
