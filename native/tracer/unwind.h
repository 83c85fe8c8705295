/* The calling thread's native stack, in tens of nanoseconds. A walk applies cached rules read from
 * .eh_frame, one look-up per frame, and stops at the first cached frame whose stack words are unchanged.
 * No locks, no allocation; signal-safe. */
#ifndef MEMATLAS_TRACER_UNWIND_H
#define MEMATLAS_TRACER_UNWIND_H

#include <stdbool.h>
#include <stdint.h>

/* A rule leads from a frame to its caller. It is packed into 64 bits so that it is read atomically:
 *
 *   bits 0-15   free for the cache (UNWIND_NOTE)
 *   bits 16-18  enum unwind_kind
 *   bits 19-20  enum unwind_saved
 *   bits 21-35  offset of the saved rbp, signed, in words of the stack
 *   bits 36-63  CFA offset, signed, in words of the stack
 *
 * Never 0. On AArch64 "rsp" is sp, "rbp" is x29, and a rule says where the return address is as well. */
enum unwind_kind {
	UNWIND_CFA_RSP = 1,       /* CFA = rsp + offset */
	UNWIND_CFA_RBP = 2,       /* CFA = rbp + offset */
	UNWIND_CFA_AT_RBP = 3,    /* CFA = *(rbp + offset): a realigned frame */
	UNWIND_CFA_AT_RSP = 4,    /* CFA = *(rsp + offset) */
	UNWIND_SIGNAL = 5,        /* registers come from the signal frame at rsp */
	UNWIND_END = 6,           /* the outermost frame */
	UNWIND_UNKNOWN = 7
};
#if defined(__x86_64__)
enum unwind_saved {
	UNWIND_RBP_KEPT = 0,
	UNWIND_RBP_AT_CFA =
		1, /* saved at CFA + offset; within the frame, if the CFA is rsp-based */
	UNWIND_RBP_AT_RBP = 2, /* saved at rbp + offset */
	UNWIND_RBP_OUTSIDE = 3 /* saved at CFA + offset, not within the frame */
};
#else
enum unwind_saved {
	UNWIND_NONE_SAVED = 0, /* the return address is in x30: of an interrupted function only */
	UNWIND_PAIR_SAVED = 1, /* x29 at CFA + offset, x30 in the next word */
	UNWIND_LR_SAVED = 2,   /* x30 at CFA + offset, x29 is kept */
	UNWIND_FP_SAVED = 3    /* x29 at CFA + offset, x30 as for UNWIND_NONE_SAVED */
};
#endif

#define UNWIND_NOTE 0xffffull /* the bits free for the cache */
#define UNWIND_KIND(rule) ((rule) >> 16 & 7)
#define UNWIND_SAVED(rule) ((rule) >> 19 & 3)
#define UNWIND_SAVES(rule) (((rule) & 3u << 19) != 0)
/* Everything follows from rsp: rbp is kept, or saved within the frame. */
#define UNWIND_IS_SIMPLE(rule) (((rule) & 0x170000) == UNWIND_CFA_RSP << 16)
#define UNWIND_RBP_OFFSET(rule) (((int64_t)((rule) << 28) >> 49) * 8)
#define UNWIND_CFA_OFFSET(rule) (((int64_t)(rule) >> 36) * 8)

/* Is the offset a multiple of 8 within +-2^bits? */
static inline bool unwind_fits(int64_t offset, unsigned bits)
{
	return (offset & 7) == 0 && offset >= -(1ll << bits) && offset < 1ll << bits;
}

static inline uint64_t unwind_packed(unsigned kind, int64_t cfa_offset, unsigned saved,
				     int64_t saved_offset)
{
	return (uint64_t)kind << 16 | (uint64_t)saved << 19 |
	       ((uint64_t)(saved_offset / 8) & 0x7fff) << 21 | (uint64_t)(cfa_offset / 8) << 36;
}

/* Offsets are in bytes. An offset that does not fit, is no multiple of 8 or leads downwards makes the rule
 * UNWIND_UNKNOWN. */
#if defined(__x86_64__)
static inline uint64_t unwind_pack(enum unwind_kind kind, int64_t cfa_offset,
				   enum unwind_saved saved, int64_t rbp_offset)
{
	bool down = kind == UNWIND_CFA_RSP && cfa_offset <= 0;
	bool outside = kind == UNWIND_CFA_RSP && (rbp_offset >= 0 || rbp_offset < -cfa_offset);

