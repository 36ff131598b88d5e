/* libtl - transfer learning on images in pure C. Include this header for everything.
 *
 *   high level     one call trains, one predicts             finetune.h, model.h
 *   middle level   models to edit, a training loop to write   model.h, data.h, train.h
 *   low level      tensors, single layers, optimisers         tensor.h, train.h
 *
 * Every call that can fail returns a tl_status and puts a text into tl_last_error(). Results
 * come back through pointers, which are set to NULL on failure. A NULL where an object or a text
 * is needed is INVALID_ARGUMENT; calls without a status do nothing then, or give 0 or NULL. The
 * library never prints, exits, aborts, installs a signal handler or changes the locale. */
#ifndef TL_TL_H
#define TL_TL_H

#include <tl/context.h>
#include <tl/data.h>
#include <tl/finetune.h>
#include <tl/model.h>
#include <tl/status.h>
#include <tl/tensor.h>
#include <tl/train.h>

#define TL_VERSION_MAJOR 0
#define TL_VERSION_MINOR 1
#define TL_VERSION_PATCH 0

#endif
