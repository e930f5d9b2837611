/* Counts the calls that change what lies below a folder, in a process and those forked from it, and kills at one of them.
 *
 * Loaded with LD_PRELOAD; tests/robustness/boundaries.py arms it in a process that was forked to be killed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

struct state { /* in memory that all processes share; as in boundaries.py */
    long count;  /* calls so far */
    long target; /* the call that is not made any more; 0 for none */
    int group;   /* kill all processes, not just the one that calls */
    int torn;    /* if it is a write, write half of it first */
    int pid;     /* who was killed */
    char call[20];
    char path[PATH_MAX];
};

static struct state *state;
static char folder[PATH_MAX];
static char counted[1000]; /* " rename unlink ", or nothing for all */

void boundaries_arm(struct state *shared, const char *below, const char *calls) {
    snprintf(folder, sizeof folder, "%s/", below);
    snprintf(counted, sizeof counted, "%s", calls);
    state = shared;
}

static int is_below(const char *path) { return state && path && !strncmp(path, folder, strlen(folder)); }

static const char *name_of(int handle, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

static const char *name_at(int at, const char *path, char *whole) {
    if (path[0] == '/' || at == AT_FDCWD) return path;
    size_t length = strlen(name_of(at, whole));
    snprintf(whole + length, PATH_MAX - length, "/%s", path);
    return whole;
}

static void die(const char *call, const char *path) {
    state->pid = getpid();
    strncpy(state->call, call, sizeof state->call - 1);
    strncpy(state->path, path, sizeof state->path - 1);
    kill(state->group ? 0 : getpid(), SIGKILL);
    for (;;) pause();
}

/* Whether this is the call to die at. */
static int is_last(const char *call) {
    char word[30];
    snprintf(word, sizeof word, " %s ", call);
    if (*counted && !strstr(counted, word)) return 0;
    return __sync_add_and_fetch(&state->count, 1) == state->target;
}

static void pass(const char *call, const char *path) {
    if (is_below(path) && is_last(call)) die(call, path);
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define WRITER(name, parameters, half, ...) \
    ssize_t name parameters { \
        char path[PATH_MAX]; \
        if (state && is_below(name_of(handle, path)) && is_last(#name)) { \
            if (state->torn && size > 1) half; \
            die(#name, path); \
        } \
        return real_##name(__VA_ARGS__); \
    }

static ssize_t real_write(int handle, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    return real(handle, data, size);
}
static ssize_t real_pwrite(int handle, const void *data, size_t size, off_t at) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    return real(handle, data, size, at);
}
static ssize_t real_pwrite64(int handle, const void *data, size_t size, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return real(handle, data, size, at);
}

WRITER(write, (int handle, const void *data, size_t size), real_write(handle, data, size / 2), handle, data, size)
WRITER(pwrite, (int handle, const void *data, size_t size, off_t at), real_pwrite(handle, data, size / 2, at), handle,
       data, size, at)
WRITER(pwrite64, (int handle, const void *data, size_t size, off64_t at), real_pwrite64(handle, data, size / 2, at),
       handle, data, size, at)

#define ON_HANDLE(name, parameters, types, ...) \
    int name parameters { \
        REAL(int, name, types); \
        char path[PATH_MAX]; \
        if (state) pass(#name, name_of(handle, path)); \
        return real(__VA_ARGS__); \
    }
#define TWO(a, b) a, b

ON_HANDLE(fsync, (int handle), int, handle)
ON_HANDLE(fdatasync, (int handle), int, handle)
ON_HANDLE(ftruncate, (int handle, off_t size), TWO(int, off_t), handle, size)
ON_HANDLE(ftruncate64, (int handle, off64_t size), TWO(int, off64_t), handle, size)

int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    pass("mkdir", path);
    return real(path, mode);
}
int rmdir(const char *path) {
    REAL(int, rmdir, const char *);
    pass("rmdir", path);
    return real(path);
}
int unlink(const char *path) {
    REAL(int, unlink, const char *);
    pass("unlink", path);
    return real(path);
}
int unlinkat(int at, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    char whole[PATH_MAX];
    if (state) pass("unlinkat", name_at(at, path, whole));
    return real(at, path, flags);
}
int link(const char *old, const char *new) {
    REAL(int, link, const char *, const char *);
    pass("link", new);
    return real(old, new);
}
int linkat(int from, const char *old, int to, const char *new, int flags) {
    REAL(int, linkat, int, const char *, int, const char *, int);
    char whole[PATH_MAX];
    if (state) pass("linkat", name_at(to, new, whole));
    return real(from, old, to, new, flags);
}
int rename(const char *old, const char *new) {
    REAL(int, rename, const char *, const char *);
    pass("rename", new);
    return real(old, new);
}
int renameat(int from, const char *old, int to, const char *new) {
    REAL(int, renameat, int, const char *, int, const char *);
    char whole[PATH_MAX];
    if (state) pass("renameat", name_at(to, new, whole));
    return real(from, old, to, new);
}

#define MAKES(flags) ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE)
#define MODE(flags, last) \
    mode_t mode = 0; \
    if (MAKES(flags)) { \
        va_list rest; \
        va_start(rest, last); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }
#define OPENER(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        MODE(flags, flags) \
        if (MAKES(flags)) pass(#name, path); \
        return real(path, flags, mode); \
    }
#define OPENER_AT(name) \
    int name(int at, const char *path, int flags, ...) { \
        REAL(int, name, int, const char *, int, ...); \
        MODE(flags, flags) \
        char whole[PATH_MAX]; \
        if (state && MAKES(flags)) pass(#name, name_at(at, path, whole)); \
        return real(at, path, flags, mode); \
    }

OPENER(open)
OPENER(open64)
OPENER_AT(openat)
OPENER_AT(openat64)
