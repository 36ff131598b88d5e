/* The model's inside: graph, classes, preprocessing; backbones and their name tables. */
#ifndef TL_MODEL_MODEL_H
#define TL_MODEL_MODEL_H

#include <tl/model.h>

#include "graph/graph.h"
#include "image/image.h"
#include "io/weights.h"

enum { TL_MAX_CLASSES = 1 << 20 };

/* Eight hexadecimal digits and the NUL. */
enum { TL_CHECKSUM_TEXT = 9 };

/* Idle and borrowed inference plans (plans.c). */
typedef struct tl_plan_pool tl_plan_pool;

struct tl_model {
    tl_context *ctx;
    tl_graph *graph;
    char *backbone;      /* name of the architecture, or "custom" */
    const char *format;  /* what it was read from: "libtl", a tl_weights format, or "none" */
    const char *wrapper; /* as in tl_weights */
    tl_preprocess
        preprocess; /* meaningful when the input is a picture, see tl_model_sees_pictures() */
    bool preprocess_known;   /* false: nobody has said what the weights expect */
    char *file;              /* that it was loaded from, or NULL */
    char *origin;            /* the file of a model whose preprocessing is not known; else NULL */
    int features;            /* last node of the backbone: its value is the feature map */
    int class_count;         /* 0 when the last node is no classifier */
    const char **class_name; /* class_count of them, pointing into class_text */
    char *class_text;
    char *training; /* JSON object: summary of the training run, or NULL */
    /* Golden vectors: inputs [k H W C] as 8-bit pixels after geometry, and the probabilities
     * [k class_count] that the file says they give. NULL when there are none. */
    int golden_count;
    unsigned char *golden_input;
    float *golden_output;
    /* Of the file it was loaded from (checksum.c): the sum it records, as text, "" for none, and
     * the part of it that covers the metadata. */
    char checksum[TL_CHECKSUM_TEXT];
    uint32_t metadata_checksum;
    tl_plan_pool *plans;
    tl_dtype dtype; /* of predictions */
};

/* --- making (model.c)
 * ------------------------------------------------------------------------------ */
/* A model around `graph`, which it takes over, also on failure. `features` is the last node of
 * the backbone. Classes are numbered as the last node says. */
tl_status tl_model_wrap(tl_graph *graph, const char *backbone, int features, tl_model **out);
/* Sets class_count from the graph's last node and the names: `names` holds that many, or is NULL
 * for numbers. */
tl_status tl_model_set_classes(tl_model *model, const char *const *names);
/* Number of classes that the last node of the graph answers: its units, two for a single sigmoid
 * unit, 0 when it is no vector. */
int tl_model_count_classes(const tl_model *model);
/* Whether the last layer is several sigmoid units, each of which answers by itself: several labels
 * a picture, and no distribution over classes. */
bool tl_model_has_independent_units(const tl_model *model);
/* Whether the input is pictures of three channels. */
bool tl_model_sees_pictures(const tl_model *model);
/* Forgets the preprocessing, because the file `origin` does not say it. */
tl_status tl_model_doubt_preprocess(tl_model *model, const char *origin);
/* INVALID_ARGUMENT, with the choices, when the preprocessing of pictures is not known. To be called
 * before pictures are made into inputs. */
tl_status tl_model_require_preprocess(const tl_model *model);
/* To be called whenever weights or structure change: drops idle plans and recorded answers. */
void tl_model_changed(tl_model *model);
tl_status tl_model_set_training_summary(tl_model *model, const char *json);
/* The same network for an input of another size (image_size of the recipe). The weights stay.
 * Errors: INVALID_ARGUMENT, SHAPE (a layer's weights depend on the size: names it), NO_MEMORY. */
tl_status tl_model_resize_input(tl_model *model, int height, int width);

/* The layers that the beginning of a name means: those where it ends a part of the name, so that
 * "features.1" is not "features.12"; only where there is none, all that begin so. */
