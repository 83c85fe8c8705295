/* Walks the calling thread's stack. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "syscall.h"
#include "state.h"
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
		if ((address & ~(uintptr_t)(TRACE_MIN_PAGE - 1)) != bounds->page) {
			if (trace_session.sandboxed)
				return false;
			char byte;
			struct iovec local = {&byte, 1}, remote = {(void *)address, 1};
			if (trace_syscall(SYS_process_vm_readv, getpid(), &local, 1L, &remote, 1L,
					  0L) != 1)
				return false;
			bounds->page = address & ~(uintptr_t)(TRACE_MIN_PAGE - 1);
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
	const struct trace_frame
		*saver; /* has it saved, on the thread's own stack; NULL: it is `bp` */
};

/* Few frames need a bp, many save it. */
static TRACE_INLINE __attribute__((no_sanitize("address"))) uintptr_t
bp_of(const struct stand *stand)
{
	return stand->saver ? *(const uintptr_t *)trace_frame_saved(stand->saver) : stand->bp;
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
	uintptr_t at = saved == UNWIND_RBP_AT_RBP ? frame->bp : cfa;
	at += (uintptr_t)UNWIND_RBP_OFFSET(rule);
	if (saved != UNWIND_RBP_KEPT && !read_word(bounds, at, &frame->bp))
		return false;
	frame->sp = cfa;
	return read_word(bounds, cfa - 8, &frame->pc);
}

static TRACE_INLINE bool is_on_stack(const struct stand *stand, const struct trace_bounds *own)
{
	return stand->sp >= own->stack_low && stand->sp < own->stack_high && !(stand->sp & 7);
}

/* This library keeps frame pointers, so its own frames need no rules, but where a signal struck one. What
 * they return to; a PC of 0 where that cannot be read. */
static __attribute__((noinline)) struct stand caller_of_own(struct stand stand,
							    const struct trace_bounds *own)
{
	struct stack_bounds bounds = {stand.sp, own->stack_high, NO_PAGE};

	if (!is_on_stack(&stand, own))
		bounds.low = bounds.high = 0;
	while (trace_is_own(stand.pc, own)) {
		uintptr_t bp = stand.bp;
		if (!read_word(&bounds, bp, &stand.bp) || !read_word(&bounds, bp + 8, &stand.pc))
			return (struct stand){0};
		stand.sp = bp + 16;
	}
	return stand;
}

__attribute__((no_sanitize("address"))) static inline uintptr_t read_unasked(uintptr_t place)
{
	return *(const uintptr_t *)place;
}

/* What differs of the way from one frame to its caller. */
static inline uintptr_t difference(const struct trace_kept *caller)
{
	return read_unasked(caller->sp - sizeof(uintptr_t)) ^ caller->pc;
}

/* Of the last walk's first `count` frames, how many from the root have a way that is as it was. */
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
		if (read_unasked(walk->bps[i].place) != walk->bps[i].value)
			return walk->bps[i].frame - 1;
	return at;
}

/* Where the last walk's frames lie lower than `sp`, the next one that does not. */
static TRACE_INLINE const struct trace_kept *frame_above(const struct trace_kept *frame,
							 uintptr_t sp)
{
	while (frame->sp < sp)
		frame--;
	return frame;
}

