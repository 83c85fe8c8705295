/* The calling thread's native stack, in tens of nanoseconds: a walk over rules learned from
 * .eh_frame, one look-up a frame, that stops where the last walk's frames still stand. No locks, no
 * allocation; may run in a signal handler. */
#ifndef MEMATLAS_TRACER_UNWIND_H
#define MEMATLAS_TRACER_UNWIND_H

#include <stdbool.h>
#include <stdint.h>

/* How to get from one frame to its caller's, packed into 64 bits so that it is read at once: bits 0-15
 * are left to who keeps it, 16-18 enum unwind_kind, 19-20 enum unwind_saved, 21-35 offset of the
 * saved rbp, 36-63 CFA offset, both signed and in words of the stack. Never 0. */
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
	UNWIND_RBP_AT_CFA = 1, /* saved at CFA + offset, within the frame where that is known */
	UNWIND_RBP_AT_RBP = 2, /* saved at rbp + offset */
	UNWIND_RBP_OUTSIDE = 3 /* saved at CFA + offset, not within the frame */
};

#define UNWIND_NOTE 0xffffull /* the bits that are no part of the rule */
#define UNWIND_KIND(rule) ((rule) >> 16 & 7)
#define UNWIND_SAVED(rule) ((rule) >> 19 & 3)
#define UNWIND_SAVES(rule) (((rule) & 3u << 19) != 0)
/* All follows from rsp: the rbp is kept, or saved within the frame. */
#define UNWIND_IS_SIMPLE(rule) (((rule) & 0x170000) == UNWIND_CFA_RSP << 16)
#define UNWIND_RBP_OFFSET(rule) (((int64_t)((rule) << 28) >> 49) * 8)
#define UNWIND_CFA_OFFSET(rule) (((int64_t)(rule) >> 36) * 8)

/* Offsets in bytes. What does not fit, is no whole word of the stack or leads down is not known. */
static inline uint64_t unwind_pack(enum unwind_kind kind, int64_t cfa_offset,
				   enum unwind_saved saved, int64_t rbp_offset)
{
	bool down = kind == UNWIND_CFA_RSP && cfa_offset <= 0;
	bool outside = kind == UNWIND_CFA_RSP && (rbp_offset >= 0 || rbp_offset < -cfa_offset);

