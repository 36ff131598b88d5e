/* One loop per activation. */
#ifndef TL_KERNELS_FOR_ACT_H
#define TL_KERNELS_FOR_ACT_H

/* Calls LOOP(constant) for the activation `act`, so that no loop asks again for every element. */
#define FOR_ACT(act, LOOP)                                                                         \
    switch (act) {                                                                                 \
    case TL_ACT_NONE:                                                                              \
        LOOP(TL_ACT_NONE);                                                                         \
        break;                                                                                     \
    case TL_ACT_RELU:                                                                              \
        LOOP(TL_ACT_RELU);                                                                         \
        break;                                                                                     \
    case TL_ACT_RELU6:                                                                             \
        LOOP(TL_ACT_RELU6);                                                                        \
        break;                                                                                     \
    case TL_ACT_SIGMOID:                                                                           \
        LOOP(TL_ACT_SIGMOID);                                                                      \
        break;                                                                                     \
    case TL_ACT_SILU:                                                                              \
        LOOP(TL_ACT_SILU);                                                                         \
        break;                                                                                     \
    case TL_ACT_HARD_SWISH:                                                                        \
        LOOP(TL_ACT_HARD_SWISH);                                                                   \
        break;                                                                                     \
    case TL_ACT_HARD_SIGMOID:                                                                      \
        LOOP(TL_ACT_HARD_SIGMOID);                                                                 \
        break;                                                                                     \
    case TL_ACT_GELU:                                                                              \
        LOOP(TL_ACT_GELU);                                                                         \
        break;                                                                                     \
    }

#endif
