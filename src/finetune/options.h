/* The recipe's settings as a table: names, types, bounds. Setting by text, checking, and writing
 * them down all follow from it. */
#ifndef TL_FINETUNE_OPTIONS_H
#define TL_FINETUNE_OPTIONS_H

#include <tl/finetune.h>

#include "base/context.h"

struct json_t;

/* The caller's struct, which may be older and shorter than ours, over the defaults; texts that are
 * NULL are defaults, too. Errors: INVALID_ARGUMENT (not initialised). */
tl_status tl_finetune_options_copy(const tl_finetune_options *options, tl_finetune_options *out);
/* Every field against the table. Errors: INVALID_ARGUMENT, NOT_FOUND (preprocess); texts name the
 * option, its value and what is expected. */
tl_status tl_finetune_options_check(tl_context *ctx, const tl_finetune_options *options);
/* All settings as one JSON object in the table's order; without `places` it leaves out those that
 * say where files are, so that it is the same wherever a run took place. NULL when memory is out.
 */
struct json_t *tl_finetune_options_json(tl_context *ctx, const tl_finetune_options *options,
                                        bool places);
/* Whether a text option was given: neither NULL nor "". */
bool tl_option_given(const char *text);

#endif
