#include "base/options.h"

#include <string.h>

void tl_options_init(void *options, size_t size, const void *defaults, size_t known) {
    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, defaults, size < known ? size : known);
    memcpy(options, &size, sizeof size);
}

tl_status tl_options_read(const char *what, const void *given, void *out, size_t known) {
    size_t size;
    if (!given) return TL_OK;
    memcpy(&size, given, sizeof size);
    TL_CHECK(size >= sizeof size, TL_INVALID_ARGUMENT,
             "%s: the options' size is %zu, they were not initialised", what, size);
    memcpy(out, given, size < known ? size : known);
    memcpy(out, &known, sizeof known);
    return TL_OK;
}
