/* Lines of /proc/PID/task/TID/status. */
#ifndef MEMATLAS_PROC_STATUS_H
#define MEMATLAS_PROC_STATUS_H

#include <stddef.h>

/* What stands behind `key`, such as "Seccomp:", as a text of at most `size` bytes; "": there is no such line. */
void status_read(int pid, int tid, const char *key, char *ret, size_t size);

#endif
