/* Operators: one descriptor per operator, one file per descriptor (or per family), all listed in
 * registry.c. A descriptor holds everything the library knows about the operator: its
 * attributes (from which text form and serialisation follow), shape inference, memory needs,
 * forward and backward pass. Nothing outside an operator's file asks which operator it is,
 * except by the properties below. */
#ifndef TL_LAYER_OP_H
#define TL_LAYER_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/context.h"
#include "compute/conv.h"
#include "tensor/tensor.h"

enum { TL_MAX_PARAMS = 5 };
/* Of one tensor: far beyond any memory, and sizes derived from it cannot overflow. */
#define TL_MAX_ELEMENTS ((int64_t)1 << 44)

/* --- attributes ---------------------------------------------------------------------------- */
typedef enum tl_attr_type {
    TL_ATTR_INT,   /* int32_t */
    TL_ATTR_PAIR,  /* int32_t[2]: height, width; one number in text sets both */
    TL_ATTR_PADS,  /* int32_t[4]: top, left, bottom, right; one number in text sets all, two set
                      vertical and horizontal */
    TL_ATTR_BOOL,  /* int32_t 0 or 1 */
    TL_ATTR_FLOAT, /* float */
    TL_ATTR_CHOICE /* int32_t index into choices */
} tl_attr_type;

typedef struct tl_attr_spec {
    const char *name; /* NULL ends a list */
    tl_attr_type type;
    size_t offset; /* in the operator's attribute struct */
    double initial, min, max;
    const char *const *choices; /* NULL-terminated, TL_ATTR_CHOICE only */
    bool required;
} tl_attr_spec;

/* --- parameters ------------------------------------------------------------------------------ */
typedef enum tl_init {
    TL_INIT_ZERO,
    TL_INIT_ONE,
    TL_INIT_HE_NORMAL, /* convolutions: std sqrt(2 / fan_out) (He et al. 2015), torchvision's choice
                        */
    TL_INIT_GLOROT_UNIFORM /* dense: Glorot and Bengio 2010, Keras's choice */
} tl_init;

typedef struct tl_param_spec {
    const char *name; /* "weight", "bias", "gamma", "beta", "mean", "variance" */
    tl_shape shape;
    tl_init init;
    int64_t fan_in, fan_out;
    bool learned; /* false: state that is not trained by gradient, such as running statistics */
} tl_param_spec;

/* What shape inference answers. */
typedef struct tl_op_shapes {
    tl_shape out;
    int param_count;
    tl_param_spec param[TL_MAX_PARAMS];
    double flops; /* of one forward pass; a multiply-add counts 2 */
} tl_op_shapes;

/* Bytes an operator wants beside its output. A smaller batch never wants more, and the packed
 * order does not depend on the batch: a plan made for 32 samples also runs 5. */
typedef struct tl_op_memory {
    size_t saved;         /* kept from forward to backward (a mask, arg-max, batch statistics) */
    size_t work_forward;  /* scratch during forward */
    size_t work_backward; /* scratch during backward */
    size_t packed;        /* parameters in the kernels' order, see pack */
    size_t followed;      /* what `follow` keeps */
} tl_op_memory;

/* --- parts of maps -----------------------------------------------------------------------------
 */
/* A call for some rows of its output: the call's tensors hold just these, and what they are made
 * of. */
typedef struct tl_op_band {
    tl_rows out;
    int64_t in_height; /* of the whole inputs */
} tl_op_band;

/* --- one call ----------------------------------------------------------------------------------
 */
