/* Saves a network with random weights, for the shell tests: tool_model FILE [BACKBONE]
 * Without a backbone's name: 24x24x3, two convolutions, a classifier for the three classes of
 * make_inputs.py. */
#include <stdio.h>

#include <tl/tl.h>

static tl_status build(tl_model *model) {
    static const char *const layers[][3] = {
        {"conv2d", "conv1", "filters=8 kernel=3 stride=2 pad=1"},
        {"relu", "relu1", ""},
        {"conv2d", "conv2", "filters=16 kernel=3 stride=2 pad=1"},
        {"relu", "relu2", ""},
    };
    static const char *const names[] = {"blue", "green", "red"};
    tl_status status = TL_OK;
    for (size_t i = 0; i < sizeof layers / sizeof layers[0] && status == TL_OK; i++)
        status = tl_model_add(model, layers[i][0], layers[i][1], layers[i][2], NULL, 0, 7 + i);
    if (status != TL_OK) return status;
    return tl_model_set_head(model, "gap", "", "softmax", 3, names, 11);
}

static tl_status create(tl_context *ctx, const char *backbone, tl_model **model) {
    if (backbone) return tl_model_create(ctx, backbone, 0, 1, model);
    tl_status status = tl_model_create_empty(ctx, 24, 24, 3, model);
    return status == TL_OK ? build(*model) : status;
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) return 2;
    tl_context *ctx = NULL;
    tl_model *model = NULL;
    tl_status status = tl_context_create(NULL, &ctx);
    if (status == TL_OK) status = create(ctx, argv[2], &model);
    if (status == TL_OK) status = tl_model_save(model, argv[1]);
    if (status != TL_OK) fprintf(stderr, "tool_model: %s\n", tl_last_error());
    tl_model_free(model);
    tl_context_free(ctx);
    return status == TL_OK ? 0 : 1;
}