typedef struct tl_layer_prefix {
    const char *text;
    bool whole;
} tl_layer_prefix;
/* Of the first `count` nodes. */
tl_layer_prefix tl_layer_prefix_make(const tl_graph *graph, int count, const char *text);
bool tl_layer_prefix_matches(const tl_layer_prefix *prefix, const char *name);

/* Whether tl_model_set_head() would accept `layers` (head.c). INVALID_ARGUMENT names the part. */
tl_status tl_head_check(tl_context *ctx, const char *layers);

/* Forgets the golden inputs, whose size no longer fits. */
void tl_model_forget_golden(tl_model *model);

/* --- running (plans.c, predict.c)
 * ------------------------------------------------------------------- */
tl_status tl_plan_pool_create(tl_context *ctx, tl_plan_pool **out);
void tl_plan_pool_free(tl_plan_pool *pool); /* NULL is allowed */
/* Drops the plans, none of which may be borrowed. */
void tl_plan_pool_clear(tl_plan_pool *pool);
/* To be called when a parameter has been exposed: drops idle plans, and the others when they come
 * back. Plans of exposed parameters pack them at every borrowing. */
void tl_plan_pool_expose(tl_plan_pool *pool);
/* Borrows a plan from the input to node `to` for up to `batch` samples of shape `input` (whose
 * dim[0] does not matter; NULL for the model's own); give it back with tl_model_return_plan().
 * Thread safe. */
tl_status tl_model_borrow_plan(const tl_model *model, tl_dtype dtype, int to, int64_t batch,
                               const tl_shape *input, tl_plan **out);
void tl_model_return_plan(const tl_model *model, tl_plan *plan);
/* Class probabilities from the value of the graph's last node: softmax of logits unless the
 * graph ends in a probability, two classes from one sigmoid unit. in [n, units], out [n, classes].
 */
void tl_model_probabilities(const tl_model *model, const float *output, int64_t n, float *out);
/* Class probabilities of a picture that already has the input's size. Thread safe. */
tl_status tl_model_predict_fitted(const tl_model *model, tl_dtype dtype,
                                  const unsigned char *pixels, float *probabilities);

/* --- names of tensors (names.c)
 * --------------------------------------------------------------------- A parameter of ours is
 * NODE.PARAM. `external` is what a scheme calls a node, or a parameter of one. The first rule whose
 * `internal` matches holds. In ours '*' stands for any text and '#' for a block's STAGE.INDEX; in
 * theirs
 *   '*' is the next text that a '*' stood for, '+' the same, a number, plus one, and '$' the same
 * as a letter, a for 0;
 *   '#' is the block's number, counted through from the scheme's first_block;
 *   '@' is the node's place in the graph, the one behind the input being 0;
 *   '%' numbers the nodes of this rule as Keras does where nobody named a layer: nothing for the
 *       first, then _1, _2, ...; or a later start, where the file's smallest number is one;
 *   '!' at the end says that this is the parameter's whole name. */
typedef struct tl_name_rule {
    const char *external;
    const char *internal;
} tl_name_rule;

/* How a scheme's files lay out weights (layout.c). Ours are O KH KW I and O I. */
typedef enum tl_layout {
    TL_LAYOUT_PYTORCH, /* convolutions O I KH KW, dense O I; maps are flattened as C H W */
    TL_LAYOUT_KERAS    /* KH KW I O, depthwise KH KW C 1, dense I O; maps are flattened as H W C */
} tl_layout;

typedef struct tl_naming {
    const char *scheme; /* "torchvision", "keras", ... */
    tl_layout layout;
    const tl_name_rule *nodes;  /* ended by a NULL rule */
    const tl_name_rule *params; /* the same for what follows the last separator */
    const char *const *ignored; /* patterns of tensors we have no use for; NULL-terminated */
    int first_block;
    const char *prefix; /* before every name; NULL: nothing */
} tl_naming;

