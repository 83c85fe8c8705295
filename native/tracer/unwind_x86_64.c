/* Walks the calling thread's stack on x86-64. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "unwind_jit.h"
#include "unwind_rules.h"
#include "unwind_word.h"

/* Registers of the current frame. */
struct registers {
	uintptr_t pc, sp;
	uintptr_t bp;
	const struct trace_frame
		*saver; /* frame that saved bp on the thread's own stack; NULL: `bp` is valid */
};

/* Lazy, since many frames save bp but few need it. */
static TRACE_INLINE __attribute__((no_sanitize("address"))) uintptr_t
bp_of(const struct registers *at)
{
	return at->saver ? *(const uintptr_t *)trace_frame_saved(at->saver) : at->bp;
}

/* Offsets of saved registers in the kernel's struct ucontext (asm/ucontext.h), at rsp of the
 * sigreturn trampoline. */
#define UCONTEXT_RBP 120
#define UCONTEXT_RSP 160
#define UCONTEXT_RIP 168

static bool step_signal(struct registers *frame, struct stack_bounds *bounds)
{
	uintptr_t context = frame->sp;

	return read_word(bounds, context + UCONTEXT_RIP, &frame->pc) &&
	       read_word(bounds, context + UCONTEXT_RBP, &frame->bp) &&
	       read_word(bounds, context + UCONTEXT_RSP, &frame->sp);
}

