/* What this process has in memory, and what it will have. */
#include "cli/common.h"

#include <stdio.h>
#include <string.h>

/* A field of /proc/self/status, which counts in KiB. getrusage() knows the peak as well, but begins
 * with that of the program which started this one. */
static double status_bytes(const char *field) {
    FILE *file = fopen("/proc/self/status", "r");
    if (!file) return 0;
    char line[128];
    size_t length = strlen(field);
    double kib = 0;
    while (fgets(line, sizeof line, file))
        if (strncmp(line, field, length) == 0 && sscanf(line + length, ": %lf", &kib) == 1) break;
    fclose(file);
    return kib * 1024;
}

double cli_rss(void) {
    return status_bytes("VmRSS");
}

double cli_peak_rss(void) {
    return status_bytes("VmHWM");
}

double cli_predicted_rss(const cli_session *session, size_t total) {
    size_t held = 0;
    tl_context_memory(session->ctx, &held, NULL);
    double program = cli_rss() - (double)held;
    return (program > 0 ? program : 0) + (double)total;
}
