/* A plan's inside, shared by plan.c (what runs), fuse.c (steps), arena.c and place.c (memory),
 * parts.c (batches in parts), again.c (what is computed twice), band.c and band_run.c (what is
 * computed a few rows at a time), followers.c (what is seen before it leaves a cache), dtype.c and
 * operand.c (element types), pack.c (packed weights), timing.c and run.c.
 *
 * Planning goes through these stages, each of which only reads what earlier ones decided:
 *
 *   values   which nodes are needed, their shapes for this input, who needs gradients
 *   steps    one call of an operator each, in order; several nodes where they fuse
 *   bands    runs of steps that pass on a few rows at a time instead of whole values
 *   buffers  ranges of the arena with the first and last moment at which they are in use;
 *            values, gradients of values, saved state and scratch all become buffers
 *   place    an offset for every buffer, such that buffers in use together never overlap
 *
 * Moments count the calls of one training step: step s runs forward at moment s and backward at
 * moment 2 * steps - 1 - s.
 *
 * Some values that backward reads are not kept from forward to backward: those that cheap operators
 * (batch norms, activations) make out of values that are kept anyway. They are dropped, and
 * computed again just before backward first wants them (Chen et al., "Training Deep Nets with
 * Sublinear Memory Cost", 2016). */
#ifndef TL_GRAPH_PLAN_H
#define TL_GRAPH_PLAN_H

#include "graph/graph.h"

/* --- questions about a graph that plans share (graph.c) --------------------------------------- */
/* tl_op_infer() of a node, which must leave the batch as it is. */
tl_status tl_node_infer(const tl_node *node, const tl_shape *in, tl_op_shapes *out);
/* Whether any of the node's own parameters is learned in principle; and whether any is now. */
bool tl_node_learns(const tl_graph *graph, int node);
bool tl_node_trainable(const tl_graph *graph, int node);
/* The first node that training changes or randomises: the first with a trained parameter, or the
 * TL_OP_RANDOM ones just before it (a dropout in front of a trained classifier is active, those
 * inside a frozen backbone are not). Nodes from here on run with `training`. */
int tl_graph_first_live(const tl_graph *graph);

/* --- values of parameters: with the graph's lock held (graph.c) --------------------------------
 */
tl_status tl_graph_load_param(tl_graph *graph, int param, float *out);
tl_status tl_graph_settle_param(tl_graph *graph, int param);

/* --- packed weights (pack.c) -------------------------------------------------------------------
 */
/* What a step reads instead of its operator's parameters: weights in the kernels' order, and the
 * bias of a fused epilogue. Immutable and shared, unless a parameter is exposed. */
typedef struct tl_pack {
    struct tl_pack *next;
    struct tl_pack_block *block; /* whose memory it is in */
    struct tl_pack_map *map;     /* the mapped file that its values are in instead, or NULL */
    uint64_t key;                /* in such a file; 0: it is not to be there */
    size_t size;                 /* of bias and weights, which lie one behind the other */
    int users;                   /* plans */
    bool listed;                 /* in graph->packs: new plans may use it */
    bool empty;                  /* still to be filled */
    int node, affine;            /* as in tl_step */
    tl_dtype dtype;
    tl_shape in; /* of the node's input, for a batch of 1 */
    float *weights;
    float *bias; /* NULL when the step is not fused */
} tl_pack;
/* Lets no new plan use packs of nodes after `last`. */
void tl_graph_forget_packs(tl_graph *graph, int last);

/* --- values ----------------------------------------------------------------------------------- */
/* Where a value or gradient lives: an index into tl_plan.buffer, or one of these. */
enum { TL_NO_BUFFER = -1, TL_CALLER_BUFFER = -2 };

typedef struct tl_value {
    tl_shape shape; /* for the planned batch */
    size_t bytes;
    bool used;      /* `to` depends on it */
    tl_dtype dtype; /* in which it and its gradient are stored */
    bool gradient;  /* backward computes its gradient */
    bool absorbed;  /* computed by the epilogue of another node's step */
    int consumers;  /* nodes of the plan that read it, each as often as it does */
    int step;       /* writes it; -1 for `from`, and for values inside a fused step */
    int last;       /* moment of its last use */
    int buffer;
    bool banded; /* lives in the lanes of its step's band, a few rows at a time */
    int grad_buffer;
    int grad_writer;             /* step whose backward writes the gradient first; -1 for `to` */
    bool dropped;                /* not kept for backward, but computed again */
    int again_first, again_last; /* moments at which backward has it again */
    int again;                   /* buffer */
} tl_value;