static bool find_cfa(const struct registers *frame, uint64_t rule, struct stack_bounds *bounds,
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

/* Steps from a frame to its caller. */
static bool step(struct registers *frame, uint64_t rule, struct stack_bounds *bounds)
{
	unsigned saved = UNWIND_SAVED(rule);
	uintptr_t cfa;

	if (!find_cfa(frame, rule, bounds, &cfa) || cfa <= frame->sp)
		return false;
	uintptr_t at = saved == UNWIND_RBP_AT_RBP ? frame->bp : cfa;
	at += (uintptr_t)UNWIND_RBP_OFFSET(rule);
	if (saved != UNWIND_RBP_KEPT && !read_word(bounds, at, &frame->bp))
		return false;
	frame->sp = cfa;
	return read_word(bounds, cfa - 8, &frame->pc);
}

static TRACE_INLINE bool is_on_stack(const struct registers *at, const struct trace_bounds *own)
{
	return at->sp >= own->stack_low && at->sp < own->stack_high && !(at->sp & 7);
}

/* Our own frames have frame pointers, so they need no CFI, unless a signal interrupted them. Returns the
 * first frame of the program; a PC of 0: unreadable. */
static __attribute__((noinline)) struct registers caller_of_own(struct registers at,
								const struct trace_bounds *own)
{
	struct stack_bounds bounds = {at.sp, own->stack_high, UNWIND_NO_PAGE};

	if (!is_on_stack(&at, own))
		bounds.low = bounds.high = 0;
	while (trace_is_own(at.pc, own)) {
		uintptr_t bp = at.bp;
		if (!read_word(&bounds, bp, &at.bp) || !read_word(&bounds, bp + 8, &at.pc))
			return (struct registers){0};
		at.sp = bp + 16;
	}
	return at;
}

__attribute__((no_sanitize("address"))) static inline uintptr_t read_own_stack(uintptr_t address)
{
	return *(const uintptr_t *)address;
}

/* 0: the return address to this frame is unchanged. */
static inline uintptr_t difference(const struct trace_kept *caller)
{
	return read_own_stack(caller->sp - sizeof(uintptr_t)) ^ caller->pc;
}

/* Counts from the root how many of the first `count` cached frames have an unchanged path. */
static TRACE_INLINE unsigned unchanged(const struct trace_walk *walk, unsigned count)
{
	const struct trace_kept *frame = walk->frames + 1, *last = walk->frames + count;
	const struct trace_kept *four = frame + ((count - 1) & ~3u);
	unsigned bps = TRACE_WAY_BPS(walk->ways[count].rest);

	for (; frame != four; frame += 4)
		if (difference(&frame[0]) | difference(&frame[1]) | difference(&frame[2]) |
		    difference(&frame[3]))
			break;
	while (frame != last && difference(frame) == 0)
		frame++;
	unsigned at = (unsigned)(frame - walk->frames);
	for (unsigned i = 0; i < bps && walk->bps[i].frame <= at; i++)
		if (read_own_stack(walk->bps[i].address) != walk->bps[i].value)
			return walk->bps[i].frame - 1;
	return at;
}

/* Returns the first cached frame at or above `sp`. */
static TRACE_INLINE const struct trace_kept *frame_above(const struct trace_kept *frame,
							 uintptr_t sp)
{
	while (frame->sp < sp)
		frame--;
	return frame;
}

/* Is the walk at a cached frame, with the bp that its path needs? */
static TRACE_INLINE bool is_kept(const struct trace_walk *walk, const struct trace_kept *frame,
				 const struct registers *at)
{
	if (frame->sp != at->sp || frame->pc != at->pc)
		return false;
	uint32_t base = TRACE_WAY_BP(walk->ways[frame - walk->frames].rest);
	return !base || walk->bases[base] == bp_of(at);
}

#define PREDICT_AGAIN 16u /* one wrong prediction in this many is replaced */

/* Looks a rule up where the prediction of the last one was wrong. */
static __attribute__((noinline)) struct trace_rule_found find_rule(struct trace_walk *walk,
								   uintptr_t pc,
								   struct trace_rule_found last)
{
	struct trace_rule_found found = trace_rule_find(pc, walk->generation);

	if (found.entry >= 0 && last.entry >= 0 &&
	    ((last.rule & UNWIND_NOTE) == 0 || walk->misses++ % PREDICT_AGAIN == 0))
		trace_rule_predict((uint32_t)last.entry, last.rule, (uint32_t)found.entry);
	return found;
}

/* Computes the CFA by an rbp-based rule. A CFA that is not above the frame is a broken chain. */
static TRACE_INLINE bool find_cfa_by_bp(struct registers *at, uint64_t rule,
					const struct stack_bounds *bounds, struct trace_frame *left,
					uintptr_t *cfa)
{
	bool saved = UNWIND_SAVED(rule) == UNWIND_RBP_AT_CFA;

	if (UNWIND_KIND(rule) != UNWIND_CFA_RBP || (!saved && UNWIND_SAVED(rule)))
		return false;
	at->bp = bp_of(at);
	at->saver = NULL;
	left->bp = at->bp;
	*cfa = at->bp + (uintptr_t)UNWIND_CFA_OFFSET(rule);
	if (*cfa & 7 || *cfa <= at->sp)
		return false;
	uintptr_t address = *cfa + (uintptr_t)UNWIND_RBP_OFFSET(rule);
	return !saved || address - bounds->low < bounds->high - bounds->low;
}

/* A step on the thread's own stack, as most are: it needs no probing, and the next walk can compare what
 * it read. */
static TRACE_INLINE __attribute__((no_sanitize("address"))) bool step_plainly(
	struct registers *at, uint64_t rule, const struct stack_bounds *bounds,
	struct trace_frame *left)
{
	uintptr_t cfa = at->sp + (uintptr_t)UNWIND_CFA_OFFSET(rule);

	if (trace_unlikely(!UNWIND_IS_SIMPLE(rule)) &&
	    !find_cfa_by_bp(at, rule, bounds, left, &cfa))
		return false;
	if (trace_unlikely(at->sp < bounds->low || cfa > bounds->high))
		return false;
	left->rule = rule;
	if (UNWIND_SAVES(rule))
		at->saver = left;
	at->sp = cfa;
	at->pc = *(const uintptr_t *)(cfa - 8);
	return true;
}

struct probing {
	struct trace_walk *walk;
	struct stack_bounds bounds;
	struct registers from;
	uint64_t rule;
	struct trace_frame *left;
};

/* A step out of a JIT's code on the thread's own stack is as plain as by a rule of .eh_frame. */
static bool step_jit(struct probing *probing)
{
	const struct registers *from = &probing->from;
	const struct trace_point at = {from->pc, from->sp, from->bp};
	uint64_t rule = trace_jit_rule(&at, probing->bounds.low, probing->bounds.high);

	return UNWIND_KIND(rule) != UNWIND_UNKNOWN &&
	       step_plainly(&probing->from, rule, &probing->bounds, probing->left);
}

/* Go calls C on a thread's stack and runs on stacks of its own; the frame pointers lead from one to the
 * other. A frame pointer of 0 marks the outermost frame. */
static bool step_to_other_stack(struct probing *probing)
{
	struct registers *from = &probing->from;
	uintptr_t bp = from->bp, caller, pc;

	if (bp - probing->bounds.low < probing->bounds.high - probing->bounds.low)
		return false;
	if (!read_word(&probing->bounds, bp, &caller) ||
	    !read_word(&probing->bounds, bp + 8, &pc) || (caller && caller <= bp) ||
	    !trace_is_return_address(pc))
		return false;
	*from = (struct registers){.pc = pc, .sp = bp + 16, .bp = caller};
	probing->walk->reusable = false;
	return true;
}

static bool step_without_rule(struct probing *probing)
{
	struct trace_walk *walk = probing->walk;

	walk->whole = step_jit(probing) || step_to_other_stack(probing);
	if (walk->whole)
		return true;
	walk->whole = probing->from.bp == 0 && !walk->reusable;
	return false;
}

/* Any other step. False: there is none. */
static __attribute__((noinline)) bool step_probing(struct probing *probing)
{
	unsigned kind = UNWIND_KIND(probing->rule);
	struct trace_walk *walk = probing->walk;

	walk->reusable &= kind == UNWIND_END || kind == UNWIND_UNKNOWN;
	if (kind == UNWIND_END)
		return false;
	if (kind == UNWIND_UNKNOWN)
		return step_without_rule(probing);
	walk->whole = kind == UNWIND_SIGNAL ? step_signal(&probing->from, &probing->bounds)
					    : step(&probing->from, probing->rule, &probing->bounds);
	return walk->whole;
}

/* Steps until a cached frame, the outermost frame, or a frame that cannot be read. Returns the number of
 * fresh frames. Local copies keep all that a plain step needs in registers. */
static __attribute__((noinline)) unsigned walk_on(struct trace_walk *walk,
						  const struct stack_bounds *stack,
						  const struct registers *from, bool interrupted)
{
	const struct stack_bounds bounds = *stack;
	const struct trace_rule *rules = trace_rules;
	const uint64_t generation = trace_rule_key(0, walk->generation);
	const struct trace_kept *old = &walk->frames[walk->count];
	const bool was_whole = walk->whole;
	struct trace_frame *left = walk->fresh, *const end = left + UNWIND_MAX_FRAMES;
	struct registers at = *from;
	uintptr_t page = UNWIND_NO_PAGE;
	uintptr_t back =
		!interrupted; /* a return address may lie in the next function: look up PC - 1 */
	struct trace_rule_found last = {trace_rule_slot(at.pc - back), -1};

	walk->count = 0;
	walk->whole = true;
	for (; at.pc; left++) {
		if (trace_unlikely(left == end)) {
			walk->whole = walk->reusable = false;
			break;
		}
		left->pc = at.pc;
		left->sp = at.sp;
		uint32_t predicted = last.rule & UNWIND_NOTE;
		uint64_t rule;
		if (trace_likely(
			    trace_rule_read(&rules[predicted], at.pc - back + generation, &rule)))
			last = (struct trace_rule_found){rule, (int32_t)predicted};
		else
			last = find_rule(walk, at.pc - back, last);
		back = 1;
		if (trace_unlikely(!step_plainly(&at, last.rule, &bounds, left))) {
			struct probing probing = {walk, bounds, at, last.rule, left};
			probing.from.bp = bp_of(&at);
			probing.from.saver = NULL;
			left->rule = 0;
			probing.bounds.page = page;
			if (!step_probing(&probing)) {
				left++;
				break;
			}
			at = probing.from;
			page = probing.bounds.page;
			back = UNWIND_KIND(last.rule) != UNWIND_SIGNAL;
		}
		if (at.sp < old->sp)
			continue;
		old = frame_above(old, at.sp);
		if (is_kept(walk, old, &at) &&
		    old - walk->frames + (left + 1 - walk->fresh) <= UNWIND_MAX_FRAMES) {
			walk->count = (unsigned)(old - walk->frames);
			walk->whole = was_whole;
			left++;
			break;
		}
	}
	return (unsigned)(left - walk->fresh);
}

/* A walk that cannot use the cache: on a foreign stack, or from an interrupted frame. */
static TRACE_SLOW uint64_t walk_uncached(struct trace_walk *walk, const struct trace_bounds *own,
					 const struct registers *at, bool interrupted)
{
	struct stack_bounds bounds = {.page = UNWIND_NO_PAGE};

	if (is_on_stack(at, own)) {
		bounds.low = at->sp;
		bounds.high = own->stack_high;
	}
	trace_walk_restart(walk,
			   atomic_load_explicit(&trace_rules_generation, memory_order_relaxed));
	walk->frames[0].sp = UINTPTR_MAX;
	walk->reusable = false;
	unsigned fresh = walk_on(walk, &bounds, at, interrupted);
	walk->whole &= at->pc != 0;
	return trace_walk_keep(walk, own, fresh);
}

__attribute__((noinline)) uint64_t trace_unwind(struct trace_walk *walk,
						const struct trace_bounds *own)
{
	const uintptr_t *here = trace_tls.hook ? trace_tls.hook : __builtin_frame_address(0);
	struct registers at = {.pc = here[1], .sp = (uintptr_t)(here + 2), .bp = here[0]};
	uint64_t now = atomic_load_explicit(&trace_rules_generation, memory_order_relaxed);

	if (trace_unlikely(trace_is_own(at.pc, own)))
		at = caller_of_own(at, own);
	if (trace_unlikely(!is_on_stack(&at, own)))
		return walk_uncached(walk, own, &at, false);
	if (trace_unlikely(!walk->reusable || walk->generation != now))
		trace_walk_restart(walk, now);
	walk->frames[0].sp = UINTPTR_MAX;
	const struct trace_kept *old = frame_above(&walk->frames[walk->count], at.sp);
	/* These frames cannot return before the hook does, so the result holds for the whole walk. */
	walk->count = old == walk->frames ? 0 : unchanged(walk, (unsigned)(old - walk->frames));
	if (is_kept(walk, &walk->frames[walk->count], &at)) {
		if (walk->same > walk->count)
			walk->same = walk->count;
		return trace_walk_hash(walk);
	}
	const struct stack_bounds bounds = {at.sp, own->stack_high, UNWIND_NO_PAGE};
	walk->reusable = true;
	return trace_walk_keep(walk, own, walk_on(walk, &bounds, &at, false));
}

uint64_t trace_unwind_at(struct trace_walk *walk, const struct trace_bounds *own,
			 const struct trace_point *point)
{
	struct registers at = {.pc = point->pc, .sp = point->sp, .bp = point->bp};

	return walk_uncached(walk, own, &at, true);
}
