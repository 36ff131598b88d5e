/* libtl - models: a network, its weights, class names and preprocessing.
 *
 * A model may be used for prediction by several threads at once. Calls that change it (freeze,
 * head, training) need it alone. */
#ifndef TL_MODEL_H
#define TL_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <tl/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_model tl_model;

/* --- making, loading, saving --------------------------------------------------------------- */

/* Opens a model from `name`: a file saved by tl_model_save(); a weights file of a known
 * architecture, which is recognised by its tensor names and shapes: safetensors (also sharded, by
 * its .safetensors.index.json), PyTorch's .pth in either of its forms, Keras's .keras, .weights.h5
 * and .h5 (what a file is its content says, not its name); an ONNX file, which brings its own
 * architecture (opset 7 to 21, the operators of convolutional classifiers; what it expects of
 * pictures it does not say: see tl_model_set_preprocess()); or the name of a backbone (see
 * tl_backbone_list()), whose weights file is looked for in the weights folder: the environment's
 * TL_WEIGHTS_DIR, else $XDG_CACHE_HOME/libtl, else ~/.cache/libtl. `tl fetch NAME` puts it there.
 * A .pth checkpoint that holds several sets of weights gives the first of "state_dict_ema",
 * "model_ema", "ema_state_dict", "state_dict", "model_state_dict" and "model": the running average
 * before the last step's, as timm loads it; tl_model_describe() says which ("checkpoint_key").
 * The caller frees *out with tl_model_free().
 * Errors: NOT_FOUND, PERMISSION, IO, TRUNCATED, CORRUPT, LIMIT, UNSUPPORTED (unknown format or
 * architecture: the text lists tensors that do not fit, or the operators of an ONNX file that are
 * not there), SHAPE, UNSAFE, NO_MEMORY. */
TL_API tl_status tl_model_load(tl_context *ctx, const char *name, tl_model **out);

/* The same from `size` bytes in memory, which are not kept. Files that name others beside them
 * cannot be opened so: an index of shards (UNSUPPORTED), an ONNX file with external data. */
TL_API tl_status tl_model_load_memory(tl_context *ctx, const void *data, size_t size,
                                      tl_model **out);

/* Builds the named architecture with random weights (seeded). `classes` 0 means the backbone's
 * own number (1000). Errors: NOT_FOUND (lists the names), INVALID_ARGUMENT, LIMIT (the weights
 * exceed the context's memory limit; nothing was asked for yet), NO_MEMORY. */
TL_API tl_status tl_model_create(tl_context *ctx, const char *backbone, int classes, uint64_t seed,
                                 tl_model **out);

/* Starts an empty model whose input is N x height x width x channels (or N x channels when
 * height and width are 0); layers are added with tl_model_add(). Pictures are stretched to the
 * input and scaled to -1 .. 1 until tl_model_set_preprocess() says otherwise.
 * Errors: SHAPE (a size that makes no sense), NO_MEMORY. */
TL_API tl_status tl_model_create_empty(tl_context *ctx, int height, int width, int channels,
                                       tl_model **out);

/* Writes one safetensors file with weights, architecture, classes, preprocessing, training
 * summary and golden vectors. Replaces `path` atomically. Errors: IO, PERMISSION, NO_MEMORY. */
TL_API tl_status tl_model_save(const tl_model *model, const char *path);

/* Writes the model as an ONNX file (opset 17, N C H W, any batch) for other runtimes; classes and
 * preprocessing go into its metadata as JSON (libtl.classes, libtl.preprocess). The input and the
 * output are called as the model's first and last layer. Replaces `path` atomically. Errors:
 * UNSUPPORTED (names the layer), LIMIT (over 2 GiB), IO, PERMISSION, NO_MEMORY. */
TL_API tl_status tl_model_export_onnx(const tl_model *model, const char *path);

TL_API void tl_model_free(tl_model *model); /* NULL is allowed */

/* Runs the golden inputs stored in a saved model and compares the answers with those recorded
 * when it was saved, then the checksum of all that was written. *max_error (may be NULL) gets the
 * largest difference of a probability. Errors: NOT_FOUND (no golden vectors or no checksum inside),
 * CORRUPT (an answer differs by more than 1e-3, or the checksum does). */
TL_API tl_status tl_model_verify(const tl_model *model, double *max_error);

/* Number of known backbones, and their names ("resnet50"); NULL when out of range. */
TL_API int tl_backbone_count(void);
TL_API const char *tl_backbone_name(int index);
/* A backbone as a JSON object: "name"; "parameters", those that are trained; "input", pixels a
 * side; "schemes", a list of {"scheme", "preprocess", "input"}: whose weights files it can be made
 * from, and which preset they want; "weights", the file in the weights folder, or null; and
 * "fetch", whether `tl fetch` can get one. The caller frees the text with tl_string_free(). Errors:
 * NOT_FOUND (lists the names), NO_MEMORY. */