/* --- steps ------------------------------------------------------------------------------------ */
typedef struct tl_step {
    int node;           /* whose operator runs */
    int out;            /* whose value it writes: `node`, or the last node fused into it */
    int affine;         /* node of the fused batch norm, or -1 */
    int residual;       /* node whose value the epilogue adds, or -1 */
    tl_act act;         /* of the epilogue, or one that was postponed to here */
    tl_dtype dtype;     /* of its operator's inputs and gradients */
    tl_dtype out_dtype; /* of its output, as the operator writes it */
    bool fused;
    bool tail;       /* its operator adds the residual and applies the activation, also in backward
                        (TL_OP_TAIL) */
    bool backward;   /* has a backward pass */
    bool live;       /* sees the forward's `training` */
    bool view;       /* its output is its input, maybe under another shape; or what it does has been
                        postponed to the step that reads it */
    bool alias;      /* its output is its input's memory and forward has nothing to do */
    bool grad_alias; /* the same for backward */
    bool packs;      /* packs at every forward, into scratch */
    bool own_pack;   /* shares its pack with nobody, since a parameter is exposed */
    tl_op_memory memory;
    tl_pack *pack;
    uint64_t key;         /* as in the pack that it is about to make */
    const void *cached;   /* the pack's values in a mapped file, or NULL */
    int band;             /* in plan->band, or -1 */
    tl_row_window window; /* what the rows of its output are made of, when it is in a band */
    size_t lane_value;    /* where in a lane its output is, when that is banded */
    int saved, work_forward, work_backward, work_again, packed; /* buffers */
    int follower;           /* the step that follows the rows which this one writes; or -1 */
    int followed;           /* buffer: what this step has kept as a follower */
    int64_t followed_parts; /* in the last forward; 0 for a step that does not follow */
    int copies[3]; /* buffers, by tl_pass: operands in another dtype than they are stored in */
} tl_step;

/* --- bands ------------------------------------------------------------------------------------ */
/* Values at a network's begin are larger than a core's cache: written whole by one step, they come
 * from memory for the next. A band is a run of steps that computes the last step's output a few
 * rows at a time, and of every value between only the rows which that takes (Alwani et al.,
 * "Fused-Layer CNN Accelerators", 2016). Rows that the next few need again are kept. Each thread
 * has a lane of its own: these rows and scratch; it computes its share of the output's rows without
 * waiting for the others, for which it computes the rows at the seams twice. */
enum { TL_BAND_STEPS = 16, TL_BAND_INPUTS = 2 };

typedef struct tl_band {
    int first, last; /* steps */
    int64_t rows;    /* of the output at a time, at most */
    int lanes;
    size_t lane_size, lane_work; /* bytes; where in a lane the scratch is */
    int buffer;
} tl_band;

/* --- operands --------------------------------------------------------------------------------- */
/* Forward, backward, and forward once more within backward. */
typedef enum tl_pass { TL_PASS_FORWARD, TL_PASS_BACKWARD, TL_PASS_AGAIN } tl_pass;

/* What a step's call reads or writes. A call has, in this order: the inputs; the output; the
 * epilogue's residual, in backward the output's gradient; in backward the inputs' gradients and the
 * residual's. */
typedef struct tl_operand {
    int value;     /* -1: there is none, or it is an earlier input once more */
    bool gradient; /* of the value, not the value itself */
    bool read, write;
    tl_dtype dtype; /* as the call wants it */
    void *data;     /* for the call; NULL: none */
    void *stored;   /* the value or gradient itself */
} tl_operand;

/* --- buffers ---------------------------------------------------------------------------------- */
typedef struct tl_buffer {
    size_t size;     /* a multiple of 64 */
    int first, last; /* moments, both included */
    size_t offset;
} tl_buffer;

