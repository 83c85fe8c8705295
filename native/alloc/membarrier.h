/* The expedited private command of membarrier(2). */
#ifndef MEMATLAS_ALLOC_MEMBARRIER_H
#define MEMATLAS_ALLOC_MEMBARRIER_H

#include <stdbool.h>

/* Register this process for membarrier_run(). Call again in a forked child. False where the kernel
 * lacks the command (Linux before 4.14) or a seccomp filter refuses the system call. */
bool membarrier_register(void);

/* Run a full memory barrier on every CPU that runs a thread of this process. False if the kernel
 * refuses, as after a seccomp filter that the program installed meanwhile. */
bool membarrier_run(void);

#endif