TL_API tl_status tl_backbone_describe(tl_context *ctx, const char *name, char **json);

/* Replaces a model's preprocessing by a preset's: "efficientnet-lite", "torchvision",
 * "torchvision-bicubic", "torchvision-inception", "torchvision-inception-bicubic", "keras-caffe",
 * "keras-tf", "keras-torch" (docs/backbones.md), with the model's own input size. Models of ONNX
 * files need it before they see pictures, which is INVALID_ARGUMENT until then; tl_model_run()
 * needs none. Errors: NOT_FOUND (lists the presets). */
TL_API tl_status tl_model_set_preprocess(tl_model *model, const char *preset);

/* --- prediction ------------------------------------------------------------------------------ */

/* The type that predictions, features, raw runs and evaluations of this model are computed in from
 * now on: TL_F32, at first, or TL_BF16 (see tl_context_check_dtype()). What goes in and comes out
 * is f32 in any case; weights stay f32, and saved models know nothing of it. Errors: those of
 * tl_context_check_dtype(). */
TL_API tl_status tl_model_set_dtype(tl_model *model, tl_dtype dtype);

/* Keeps the weights in the kernels' order in a file between processes: the next one maps it instead
 * of packing, which shortens the start and shares the memory. Off until asked for; best asked for
 * right after loading, since it is for predictions, features, raw runs and evaluations prepared
 * from now on. `path` is the file, "auto" for the model's own with ".packed" behind its name, NULL
 * for none. The file is used only as far as library, instruction set, layers, input size, dtype and
 * the weights' checksums are the same, and its own are right; otherwise weights are packed as
 * without it and it is replaced, atomically. A file that cannot be written is a warning in the
 * context's log. It is mapped: whoever may write to it can end the process by cutting it, and
 * change answers, but nothing else. Errors: INVALID_ARGUMENT ("auto", and the model is from no
 * file), NO_MEMORY. */
TL_API tl_status tl_model_set_packed_cache(tl_model *model, const char *path);
/* What became of it as a JSON object: "file", or null; "state": "off", "untried" (nothing was
 * prepared yet), "used", "written" or "failed" (to be written); "reason": why it was not used, or
 * not written, "" otherwise. The caller frees the text with tl_string_free(). Errors: NO_MEMORY. */
TL_API tl_status tl_model_packed_cache(const tl_model *model, char **json);

/* Number of classes, and a class's name (a number as text when the model has no names).
 * The name lives as long as the model; NULL when out of range. */
TL_API int tl_model_class_count(const tl_model *model);
TL_API const char *tl_model_class_name(const tl_model *model, int index);

/* Class probabilities of one picture. `probabilities` receives tl_model_class_count() floats
 * that sum to 1 (softmax of the logits, or 1 - p and p of a single sigmoid unit); those of several
 * sigmoid units are independent and sum to anything.
 * Errors: those of reading the file, CORRUPT and LIMIT for pictures, NO_MEMORY. */
TL_API tl_status tl_model_predict_file(const tl_model *model, const char *path,
                                       float *probabilities);
/* The same from an encoded picture (JPEG, PNG, BMP) in memory. */
TL_API tl_status tl_model_predict_encoded(const tl_model *model, const void *data, size_t size,
                                          float *probabilities);
/* The same from `height` rows of `width` RGB pixels, 8 bits a channel, `stride` bytes a row. */
TL_API tl_status tl_model_predict_rgb(const tl_model *model, const unsigned char *pixels, int width,
                                      int height, size_t stride, float *probabilities);

/* Runs the network on a raw, already preprocessed N H W C tensor. *out is the last layer's
 * value, a new tensor. Errors: SHAPE, NO_MEMORY. */
TL_API tl_status tl_model_run(const tl_model *model, const tl_tensor *input, tl_tensor **out);

/* The feature vector of one picture: what enters the classifier (of a backbone), or the head
 * (of a fine-tuned model), as means over space: one value a channel, also where the classifier
 * itself flattens the map (VGG: 512). `features` receives tl_model_feature_count() floats.
 */
TL_API int64_t tl_model_feature_count(const tl_model *model);
TL_API tl_status tl_model_features_file(const tl_model *model, const char *path, float *features);

/* --- structure ----------------------------------------------------------------------------- */

/* Height, width and channels of the input; height and width are 0 when it is a vector. Pointers may
 * be NULL. */
TL_API void tl_model_input_size(const tl_model *model, int *height, int *width, int *channels);