	if (down || !unwind_fits(cfa_offset, 29) || !unwind_fits(rbp_offset, 17))
		return (uint64_t)UNWIND_UNKNOWN << 16;
	if (saved == UNWIND_RBP_AT_CFA && outside)
		saved = UNWIND_RBP_OUTSIDE;
	return unwind_packed(kind, cfa_offset, saved, rbp_offset);
}
#else
static inline uint64_t unwind_pack(enum unwind_kind kind, int64_t cfa_offset,
				   enum unwind_saved saved, int64_t saved_offset)
{
	bool down = kind == UNWIND_CFA_RSP && cfa_offset < 0;

	if (down || !unwind_fits(cfa_offset, 29) || !unwind_fits(saved_offset, 17))
		return (uint64_t)UNWIND_UNKNOWN << 16;
	return unwind_packed(kind, cfa_offset, saved, saved_offset);
}
#endif
#define UNWIND_RULE_UNKNOWN ((uint64_t)UNWIND_UNKNOWN << 16)

/* unwind_cfi.c: reads the rule for `pc` from its module's .eh_frame_hdr (PT_GNU_EH_FRAME). */
uint64_t trace_cfi_rule(uintptr_t pc, const uint8_t *eh_frame_hdr);
/* Finds the code range around `pc` that one FDE covers: a function, or its hot or cold part. */
bool trace_cfi_function(uintptr_t pc, const uint8_t *eh_frame_hdr, uintptr_t *start,
			uintptr_t *end);

/* unwind_modules.c. */
bool trace_unwind_modules_start(void);
void trace_unwind_modules_refresh(void);
/* Returns the .eh_frame_hdr of the module that contains `pc`; NULL: none. */
const uint8_t *trace_eh_frame_hdr(uintptr_t pc);

#define UNWIND_MAX_FRAMES 512u

/* A frame of a walk in progress. */
struct trace_frame {
	uintptr_t pc, sp;
	uint64_t rule; /* to its caller, for a plain step; 0: any other step */
	uintptr_t bp;  /* if the rule is rbp-based */
};

/* Address where the frame saved its caller's bp. The rule must save it. */
static inline uintptr_t trace_frame_saved(const struct trace_frame *frame)
{
	uintptr_t base = UNWIND_KIND(frame->rule) == UNWIND_CFA_RBP ? frame->bp : frame->sp;

	return base + (uintptr_t)UNWIND_CFA_OFFSET(frame->rule) +
	       (uintptr_t)UNWIND_RBP_OFFSET(frame->rule);
}

/* A cached frame of the last walk. Every walk compares all of them, so they hold nothing else.
 *
 *   *(uintptr_t *)(frames[i].sp - 8) == frames[i].pc for 1 <= i < count, while they are unchanged */
struct trace_kept {
	uintptr_t pc, sp;
};
/* The path from a cached frame to the root. */
struct trace_way {
	uint64_t sum; /* hash of its PCs */
	/* Bits 0-15: number of the walk's saved bps that the path depends on. Bits 16-31: number of its
	 * frames that are emitted, i.e. are not the tracer's own. Bits 32-63: index in `bases` of the value
	 * bp must have at this frame; 0: any. One word, since the next frame's is computed from it. */
	uint64_t rest;
};
#define TRACE_WAY_BPS(rest) ((unsigned)((rest) & 0xffff))
#define TRACE_WAY_EMITTED(rest) ((unsigned)((rest) >> 16 & 0xffff))
#define TRACE_WAY_BP(rest) ((uint32_t)((rest) >> 32))

/* A thread's last walk. Frames are numbered from the root, which is 1, so that calls and returns at the
 * leaf do not renumber the others. The next walk stops at the first frame whose path to the root is
 * unchanged, word for word.
 *
 *   same <= count <= UNWIND_MAX_FRAMES
 *   frames[i].sp > frames[i + 1].sp; frames[0].sp == UINTPTR_MAX is a sentinel
 *   ways[0].sum == TRACE_WALK_SEED(generation), ways[0].rest == 0 */
