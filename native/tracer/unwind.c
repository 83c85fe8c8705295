/* Walks the calling thread's stack. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tracer.h"
#include "unwind_rules.h"

#define NO_PAGE 1 /* not the start of one */

struct stack_bounds {
	uintptr_t low, high;  /* the thread's stack; 0: unknown */
	uintptr_t page;       /* elsewhere: the page last found readable */
};

/* A stack word. On the thread's own stack it is there for sure; anywhere else (a coroutine's stack, a
 * signal stack, a broken frame) the kernel is asked first, once a page. */
__attribute__((no_sanitize("address"))) static bool read_word(struct stack_bounds *bounds,
							      uintptr_t address, uintptr_t *value)
{
	if (trace_unlikely(address & 7))
		return false;
	if (trace_unlikely(address < bounds->low || address >= bounds->high)) {
		if ((address & ~(uintptr_t)4095) != bounds->page) {
			if (trace_session.sandboxed)
				return false;
			char byte;
			struct iovec local = {&byte, 1}, remote = {(void *)address, 1};
			if (syscall(SYS_process_vm_readv, getpid(), &local, 1L, &remote, 1L, 0L) !=
			    1)
				return false;
			bounds->page = address & ~(uintptr_t)4095;
		}
	}
	*value = *(const uintptr_t *)address;
	return true;
}

#if defined(__x86_64__)

/* Where we stand. */
struct stand {
	uintptr_t pc, sp;
	uintptr_t bp;
	uintptr_t
		bp_at; /* where bp is to be read first, on the thread's own stack; 0: it has been */
};

/* Few frames need a bp, many save it. */
static TRACE_INLINE __attribute__((no_sanitize("address"))) uintptr_t
bp_of(const struct stand *stand)
{
	return stand->bp_at ? *(const uintptr_t *)stand->bp_at : stand->bp;
}

/* Offsets of saved registers in the kernel's struct ucontext (asm/ucontext.h), at rsp of the
 * sigreturn trampoline. */
#define UCONTEXT_RBP 120
#define UCONTEXT_RSP 160
#define UCONTEXT_RIP 168

static bool step_signal(struct stand *frame, struct stack_bounds *bounds)
{
	uintptr_t context = frame->sp;

	return read_word(bounds, context + UCONTEXT_RIP, &frame->pc) &&
	       read_word(bounds, context + UCONTEXT_RBP, &frame->bp) &&
	       read_word(bounds, context + UCONTEXT_RSP, &frame->sp);
}

static bool find_cfa(const struct stand *frame, uint64_t rule, struct stack_bounds *bounds,
		     uintptr_t *cfa)
{
	uintptr_t offset = (uintptr_t)UNWIND_CFA_OFFSET(rule);

	switch (UNWIND_KIND(rule)) {
	case UNWIND_CFA_RSP:
		*cfa = frame->sp + offset;
		return true;
	case UNWIND_CFA_RBP:
		*cfa = frame->bp + offset;
		return true;
	case UNWIND_CFA_AT_RBP:
		return read_word(bounds, frame->bp + offset, cfa);
	case UNWIND_CFA_AT_RSP:
		return read_word(bounds, frame->sp + offset, cfa);
	default:
		return false;
	}
}

/* From a frame to its caller's. */
static bool step(struct stand *frame, uint64_t rule, struct stack_bounds *bounds)
{
	unsigned saved = UNWIND_SAVED(rule);
	uintptr_t cfa;

	if (!find_cfa(frame, rule, bounds, &cfa) || cfa <= frame->sp)
		return false;
	uintptr_t at = saved == UNWIND_RBP_AT_CFA ? cfa : frame->bp;
	at += (uintptr_t)UNWIND_RBP_OFFSET(rule);
	if (saved != UNWIND_RBP_KEPT && !read_word(bounds, at, &frame->bp))
		return false;
	frame->sp = cfa;
	return read_word(bounds, cfa - 8, &frame->pc);
}

/* This library keeps frame pointers, so its own frames need no rules, but where a signal struck one. */
static bool leave_own_frames(struct stand *frame, struct stack_bounds *bounds,
			     const struct trace_bounds *own)
{
	while (frame->pc >= own->own_start && frame->pc < own->own_end) {
		uintptr_t bp = frame->bp;
		if (!read_word(bounds, bp, &frame->bp) || !read_word(bounds, bp + 8, &frame->pc))
			return false;
		frame->sp = bp + 16;
	}
	return true;
}

/* Frames of the last walk that the way may still lead through: `count` of them from the root, the
 * nearest at `sp`. */
struct ahead {
	unsigned count;
	uintptr_t sp;
	bool proved; /* their whole way is as it was */
};