extern const tl_name_rule tl_pytorch_params[];
extern const char *const tl_pytorch_ignored[];
extern const tl_name_rule tl_keras_params[];
extern const char *const tl_keras_ignored[];
/* Every node has torchvision's name already. */
extern const tl_naming tl_naming_torchvision;

enum { TL_NAME_CAPACITY = 256, TL_NUMBERED_RULES = 4 };
/* A walk over a graph's parameters in their order, of which it may leave none out. */
typedef struct tl_name_walk {
    const tl_naming *naming;
    const tl_graph *graph;
    const tl_weights *weights; /* where automatic numbers start; NULL: at none */
    char block[32];
    int block_number;
    int node; /* the last parameter's */
    struct {
        int count, start;
    } numbered[TL_NUMBERED_RULES];
} tl_name_walk;
/* Starts a walk. */
tl_name_walk tl_name_walk_make(const tl_naming *naming, const tl_graph *graph,
                               const tl_weights *weights);
/* Writes what the scheme calls graph->param[param] to `external`; false when no rule matches. */
bool tl_name_translate(tl_name_walk *walk, int param, char external[TL_NAME_CAPACITY]);
bool tl_name_ignored(const tl_naming *naming, const char *external);
/* Index of the tensor that `external` means, under the other names it goes by too; or -1. */
int tl_name_find(const tl_naming *naming, const tl_weights *weights, const char *external);

/* --- layouts (layout.c) ------------------------------------------------------------------------
 */
/* The shape that a parameter of the graph has in files of that layout. */
tl_shape tl_layout_shape(tl_layout layout, const tl_graph *graph, const tl_param *param);
/* Whether a tensor of `shape` can be it: that shape, or another that means the same, since a dense
 * layer is a convolution over the whole map, and one over each pixel has a single tap. */
bool tl_layout_fits(tl_layout layout, const tl_graph *graph, const tl_param *param,
                    const tl_shape *shape);
/* Where in the file the elements of a parameter are, ours being [outputs, rows, columns, inputs].
 */
typedef struct tl_layout_strides {
    int64_t output, row, column, input;
} tl_layout_strides;
typedef struct tl_layout_map {
    bool differs;   /* otherwise the order is ours, and nothing else is set */
    bool by_output; /* an output's elements are side by side, outputs in order */
    tl_shape shape; /* ours, as four dimensions */
    tl_layout_strides stride;
} tl_layout_map;
tl_layout_map tl_layout_map_of(tl_layout layout, const tl_graph *graph, const tl_param *param);
/* Outputs begin .. end - 1 from that layout into ours; both pointers are to output 0. */
void tl_layout_convert(const tl_layout_map *map, const float *from, int64_t begin, int64_t end,
                       float *to);

/* --- parameters in their file (store.c) ---------------------------------------------------------
 */
/* Fills a hollow graph's parameters from tensors index[i] of `weights`, all of which are read and
 * checked now: checksums, and that every value is finite. From a file the values are not kept, but
 * read again when they are asked for; the file then stays open. `layout` is NULL for our own.
 * Errors: CORRUPT, NO_MEMORY, reading's. */
tl_status tl_model_fill_graph(tl_graph *graph, tl_weights *weights, const int *index,
                              const tl_layout *layout);

/* --- backbones (backbone.c)
 * --------------------------------------------------------------------------- */
/* One origin of an architecture's weights: how its files name them, what pictures they were trained
 * with, and how its network differs from the others' (padding, epsilon, biases). */
typedef struct tl_variant {
    const tl_naming *naming; /* NULL ends a list */
    const char *preprocess;  /* preset */
    int resize;              /* of the preset's geometry, instead of the preset's own; 0 = that */
    const void *config;      /* the builder's own */
    int input_size;          /* 0: the backbone's */
} tl_variant;

typedef struct tl_backbone {
    const char *name;          /* "resnet50" */
    int input_size;            /* pixels */
    int classes;               /* of the published weights */
    const char *weights;       /* file name in the weights folder, or NULL when none is known */
    const tl_variant *variant; /* the first is what tl_model_create() makes */
    /* Appends the network to a graph that has only its input, classifier last; sets
     * *features to the last node before pooling and classifier. */
    tl_status (*build)(tl_graph *graph, const void *config, int classes, int *features);
} tl_backbone;

