#include "cli/common.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const cli_flag flags[] = {{0}};

/* The download script is data beside the program: in the source tree when run from a build folder
 * in it, else in the installation's share folder. */
static const char *const places[] = {"../weights/fetch", "../share/libtl/weights/fetch"};

static int run(const cli_args *args) {
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0) return cli_fail(args, "/proc/self/exe: %s", strerror(errno));
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char script[PATH_MAX + 64];
        snprintf(script, sizeof script, "%s/%s", self, places[i]);
        if (access(script, X_OK) != 0) continue;
        execl(script, script, args->operands[0], (char *)NULL);
        return cli_fail(args, "%s: %s", script, strerror(errno));
    }
    return cli_fail(args, "no download script at %s/%s or %s/%s", self, places[0], self, places[1]);
}

const cli_command cli_fetch = {
    .name = "fetch",
    .summary = "download a network's pretrained weights and check their hash",
    .operands = "NAME",
    .least = 1,
    .most = 1,
    .flags = flags,
    .run = run,
};
