/* Writes random weights of a backbone as a framework names them, for the shell tests:
 * tool_weights FILE.safetensors BACKBONE SCHEME */
#include "golden_network.h"

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    tl_context *ctx = make_context(1, NULL);
    const tl_backbone *backbone = tl_backbone_find(argv[2]);
    if (!backbone) return 1;
    const file_options options = {.backbone = backbone,
                                  .variant = find_variant(backbone, argv[3]),
                                  .classes = 10,
                                  .gamma = 1};
    weights_file file = make_file(ctx, &options);
    FILE *out = fopen(argv[1], "wb");
    bool written = out && fwrite(file.bytes, 1, file.size, out) == file.size;
    if (out && fclose(out) != 0) written = false;
    free(file.bytes);
    tl_context_free(ctx);
    return written ? 0 : 1;
}