typedef struct tl_op_call {
    tl_context *ctx;
    const void *attr;
    int input_count;
    const tl_view *in; /* in[i].data is NULL in backward unless TL_OP_KEEPS_INPUT (or
                          TL_OP_INPUT_TO_TRAIN) */
    tl_view out;       /* out.data is NULL in backward unless TL_OP_KEEPS_OUTPUT */
    /* All inputs and gradients are of one dtype, f32 unless TL_OP_BF16; and so is the output,
     * where the operator
     * writes_f32. */
    int param_count;
    float *const *param;   /* in the order of tl_op_shapes.param */
    bool training;         /* dropout drops, batch norm uses and updates batch statistics */
    bool backward_follows; /* fill `saved` */
    uint64_t seed;         /* of the run */
    uint64_t stream;       /* of this node and step, for tl_rng_make */
    void *saved;
    void *work;
    const float *packed;         /* written by pack, or NULL when the operator has none */
    const tl_op_band *band;      /* NULL: all rows */
    const tl_epilogue *epilogue; /* NULL unless TL_OP_EPILOGUE, whose bias already includes the
                                    operator's own, or TL_OP_TAIL */
    tl_follow *follow;           /* TL_OP_FOLLOWED: for the rows of its output; or NULL */
    void *followed;              /* operators with `follow`: what it has kept */
    int64_t followed_parts;      /* of so many parts; 0: it has not been called */
    /* backward only */
    const void *grad_out;
    void *const *grad_in; /* NULL where no gradient is wanted; written, or added to where
                              grad_add is set */
    const bool *grad_add;
    float *const *grad_param; /* added to; NULL where the parameter is frozen or not learned */
    void *grad_residual;      /* TL_OP_TAIL: of the epilogue's residual, as grad_in; it may be
                                 grad_out's memory, and grad_in[0] is not then */
    bool grad_residual_add;
} tl_op_call;

/* --- the descriptor ----------------------------------------------------------------------------
 */
typedef enum tl_op_flags {
    TL_OP_KEEPS_INPUT = 1,  /* backward reads the inputs */
    TL_OP_KEEPS_OUTPUT = 2, /* backward reads the output */
    TL_OP_IN_PLACE = 4,     /* out may be in[0]'s memory; grad_in[0] may be grad_out's, in which
                               case the other inputs' gradients are written first */
    TL_OP_VIEW = 8,         /* out has in[0]'s bytes unchanged (flatten, identity; dropout and
                               the like only when not training): the plan may alias both */
    TL_OP_EPILOGUE = 16,    /* forward honours an epilogue and packs with a per-channel scale; its
                               second parameter, if it has one, is a bias [oc] */
    TL_OP_PROBABILITY = 32, /* turns logits into probabilities; losses see through it */
    TL_OP_RANDOM = 64,      /* draws random numbers when training; TL_OP_VIEW holds otherwise */
    TL_OP_STATISTICS = 128, /* when training, uses and updates the batch's statistics: done only
                               where its own parameters are trained and the plan asks for it */
    TL_OP_SUM = 256,        /* out is the sum of the inputs, all of one shape: two of them are what
                               an epilogue's residual can do */
    TL_OP_INPUT_TO_TRAIN = 512, /* as TL_OP_KEEPS_INPUT, but only where a parameter of its own is
                                   trained; otherwise in[i].data may be NULL in backward */
    TL_OP_CHEAP = 1024,         /* one input; forward costs little more than a copy and, unless it
                                   uses the batch's statistics, gives the same bits again */
    TL_OP_BF16 = 2048, /* takes bf16, too: inputs, output, gradients, an epilogue's residual */
    TL_OP_TAIL = 4096, /* forward and backward honour the residual and the activation of an epilogue
                          without bias. In backward out.data is given if the activation's slope
                          cannot be had from in[0] */
    TL_OP_FOLLOWED = 8192, /* forward calls tl_op_call.follow */
    TL_OP_MAXIMUM = 16384  /* out is made of maxima of in[0]; an epilogue's RELU or RELU6 is
                              honoured forward and backward, for which nothing is given */
} tl_op_flags;

