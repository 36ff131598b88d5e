/* Graphs: nodes in topological order with their parameters, and plans that run them.
 *
 * A graph is structure and weights; it has no activations. A plan is everything needed to run a
 * graph for one input shape: an arena planned once, packed weights, gradients. Several plans may
 * run one graph at the same time, as long as nobody changes its parameters. */
#ifndef TL_GRAPH_GRAPH_H
#define TL_GRAPH_GRAPH_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/rng.h"
#include "layer/op.h"

/* More nodes than any published classifier has; bounds what a hostile description can cost. */
enum { TL_MAX_NODES = 4096 };

typedef struct tl_param {
    char *name; /* "NODE.PARAM", such as "layer1.0.conv1.weight" */
    tl_shape shape;
    tl_tensor *value; /* NULL in a hollow graph, and while it can be read from the store instead */
    int stored;       /* its number in the graph's store; -1: it is not there, or changed since */
    int node;
    bool exposed;   /* its value may be written to by a caller at any time between two calls */
    bool learned;   /* trained by gradient, in principle */
    bool trainable; /* and now; always false unless learned */
    int64_t fan_in, fan_out;
    tl_init init;
} tl_param;

/* Where values of parameters can be read that are not in memory: a weights file that stays open.
 * Most networks only ever need their weights packed, so that a second copy of them would be held
 * for nothing. */
typedef struct tl_param_store {
    /* Fills `out` with slices begin .. end - 1, along the first dimension, of a parameter of that
     * shape; the same values every time, or a failure. Several threads may read at once. */
    tl_status (*read)(void *user, int stored, const tl_shape *shape, int64_t begin, int64_t end,
                      float *out);
    /* Whether slices can be read by themselves; otherwise all of them are, in one call. */
    bool (*divisible)(void *user, int stored);
    /* A number that follows from the values, whichever file they are in. Thread safe as read. */
    tl_status (*identify)(void *user, int stored, uint64_t *out);
    void (*close)(void *user);
    void *user;
} tl_param_store;

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
    /* Nanoseconds since tl_graph_set_timing(), with all that the node is fused with. What is
     * computed again for backward counts there. */
    atomic_llong forward_time, backward_time;
} tl_node;

typedef struct tl_graph {
    tl_context *ctx;
    int node_count, node_capacity;
    tl_node *node; /* node[0] is the input */
    int param_count, param_capacity;
    tl_param *param;
    int64_t param_elements; /* of all parameters together */
    bool hollow;            /* nodes are added without memory for their parameters */
    bool timed;             /* see tl_graph_set_timing() */
    int64_t param_limit;    /* the most that tl_graph_add() lets them be; at first no limit */
    tl_param_store store;
    struct tl_pack *packs;       /* packed weights in use by plans (pack.c) */
    struct tl_pack_cache *cache; /* where packed weights are kept between processes, or NULL */
    pthread_mutex_t lock; /* of `packs`, the cache, the store and which parameters are in memory */
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
 * and names of a hollow graph may be asked for. Errors: LIMIT (more than the context may hold,
 * before any of it is asked for), NO_MEMORY. */
tl_status tl_graph_allocate(tl_graph *graph);
/* The same, but the parameters stay in `store` until their values are asked for; param[i].stored
 * is set by the caller. The graph closes the store. */
void tl_graph_set_store(tl_graph *graph, const tl_param_store *store);
/* Brings a parameter's value into memory for good. Thread safe. Errors: the store's, NO_MEMORY. */
tl_status tl_graph_hold_param(tl_graph *graph, int param);
/* Copies a parameter's value, which may stay in the store. Thread safe. Errors: the store's. */
tl_status tl_graph_read_param(tl_graph *graph, int param, float *out);
/* Calls `visit` with each parameter's value in turn, until it fails. Errors: its own, the store's,
 * NO_MEMORY. */
typedef tl_status (*tl_param_fn)(void *user, int param, const float *value);
tl_status tl_graph_visit_params(tl_graph *graph, tl_param_fn visit, void *user);
/* From now on plans add up how long each node takes, from nothing. What runs in several threads at
 * once, on rows or pictures of their own, counts as its mean. No plan may be running. */
void tl_graph_set_timing(tl_graph *graph, bool on);
/* To be called after values in memory were changed: plans made from now on pack them again. */
void tl_graph_changed(tl_graph *graph);
/* Hands all values over to a hollow graph of the same parameters, with the store and the cache. */
void tl_graph_move_values(tl_graph *from, tl_graph *to);
/* Removes every node after `last`, of which no plan may be in use. */
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
    tl_dtype dtype; /* TL_F32, or TL_BF16: values between nodes are bf16, as far as operators can
                       do with that; what goes in and comes out is f32 in any case, and so are
                       parameters, their gradients and statistics */
    bool alone;     /* forward stays on the calling thread: for plans that run side by side */
    bool unfused;   /* every node runs by itself */
    bool unshared;  /* no two values share memory: slow and large, to check that sharing is sound */
} tl_plan_options;

