/* Loaded before a server's own library (LD_PRELOAD): a disk that is slow, fails or is full, at an order given at run time.
 *
 * PEAKGATE_BAD_DISK names a file of four ints that the test writes and this library maps:
 *   [0] ms that every sync takes   [1] syncs that fail from now on   [2] 1: the disk is full   [3] how often it was bad
 * A full disk takes half of the first write, as real ones do, and nothing after it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static volatile int *disk;
static int torn;

__attribute__((constructor)) static void open_orders(void) {
    const char *path = getenv("PEAKGATE_BAD_DISK");
    int fd = path ? open(path, O_RDWR) : -1;
    if (fd < 0) return;
    void *mapped = mmap(0, 4 * sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) disk = mapped;
}

static int bad_sync(void) {
    if (!disk) return 0;
    if (disk[0] > 0) {
        struct timespec wait = {disk[0] / 1000, (disk[0] % 1000) * 1000000L};
        __sync_fetch_and_add(&disk[3], 1);
        nanosleep(&wait, 0);
    }
    if (disk[1] > 0) {
        __sync_fetch_and_sub(&disk[1], 1);
        __sync_fetch_and_add(&disk[3], 1);
        errno = EIO;
        return -1;
    }
    return 0;
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return bad_sync() ? -1 : real(fd);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    return bad_sync() ? -1 : real(fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    struct stat facts;
    if (!real) real = dlsym(RTLD_NEXT, "write");
    /* Its own words go to a file too, and are to be read afterwards. */
    if (!disk || !disk[2] || fd <= 2 || fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        if (disk && !disk[2]) torn = 0;
        return real(fd, bytes, count);
    }
    __sync_fetch_and_add(&disk[3], 1);
    if (!torn && count > 1) {
        torn = 1;
        return real(fd, bytes, count / 2);
    }
    errno = ENOSPC;
    return -1;
}