typedef struct tl_op {
    const char *name;           /* "conv2d" */
    int min_inputs, max_inputs; /* max 0: any number */
    unsigned flags;
    size_t attr_size;
    const tl_attr_spec *attrs; /* NULL when attr_size is 0 */

    /* Output and parameter shapes from input shapes. Error texts name attribute and shapes. */
    tl_status (*infer)(const void *attr, int input_count, const tl_shape *in, tl_op_shapes *out);
    /* Memory needs for these shapes; NULL = none. `call` has shapes and attr only. */
    void (*memory)(const tl_op_call *call, tl_op_memory *out);
    /* Writes outputs begin .. end - 1 (slices of the first parameter, channels of the output) of
     * call->packed's memory; call->param[0] is that parameter from output `begin` on, scale is NULL
     * or [oc]. Both ends are multiples of pack_unit's, or all outputs. NULL = none. */
    void (*pack)(const tl_op_call *call, int64_t begin, int64_t end, const float *scale,
                 float *packed);
    int64_t (*pack_unit)(const tl_op_call *call);
    void (*forward)(const tl_op_call *call);
    void (*backward)(const tl_op_call *call); /* NULL: no gradient (the input node) */
    /* When training: called with rows of in[0], while these are still in a cache, before forward,
     * which then need not read them for what is kept of them in call->followed. NULL: no use for
     * it. */
    void (*follow)(const tl_op_call *call, const tl_followed *rows);
    /* Answers which rows of its inputs the rows of its output are made of in forward without
     * training, for `whole` shapes. False when rows by themselves would not give the same bits.
     * NULL: they never would. Calls with a band are made only after this. */
    bool (*rows)(const tl_op_call *whole, tl_row_window *window);
    /* TL_OP_BF16 only: whether forward from inputs of bf16 can write an output of f32 (and then
     * read an epilogue's residual of f32). NULL: it cannot. */
    bool (*writes_f32)(const tl_op_call *call);
    /* Writes scale and shift [C] such that forward without training is y = x * scale + shift for
     * each channel (last dimension), from call->param. NULL: it has no such form. */
    void (*affine)(const tl_op_call *call, float *scale, float *shift);

    tl_act act; /* for activations that an epilogue can do; TL_ACT_NONE otherwise */
} tl_op;

/* op->infer with everything checked that is the same for all operators: the number of inputs, at
 * least one element in each, no tensor of more than TL_MAX_ELEMENTS. Call this, not op->infer.
 * Errors: INVALID_ARGUMENT (number of inputs), SHAPE, LIMIT; texts begin with the operator. */
tl_status tl_op_infer(const tl_op *op, const void *attr, int input_count, const tl_shape *in,
                      tl_op_shapes *out);

/* op->pack of all outputs, if it has one. */
void tl_op_pack(const tl_op *op, const tl_op_call *call, const float *scale, float *packed);

/* op->rows of operators that work element by element, or channel by channel. */
bool tl_op_same_rows(const tl_op_call *whole, tl_row_window *window);

/* The operator of that name, or NULL. */
const tl_op *tl_op_find(const char *name);
/* All operators, NULL-terminated. */
const tl_op *const *tl_op_all(void);

/* --- attributes as text (attr.c) ----------------------------------------------------------------
 */
/* Fills `attr` (op->attr_size bytes) with initial values. */
void tl_attr_init(const tl_op *op, void *attr);
/* Sets attributes from "filters=64 kernel=3 stride=2 pad=1,1,0,0"; NULL or "" sets none.
 * Separators are blanks; numbers of a pair or pads are separated by commas. Checks ranges and
 * that required attributes are present. Errors: INVALID_ARGUMENT naming attribute and choices. */
tl_status tl_attr_parse(const tl_op *op, const char *text, void *attr);
/* The text of all attributes, such that parsing it gives the same struct (floats with 9
 * digits). The caller frees it with tl_free(). NULL when memory is out. */
char *tl_attr_print(tl_context *ctx, const tl_op *op, const void *attr);

#endif
