/* Threads on CPUs of their own, started together. */
#ifndef MEMATLAS_KERNELS_PIN_H
#define MEMATLAS_KERNELS_PIN_H

#include <stdatomic.h>
#include <stdint.h>

int pin_thread(int cpu); /* the calling one; -errno */
/* Counts itself ready, and spins until `threads` are, or the start is abandoned. Lets others run
 * meanwhile: there may be more threads than CPUs. */
void await_all(_Atomic uint32_t *ready, uint32_t threads, _Atomic uint32_t *abandoned);

#endif
