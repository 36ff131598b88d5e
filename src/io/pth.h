/* What the two forms of a .pth file share: from the unpickled object to named tensors. */
#ifndef TL_IO_PTH_H
#define TL_IO_PTH_H

#include "io/pickle.h"
#include "io/weights.h"

/* Memory that unpickling may take for a file of this size. */
uint64_t tl_pth_memory_limit(const tl_source *source);

/* Finds the state dict in `root` (itself, or what a checkpoint holds as "state_dict_ema",
 * "model_ema", "ema_state_dict", "state_dict", "model_state_dict" or "model": the first of these
 * that is there), and fills in the weights' items. Prefixes that wrappers leave on every name
 * ("module.", "_orig_mod.") are taken off. All storages must have been located.
 * Errors: CORRUPT, LIMIT, UNSUPPORTED (no state dict: lists what is there), NO_MEMORY. */
tl_status tl_pth_collect(tl_weights *weights, tl_pickle *pickle, uint32_t root);

#endif
