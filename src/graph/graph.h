/* Graphs: nodes in topological order with their parameters, and plans that run them.
 *
 * A graph is structure and weights; it has no activations. A plan is everything needed to run a
 * graph for one input shape: an arena planned once, packed weights, gradients. Several plans may
 * run one graph at the same time, as long as nobody changes its parameters. */
#ifndef TL_GRAPH_GRAPH_H
#define TL_GRAPH_GRAPH_H

#include "base/rng.h"
#include "layer/op.h"

/* More nodes than any published classifier has; bounds what a hostile description can cost. */
enum { TL_MAX_NODES = 4096 };

typedef struct tl_param {
    char *name; /* "NODE.PARAM", such as "layer1.0.conv1.weight" */
    tl_shape shape;
    tl_tensor *value; /* NULL in a hollow graph */
    int node;
    bool learned;   /* trained by gradient, in principle */
    bool trainable; /* and now; always false unless learned */
    int64_t fan_in, fan_out;
    tl_init init;
} tl_param;

typedef struct tl_node {
    char *name;
    const tl_op *op;
    void *attr;
    int input_count;
    int *input;      /* node indices, all smaller than this node's own */
    int first_param; /* parameters first_param .. first_param + param_count - 1 */
    int param_count;
    tl_shape shape; /* of the output for the nominal input, batch 1 */
    double flops;   /* forward, nominal input, batch 1 */
} tl_node;

typedef struct tl_graph {
    tl_context *ctx;
    int node_count, node_capacity;
    tl_node *node; /* node[0] is the input */
    int param_count, param_capacity;
    tl_param *param;
    int64_t param_elements; /* of all parameters together */
    bool hollow;            /* nodes are added without memory for their parameters */
    int64_t param_limit;    /* the most that tl_graph_add() lets them be; at first no limit */
} tl_graph;

/* A graph of one node, "input", of nominal shape [1, height, width, channels], or
 * [1, channels] when height and width are 0. */
tl_status tl_graph_create(tl_context *ctx, int64_t height, int64_t width, int64_t channels,
                          tl_graph **out);
void tl_graph_free(tl_graph *graph);

/* Appends a node and allocates its parameters (zeroed; see tl_graph_initialize). Parameters are
 * trainable when learned. Errors: INVALID_ARGUMENT (name taken or empty, unknown operator or
 * attribute, input out of range), SHAPE, LIMIT, NO_MEMORY. The graph is unchanged on failure. */
tl_status tl_graph_add(tl_graph *graph, const char *op, const char *name, const char *attrs,
                       int input_count, const int *inputs, int *node);
/* Allocates (zeroed) what a hollow graph only describes, which ends its being hollow. Only shapes
 * and names of a hollow graph may be asked for. Errors: NO_MEMORY. */
tl_status tl_graph_allocate(tl_graph *graph);
/* Removes every node after `last`. */
void tl_graph_truncate(tl_graph *graph, int last);
/* Index of a node or parameter by name; -1 when there is none. */
int tl_graph_find_node(const tl_graph *graph, const char *name);
int tl_graph_find_param(const tl_graph *graph, const char *name);
/* Draws initial values for the parameters of nodes first .. node_count-1, each from a stream of
 * its own name's position, so that adding a node does not change the others. */
void tl_graph_initialize(tl_graph *graph, int first, uint64_t seed);
/* Draws one parameter's initial values. */
void tl_param_draw(const tl_param *param, tl_rng rng);
/* The last node, whose value the network answers. */
int tl_graph_output(const tl_graph *graph);
/* The node whose value a loss looks at: the output, or its input when the output is a
 * TL_OP_PROBABILITY. */
int tl_graph_logits(const tl_graph *graph);
/* The latest node such that it and all before it are frozen and every later node reaches them
 * through it alone: what leaves it can be cached. 0 (the input) when nothing is frozen. Nodes
 * without learned parameters count as frozen, except dropout in front of the first trained one. */
int tl_graph_boundary(const tl_graph *graph);
int64_t tl_graph_param_elements(const tl_graph *graph, bool trainable_only);