static TRACE_INLINE void look_ahead(struct ahead *ahead, const struct trace_walk *walk,
				    unsigned count)
{
	ahead->count = count;
	ahead->sp = count ? walk->frames[count - 1].sp : UINTPTR_MAX;
}

/* Has the way come to a frame of the last walk from which on nothing has changed? */
static TRACE_INLINE bool is_kept(struct ahead *ahead, const struct trace_walk *walk,
				 const struct stand *stand, unsigned fresh)
{
	unsigned count = ahead->count;

	while (count && walk->frames[count - 1].sp < stand->sp)
		count--;
	look_ahead(ahead, walk, count);
	if (ahead->sp != stand->sp || walk->frames[count - 1].pc != stand->pc)
		return false;
	if (!ahead->proved)
		look_ahead(ahead, walk, trace_walk_unchanged(walk, count));
	ahead->proved = true;
	uint32_t base = walk->ways[count - 1].bp;
	return ahead->count == count && (!base || walk->bases[base] == bp_of(stand)) &&
	       count + fresh <= UNWIND_MOST_FRAMES;
}

#define GUESS_AGAIN 16u /* callers that were not expected; one in so many is what to expect next */

/* A frame's rule where the guess that came with the last one was wrong. */
static __attribute__((noinline)) struct trace_rule_found find_rule(struct trace_walk *walk,
								   uintptr_t pc,
								   struct trace_rule_found last)
{
	struct trace_rule_found found = trace_rule_find(pc, walk->generation);

	if (found.entry >= 0 && last.entry >= 0 &&
	    ((last.rule & UNWIND_NOTE) == 0 || walk->misses++ % GUESS_AGAIN == 0))
		trace_rule_guess((uint32_t)last.entry, last.rule, (uint32_t)found.entry);
	return found;
}

/* A step by a rule that is simple, all on the thread's own stack. Most are: their walk asks nobody,
 * and what it saw can be looked at again. */
static TRACE_INLINE __attribute__((no_sanitize("address"))) bool step_plainly(
	struct stand *stand, uint64_t rule, const struct stack_bounds *bounds,
	struct trace_frame *left)
{
	uintptr_t cfa = stand->sp + (uintptr_t)UNWIND_CFA_OFFSET(rule);

	if (!UNWIND_IS_PLAIN(rule)) {
		uintptr_t bp_at = 0;
		if (trace_unlikely(UNWIND_KIND(rule) != UNWIND_CFA_RSP)) {
			stand->bp = bp_of(stand);
			stand->bp_at = 0;
			cfa = stand->bp + (uintptr_t)UNWIND_CFA_OFFSET(rule);
			/* Frames lie one above the other: anything else is a broken chain. */
			if (UNWIND_KIND(rule) != UNWIND_CFA_RBP || cfa & 7 || cfa <= stand->sp)
				return false;
			left->bp = stand->bp;
			bp_at = 1;
		}
		if (trace_likely(UNWIND_SAVED(rule) == UNWIND_RBP_AT_CFA)) {
			uintptr_t at = cfa + (uintptr_t)UNWIND_RBP_OFFSET(rule);
			if (trace_unlikely(at - bounds->low >= bounds->high - bounds->low))
				return false;
			stand->bp_at = at;
			bp_at |= at;
		} else if (UNWIND_SAVED(rule) != UNWIND_RBP_KEPT) {
			return false;
		}
		left->bp_at = bp_at;
	}
	if (trace_unlikely(cfa > bounds->high))
		return false;
	stand->sp = cfa;
	stand->pc = *(const uintptr_t *)(cfa - 8);
	return true;
}

struct asking {
	struct trace_walk *walk;
	struct stack_bounds bounds;
	struct stand from;
	uint64_t rule;
};

/* Any other step; false: there is none. */
static __attribute__((noinline)) bool step_askingly(struct asking *asking)
{
	unsigned kind = UNWIND_KIND(asking->rule);
	struct trace_walk *walk = asking->walk;

	walk->reusable &= kind == UNWIND_END || kind == UNWIND_UNKNOWN;
	if (kind == UNWIND_END)
		return false;
	walk->whole = kind == UNWIND_SIGNAL ? step_signal(&asking->from, &asking->bounds)
					    : step(&asking->from, asking->rule, &asking->bounds);
	return walk->whole;
}

/* Steps from frame to frame until one that is kept, the end, or where it goes no further. All that a
 * plain step needs stays in registers; only copies go where a pointer leads. */
static TRACE_INLINE unsigned walk_on(struct trace_walk *walk, const struct stack_bounds bounds,
				     struct stand stand, bool interrupted)
{
	const uint64_t now = walk->generation;
	const struct trace_rule *rules = trace_rules;
	struct trace_rule_found last = {0, -1};
	uintptr_t page = NO_PAGE;
	uintptr_t back = !interrupted; /* a return address may be that of the next function */
	const bool was_whole = walk->whole;
	struct ahead ahead = {0};
	unsigned count = 0;

