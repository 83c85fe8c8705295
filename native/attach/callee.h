/* Which function a call leads to. */
#ifndef MEMATLAS_ATTACH_CALLEE_H
#define MEMATLAS_ATTACH_CALLEE_H

#include "process_memory.h"

/* Reads the call before a return address: the function that it enters directly or through the procedure
 * linkage table. 0: unknown. */
uint64_t callee_read(struct process_memory *memory, uint64_t return_address);

#endif