/* --- plans (plan.c: memory; run.c: forward and backward) -------------------------------------- */
typedef struct tl_plan tl_plan;

typedef struct tl_plan_options {
    int from;                 /* node whose value the caller supplies; 0 = the input */
    int to;                   /* node whose value is wanted */
    tl_shape input;           /* of `from`'s value; dim[0] is the largest batch */
    bool training;            /* backward will be called */
    bool batch_norm_training; /* trainable batch norms use batch statistics */
    bool input_gradient;      /* backward also gives the gradient of `from`'s value */
    uint64_t seed;
    bool unfused;  /* every node runs by itself */
    bool unshared; /* no two values share memory: slow and large, to check that sharing is sound */
} tl_plan_options;

typedef struct tl_plan_memory {
    size_t activations; /* the arena: values, gradients of values, saved, scratch */
    size_t gradients;   /* of parameters */
    size_t packed;      /* packed parameters */
} tl_plan_memory;

/* Shape inference, memory plan and allocation. The graph must outlive the plan and keep its nodes
 * and which of them are trained. Errors: INVALID_ARGUMENT (from, to), SHAPE (names the node),
 * LIMIT (sizes overflow or exceed the context's limit, before allocating), NO_MEMORY. */
tl_status tl_plan_create(tl_graph *graph, const tl_plan_options *options, tl_plan **out);
/* What tl_plan_create() would allocate, without doing so. */
tl_status tl_plan_predict(tl_graph *graph, const tl_plan_options *options, tl_plan_memory *out);
void tl_plan_free(tl_plan *plan);
tl_plan_memory tl_plan_memory_of(const tl_plan *plan);

/* Runs `from` to `to` for `batch` samples (1 .. planned batch). `input` is read in place, and must
 * stay as it is until backward. `step` numbers training steps for the random streams. `training`
 * may be switched off for one call (validation): then dropout and batch norm behave as in
 * inference. Allocates nothing. Errors: INVALID_ARGUMENT. */
tl_status tl_plan_forward(tl_plan *plan, const float *input, int64_t batch, uint64_t step,
                          bool training);
/* Called between the steps of every forward and backward pass from now on, so that a long one can
 * be given up: what it returns other than TL_OK ends the pass and is returned. NULL = none. */
typedef tl_status (*tl_poll_fn)(void *user);
void tl_plan_set_poll(tl_plan *plan, tl_poll_fn poll, void *user);
/* The value of `to`, of the last forward's batch. Valid until the next forward. */
tl_view tl_plan_output(const tl_plan *plan);
/* Backward from d loss / d value of `to`, once for each forward, which must have had `training`
 * set. Adds to the parameters' gradients. Allocates nothing. Errors: INVALID_ARGUMENT. */
tl_status tl_plan_backward(tl_plan *plan, const float *grad_output);
/* With options.input_gradient: the gradient of `from`'s value after backward. */
const float *tl_plan_input_gradient(const tl_plan *plan);
/* All gradients as one flat range in parameter order; offset -1 for parameters without one. */
float *tl_plan_gradients(tl_plan *plan, int64_t *count);
int64_t tl_plan_gradient_offset(const tl_plan *plan, int param);
void tl_plan_zero_gradients(tl_plan *plan);
/* To be called after parameters were changed by hand: packs them again. Plans for training pack
 * the trained ones in every forward and need this for the others only. */
void tl_plan_repack(tl_plan *plan);

/* --- the graph as JSON (serialize.c) ---------------------------------------------------------- */
struct json_t;
/* {"input": [H, W, C], "nodes": [{"name", "op", "inputs": [names], "attrs": "text",
 *  "frozen": bool}]}. NULL when memory is out. */
struct json_t *tl_graph_to_json(const tl_graph *graph);
/* Builds a graph from such JSON: hostile input. Parameters are zero; before they would exceed
 * `max_elements` in all (what the file that brings their values can hold) LIMIT is returned.
 * Errors: CORRUPT, UNSUPPORTED (unknown operator), SHAPE, LIMIT, NO_MEMORY; texts name the node. */
tl_status tl_graph_from_json(tl_context *ctx, const struct json_t *json, int64_t max_elements,
                             tl_graph **out);

#endif
