/* Building a backbone's graph line by line: after the first failure every call does nothing, so
 * that a builder reads like the paper's table and checks once, at the end. */
#ifndef TL_MODEL_BUILD_H
#define TL_MODEL_BUILD_H

#include "graph/graph.h"

typedef struct tl_builder {
    tl_graph *graph;
    char prefix[64]; /* put before every name, such as "layer1.0." */
    int last;        /* the node appended last: what the next one reads */
    tl_status status;
} tl_builder;

/* Starts behind the last node of `graph`. */
tl_builder tl_builder_make(tl_graph *graph);
/* Sets the prefix from a format. */
void tl_build_scope(tl_builder *builder, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Appends an operator that reads the last node, without attributes or with a format for them. */
void tl_build(tl_builder *builder, const char *op, const char *name);
void tl_build_with(tl_builder *builder, const char *op, const char *name, const char *attributes,
                   ...) __attribute__((format(printf, 4, 5)));
/* Appends the sum of the last node and `other`. */
void tl_build_add(tl_builder *builder, const char *name, int other);
/* Appends an operator that reads these nodes. */
void tl_build_join(tl_builder *builder, const char *op, const char *name, int input_count,
                   const int *inputs);

#endif