/* One list for each family, in a file of its own, ended by a NULL name. */
extern const tl_backbone tl_convnext_backbones[];
extern const tl_backbone tl_densenet_backbones[];
extern const tl_backbone tl_efficientnet_backbones[];
extern const tl_backbone tl_efficientnet_lite_backbones[];
extern const tl_backbone tl_inception_backbones[];
extern const tl_backbone tl_mobilenet_v1_backbones[];
extern const tl_backbone tl_mobilenet_v2_backbones[];
extern const tl_backbone tl_mobilenet_v3_backbones[];
extern const tl_backbone tl_resnet_backbones[];
extern const tl_backbone tl_shufflenet_backbones[];
extern const tl_backbone tl_squeezenet_backbones[];
extern const tl_backbone tl_vgg_backbones[];
/* By name, in which '-' and '_' are the same; NULL when there is none such. */
const tl_backbone *tl_backbone_find(const char *name);
const tl_backbone *tl_backbone_at(int index); /* NULL when out of range */
/* The same, with NOT_FOUND listing the names. */
tl_status tl_backbone_require(const char *name, const tl_backbone **out);
/* "a, b, c" into `text`, which is returned. */
enum { TL_BACKBONE_NAMES = 1024 };
const char *tl_backbone_names(char text[TL_BACKBONE_NAMES]);
/* Builds the architecture's graph. With `hollow` its parameters have no memory yet, see
 * tl_graph_allocate(). */
tl_status tl_backbone_build(tl_context *ctx, const tl_backbone *backbone, const tl_variant *variant,
                            int classes, bool hollow, tl_graph **graph, int *features);
/* A model around a backbone's graph, with the variant's preprocessing; takes the graph over. */
tl_status tl_backbone_wrap(const tl_backbone *backbone, const tl_variant *variant, tl_graph *graph,
                           int features, tl_model **out);

/* The backbone's file in the weights folder (load.c), for tl_free(). Errors: NOT_FOUND, PERMISSION,
 * IO, NO_MEMORY. */
tl_status tl_backbone_weights_path(tl_context *ctx, const tl_backbone *backbone, char **out);

/* Recognises which backbone and scheme a weights file is for, builds it and fills it
 * (recognize.c). Errors: UNSUPPORTED, listing for the closest match the tensors that are missing,
 * left over or of another shape; CORRUPT (a value is not finite), LIMIT, NO_MEMORY, reading's. */
tl_status tl_model_from_weights(tl_weights *weights, tl_model **out);
/* Builds the network that an ONNX file describes (onnx_import.c). Its preprocessing is not known.
 * `source` stays the caller's. Errors: tl_onnx_read()'s; UNSUPPORTED (lists all operators that are
 * not there), CORRUPT, SHAPE, LIMIT: texts name node, operator, opset and offset. */
tl_status tl_model_from_onnx(tl_context *ctx, const tl_source *source, tl_model **out);
/* The classes that every ImageNet classifier answers, in their order (imagenet_classes.c). */
enum { TL_IMAGENET_CLASSES = 1000 };
void tl_imagenet_class_names(const char *names[TL_IMAGENET_CLASSES]);

/* --- memory (memory.c) ----------------------------------------------------------------------- */
/* A large batch goes through tl_model_run() in parts, which bounds the memory and changes no
 * result. */
enum { TL_RUN_BATCH = 32 };

