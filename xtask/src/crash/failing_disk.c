/* A disk for one database that can fail on cue, as a library to be preloaded into the server.
 *
 * - It watches two files: the one that DISK_OF names, and its log beside it (`…-wal`). All else goes by untouched.
 * - While DISK_SWITCHES/fail-sync exists, a sync of them answers EIO. While DISK_SWITCHES/full exists, a write that
 *   would lengthen them answers ENOSPC. Each refusal adds a byte to DISK_SWITCHES/failed-syncs or …/refused-writes.
 * - It keeps what a power cut would leave: DISK_SWITCHES/{db,wal}.disk hold the content of the files as of their last
 *   good sync. As in Linux, a sync that failed is not repeated: the pages count as clean from then on, are read as they
 *   were written, and are on the disk only when they are written again.
 * - Which pages are dirty is in a mapped file, because it is the kernel that knows: it outlives a kill -9.
 *
 * System calls are made directly, so that nothing depends on the order in which libraries are loaded. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096L
#define PAGES_MAX (1L << 17)

struct disk {
    char path[PATH_MAX];
    int content;
    unsigned char *dirty;
};

static struct disk disks[2];
static char switches[PATH_MAX];
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static int open_in(const char *name, int flags) {
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", switches, name);
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
}

static void give_up(const char *what) {
    perror(what);
    abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *of = getenv("DISK_OF"), *folder = getenv("DISK_SWITCHES");
    if (!of || !folder) return;
    snprintf(switches, sizeof switches, "%s", folder);
    for (int i = 0; i < 2; i++) {
        snprintf(disks[i].path, sizeof disks[i].path, "%s%s", of, i ? "-wal" : "");
        disks[i].content = open_in(i ? "wal.disk" : "db.disk", O_RDWR | O_CREAT);
        int dirty = open_in(i ? "wal.dirty" : "db.dirty", O_RDWR | O_CREAT);
        if (disks[i].content < 0 || dirty < 0 || syscall(SYS_ftruncate, dirty, PAGES_MAX)) give_up("the disk");
        disks[i].dirty = mmap(NULL, PAGES_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, dirty, 0);
        if (disks[i].dirty == MAP_FAILED) give_up("the disk's map");
        syscall(SYS_close, dirty);
    }
}

static struct disk *at(const char *path) {
    for (int i = 0; i < 2; i++)
        if (disks[i].dirty && strcmp(path, disks[i].path) == 0) return &disks[i];
    return NULL;
}

static struct disk *behind(int fd) {
    char link[32], path[PATH_MAX];
    if (!disks[0].dirty) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length < 0) return NULL;
    path[length] = 0;
    return at(path);
}

static int is_on(const char *name) {
    int fd = open_in(name, O_RDONLY);
    if (fd < 0) return 0;
    syscall(SYS_close, fd);
    return 1;
}

static void count(const char *name) {
    int fd = open_in(name, O_WRONLY | O_CREAT | O_APPEND);
    if (fd < 0 || syscall(SYS_write, fd, ".", 1) != 1) give_up(name);
    syscall(SYS_close, fd);
}

static void soil(struct disk *disk, long from, long to) {
    if (to > PAGES_MAX * PAGE) give_up("a file that is larger than the disk");
    for (long page = from / PAGE; page * PAGE < to; page++) disk->dirty[page] = 1;
}

static long length_of(int fd) {
    struct stat stat;
    if (fstat(fd, &stat)) give_up("the length of a file");
    return stat.st_size;
}

static ssize_t put(struct disk *disk, int fd, const void *bytes, size_t count_, long offset) {
    pthread_mutex_lock(&turn);
    ssize_t put;
    if (offset + (long)count_ > length_of(fd) && is_on("full")) {
        count("refused-writes");
        errno = ENOSPC;
        put = -1;
    } else {
        put = syscall(SYS_pwrite64, fd, bytes, count_, offset);
        if (put > 0) soil(disk, offset, offset + put);
    }
    int saved = errno;
    pthread_mutex_unlock(&turn);
    errno = saved;
    return put;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    struct disk *disk = behind(fd);
    return disk ? put(disk, fd, bytes, length, offset) : syscall(SYS_pwrite64, fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }

ssize_t write(int fd, const void *bytes, size_t length) {
    struct disk *disk = behind(fd);
    if (!disk) return syscall(SYS_write, fd, bytes, length);
    long offset = syscall(SYS_lseek, fd, 0, SEEK_CUR);
    ssize_t written = put(disk, fd, bytes, length, offset);
    if (written > 0) syscall(SYS_lseek, fd, offset + written, SEEK_SET);
    return written;
}

int ftruncate64(int fd, off64_t length) {
    struct disk *disk = behind(fd);
    if (!disk) return (int)syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&turn);
    long before = length_of(fd);
    int answer = (int)syscall(SYS_ftruncate, fd, length);
    int saved = errno;
    if (!answer) soil(disk, before < length ? before : length, before < length ? length : before);
    pthread_mutex_unlock(&turn);
    errno = saved;
    return answer;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static void reach_the_disk(struct disk *disk, int fd) {
    char page[PAGE];
    long length = length_of(fd);
    for (long i = 0; i * PAGE < length; i++) {
        if (!disk->dirty[i]) continue;
        ssize_t got = syscall(SYS_pread64, fd, page, PAGE, i * PAGE);
        if (got < 0 || syscall(SYS_pwrite64, disk->content, page, got, i * PAGE) != got) give_up("a page of the disk");
    }
    if (syscall(SYS_ftruncate, disk->content, length)) give_up("the length of the disk");
}

static int sync_with(long call, int fd) {
    struct disk *disk = behind(fd);
    if (!disk) return (int)syscall(call, fd);
    pthread_mutex_lock(&turn);
    int fails = is_on("fail-sync");
    int answer = fails ? -1 : (int)syscall(call, fd);
    int saved = fails ? EIO : errno;
    if (fails) count("failed-syncs");
    if (!answer) reach_the_disk(disk, fd);
    memset(disk->dirty, 0, PAGES_MAX);
    pthread_mutex_unlock(&turn);
    errno = saved;
    return answer;
}

int fsync(int fd) { return sync_with(SYS_fsync, fd); }

int fdatasync(int fd) { return sync_with(SYS_fdatasync, fd); }

int unlink(const char *path) {
    int answer = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    int saved = errno;
    struct disk *disk = answer ? NULL : at(path);
    if (disk) {
        pthread_mutex_lock(&turn);
        memset(disk->dirty, 0, PAGES_MAX);
        if (syscall(SYS_ftruncate, disk->content, 0)) give_up("the length of the disk");
        pthread_mutex_unlock(&turn);
    }
    errno = saved;
    return answer;
}
