/* The verdict on a stopped thread. */
#ifndef MEMATLAS_ATTACH_PLACE_H
#define MEMATLAS_ATTACH_PLACE_H

#include "frame.h"
#include "target.h"

/* Follows the stack from `leaf`. `system_call`: that the thread is in; -1: none. */
void place_find(struct mematlas_target *target, const struct frame *leaf, int64_t system_call,
		struct mematlas_place *ret);

#endif
