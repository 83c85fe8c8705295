/* The calling thread's native stack, in tens of nanoseconds: a walk over rules learned from
 * .eh_frame, one look-up a frame. No locks, no allocation; may run in a signal handler. */
#ifndef MEMATLAS_TRACER_UNWIND_H
#define MEMATLAS_TRACER_UNWIND_H

#include <stdbool.h>
#include <stdint.h>

/* How to get from one frame to its caller's, packed into 64 bits so that it is read at once:
 * bits 0-3 enum unwind_kind, bits 4-5 enum unwind_saved, bits 6-31 offset of the saved rbp (signed,
 * in bytes), bits 32-63 CFA offset (signed, in bytes). Never 0. */
enum unwind_kind {
	UNWIND_CFA_RSP = 1,       /* CFA = rsp + offset */
	UNWIND_CFA_RBP = 2,       /* CFA = rbp + offset */
	UNWIND_CFA_AT_RBP = 3,    /* CFA = *(rbp + offset): a realigned frame */
	UNWIND_CFA_AT_RSP = 4,    /* CFA = *(rsp + offset) */
	UNWIND_SIGNAL = 5,        /* registers come from the signal frame at rsp */
	UNWIND_END = 6,           /* the outermost frame */
	UNWIND_UNKNOWN = 7
};
enum unwind_saved {
	UNWIND_RBP_KEPT = 0,
	UNWIND_RBP_AT_CFA = 1, /* saved at CFA + offset */
	UNWIND_RBP_AT_RBP = 2  /* saved at rbp + offset */
};

static inline uint64_t unwind_pack(enum unwind_kind kind, int64_t cfa_offset,
				   enum unwind_saved saved, int64_t rbp_offset)
{
	return (uint64_t)kind | (uint64_t)saved << 4 | ((uint64_t)rbp_offset & 0x3ffffff) << 6 |
	       (uint64_t)(uint32_t)(int32_t)cfa_offset << 32;
}

/* unwind_cfi.c: the rule for `pc`, read from its module's .eh_frame_hdr (PT_GNU_EH_FRAME). */
uint64_t trace_cfi_rule(uintptr_t pc, const uint8_t *eh_frame_hdr);
/* The piece of code around `pc` that one description covers: a function, or its hot or cold part. */
bool trace_cfi_function(uintptr_t pc, const uint8_t *eh_frame_hdr, uintptr_t *start,
			uintptr_t *end);

/* unwind_modules.c: that section for the module `pc` lies in; NULL: no such module. */
bool trace_unwind_modules_start(void);
void trace_unwind_modules_refresh(void);
const uint8_t *trace_eh_frame_hdr(uintptr_t pc);

/* unwind.c */
#define UNWIND_MOST_FRAMES 512u

struct trace_frame {
	uintptr_t pc, sp, bp;
	uintptr_t bp_at; /* where the caller's bp was read from, 0: it is this frame's; bit 0: the
			    caller's place follows from this frame's bp */
};

/* A thread's last walk, leaf first. The next one stops where it meets a frame of this one whose
 * whole way to the root is, word for word, still on the stack. */
struct trace_walk {
	uint64_t generation;
	unsigned count;
	bool whole;    /* ended at the outermost frame, not at one that could not be read */
	bool reusable; /* all on the thread's own stack, through plain frames */
	bool second;   /* which of the two is current */
	struct trace_frame frames[2][UNWIND_MOST_FRAMES];
};

struct trace_bounds {
	uintptr_t stack_low, stack_high; /* of the thread; 0: unknown */
	uintptr_t own_start, own_end;    /* text of the tracer: its frames are left out */
};

bool trace_unwind_start(void);
void trace_unwind_modules_changed(void); /* after dlclose: forget every rule */

/* Walks the calling thread's stack and returns a hash of it. */
uint64_t trace_unwind(struct trace_walk *walk, const struct trace_bounds *bounds);

/* A place the thread was interrupted at by a signal. */
struct trace_point {
	uintptr_t pc, sp, bp;
};

/* Walks from there; called in the signal's handler. */
uint64_t trace_unwind_at(struct trace_walk *walk, const struct trace_bounds *bounds,
			 const struct trace_point *point);

/* The walk's PCs from leaf to root. All but those a signal struck are return addresses. A walk that
 * could not be finished ends in a 0. `pcs` has room for UNWIND_MOST_FRAMES + 1. */
unsigned trace_walk_pcs(const struct trace_walk *walk, const struct trace_bounds *bounds,
			uint64_t *pcs);

/* PC of the frame that `place`, an address on the stack, belongs to; 0: none. */
uintptr_t trace_walk_owner(const struct trace_walk *walk, uintptr_t place);

#endif
