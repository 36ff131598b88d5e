/* Names what pictures show: classify MODEL PICTURE... (MODEL: a saved model or a backbone's name)
 */
#include <stdio.h>
#include <stdlib.h>

#include <tl/tl.h>

static tl_status classify(const tl_model *model, const char *picture, float *probabilities) {
    tl_status status = tl_model_predict_file(model, picture, probabilities);
    if (status != TL_OK) return status;
    int best = 0;
    for (int i = 1; i < tl_model_class_count(model); i++)
        if (probabilities[i] > probabilities[best]) best = i;
    printf("%s: %s (%.1f%%)\n", picture, tl_model_class_name(model, best),
           100 * (double)probabilities[best]);
    return TL_OK;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL PICTURE...\n", argv[0]);
        return 2;
    }
    tl_context *ctx = NULL;
    tl_model *model = NULL;
    float *probabilities = NULL;
    tl_status status = tl_context_create(NULL, &ctx);
    if (status == TL_OK) status = tl_model_load(ctx, argv[1], &model);
    if (status == TL_OK) {
        probabilities = malloc((size_t)tl_model_class_count(model) * sizeof *probabilities);
        if (!probabilities) status = TL_NO_MEMORY;
    }
    for (int i = 2; i < argc && status == TL_OK; i++)
        status = classify(model, argv[i], probabilities);
    if (status != TL_OK) fprintf(stderr, "%s: %s\n", tl_status_name(status), tl_last_error());
    free(probabilities);
    tl_model_free(model);
    tl_context_free(ctx);
    return status == TL_OK ? 0 : 1;
}
