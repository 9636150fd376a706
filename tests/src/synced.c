/* Writes down how many bytes of the file whose name ends in SYNCED_OF are on the disk for sure,
   into the file SYNCED_TO, whenever it was synced. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int note(int file, int result) {
    const char *of = getenv("SYNCED_OF"), *to = getenv("SYNCED_TO");
    char link[64], path[4096] = {0}, text[32];
    struct stat now;
    if (result != 0 || !of || !to) return result;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t end = strlen(of);
    if (length < (ssize_t)end || strcmp(path + length - end, of) || fstat(file, &now)) return result;
    int out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (out >= 0) {
        /* Always as long, and written at once: nobody reads half of it. */
        int count = snprintf(text, sizeof text, "%020lld", (long long)now.st_size);
        if (pwrite(out, text, count, 0) < 0) abort();
        close(out);
    }
    return result;
}

int fsync(int file) { return note(file, syscall(SYS_fsync, file)); }
int fdatasync(int file) { return note(file, syscall(SYS_fdatasync, file)); }
