/* What a Keras model's config says about its layers. Nothing in it is ever executed. */
#ifndef TL_IO_KERAS_H
#define TL_IO_KERAS_H

#include "io/hdf5.h"
#include "io/json.h"

typedef struct tl_keras_config {
    json_t *root;
    json_t *by_name; /* layers, by their own names */
    json_t *by_path; /* the same, by their groups' names in a file of Keras 3 */
} tl_keras_config;

enum { TL_KERAS_CLASS = 64 };

/* Memory is counted against `file`. Call tl_keras_config_free() also after a failure.
 * Errors: CORRUPT, LIMIT, UNSAFE (a Lambda layer: Python code), NO_MEMORY. */
tl_status tl_keras_config_read(tl_hdf5 *file, const tl_json_text *text, tl_keras_config *out);
void tl_keras_config_free(tl_keras_config *config);

/* The class as Keras 3 names groups: "conv2d", "depthwise_conv2d"; "" when the layer is NULL. */
const char *tl_keras_layer_class(const json_t *layer, char text[TL_KERAS_CLASS]);

/* What variable `index` of `count` of a layer is called, by the layer's class in the form above and
 * its entry in the config (NULL when there is none). `*name` is NULL for classes without a table,
 * and where it cannot be told without a config: a batch norm of three variables.
 * Errors: CORRUPT (the config says another number); `where` says in messages which layer of which
 * file. */
tl_status tl_keras_variable_name(const char *class, const json_t *layer, int index, int count,
                                 const char *where, const char **name);

#endif