	look_ahead(&ahead, walk, walk->count);
	walk->count = 0;
	walk->whole = true;
	for (; stand.pc; count++) {
		if (stand.sp >= ahead.sp && is_kept(&ahead, walk, &stand, count)) {
			walk->count = ahead.count;
			walk->whole = was_whole;
			break;
		}
		if (count == UNWIND_MOST_FRAMES) {
			walk->whole = walk->reusable = false;
			break;
		}
		struct trace_frame *left = &walk->fresh[count];
		left->pc = stand.pc;
		left->sp = stand.sp;
		left->bp_at = 0;
		uint32_t guess = last.rule & UNWIND_NOTE;
		uint64_t rule;
		if (trace_likely(trace_rule_read(&rules[guess],
						 trace_rule_key(stand.pc - back, now), &rule)))
			last = (struct trace_rule_found){rule, (int32_t)guess};
		else
			last = find_rule(walk, stand.pc - back, last);
		back = 1;
		if (trace_likely(step_plainly(&stand, last.rule, &bounds, left)))
			continue;
		struct asking asking = {walk, bounds, stand, last.rule};
		asking.from.bp = bp_of(&stand);
		asking.from.bp_at = 0;
		asking.bounds.page = page;
		if (!step_askingly(&asking))
			return count + 1;
		stand = asking.from;
		page = asking.bounds.page;
		back = UNWIND_KIND(last.rule) != UNWIND_SIGNAL;
	}
	return count;
}

/* From `frame`, which a signal interrupted or which waits for a call to return. */
static TRACE_INLINE uint64_t walk_from(struct trace_walk *walk, const struct trace_bounds *own,
				       struct stand frame, bool interrupted)
{
	uint64_t now = atomic_load_explicit(&trace_rules_generation, memory_order_relaxed);
	/* On some other stack than the thread's: nothing is known to be there. */
	bool plain = frame.sp >= own->stack_low && frame.sp < own->stack_high && !(frame.sp & 7);
	struct stack_bounds bounds = {.page = NO_PAGE};
	unsigned count = 0;

	if (plain) {
		bounds.low = frame.sp;
		bounds.high = own->stack_high;
	}
	plain &= !interrupted;
	if (!plain || !walk->reusable || walk->generation != now)
		walk->count = 0;
	walk->generation = now;
	walk->reusable = plain;
	if (interrupted || leave_own_frames(&frame, &bounds, own)) {
		count = walk_on(walk, bounds, frame, interrupted);
	} else {
		walk->count = 0;
		walk->whole = false;
	}
	return trace_walk_keep(walk, own, count);
}

__attribute__((noinline)) uint64_t trace_unwind(struct trace_walk *walk,
						const struct trace_bounds *own)
{
	const uintptr_t *here = trace_tls.hook ? trace_tls.hook : __builtin_frame_address(0);
	struct stand frame = {.pc = here[1], .sp = (uintptr_t)(here + 2), .bp = here[0]};

	return walk_from(walk, own, frame, false);
}

uint64_t trace_unwind_at(struct trace_walk *walk, const struct trace_bounds *own,
			 const struct trace_point *point)
{
	struct stand frame = {.pc = point->pc, .sp = point->sp, .bp = point->bp};

	return walk_from(walk, own, frame, true);
}

#else

/* Frame records {caller's frame, return address}: what AArch64 and others keep by convention. */
static uint64_t walk_records(struct trace_walk *walk, const struct trace_bounds *own, uintptr_t at,
			     unsigned count)
{
	struct stack_bounds bounds = {own->stack_low, own->stack_high, NO_PAGE};

	walk->whole = false;
	for (uintptr_t caller; count < UNWIND_MOST_FRAMES; at = caller) {
		struct trace_frame frame = {.sp = at};
		if (!read_word(&bounds, at, &caller) || !read_word(&bounds, at + 8, &frame.pc) ||
		    !frame.pc)
			break;
		walk->whole = !caller;
		if (caller && caller <= at)
			break;
		walk->fresh[count++] = frame;
		if (!caller)
			break;
	}
	walk->count = 0;
	return trace_walk_keep(walk, own, count);
}

__attribute__((noinline)) uint64_t trace_unwind(struct trace_walk *walk,
						const struct trace_bounds *own)
{
	return walk_records(walk, own, (uintptr_t)__builtin_frame_address(0), 0);
}

uint64_t trace_unwind_at(struct trace_walk *walk, const struct trace_bounds *own,
			 const struct trace_point *point)
{
	walk->fresh[0] = (struct trace_frame){.pc = point->pc, .sp = point->sp};
	return walk_records(walk, own, point->bp, 1);
}

#endif