struct trace_walk {
	uint64_t generation; /* of the loaded modules */
	unsigned count;
	unsigned same; /* frames from the root unchanged since the last emitted stack */
	unsigned misses; /* wrong predictions */
	bool whole; /* reached the outermost frame */
	bool reusable; /* all on the thread's own stack, by plain steps */
	struct trace_kept frames[UNWIND_MAX_FRAMES + 1];
	struct trace_way ways[UNWIND_MAX_FRAMES + 1];
	struct trace_frame fresh[UNWIND_MAX_FRAMES]; /* during a walk: from the leaf */
	struct {
		uintptr_t address, value;
		uint32_t frame; /* that saved it */
	} bps[UNWIND_MAX_FRAMES];
	uintptr_t bases[UNWIND_MAX_FRAMES + 1];
};

/* The hash of a walk starts with the generation, since the same PCs are other functions once a library
 * was unloaded and another lies at its addresses. */
#define TRACE_WALK_SEED(generation) ((generation) * 0x9e3779b97f4a7c15ull)

static inline void trace_walk_restart(struct trace_walk *walk, uint64_t generation)
{
	walk->generation = generation;
	walk->ways[0].sum = TRACE_WALK_SEED(generation);
	walk->count = 0;
}

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
	uintptr_t own_start, own_end; /* text of the tracer, whose frames are omitted */
};

static inline bool trace_is_own(uintptr_t pc, const struct trace_bounds *bounds)
{
	return pc - bounds->own_start < bounds->own_end - bounds->own_start;
}

/* Pushes `count` fresh frames on the cached ones and returns the walk's hash. */
uint64_t trace_walk_keep(struct trace_walk *walk, const struct trace_bounds *bounds,
			 unsigned count);

/* Copies the PCs from leaf to root, without those of the first `without` frames from the root. All are
 * return addresses, except where a signal interrupted a frame. An unfinished walk ends in a 0. `pcs` has
 * a capacity of UNWIND_MAX_FRAMES + 1. Returns their number. */
unsigned trace_walk_pcs(const struct trace_walk *walk, const struct trace_bounds *bounds,
			unsigned without, uint64_t *pcs);

/* Returns the PC of the frame that contains a stack address; 0: none. Addresses are passed from leaf to
 * root; `from` starts at the number of frames and remembers the last frame found. */
uintptr_t trace_walk_owner(const struct trace_walk *walk, uintptr_t address, unsigned *from);

/* unwind_rules.c */
bool trace_unwind_start(void);
void trace_unwind_modules_changed(void); /* after dlclose(): drops every rule */

/* unwind_x86_64.c, unwind_aarch64.c: walks the calling thread's stack and returns its hash. */
uint64_t trace_unwind(struct trace_walk *walk, const struct trace_bounds *bounds);

/* Registers of an interrupted thread. */
struct trace_point {
	uintptr_t pc, sp, bp;
#if defined(__aarch64__)
	uintptr_t lr;
#endif
};

/* Walks from an interrupted frame, in the signal handler. */
uint64_t trace_unwind_at(struct trace_walk *walk, const struct trace_bounds *bounds,
			 const struct trace_point *point);

/* The bit layout of a rule. */
_Static_assert(UNWIND_UNKNOWN <= 7, "kinds have 3 bits");
_Static_assert(UNWIND_RBP_OFFSET((uint64_t)0x7fff << 21) == -8, "the bp offset is signed");
_Static_assert(UNWIND_CFA_OFFSET((uint64_t)1 << 36) == 8, "the CFA offset is in words");
_Static_assert(UNWIND_MAX_FRAMES <= 0xffff, "TRACE_WAY_BPS and TRACE_WAY_EMITTED have 16 bits");

/* Tests the invariants of struct trace_walk. */
static inline bool trace_walk_is_valid(const struct trace_walk *walk)
{
	if (walk->count > UNWIND_MAX_FRAMES || walk->same > walk->count ||
	    walk->ways[0].sum != TRACE_WALK_SEED(walk->generation) || walk->ways[0].rest)
		return false;
	for (unsigned i = 1; walk->reusable && i < walk->count; i++)
		if (walk->frames[i].sp <= walk->frames[i + 1].sp)
			return false;
	return TRACE_WAY_EMITTED(walk->ways[walk->count].rest) <= walk->count;
}

#endif