/* Has the way come to a frame of the last walk that stands as it did, so that it goes on as it did? */
static TRACE_INLINE bool is_kept(const struct trace_walk *walk, const struct trace_kept *frame,
				 const struct stand *stand)
{
	if (frame->sp != stand->sp || frame->pc != stand->pc)
		return false;
	uint32_t base = TRACE_WAY_BP(walk->ways[frame - walk->frames].rest);
	return !base || walk->bases[base] == bp_of(stand);
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

/* By a rule that leads through bp. Frames lie one above the other: anything else is a broken chain. */
static TRACE_INLINE bool find_cfa_by_bp(struct stand *stand, uint64_t rule,
					const struct stack_bounds *bounds, struct trace_frame *left,
					uintptr_t *cfa)
{
	bool saved = UNWIND_SAVED(rule) == UNWIND_RBP_AT_CFA;

	if (UNWIND_KIND(rule) != UNWIND_CFA_RBP || (!saved && UNWIND_SAVED(rule)))
		return false;
	stand->bp = bp_of(stand);
	stand->saver = NULL;
	left->bp = stand->bp;
	*cfa = stand->bp + (uintptr_t)UNWIND_CFA_OFFSET(rule);
	if (*cfa & 7 || *cfa <= stand->sp)
		return false;
	uintptr_t place = *cfa + (uintptr_t)UNWIND_RBP_OFFSET(rule);
	return !saved || place - bounds->low < bounds->high - bounds->low;
}

/* A step all on the thread's own stack. Most are: their walk asks nobody, and what it saw can be looked at
 * again. */
static TRACE_INLINE __attribute__((no_sanitize("address"))) bool step_plainly(
	struct stand *stand, uint64_t rule, const struct stack_bounds *bounds,
	struct trace_frame *left)
{
	uintptr_t cfa = stand->sp + (uintptr_t)UNWIND_CFA_OFFSET(rule);

	if (trace_unlikely(!UNWIND_IS_SIMPLE(rule)) &&
	    !find_cfa_by_bp(stand, rule, bounds, left, &cfa))
		return false;
	if (trace_unlikely(stand->sp < bounds->low || cfa > bounds->high))
		return false;
	left->rule = rule;
	if (UNWIND_SAVES(rule))
		stand->saver = left;
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

/* Steps on from a frame to one that is kept, to the end, or to where it goes no further: the number of
 * frames that are fresh. All that a plain step needs stays in registers; only copies go where a pointer
 * leads. */
static __attribute__((noinline)) unsigned walk_on(struct trace_walk *walk,
						  const struct stack_bounds *known,
						  const struct stand *from, bool interrupted)
{
	const struct stack_bounds bounds = *known;
	const struct trace_rule *rules = trace_rules;
	const uint64_t generation = trace_rule_key(0, walk->generation);
	const struct trace_kept *old = &walk->frames[walk->count];
	const bool was_whole = walk->whole;
	struct trace_frame *left = walk->fresh, *const end = left + UNWIND_MOST_FRAMES;
	struct stand stand = *from;
	uintptr_t page = NO_PAGE;
	uintptr_t back = !interrupted; /* a return address may be that of the next function */
	struct trace_rule_found last = {trace_rule_slot(stand.pc - back), -1};

	walk->count = 0;
	walk->whole = true;
	for (; stand.pc; left++) {
		if (trace_unlikely(left == end)) {
			walk->whole = walk->reusable = false;
			break;
		}
		left->pc = stand.pc;
		left->sp = stand.sp;
		uint32_t guess = last.rule & UNWIND_NOTE;
		uint64_t rule;
		if (trace_likely(
			    trace_rule_read(&rules[guess], stand.pc - back + generation, &rule)))
			last = (struct trace_rule_found){rule, (int32_t)guess};
		else
			last = find_rule(walk, stand.pc - back, last);
		back = 1;
		if (trace_unlikely(!step_plainly(&stand, last.rule, &bounds, left))) {
			struct asking asking = {walk, bounds, stand, last.rule};
			asking.from.bp = bp_of(&stand);
			asking.from.saver = NULL;
			left->rule = 0;
			asking.bounds.page = page;
			if (!step_askingly(&asking)) {
				left++;
				break;
			}
			stand = asking.from;
			page = asking.bounds.page;
			back = UNWIND_KIND(last.rule) != UNWIND_SIGNAL;
		}
		if (stand.sp < old->sp)
			continue;
		old = frame_above(old, stand.sp);
		if (is_kept(walk, old, &stand) &&
		    old - walk->frames + (left + 1 - walk->fresh) <= UNWIND_MOST_FRAMES) {
			walk->count = (unsigned)(old - walk->frames);
			walk->whole = was_whole;
			left++;
			break;
		}
	}
	return (unsigned)(left - walk->fresh);
}

/* On some other stack than the thread's, where nothing is known to be there, or from a place that a signal
 * interrupted. */
static TRACE_SLOW uint64_t walk_otherwise(struct trace_walk *walk, const struct trace_bounds *own,
					  const struct stand *stand, bool interrupted)
{
	struct stack_bounds bounds = {.page = NO_PAGE};

	if (is_on_stack(stand, own)) {
		bounds.low = stand->sp;
		bounds.high = own->stack_high;
	}
	walk->generation = atomic_load_explicit(&trace_rules_generation, memory_order_relaxed);
	walk->frames[0].sp = UINTPTR_MAX;
	walk->count = 0;
	walk->reusable = false;
	unsigned fresh = walk_on(walk, &bounds, stand, interrupted);
	walk->whole &= stand->pc != 0;
	return trace_walk_keep(walk, own, fresh);
}

__attribute__((noinline)) uint64_t trace_unwind(struct trace_walk *walk,
						const struct trace_bounds *own)
{
	const uintptr_t *here = trace_tls.hook ? trace_tls.hook : __builtin_frame_address(0);
	struct stand stand = {.pc = here[1], .sp = (uintptr_t)(here + 2), .bp = here[0]};
	uint64_t now = atomic_load_explicit(&trace_rules_generation, memory_order_relaxed);

	if (trace_unlikely(trace_is_own(stand.pc, own)))
		stand = caller_of_own(stand, own);
	if (trace_unlikely(!is_on_stack(&stand, own)))
		return walk_otherwise(walk, own, &stand, false);
	if (trace_unlikely(!walk->reusable || walk->generation != now))
		walk->count = 0;
	walk->frames[0].sp = UINTPTR_MAX;
	const struct trace_kept *old = frame_above(&walk->frames[walk->count], stand.sp);
	/* Until the hook returns nobody leaves these frames: what is found holds for the whole walk. */
	walk->count = old == walk->frames ? 0 : unchanged(walk, (unsigned)(old - walk->frames));
	if (is_kept(walk, &walk->frames[walk->count], &stand)) {
		if (walk->same > walk->count)
			walk->same = walk->count;
		return trace_walk_hash(walk);
	}
	const struct stack_bounds bounds = {stand.sp, own->stack_high, NO_PAGE};
	walk->generation = now;
	walk->reusable = true;
	return trace_walk_keep(walk, own, walk_on(walk, &bounds, &stand, false));
}

uint64_t trace_unwind_at(struct trace_walk *walk, const struct trace_bounds *own,
			 const struct trace_point *point)
{
	struct stand stand = {.pc = point->pc, .sp = point->sp, .bp = point->bp};

	return walk_otherwise(walk, own, &stand, true);
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
