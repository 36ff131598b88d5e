/* Finds the pictures below a folder of class folders. Nothing is opened but folders, so that a
 * FIFO or a device cannot hold the scan up. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "data/dataset.h"

/* Names in one folder, sorted by bytes. */
typedef struct listing {
    char **name;
    size_t count, capacity;
} listing;

typedef struct folder_id {
    dev_t device;
    ino_t inode;
} folder_id;

typedef struct scan {
    tl_context *ctx;
    tl_dataset *dataset;
    /* Folders entered for the current class: a link may lead back into one of them. */
    folder_id *entered;
    size_t entered_count, entered_capacity;
} scan;

typedef enum entry_kind { ENTRY_FOLDER, ENTRY_PICTURE, ENTRY_OTHER, ENTRY_SKIPPED } entry_kind;

/* --- one folder's names --------------------------------------------------------------------------
 */

static void free_listing(tl_context *ctx, listing *l) {
    for (size_t i = 0; i < l->count; i++) tl_free(ctx, l->name[i]);
    tl_free(ctx, l->name);
    *l = (listing){0};
}

static tl_status add_name(tl_context *ctx, listing *l, const char *name) {
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? l->capacity * 2 : 64;
        char **moved = tl_realloc(ctx, l->name, capacity * sizeof *moved);
        TL_CHECK_MEMORY(moved);
        l->name = moved;
        l->capacity = capacity;
    }
    char *copy = tl_strdup(ctx, name);
    TL_CHECK_MEMORY(copy);
    l->name[l->count++] = copy;
    return TL_OK;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Hidden names are left out: .ipynb_checkpoints is no class and ._cat.jpg no picture. */
static tl_status read_names(tl_context *ctx, const char *path, listing *out) {
    *out = (listing){0};
    DIR *folder = opendir(path);
    if (!folder) return tl_fail_errno(errno, "%s: the folder cannot be opened", path);
    tl_status status = TL_OK;
    while (status == TL_OK) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry) {
            if (errno) status = tl_fail_errno(errno, "%s: the folder cannot be read", path);
            break;
        }
        if (entry->d_name[0] != '.') status = add_name(ctx, out, entry->d_name);
    }
    closedir(folder);
    if (status != TL_OK)
        free_listing(ctx, out);
    else if (out->count)
        qsort(out->name, out->count, sizeof *out->name, compare_names);
    return status;
}

/* --- one entry -----------------------------------------------------------------------------------
 */

static bool is_picture_name(const char *path) {
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".bmp"};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof endings[0]; i++)
        if (strcasecmp(dot, endings[i]) == 0) return true;
    return false;
}

static const char *special_kind(mode_t mode) {
    if (S_ISFIFO(mode)) return "is a FIFO, not a file";
    if (S_ISSOCK(mode)) return "is a socket, not a file";
    return "is a device, not a file";
}

/* What an entry is, after following links; names what is to be skipped. */
static tl_status examine(scan *s, const char *path, struct stat *info, entry_kind *kind) {
    struct stat link;
    *kind = ENTRY_SKIPPED;
    if (strlen(path) >= PATH_MAX)
        return tl_dataset_skip(s->dataset, path, "its path is longer than the system allows");
    if (stat(path, info) != 0) {
        bool dangling = errno == ENOENT && lstat(path, &link) == 0;
        if (dangling) return tl_dataset_skip(s->dataset, path, "is a link to nothing");
        tl_fail_errno(errno, "%s: cannot be examined", path);
        return tl_dataset_skip(s->dataset, path, tl_last_error());
    }
    if (S_ISDIR(info->st_mode))
        *kind = ENTRY_FOLDER;
    else if (!S_ISREG(info->st_mode))
        return tl_dataset_skip(s->dataset, path, special_kind(info->st_mode));
    else if (!is_picture_name(path))
        *kind = ENTRY_OTHER;
    else if (faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) != 0)
        return tl_dataset_skip(s->dataset, path, "cannot be read");
    else
        *kind = ENTRY_PICTURE;
    return TL_OK;
}

/* --- a class folder ------------------------------------------------------------------------------
 */

static bool was_entered(const scan *s, const struct stat *info) {
    for (size_t i = 0; i < s->entered_count; i++)
        if (s->entered[i].device == info->st_dev && s->entered[i].inode == info->st_ino)
            return true;
    return false;
}

static tl_status note_entered(scan *s, const struct stat *info) {
    if (s->entered_count == s->entered_capacity) {
        size_t capacity = s->entered_capacity ? s->entered_capacity * 2 : 16;
        folder_id *moved = tl_realloc(s->ctx, s->entered, capacity * sizeof *moved);
        TL_CHECK_MEMORY(moved);
        s->entered = moved;
        s->entered_capacity = capacity;
    }
    s->entered[s->entered_count++] = (folder_id){info->st_dev, info->st_ino};
    return TL_OK;
}

static tl_status walk_folder(scan *s, const char *path, const struct stat *info, int label);

static tl_status walk_entry(scan *s, const char *path, int label) {
    struct stat info;
    entry_kind kind;
    TL_TRY(examine(s, path, &info, &kind));
    if (kind == ENTRY_PICTURE) return tl_dataset_add_sample(s->dataset, path, label);
    if (kind == ENTRY_FOLDER && !was_entered(s, &info)) return walk_folder(s, path, &info, label);
    return TL_OK;
}

