/* Trains a classifier for a folder of class folders: finetune BACKBONE FOLDER MODEL */
#include <stdio.h>

#include <tl/tl.h>

static int show(void *user, const tl_progress *now) {
    (void)user;
    if (now->phase == TL_PHASE_TRAIN && now->done == now->total)
        printf("epoch %d: loss %.4f, accuracy %.3f\n", now->epoch, now->loss, now->accuracy);
    return 0; /* anything else would cancel */
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s BACKBONE FOLDER MODEL\n", argv[0]);
        return 2;
    }
    tl_finetune_options options;
    tl_finetune_options_init(&options, sizeof options);
    options.backbone = argv[1];
    options.data = argv[2];
    options.out = argv[3];
    options.epochs = 10;
    options.seed = 1;
    options.progress = show;

    tl_context *ctx = NULL;
    tl_report *report = NULL;
    double accuracy = 0;
    tl_status status = tl_context_create(NULL, &ctx);
    if (status == TL_OK) status = tl_finetune(ctx, &options, NULL, &report);
    if (status == TL_OK) status = tl_report_number(report, "val_accuracy", &accuracy);
    if (status == TL_OK)
        printf("validation accuracy %.3f, saved as %s\n", accuracy, argv[3]);
    else
        fprintf(stderr, "%s: %s\n", tl_status_name(status), tl_last_error());
    tl_report_free(report);
    tl_context_free(ctx);
    return status == TL_OK ? 0 : 1;
}
