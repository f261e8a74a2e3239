/* Preloaded into the program. In the job's own files (FAULTS_IN/answers…, FAULTS_IN/.tmp…, those in FAULTS_IN that
 * have no name yet, and FAULTS_IN itself):
 *   FAULTS_KILL_AT=n  kills the process with SIGKILL right after its nth change; a write writes only half of its bytes.
 *   FAULTS_NO_SYNC=f  makes every sync fail with EIO once there is a file f.
 *   FAULTS_HANG=f     makes every write hang once there is a file f, or every sync if FAULTS_HANG_SYNC is set, too. A
 *                     file f.met appears when one hangs.
 * Everywhere:
 *   FAULTS_CLOCK=n    sets the time of day, in seconds since 1970.
 * When a file that has no name is read again from its beginning for the first time (Python, too, does so with others):
 *   FAULTS_REWIND=n   waits for n milliseconds; for 0, raises SIGINT, which is taken before the call returns. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_ours(const char *path) {
    const char *in = getenv("FAULTS_IN");
    size_t length = in ? strlen(in) : 0;
    if (!length || strncmp(path, in, length))
        return 0;
    const char *rest = path + length;
    return !*rest || !strncmp(rest, "/answers", 8) || !strncmp(rest, "/.tmp", 5) || !strncmp(rest, "/#", 2);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static __typeof__(&clock_gettime) next;
    static const char *now;
    if (!next) {
        now = getenv("FAULTS_CLOCK");
        next = NEXT(clock_gettime);
    }
    int result = next(clock, time);
    if (now && clock == CLOCK_REALTIME)
        time->tv_sec = atol(now);
    return result;
}

static int is_our_file(int file) {
    char link[64], path[PATH_MAX + 1] = {0};
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    int ours = readlink(link, path, PATH_MAX) > 0 && is_ours(path);
    errno = before;
    return ours;
}

/* Whether this change is the one to die at. */
static int is_last(void) {
    static atomic_long changes;
    const char *at = getenv("FAULTS_KILL_AT");
    return at && atomic_fetch_add(&changes, 1) + 1 == atol(at);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

#define CHANGE(ours, call)                                                                                           \
    int last = (ours) && is_last();                                                                                  \
    int result = call;                                                                                               \
    if (last)                                                                                                        \
        die();                                                                                                       \
    return result

static void hang(int file, int syncs) {
    const char *from = getenv("FAULTS_HANG");
    if (!from || !getenv("FAULTS_HANG_SYNC") == syncs || access(from, F_OK) || !is_our_file(file))
        return;
    char met[PATH_MAX + 1];
    snprintf(met, sizeof met, "%s.met", from);
    close(open(met, O_CREAT | O_WRONLY, 0600));
    for (;;)
        pause();
}

ssize_t write(int file, const void *bytes, size_t count) {
    hang(file, 0);
    if (is_our_file(file) && is_last()) {
        NEXT(write)(file, bytes, count / 2);
        die();
    }
    return NEXT(write)(file, bytes, count);
}

static int is_broken(int file) {
    const char *broken = getenv("FAULTS_NO_SYNC");
    return broken && is_our_file(file) && !access(broken, F_OK);
}

int fsync(int file) {
    hang(file, 1);
    if (is_broken(file))
        return errno = EIO, -1;
    CHANGE(is_our_file(file), NEXT(fsync)(file));
}

int fdatasync(int file) {
    hang(file, 1);
    if (is_broken(file))
        return errno = EIO, -1;
    CHANGE(is_our_file(file), NEXT(fdatasync)(file));
}

static int is_nameless(int file) {
    struct stat about;
    return !fstat(file, &about) && !about.st_nlink;
}

off64_t lseek64(int file, off64_t offset, int whence) {
    static atomic_flag done = ATOMIC_FLAG_INIT;
    const char *pause_ms = getenv("FAULTS_REWIND");
    int rewinds = pause_ms && !offset && whence == SEEK_SET && is_nameless(file);
    if (rewinds && !atomic_flag_test_and_set(&done)) {
        if (atol(pause_ms))
            usleep(atol(pause_ms) * 1000);
        else
            raise(SIGINT);
    }
    return NEXT(lseek64)(file, offset, whence);
}

int ftruncate64(int file, off64_t length) { CHANGE(is_our_file(file), NEXT(ftruncate64)(file, length)); }

int linkat(int from, const char *old, int to, const char *new, int flags) {
    CHANGE(is_ours(new), NEXT(linkat)(from, old, to, new, flags));
}

int rename(const char *old, const char *new) { CHANGE(is_ours(new), NEXT(rename)(old, new)); }

int unlink(const char *path) { CHANGE(is_ours(path), NEXT(unlink)(path)); }