struct tl_plan {
    tl_graph *graph;
    tl_context *ctx;
    tl_context *compute; /* of the operators' calls: ctx, or its lane */
    tl_plan_options options;
    int first_live;

    tl_value *value; /* by node, 0 .. options.to */
    int step_count;
    tl_step *step;
    int band_count;
    tl_band *band;
    int buffer_count;
    tl_buffer *buffer;
    tl_plan_memory memory;

    /* What comes before `from` runs a part of the batch at a time: on one such plan, or side by
     * side on one for each thread. None when front_count is 0. */
    int front_count;
    tl_plan **front;
    float *gathered; /* their outputs: this plan's input */

    char *arena;
    float *gradients;
    int64_t gradient_count;
    int64_t *gradient_offset; /* by parameter */
    float **held;             /* by parameter: its value in memory, where the plan needs that */

    /* The call being made; room for the node with the most inputs. */
    int most_inputs;
    tl_operand *operand;
    tl_view *in;
    void **grad_in;
    bool *grad_add;
    float *param[TL_MAX_PARAMS];
    float *grad_param[TL_MAX_PARAMS];

    tl_poll_fn poll; /* may be NULL */
    void *poll_user;

    /* The last forward. */
    const float *input;
    const float *grad_output;
    int64_t batch; /* 0 before the first */
    uint64_t step_number;
    bool trained; /* it had `training` set */
};

/* dtype.c: the types of values and steps. */
void tl_plan_choose_dtypes(tl_plan *plan);
/* Whether the value can be the border, which is f32, between two plans instead of inside this one
 * without a reader noticing. */
bool tl_plan_can_border(const tl_plan *plan, int value);
/* operand.c: bytes of scratch for operands that have to be copied; fills plan->operand and converts
 * what is read; converts what was written. */
size_t tl_plan_copy_bytes(const tl_plan *plan, int s, tl_pass pass);
void tl_plan_bind(tl_plan *plan, int s, tl_pass pass);
void tl_plan_store(tl_plan *plan, int s, tl_pass pass);
/* Whether backward of step s adds to its input i's gradient, which is there already: from a later
 * step, or from an earlier input of its own that is the same value. */
bool tl_plan_adds(const tl_plan *plan, int s, int i);
/* Whether backward of step s gives the gradient of its residual. */
bool tl_step_passes_residual(const tl_plan *plan, const tl_step *step);
/* fuse.c: fills plan->step from values. `plan->step` has room for every node. */
void tl_plan_build_steps(tl_plan *plan);
/* again.c: decides which values are dropped. */
tl_status tl_plan_choose_dropped(tl_plan *plan);
/* Whether a parameter of the step's operator is trained. */
bool tl_step_trained(const tl_plan *plan, const tl_step *step);
/* Whether backward of step s reads its inputs, its output. */
bool tl_step_keeps_input(const tl_plan *plan, const tl_step *step);
bool tl_step_keeps_output(const tl_plan *plan, const tl_step *step);
/* The moment of a step's backward; the one after everything. */
static inline int tl_backward_moment(const tl_plan *plan, int step) {
    return 2 * plan->step_count - 1 - step;
}
static inline int tl_end_moment(const tl_plan *plan) {
    return 2 * plan->step_count;
}
/* band.c: finds the bands. `plan->band` has room for one in two nodes. */
void tl_plan_choose_bands(tl_plan *plan);
/* The rows of each step's output, counted from the band's first, that computing rows `out` of the
 * last one's takes, when rows have[] are there (NULL: none are): all that are wanted, and those
 * that are still to be computed. */
void tl_band_trace(const tl_plan *plan, const tl_band *band, tl_rows out, const tl_rows *have,
                   tl_rows *want, tl_rows *fresh);
/* Bytes of a row of the value. */
static inline size_t tl_value_row(const tl_value *value) {
    return value->bytes / (size_t)(value->shape.dim[0] * value->shape.dim[1]);
}
/* band_run.c: the forward of a band's steps. */
void tl_band_forward(tl_plan *plan, const tl_band *band);
/* parts.c: how many plans, if any, should run the begin on parts of the batch, and which nodes
 * these and the rest have; memory for what the rest is given; running the begin. */
