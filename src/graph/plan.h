/* A plan's inside, shared by plan.c (what runs), fuse.c (steps), arena.c (memory) and run.c.
 *
 * Planning goes through these stages, each of which only reads what earlier ones decided:
 *
 *   values   which nodes are needed, their shapes for this input, who needs gradients
 *   steps    one call of an operator each, in order; several nodes where they fuse
 *   buffers  ranges of the arena with the first and last moment at which they are in use;
 *            values, gradients of values, saved state and scratch all become buffers
 *   place    an offset for every buffer, such that buffers in use together never overlap
 *
 * Moments count the calls of one training step: step s runs forward at moment s and backward at
 * moment 2 * steps - 1 - s. */
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

/* --- values ----------------------------------------------------------------------------------- */
/* Where a value or gradient lives: an index into tl_plan.buffer, or one of these. */
enum { TL_NO_BUFFER = -1, TL_CALLER_BUFFER = -2 };

typedef struct tl_value {
    tl_shape shape; /* for the planned batch */
    size_t bytes;
    bool used;     /* `to` depends on it */
    bool gradient; /* backward computes its gradient */
    bool absorbed; /* computed by the epilogue of another node's step */
    int consumers; /* nodes of the plan that read it, each as often as it does */
    int step;      /* writes it; -1 for `from`, and for values inside a fused step */
    int last;      /* moment of its last use */
    int buffer;
    int grad_buffer;
    int grad_writer; /* step whose backward writes the gradient first; -1 for `to` */
} tl_value;

/* --- steps ------------------------------------------------------------------------------------ */
typedef struct tl_step {
    int node;     /* whose operator runs */
    int out;      /* whose value it writes: `node`, or the last node fused into it */
    int affine;   /* node of the fused batch norm, or -1 */
    int residual; /* node whose value the epilogue adds, or -1 */
    tl_act act;
    bool fused;
    bool backward;   /* has a backward pass */
    bool live;       /* sees the forward's `training` */
    bool alias;      /* its output is its input's memory and forward has nothing to do */
    bool grad_alias; /* the same for backward */
    bool packs;      /* packs at every forward */
    tl_op_memory memory;
    size_t packed; /* offsets in floats into tl_plan.packed */
    size_t bias;
    int saved, work_forward, work_backward; /* buffers */
} tl_step;

/* --- buffers ---------------------------------------------------------------------------------- */
typedef struct tl_buffer {
    size_t size;     /* a multiple of 64 */
    int first, last; /* moments, both included */
    size_t offset;
} tl_buffer;

struct tl_plan {
    tl_graph *graph;
    tl_context *ctx;
    tl_plan_options options;
    int first_live;

    tl_value *value; /* by node, 0 .. options.to */
    int step_count;
    tl_step *step;
    int buffer_count;
    tl_buffer *buffer;
    tl_plan_memory memory;

    char *arena;
    float *gradients;
    int64_t gradient_count;
    int64_t *gradient_offset; /* by parameter */
    float *packed;
    size_t scale; /* offset into packed: scratch for a fused batch norm's scale */

    /* The call being made; room for the node with the most inputs. */
    int most_inputs;
    tl_view *in;
    float **grad_in;
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

/* fuse.c: fills plan->step from values. `plan->step` has room for every node. */
void tl_plan_build_steps(tl_plan *plan);
/* arena.c: fills plan->buffer, and the buffers of values and steps, from steps. */
tl_status tl_plan_assign_buffers(tl_plan *plan);
/* arena.c: gives every buffer its offset; *total is the size of the arena. */
tl_status tl_plan_place_buffers(tl_plan *plan, size_t *total);
/* run.c: a call of the node's operator for `batch` samples, with shapes, attributes and
 * parameters but no values. It uses plan->in and plan->param. */
tl_op_call tl_plan_call(tl_plan *plan, int node, int64_t batch);

#endif