/* Adds up what a model and its plans will take, in the order in which they come. */
typedef struct tl_forecast {
    tl_memory memory;
    size_t held; /* by the context, after what has been added so far */
} tl_forecast;
void tl_forecast_begin(const tl_model *model, tl_forecast *forecast);
/* A block that stays. */
void tl_forecast_hold(tl_forecast *forecast, size_t bytes);
/* A plan that stays. Errors: as tl_plan_predict(). */
tl_status tl_forecast_plan(tl_forecast *forecast, tl_graph *graph, const tl_plan_options *options);
/* Copies as much as out->size allows. Errors: INVALID_ARGUMENT (no such size). */
tl_status tl_forecast_end(const tl_forecast *forecast, tl_memory *out);

/* --- JSON (describe.c)
 * ------------------------------------------------------------------------------- */
struct json_t;
/* The text of `json`, which is consumed and may be NULL (out of memory), in a new block for
 * tl_free(); NULL when memory is out. */
char *tl_json_text(tl_context *ctx, struct json_t *json, size_t flags);
struct json_t *tl_model_classes_json(const tl_model *model);
/* The inverse: an array of as many names as the model has classes. CORRUPT otherwise. */
tl_status tl_model_classes_from_json(tl_model *model, const struct json_t *json);
/* Preprocessing that must give pictures of the model's input size. CORRUPT otherwise. */
tl_status tl_model_preprocess_from_json(tl_model *model, const struct json_t *json);

/* --- saved models (save.c, saved.c, golden.c)
 * ---------------------------------------------------------- */
/* A saved model is a safetensors file. Its tensors are the graph's parameters under their own
 * names and in our layout, then GOLDEN_INPUT [k H W C] (pixels 0..255) and GOLDEN_OUTPUT
 * [k classes] (probabilities), unless there are none. Its metadata holds the keys below. */
#define TL_SAVED_VERSION 1
#define TL_SAVED_GOLDEN_INPUT "golden.input"
#define TL_SAVED_GOLDEN_OUTPUT "golden.output"
#define TL_SAVED_KEY_VERSION "libtl.version"   /* TL_SAVED_VERSION in decimal */
#define TL_SAVED_KEY_BACKBONE "libtl.backbone" /* architecture, or "custom" */
#define TL_SAVED_KEY_GRAPH "libtl.graph"       /* JSON, see tl_graph_to_json() */
#define TL_SAVED_KEY_FEATURES "libtl.features" /* name of the backbone's last node */
#define TL_SAVED_KEY_CLASSES "libtl.classes"   /* JSON array of names */
#define TL_SAVED_KEY_PREPROCESS                                                                    \
    "libtl.preprocess" /* JSON, when the input is pictures; null: not known */
#define TL_SAVED_KEY_TRAINING "libtl.training" /* JSON object, when there is one */
#define TL_SAVED_KEY_CHECKSUM "libtl.checksum" /* CRC-32 of the values above and all tensors */
tl_status tl_model_from_saved(tl_weights *weights, tl_model **out);
/* Whether a weights file is one of ours. */
bool tl_weights_is_saved_model(const tl_weights *weights);
/* The checksum's part for the metadata: `count` keys and values in any order, of which those above
 * enter it (checksum.c). */
uint32_t tl_checksum_metadata(int count, const char *const *keys, char *const *values);
/* Continues it over the parameters and the golden vectors (golden_count may be 0). */
tl_status tl_checksum_tensors(const tl_model *model, int golden_count,
                              const unsigned char *golden_input, const float *golden_output,
                              uint32_t *crc);
enum { TL_MAX_GOLDEN = 64 };
/* Bytes of one golden input. */
size_t tl_model_golden_size(const tl_model *model);
/* Probabilities of every golden input into `output` [count classes]. */
tl_status tl_model_run_golden(const tl_model *model, int count, const unsigned char *input,
                              float *output);
/* A picture of the input's size that exercises a network: made by a formula, for models that are
 * saved without golden inputs. */
void tl_model_draw_golden(const tl_model *model, unsigned char *pixels);
/* Keeps `count` pictures (already fitted, H W 3 bytes each) as golden inputs; their answers are
 * recorded when the model is saved. */
tl_status tl_model_set_golden(tl_model *model, int count, const unsigned char *pixels);

#endif