/* Layers in order of execution; 0 is the input. Strings live until the model is changed. */
TL_API int tl_model_layer_count(const tl_model *model);
TL_API const char *tl_model_layer_name(const tl_model *model, int index);
TL_API const char *tl_model_layer_type(const tl_model *model, int index);

/* Freezes (or thaws) every layer whose name begins with `prefix`; "" means all. Where the prefix is
 * a whole part of names, up to a '.', a '_' or the end, it is taken as such: "features.1" is not
 * "features.12". A frozen layer's parameters do not change in training; its batch norm uses the
 * stored statistics.
 * Errors: NOT_FOUND (no layer matches). */
TL_API tl_status tl_model_freeze(tl_model *model, const char *prefix, bool frozen);
/* Freezes layers 0 .. count-1 and thaws the others. Errors: INVALID_ARGUMENT. */
TL_API tl_status tl_model_freeze_first(tl_model *model, int count);

/* Removes the classifier (of a backbone) or the head, so that the last layer gives the feature
 * map. Errors: INVALID_ARGUMENT (the model has none). */
TL_API tl_status tl_model_remove_head(tl_model *model);
/* Removes the head and puts a new one: `pool` is "gap" (global average), "gmp" (global maximum)
 * or "flatten"; `layers` lists what follows, such as "256,relu,dropout:0.5" (a number is a dense
 * layer of that width; may be empty); then a dense layer for `classes` and, by `activation`,
 * "softmax", or "sigmoid" (one unit, 2 classes). `names` (UTF-8) may be NULL; they are copied.
 * Weights are drawn from `seed`. Errors: INVALID_ARGUMENT naming the part, with the old head in
 * place; NO_MEMORY, which may leave the model without a head. */
TL_API tl_status tl_model_set_head(tl_model *model, const char *pool, const char *layers,
                                   const char *activation, int classes, const char *const *names,
                                   uint64_t seed);
/* Appends a layer. `type` is an operator ("conv2d", "dense", "max_pool", ... see docs/layers.md),
 * `attributes` its settings ("filters=64 kernel=3 stride=2 pad=1"), `inputs` the names of the
 * layers it reads, NULL with input_count 0 for the last layer. Weights are drawn from `seed`.
 * Errors: INVALID_ARGUMENT, NOT_FOUND (an input), SHAPE, NO_MEMORY. */
TL_API tl_status tl_model_add(tl_model *model, const char *type, const char *name,
                              const char *attributes, const char *const *inputs, int input_count,
                              uint64_t seed);

/* Parameters by index. The value is the model's own: writing to it changes the model, which
 * must not be in use meanwhile. A model whose parameters were asked for so prepares its weights
 * anew for every prediction. */
TL_API int tl_model_param_count(const tl_model *model);
TL_API const char *tl_model_param_name(const tl_model *model, int index);
TL_API tl_tensor *tl_model_param(tl_model *model, int index);

/* Floating-point operations of one forward pass of one picture (a multiply-add counts 2). */
TL_API double tl_model_flops(const tl_model *model);

/* From now on, until it is set off, layers are timed: tl_model_describe() tells for each how long
 * it took in all runs, and in training, since then. The model must not be in use meanwhile. */
TL_API tl_status tl_model_set_timing(tl_model *model, bool on);

/* Bytes that something will take, told before any of it is asked for. */
typedef struct tl_memory {
    size_t size;        /* sizeof(tl_memory), set by the caller */
    size_t parameters;  /* that are kept as they are in the file */
    size_t packed;      /* weights in the kernels' order */
    size_t activations; /* values between layers, and their gradients */
    size_t gradients;   /* of parameters */
    size_t optimizer;   /* moments */
    size_t packing;     /* for a moment, before there are activations */
    size_t total;       /* the most that the context will hold at once, everything that it holds now
                           included; the caller's own inputs come on top */
} tl_memory;

/* What running batches of that size will take, in the dtype of tl_model_set_dtype(). Errors:
 * INVALID_ARGUMENT, LIMIT. */
TL_API tl_status tl_model_memory(const tl_model *model, int batch, tl_memory *out);

/* Everything about the model as one JSON object: architecture, classes, preprocessing, layers
 * with shapes, parameters, trainability, operations ("flops", of one picture forward) and, where
 * they are timed, "forward_seconds" and "backward_seconds", memory, training summary. What is fused
 * with a layer before it (batch norms, sums, activations) counts there. The caller frees the text
 * with tl_string_free(). */
TL_API tl_status tl_model_describe(const tl_model *model, char **json);
TL_API void tl_string_free(tl_context *ctx, char *text);

#ifdef __cplusplus
}
#endif
#endif