/* Calls itself at most once per two bytes of PATH_MAX; no folder stays open meanwhile. */
static tl_status walk_folder(scan *s, const char *path, const struct stat *info, int label) {
    listing names;
    TL_TRY(note_entered(s, info));
    tl_status status = read_names(s->ctx, path, &names);
    if (status == TL_NO_MEMORY) return status;
    if (status != TL_OK) return tl_dataset_skip(s->dataset, path, tl_last_error());
    for (size_t i = 0; status == TL_OK && i < names.count; i++) {
        char *child = tl_format(s->ctx, "%s/%s", path, names.name[i]);
        status = child ? walk_entry(s, child, label) : TL_NO_MEMORY;
        tl_free(s->ctx, child);
    }
    free_listing(s->ctx, &names);
    return status;
}

static int compare_samples(const void *a, const void *b) {
    return strcmp(((const tl_sample *)a)->path, ((const tl_sample *)b)->path);
}

static tl_status fail_empty(const tl_dataset *dataset, const char *path, int64_t skipped_before) {
    int64_t skipped = dataset->skipped_count - skipped_before;
    if (skipped == 0)
        return tl_fail(TL_INVALID_ARGUMENT,
                       "%s: the class folder holds no picture (.jpg, .jpeg, .png, .bmp)", path);
    const tl_skip *first = &dataset->skipped[skipped_before];
    return tl_fail(TL_INVALID_ARGUMENT,
                   "%s: the class folder holds no picture that can be used; %lld skipped, the "
                   "first %s: %s",
                   path, (long long)skipped, first->path, first->reason);
}

/* Class names end up in the saved model's JSON. */
static bool is_utf8(const char *text) {
    json_t *string = json_string(text);
    bool valid = string != NULL;
    json_decref(string);
    return valid;
}

static tl_status walk_class(scan *s, const char *path, const char *name, const struct stat *info) {
    tl_dataset *dataset = s->dataset;
    const int64_t first = dataset->count, skipped = dataset->skipped_count;
    TL_CHECK(is_utf8(name), TL_INVALID_ARGUMENT, "%s: the class folder's name is not UTF-8", path);
    s->entered_count = 1; /* the root: a link to it is no part of the class */
    TL_TRY(tl_dataset_add_class(dataset, name));
    TL_TRY(walk_folder(s, path, info, dataset->class_count - 1));
    if (dataset->count == first) return fail_empty(dataset, path, skipped);
    qsort(dataset->sample + first, (size_t)(dataset->count - first), sizeof *dataset->sample,
          compare_samples);
    return TL_OK;
}

/* --- the root ------------------------------------------------------------------------------------
 */

static tl_status walk_root_entry(scan *s, const char *path, const char *name) {
    struct stat info;
    entry_kind kind;
    TL_TRY(examine(s, path, &info, &kind));
    if (kind == ENTRY_FOLDER) return walk_class(s, path, name, &info);
    if (kind == ENTRY_PICTURE)
        return tl_dataset_skip(s->dataset, path, "lies outside the class folders");
    return TL_OK;
}

static tl_status walk_root(scan *s, const char *root, const struct stat *info) {
    listing names;
    const char *slash = root[strlen(root) - 1] == '/' ? "" : "/";
    TL_TRY(note_entered(s, info));
    TL_TRY(read_names(s->ctx, root, &names));
    tl_status status = TL_OK;
    for (size_t i = 0; status == TL_OK && i < names.count; i++) {
        char *child = tl_format(s->ctx, "%s%s%s", root, slash, names.name[i]);
        status = child ? walk_root_entry(s, child, names.name[i]) : TL_NO_MEMORY;
        tl_free(s->ctx, child);
    }
    free_listing(s->ctx, &names);
    if (status == TL_OK && s->dataset->class_count == 0)
        status = tl_fail(TL_INVALID_ARGUMENT,
                         "%s: holds no class folders; expected %s%sCLASS/picture.jpg", root, root,
                         slash);
    return status;
}

tl_status tl_dataset_open(tl_context *ctx, const char *root, tl_dataset **out) {
    struct stat info;
    if (out) *out = NULL;
    TL_CHECK(ctx && root && *root && out, TL_INVALID_ARGUMENT,
             "dataset: context, folder or result is missing");
    const size_t length = strlen(root);
    TL_CHECK(length < PATH_MAX, TL_LIMIT,
             "dataset: the folder's path has %zu bytes, the limit is %d", length, PATH_MAX - 1);
    if (stat(root, &info) != 0) return tl_fail_errno(errno, "%s: the folder cannot be found", root);
    TL_CHECK(S_ISDIR(info.st_mode), TL_INVALID_ARGUMENT, "%s: is no folder", root);
    scan s = {.ctx = ctx};
    TL_TRY(tl_dataset_create(ctx, length + (root[length - 1] != '/'), &s.dataset));
    tl_status status = walk_root(&s, root, &info);
    tl_free(ctx, s.entered);
    if (status != TL_OK) {
        tl_dataset_free(s.dataset);
        return status;
    }
    *out = s.dataset;
    return TL_OK;
}