	if (down || (cfa_offset | rbp_offset) & 7 || cfa_offset < -(1ll << 29) ||
	    cfa_offset >= 1ll << 29 || rbp_offset < -(1 << 17) || rbp_offset >= 1 << 17)
		return (uint64_t)UNWIND_UNKNOWN << 16;
	if (saved == UNWIND_RBP_AT_CFA && outside)
		saved = UNWIND_RBP_OUTSIDE;
	return (uint64_t)kind << 16 | (uint64_t)saved << 19 |
	       ((uint64_t)(rbp_offset / 8) & 0x7fff) << 21 | (uint64_t)(cfa_offset / 8) << 36;
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

#define UNWIND_MOST_FRAMES 512u

/* A frame on the way from the leaf. */
struct trace_frame {
	uintptr_t pc, sp;
	uint64_t rule; /* the way to its caller's; 0: some other */
	uintptr_t bp; /* where the rule leads through it */
};

/* Where a frame saved its caller's bp, by a rule that says so. */
static inline uintptr_t trace_frame_saved(const struct trace_frame *frame)
{
	uintptr_t base = UNWIND_KIND(frame->rule) == UNWIND_CFA_RBP ? frame->bp : frame->sp;

	return base + (uintptr_t)UNWIND_CFA_OFFSET(frame->rule) +
	       (uintptr_t)UNWIND_RBP_OFFSET(frame->rule);
}

/* A frame of the last walk. Counted from the root, so that what is pushed and popped at the leaf leaves
 * the others where they are. All of these are looked at each time, so there is nothing else in them. */
struct trace_kept {
	uintptr_t pc, sp; /* its caller's word below `sp` is its caller's PC */
};
/* And of its way to the root. */
struct trace_way {
	uint64_t sum; /* hash */
	/* Written at once, as the next one is made of it. Bits 0-15: how many of the walk's saved bps the
	 * way depends on; 16-31: how many of its frames are told, the tracer's own are left out; 32-63: what
	 * bp must be here for the walk to go on as it did, one of `bases`, 0: any. */
	uint64_t rest;
};
#define TRACE_WAY_BPS(rest) ((unsigned)((rest) & 0xffff))
#define TRACE_WAY_EMITTED(rest) ((unsigned)((rest) >> 16 & 0xffff))
#define TRACE_WAY_BP(rest) ((uint32_t)((rest) >> 32))

/* A thread's last walk. The next one stops where it meets a frame of this one whose whole way to the
 * root is, word for word, still on the stack. */
struct trace_walk {
	uint64_t generation;
	unsigned count;
	unsigned same; /* how many from the root stood there in all walks since it was last set */
	unsigned misses; /* of guesses */
	bool whole; /* ended at the outermost frame, not at one that could not be read */
	bool reusable; /* all on the thread's own stack, through plain frames */
	/* From number 1, the root's, on. Number 0 is no frame: nothing leads beyond it. */
	struct trace_kept frames[UNWIND_MOST_FRAMES + 1];
	struct trace_way ways[UNWIND_MOST_FRAMES + 1];
	struct trace_frame fresh[UNWIND_MOST_FRAMES]; /* while walking: from the leaf */
	struct {
		uintptr_t place, value;
		uint32_t frame; /* the one that saved it */
	} bps[UNWIND_MOST_FRAMES];
	uintptr_t bases[UNWIND_MOST_FRAMES + 1];
};

static inline uint64_t trace_walk_hash(const struct trace_walk *walk)
{
	uint64_t sum = walk->ways[walk->count].sum;

	sum = (sum ^ sum >> 32 ^ (uint64_t)walk->whole << 7) * 0xd6e8feb86659fd93ull;
	return sum ^ sum >> 32;
}

/* walk.c */
void trace_walk_start(void);
struct trace_bounds {
	uintptr_t stack_low, stack_high; /* of the thread; 0: unknown */
	uintptr_t own_start, own_end; /* text of the tracer: its frames are left out */
};

static inline bool trace_is_own(uintptr_t pc, const struct trace_bounds *bounds)
{
	return pc - bounds->own_start < bounds->own_end - bounds->own_start;
}

/* Keeps `count` fresh frames on top of those that are there; the walk's hash. */
uint64_t trace_walk_keep(struct trace_walk *walk, const struct trace_bounds *bounds,
			 unsigned count);

/* The walk's PCs from leaf to root, but for its first `without` frames from there. All but those a signal struck are return addresses. A walk that
 * could not be finished ends in a 0. `pcs` has room for UNWIND_MOST_FRAMES + 1. */
unsigned trace_walk_pcs(const struct trace_walk *walk, const struct trace_bounds *bounds,
			unsigned without, uint64_t *pcs);

/* PC of the frame that `place`, an address on the stack, belongs to; 0: none. Of several places, from leaf to
 * root, `from` keeps how far the last was from the root; at first the number of frames. */
uintptr_t trace_walk_owner(const struct trace_walk *walk, uintptr_t place, unsigned *from);

/* unwind_rules.c */
bool trace_unwind_start(void);
void trace_unwind_modules_changed(void); /* after dlclose: forget every rule */

/* unwind.c: walks the calling thread's stack and returns a hash of it. */
uint64_t trace_unwind(struct trace_walk *walk, const struct trace_bounds *bounds);

/* A place the thread was interrupted at by a signal. */
struct trace_point {
	uintptr_t pc, sp, bp;
};

/* Walks from there; called in the signal's handler. */
uint64_t trace_unwind_at(struct trace_walk *walk, const struct trace_bounds *bounds,
			 const struct trace_point *point);

#endif
