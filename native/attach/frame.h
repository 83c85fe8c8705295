/* A frame of a stopped thread of another process, and the step to its caller. */
#ifndef MEMATLAS_ATTACH_FRAME_H
#define MEMATLAS_ATTACH_FRAME_H

#include "../unwind/cfi.h"
#include "image.h"

struct frame {
	uint64_t registers[CFI_REGISTERS];
	uint64_t pc;
	bool interrupted; /* pc is an instruction to be run, not a return address */
};

enum frame_step {
	FRAME_CALLER, /* the frame is now that of the caller */
	FRAME_END,    /* it was the outermost */
	FRAME_UNKNOWN /* no rule leads on */
};

static inline uint64_t frame_code(const struct frame *frame)
{
	return frame->pc - !frame->interrupted;
}

/* `image`: the file that the frame's code is in. */
enum frame_step frame_step(struct process_memory *memory, const struct image *image,
			   struct frame *frame);

/* expression.c: evaluates a DWARF expression, its length first, on registers. `first`: pushed before;
 * NULL: nothing is. */
bool expression_evaluate(struct process_memory *memory, const uint8_t *expression,
			 const uint64_t *registers, const uint64_t *first, uint64_t *ret);

#endif
