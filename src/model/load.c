/* Opening a model from a file, from memory or by a backbone's name. */
#include <stdlib.h>
#include <string.h>

#include "io/onnx.h"
#include "model/model.h"

/* Takes over `source`, also on failure. */
static tl_status read_source(tl_context *ctx, tl_source *source, tl_model **out) {
    tl_weights *weights = NULL;
    if (tl_onnx_sniff(source)) {
        tl_status status = tl_model_from_onnx(ctx, source, out);
        tl_source_close(source);
        return status;
    }
    TL_TRY(tl_weights_open(ctx, source, &weights));
    tl_status status = tl_weights_is_saved_model(weights) ? tl_model_from_saved(weights, out)
                                                          : tl_model_from_weights(weights, out);
    tl_weights_free(weights);
    return status;
}

static tl_status load_source(tl_context *ctx, tl_source *source, tl_model **out) {
    bool named = source->fd >= 0;
    char *file = named ? tl_strdup(ctx, source->name) : NULL;
    if (named && !file) {
        tl_source_close(source);
        return TL_NO_MEMORY;
    }
    tl_status status = read_source(ctx, source, out);
    if (status == TL_OK)
        (*out)->file = file;
    else
        tl_free(ctx, file);
    return status;
}

static tl_status load_file(tl_context *ctx, const char *path, tl_model **out) {
    tl_source source;
    TL_TRY(tl_source_open(ctx, path, &source));
    return load_source(ctx, &source, out);
}

/* The weights folder: $TL_WEIGHTS_DIR, else libtl in the XDG base directory for caches. */
static tl_status weights_folder(tl_context *ctx, char **out) {
    const char *folder = getenv("TL_WEIGHTS_DIR");
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (folder && *folder)
        *out = tl_strdup(ctx, folder);
    else if (cache && *cache == '/') /* the standard wants relative paths ignored */
        *out = tl_format(ctx, "%s/libtl", cache);
    else if (home && *home)
        *out = tl_format(ctx, "%s/.cache/libtl", home);
    else
        return tl_fail(TL_NOT_FOUND,
                       "no weights folder: TL_WEIGHTS_DIR, XDG_CACHE_HOME and HOME are unset");
    return *out ? TL_OK : TL_NO_MEMORY;
}

/* A backbone's file may have the name under which it is published, or the backbone's own. */
static const char *const suffixes[] = {".safetensors", ".pth", ".keras", ".h5"};
enum { SUFFIXES = sizeof suffixes / sizeof suffixes[0] };

static tl_status open_in_folder(tl_context *ctx, const char *folder, const char *file,
                                const char *suffix, tl_source *out) {
    char *path = tl_format(ctx, "%s/%s%s", folder, file, suffix);
    TL_CHECK_MEMORY(path);
    tl_status status = tl_source_open(ctx, path, out);
    tl_free(ctx, path);
    return status;
}

static tl_status open_weights(tl_context *ctx, const char *folder, const tl_backbone *backbone,
                              tl_source *out) {
    tl_status status = TL_NOT_FOUND;
    if (backbone->weights) status = open_in_folder(ctx, folder, backbone->weights, "", out);
    for (int i = 0; i < SUFFIXES && status == TL_NOT_FOUND; i++)
        status = open_in_folder(ctx, folder, backbone->name, suffixes[i], out);
    return status;
}

static tl_status fail_not_found(const char *folder, const tl_backbone *backbone) {
    if (backbone->weights)
        return tl_fail(TL_NOT_FOUND, "%s: no weights in %s; `tl fetch %s` gets them",
                       backbone->name, folder, backbone->name);
    return tl_fail(TL_NOT_FOUND,
                   "%s: no %s.safetensors, .pth, .keras or .h5 in %s, and no package is "
                   "known that `tl fetch` could take it from; give a weights file's path instead",
                   backbone->name, backbone->name, folder);
}

static tl_status find_in_folder(tl_context *ctx, const char *folder, const tl_backbone *backbone,
                                tl_model **out) {
    tl_source source;
    tl_status status = open_weights(ctx, folder, backbone, &source);
    if (status == TL_NOT_FOUND) return fail_not_found(folder, backbone);
    return status == TL_OK ? load_source(ctx, &source, out) : status;
}

tl_status tl_backbone_weights_path(tl_context *ctx, const tl_backbone *backbone, char **out) {
    char *folder = NULL;
    tl_source source;
    *out = NULL;
    TL_TRY(weights_folder(ctx, &folder));
    tl_status status = open_weights(ctx, folder, backbone, &source);
    tl_free(ctx, folder);
    if (status != TL_OK) return status;
    *out = tl_strdup(ctx, source.name);
    tl_source_close(&source);
    return *out ? TL_OK : TL_NO_MEMORY;
}

static tl_status load_backbone(tl_context *ctx, const tl_backbone *backbone, tl_model **out) {
    char *folder = NULL;
    TL_TRY(weights_folder(ctx, &folder));
    tl_status status = find_in_folder(ctx, folder, backbone, out);
    tl_free(ctx, folder);
    if (status != TL_OK || strcmp((*out)->backbone, backbone->name) == 0) return status;
    char *path = NULL;
    status = tl_backbone_weights_path(ctx, backbone, &path);
    if (status == TL_OK)
        status = tl_fail(TL_CORRUPT, "%s: the file holds %s, not %s", path, (*out)->backbone,
                         backbone->name);
    tl_free(ctx, path);
    tl_model_free(*out);
    *out = NULL;
    return status;
}

tl_status tl_model_load(tl_context *ctx, const char *name, tl_model **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    TL_CHECK(ctx && name, TL_INVALID_ARGUMENT, "context or name is NULL");
    const tl_backbone *backbone = tl_backbone_find(name);
    if (backbone) return load_backbone(ctx, backbone, out);
    tl_status status = load_file(ctx, name, out);
    char names[TL_BACKBONE_NAMES];
    if (status == TL_NOT_FOUND && !strchr(name, '/') && !strchr(name, '.'))
        return tl_fail(status, "'%s' is neither a file nor a backbone; the backbones are %s", name,
                       tl_backbone_names(names));
    return status;
}

tl_status tl_model_load_memory(tl_context *ctx, const void *data, size_t size, tl_model **out) {
    TL_CHECK(out, TL_INVALID_ARGUMENT, "out is NULL");
    *out = NULL;
    TL_CHECK(ctx && data, TL_INVALID_ARGUMENT, "context or data is NULL");
    tl_source source;
    TL_TRY(tl_source_from_memory(ctx, "memory", data, size, &source));
    return load_source(ctx, &source, out);
}
