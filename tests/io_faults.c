/* Makes one call of a process on files below a folder fail, as a disk, a network drive or a limit would.
   Preloaded by tests/fork_server.py; idle until io_faults_arm. The count is shared with processes that are forked later. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, READ, WRITE, FSYNC, RENAME, KINDS };
#define SHORT (-1) /* in the place of an errno: fewer bytes than asked for */

static struct {
    char prefix[4096];
    int kind, error, lasting;
    long at;
    atomic_long *counts; /* of each kind; then how many calls failed */
} armed = {.kind = -1};

void io_faults_arm(const char *prefix, int kind, int error, long at, int lasting) {
    armed.counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    strncpy(armed.prefix, prefix, sizeof armed.prefix - 1);
    armed.error = error, armed.at = at, armed.lasting = lasting;
    armed.kind = kind;
}

/* How many calls of a kind were made; of KINDS, how many failed. */
long io_faults_count(int kind) { return armed.counts ? atomic_load(&armed.counts[kind]) : 0; }

static int named(const char *path) {
    return path && (path[0] != '/' || !strncmp(path, armed.prefix, strlen(armed.prefix)));
}

static int held(int handle) {
    char link[64], path[4096];
    int kept = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t size = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (size < 0) return 0;
    path[size] = 0;
    return path[0] == '/' && named(path);
}

/* Whether this call is the one: 0, or the errno it fails with, or SHORT. */
static int fails(int kind) {
    long count = atomic_fetch_add(&armed.counts[kind], 1) + 1;
    if (kind != armed.kind || armed.at < 1) return 0;
    if (armed.lasting ? count < armed.at : count != armed.at) return 0;
    atomic_fetch_add(&armed.counts[KINDS], 1);
    if (armed.error != SHORT) errno = armed.error;
    return armed.error;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define ON(test, call, bad) \
    int fault = armed.kind >= 0 && (test) ? fails(call) : 0; \
    if (fault > 0) return bad

#define OPENER(name, path, ...) \
    REAL(name); \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags), mode = va_arg(rest, mode_t), va_end(rest); \
    } \
    ON(named(path), OPEN, -1); \
    return real(__VA_ARGS__, mode)

int open(const char *path, int flags, ...) { OPENER(open, path, path, flags); }
int open64(const char *path, int flags, ...) { OPENER(open64, path, path, flags); }
int openat(int at, const char *path, int flags, ...) { OPENER(openat, path, at, path, flags); }
int openat64(int at, const char *path, int flags, ...) { OPENER(openat64, path, at, path, flags); }
FILE *fopen(const char *path, const char *how) { REAL(fopen); ON(named(path), OPEN, NULL); return real(path, how); }
FILE *fopen64(const char *path, const char *how) { REAL(fopen64); ON(named(path), OPEN, NULL); return real(path, how); }
DIR *opendir(const char *path) { REAL(opendir); ON(named(path), OPEN, NULL); return real(path); }

#define SOME(count) (fault == SHORT && (count) > 1 ? (count) / 2 : (count))
ssize_t read(int to, void *into, size_t n) { REAL(read); ON(held(to), READ, -1); return real(to, into, SOME(n)); }
ssize_t pread(int to, void *into, size_t n, off_t at) {
    REAL(pread); ON(held(to), READ, -1); return real(to, into, SOME(n), at);
}
ssize_t pread64(int to, void *into, size_t n, off64_t at) {
    REAL(pread64); ON(held(to), READ, -1); return real(to, into, SOME(n), at);
}
ssize_t readv(int to, const struct iovec *parts, int n) { REAL(readv); ON(held(to), READ, -1); return real(to, parts, n); }
ssize_t write(int to, const void *from, size_t n) { REAL(write); ON(held(to), WRITE, -1); return real(to, from, SOME(n)); }
ssize_t pwrite(int to, const void *from, size_t n, off_t at) {
    REAL(pwrite); ON(held(to), WRITE, -1); return real(to, from, SOME(n), at);
}
ssize_t pwrite64(int to, const void *from, size_t n, off64_t at) {
    REAL(pwrite64); ON(held(to), WRITE, -1); return real(to, from, SOME(n), at);
}
int fsync(int to) { REAL(fsync); ON(held(to), FSYNC, -1); return real(to); }
int syncfs(int to) { REAL(syncfs); ON(held(to), FSYNC, -1); return real(to); }
int fdatasync(int to) { REAL(fdatasync); ON(held(to), FSYNC, -1); return real(to); }
int rename(const char *from, const char *to) { REAL(rename); ON(named(to), RENAME, -1); return real(from, to); }
int renameat(int a, const char *from, int b, const char *to) {
    REAL(renameat); ON(named(to), RENAME, -1); return real(a, from, b, to);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    REAL(renameat2); ON(named(to), RENAME, -1); return real(a, from, b, to, flags);
}
