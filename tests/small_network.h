/* A residual network of two blocks, small enough to train in a test. tests/golden/make_train.py
 * has the same in PyTorch. */
#ifndef TL_TESTS_SMALL_NETWORK_H
#define TL_TESTS_SMALL_NETWORK_H

#include "support.h"

static inline void add_layer(tl_model *model, const char *type, const char *name,
                             const char *attributes, const char *input) {
    assert_ok(tl_model_add(model, type, name, attributes, input ? &input : NULL, input ? 1 : 0, 0));
}

static inline void add_block(tl_model *model, const char *block, const char *input, int filters,
                             int stride) {
    char name[8][32], conv[64];
    const char *part[] = {"conv1", "bn1", "relu1", "conv2", "bn2", "down", "down_bn", "add"};
    for (int i = 0; i < 8; i++) snprintf(name[i], sizeof name[i], "%s.%s", block, part[i]);
    const char *bn = "epsilon=1e-5 momentum=0.9 unbiased=true";
    snprintf(conv, sizeof conv, "filters=%d kernel=3 stride=%d pad=1 bias=false", filters, stride);
    add_layer(model, "conv2d", name[0], conv, input);
    add_layer(model, "batch_norm", name[1], bn, NULL);
    add_layer(model, "relu", name[2], NULL, NULL);
    snprintf(conv, sizeof conv, "filters=%d kernel=3 pad=1 bias=false", filters);
    add_layer(model, "conv2d", name[3], conv, NULL);
    add_layer(model, "batch_norm", name[4], bn, NULL);
    snprintf(conv, sizeof conv, "filters=%d kernel=1 stride=%d bias=false", filters, stride);
    add_layer(model, "conv2d", name[5], conv, input);
    add_layer(model, "batch_norm", name[6], bn, NULL);
    const char *branches[] = {name[4], name[6]};
    assert_ok(tl_model_add(model, "add", name[7], NULL, branches, 2, 0));
    char relu[32];
    snprintf(relu, sizeof relu, "%s.relu", block);
    add_layer(model, "relu", relu, NULL, NULL);
}

/* Without a head; the weights are drawn from fixed seeds. */
static inline tl_model *small_network(tl_context *ctx, int side) {
    tl_model *model = NULL;
    assert_ok(tl_model_create_empty(ctx, side, side, 3, &model));
    add_layer(model, "conv2d", "conv1", "filters=16 kernel=3 stride=2 pad=1 bias=false", NULL);
    add_layer(model, "batch_norm", "bn1", "epsilon=1e-5 momentum=0.9 unbiased=true", NULL);
    add_layer(model, "relu", "relu", NULL, NULL);
    add_block(model, "block1", "relu", 24, 1);
    add_block(model, "block2", "block1.relu", 40, 2);
    return model;
}

#endif
