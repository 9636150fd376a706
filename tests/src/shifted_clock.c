/* Shifts the wall clock of the programs it is preloaded into, by the milliseconds that a file
   holds now. Uptime is left alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    const char *name = getenv("SHIFTED_CLOCK");
    if (result == 0 && clock == CLOCK_REALTIME && name) {
        char text[32] = {0};
        int file = open(name, O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            if (read(file, text, sizeof text - 1) > 0) {
                long long shifted = now->tv_sec * 1000LL + now->tv_nsec / 1000000 + atoll(text);
                now->tv_sec = shifted / 1000;
                now->tv_nsec = shifted % 1000 * 1000000 + now->tv_nsec % 1000000;
            }
            close(file);
        }
    }
    return result;
}