int tl_plan_choose_parts(const tl_plan *plan, tl_plan_options *front, tl_plan_options *rest);
tl_status tl_plan_allocate_gathered(tl_plan *rest);
tl_status tl_plan_run_fronts(tl_plan *rest, const float *input, int64_t batch, uint64_t step);
/* arena.c: fills plan->buffer, and the buffers of values and steps, from steps. */
tl_status tl_plan_assign_buffers(tl_plan *plan);
/* place.c: gives every buffer its offset; *total is the size of the arena. */
tl_status tl_plan_place_buffers(tl_plan *plan, size_t *total);
/* pack_fill.c: fills the packs of those steps that are `wanted`, with the graph's lock held; how
 * much scratch that takes. Errors: the store's, NO_MEMORY. */
typedef bool (*tl_step_test)(const tl_plan *plan, const tl_step *step);
tl_status tl_pack_fill(tl_plan *plan, tl_step_test wanted);
size_t tl_pack_scratch(const tl_plan *plan, tl_step_test wanted);
/* followers.c: decides which steps follow others; what a step's call is given for its follower, or
 * NULL. */
typedef struct tl_follower {
    tl_follow follow;
    const tl_op *op;
    tl_op_call call;
    tl_view in;
    float *param[TL_MAX_PARAMS];
} tl_follower;
void tl_plan_choose_followers(tl_plan *plan);
tl_follow *tl_plan_follow(tl_plan *plan, int s, tl_follower *room);
/* Bytes with those that fill the last cache line up; of a float for each channel of a step's
 * output.
 */
static inline size_t tl_pack_lines(size_t bytes) {
    enum { LINE = 64 };
    return (bytes + LINE - 1) / LINE * LINE;
}
static inline size_t tl_step_channel_bytes(const tl_plan *plan, const tl_step *step) {
    const tl_shape *shape = &plan->value[step->node].shape;
    return (size_t)shape->dim[shape->rank - 1] * sizeof(float);
}
/* pack_cache.c, with the graph's lock held: finds which of the packs that are `wanted` the graph's
 * file has, as step->cached; a pack's share in the file that is mapped; writes the file anew when
 * it lacked some that the plan has made since. */
typedef struct tl_pack_map tl_pack_map;
typedef struct tl_pack_cache tl_pack_cache;
void tl_pack_cache_match(tl_plan *plan, tl_step_test wanted);
tl_pack_map *tl_pack_cache_share(tl_plan *plan);
void tl_pack_map_leave(tl_context *ctx, tl_pack_map *map); /* NULL is allowed */
void tl_pack_cache_keep(tl_plan *plan);
/* Bytes of the values of a step's pack. */
size_t tl_pack_data_bytes(const tl_plan *plan, const tl_step *step);
/* pack.c: what packing will take, into plan->memory; bringing packs and parameters there; giving
 * the packs back. */
void tl_plan_measure_packs(tl_plan *plan);
tl_status tl_plan_take_packs(tl_plan *plan);
void tl_plan_return_packs(tl_plan *plan);
/* run.c: where things are. tl_plan_kept_data() is where backward finds a value. */
void *tl_plan_buffer_data(const tl_plan *plan, int buffer);
void *tl_plan_value_data(const tl_plan *plan, int value);
void *tl_plan_kept_data(const tl_plan *plan, int value);
void *tl_plan_gradient_data(const tl_plan *plan, int value);
/* A call of the step's operator for `batch` samples, with shapes, attributes and parameters but no
 * values: in the plan's arrays, or, for tasks, the caller's. */
tl_op_call tl_step_call(tl_plan *plan, const tl_step *step, int64_t batch);
/* Calls the step's operator, which `beside` threads do at once (timing.c). */
void tl_step_run(const tl_plan *plan, const tl_step *step, const tl_op_call *call, tl_pass pass,
                 int beside);
/* The epilogue without its residual; false when the step has none. */
bool tl_step_epilogue(const tl_step *step, tl_epilogue *epilogue);
tl_op_call tl_step_call_into(const tl_plan *plan, const tl_step *step, int64_t batch, tl_view *in,
                             float **param);

#endif