typedef struct tl_plan_memory {
    size_t activations; /* the arena: values, gradients of values, saved, scratch */
    size_t gradients;   /* of parameters */
    size_t packed;      /* packed parameters, shared with other plans where they can be */
    size_t shared;      /* of these, what other plans have there already */
    size_t loaded;      /* parameters that have to be brought into memory as they are */
    size_t scratch;     /* only while packing */
} tl_plan_memory;

/* Shape inference, memory plan and allocation. The graph must outlive the plan and keep its nodes
 * and which of them are trained. Errors: INVALID_ARGUMENT (from, to, dtype), SHAPE (names the
 * node), UNSUPPORTED (a dtype that this machine does not compute in), LIMIT (sizes overflow or
 * exceed the context's limit, before allocating), NO_MEMORY. */
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
/* Packs exposed parameters again, which may have changed since. (Trained ones are packed in every
 * forward.) Errors: the store's, NO_MEMORY. */
tl_status tl_plan_repack(tl_plan *plan);

/* --- packed weights in a file (pack_cache.c) -------------------------------------------------- */
/* Plans made from now on take their packed weights from the file at `path` as far as it has them,
 * and write it anew when it has not. NULL: no file. Errors: NO_MEMORY. */
tl_status tl_graph_set_pack_cache(tl_graph *graph, const char *path);
typedef enum tl_pack_cache_state {
    TL_PACKS_UNTRIED, /* no plan was made yet */
    TL_PACKS_USED,    /* all that the last plan packs came from the file */
    TL_PACKS_WRITTEN, /* the file lacked some and was written anew */
    TL_PACKS_FAILED   /* and could not be written */
} tl_pack_cache_state;
/* What became of the file: `path` is NULL when there is none, `reason` says why it was written, or
 * could not be; "" otherwise. */
enum { TL_PACK_REASON = 512 };
typedef struct tl_pack_cache_report {
    const char *path; /* lives until the cache is set anew */
    tl_pack_cache_state state;
    char reason[TL_PACK_REASON];
} tl_pack_cache_report;
void tl_graph_pack_cache_report(tl_graph *graph, tl_pack_cache_report *out);

/* --- the graph as JSON (serialize.c) ---------------------------------------------------------- */
struct json_t;
/* {"input": [H, W, C], "nodes": [{"name", "op", "inputs": [names], "attrs": "text",
 *  "frozen": bool}]}. NULL when memory is out. */
struct json_t *tl_graph_to_json(const tl_graph *graph);
/* Builds a hollow graph from such JSON: hostile input. Before its parameters would exceed
 * `max_elements` in all (what the file that brings their values can hold) LIMIT is returned.
 * Errors: CORRUPT, UNSUPPORTED (unknown operator), SHAPE, LIMIT, NO_MEMORY; texts name the node. */
tl_status tl_graph_from_json(tl_context *ctx, const struct json_t *json, int64_t max_elements,
                             tl_graph **out);

#endif
