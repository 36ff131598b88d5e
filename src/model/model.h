/* The model's inside: graph, classes, preprocessing; backbones and their name tables. */
#ifndef TL_MODEL_MODEL_H
#define TL_MODEL_MODEL_H

#include <pthread.h>

#include <tl/model.h>

#include "graph/graph.h"
#include "image/image.h"
#include "io/weights.h"

struct tl_model {
    tl_context *ctx;
    tl_graph *graph;
    char *backbone;       /* name of the architecture, or "custom" */
    tl_preprocess preprocess;
    int features;         /* last node of the backbone: its value is the feature map */
    int class_count;
    char **class_name;    /* class_count of them, or NULL: numbers */
    char *training;       /* JSON summary of the training run, or NULL */
    /* Golden vectors: inputs [k H W C] as 8-bit pixels after geometry, and probabilities
     * [k class_count] recorded at saving. NULL when there are none. */
    int golden_count;
    unsigned char *golden_input;
    float *golden_output;
    /* Idle inference plans, handed out to one thread at a time (run.c). */
    pthread_mutex_t plans_lock;
    struct tl_idle_plan *plans;
};

/* --- plans for inference (run.c) ------------------------------------------------------------------ */
/* Borrows a plan from the input (or `from`) to node `to` for up to `batch` samples of the
 * model's input size; gives it back with tl_model_return_plan(). Thread safe. */
tl_status tl_model_borrow_plan(const tl_model *model, int to, int64_t batch, const tl_shape *input, tl_plan **out);
void tl_model_return_plan(const tl_model *model, tl_plan *plan);
/* Drops idle plans; to be called whenever weights or structure change. */
void tl_model_changed(tl_model *model);
/* Class probabilities from the value of the graph's last node: softmax of logits unless the
 * graph ends in a probability, two classes from one sigmoid unit. in [n, units], out [n, classes]. */
void tl_model_probabilities(const tl_model *model, const float *output, int64_t n, float *out);

/* --- backbones -------------------------------------------------------------------------------------- */
/* How names and layouts of a file map to ours: a tensor called `external` belongs to parameter
 * `internal`. Patterns contain '*' for a part copied from one to the other. */
typedef struct tl_name_rule {
    const char *external;
    const char *internal;
} tl_name_rule;

typedef struct tl_naming {
    const char *scheme; /* "torchvision", "timm", ... */
    const tl_name_rule *rules;  /* NULL external ends the list */
    const char *const *ignored; /* patterns of tensors we have no use for; NULL-terminated */
} tl_naming;

typedef struct tl_backbone {
    const char *name; /* "resnet50" */
    int input_size;   /* pixels */
    int classes;
    const char *preprocess; /* preset */
    const char *weights;    /* file name in the weights folder, or NULL when none is known */
    const tl_naming *const *namings; /* NULL-terminated */
    const void *config;     /* the builder's own */
    /* Appends the network to a graph that has only its input, classifier included; sets
     * *features to the last node before pooling and classifier. */
    tl_status (*build)(tl_graph *graph, const void *config, int classes, int *features);
} tl_backbone;

extern const tl_backbone tl_resnet_backbones[];    /* resnet.c, ended by a NULL name */
extern const tl_backbone tl_efficientnet_lite_backbones[]; /* efficientnet_lite.c */
const tl_backbone *tl_backbone_find(const char *name);
const tl_backbone *tl_backbone_at(int index);

/* Recognises which backbone and scheme a weights file is for, builds it and fills it
 * (backbone.c). Errors: UNSUPPORTED, listing for the closest match the tensors that are missing,
 * left over or of another shape. */
tl_status tl_model_from_weights(tl_context *ctx, const tl_weights *weights, tl_model **out);
/* Saved models: save.c. */
tl_status tl_model_from_saved(tl_context *ctx, const tl_weights *weights, tl_model **out);
/* Whether a weights file is one of ours. */
bool tl_weights_is_saved_model(const tl_weights *weights);

/* Keeps `count` pictures (already fitted, H W 3 bytes each) as golden inputs; their answers are
 * recorded when the model is saved. */
tl_status tl_model_set_golden(tl_model *model, int count, const unsigned char *pixels);
tl_status tl_model_set_training_summary(tl_model *model, const char *json);
/* The node that holds the value of the freeze boundary; see tl_graph_boundary(). */
/* Same network, input of another size (image_size of the recipe). Only for networks whose parameters do not depend on it. */
tl_status tl_model_resize_input(tl_model *model, int height, int width);

#endif
