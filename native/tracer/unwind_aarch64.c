/* Walks the calling thread's stack on AArch64, each time to the root. A function that calls another saves the
 * return address where its call frame information says; code without any keeps frame records {caller's record,
 * return address} at x29 (AAPCS64). */
#include "../unwind/eh_frame.h"
#include "unwind_jit.h"
#include "unwind_rules.h"
#include "unwind_word.h"

/* Registers of the current frame. */
struct registers {
	uintptr_t pc, sp, fp, lr;
	bool interrupted; /* pc is to be run next, and lr may be the return address */
	bool below; /* sp is only known to lie below the frame's end: a record led here */
};

/* The kernel's struct rt_sigframe (arch/arm64/kernel/signal.c), at sp of the sigreturn trampoline. */
#define SIGFRAME_X0 312
#define SIGFRAME_X29 (SIGFRAME_X0 + 29 * 8)
#define SIGFRAME_X30 (SIGFRAME_X0 + 30 * 8)
#define SIGFRAME_SP (SIGFRAME_X0 + 31 * 8)
#define SIGFRAME_PC (SIGFRAME_X0 + 32 * 8)

static bool step_signal(struct registers *frame, struct stack_bounds *bounds)
{
	uintptr_t at = frame->sp;

	frame->interrupted = true;
	return !frame->below && read_word(bounds, at + SIGFRAME_PC, &frame->pc) &&
	       read_word(bounds, at + SIGFRAME_X30, &frame->lr) &&
	       read_word(bounds, at + SIGFRAME_X29, &frame->fp) &&
	       read_word(bounds, at + SIGFRAME_SP, &frame->sp);
}

/* Of a function that a record led to, x29 is the address of its own record. False: there is no caller, since the
 * return address is neither saved nor in x30, or no CFA is known. */
static bool find_cfa(const struct registers *frame, uint64_t rule, bool has_lr, uintptr_t *cfa)
{
	if (!has_lr && !frame->interrupted)
		return false;
	if (UNWIND_KIND(rule) == UNWIND_CFA_RBP)
		*cfa = frame->fp + (uintptr_t)UNWIND_CFA_OFFSET(rule);
	else if (!frame->below)
		*cfa = frame->sp + (uintptr_t)UNWIND_CFA_OFFSET(rule);
	else if (UNWIND_SAVED(rule) == UNWIND_PAIR_SAVED)
		*cfa = frame->fp - (uintptr_t)UNWIND_RBP_OFFSET(rule);
	else
		return false;
	return *cfa > frame->sp || (frame->interrupted && *cfa == frame->sp);
}

static bool step_by_rule(struct registers *frame, uint64_t rule, struct stack_bounds *bounds)
{
	unsigned saved = UNWIND_SAVED(rule);
	bool has_lr = saved == UNWIND_PAIR_SAVED || saved == UNWIND_LR_SAVED;
	bool has_fp = saved == UNWIND_PAIR_SAVED || saved == UNWIND_FP_SAVED;
	uintptr_t cfa, pc = frame->lr, fp = frame->fp;

	if (!find_cfa(frame, rule, has_lr, &cfa))
		return false;
	uintptr_t at = cfa + (uintptr_t)UNWIND_RBP_OFFSET(rule);
	if (has_fp && !read_word(bounds, at, &fp))
		return false;
	if (has_lr && !read_word(bounds, at + (has_fp ? 8 : 0), &pc))
		return false;
	*frame = (struct registers){.pc = eh_frame_code_address(pc), .sp = cfa, .fp = fp};
	return true;
}

/* A record is what x29 points to only if a call instruction precedes its return address. */
static bool step_by_record(struct registers *frame, struct stack_bounds *bounds)
{
	uintptr_t caller, pc;

	if (!read_word(bounds, frame->fp, &caller) || !read_word(bounds, frame->fp + 8, &pc))
		return false;
	pc = eh_frame_code_address(pc);
	if (pc && !trace_is_return_address(pc))
		return false;
	*frame = (struct registers){.pc = pc, .sp = frame->fp + 16, .fp = caller, .below = true};
	return true;
}

/* False: there is no caller, or none is known; `whole` tells which. */
static bool step(struct registers *frame, uint64_t generation, struct stack_bounds *bounds,
		 bool *whole)
{
	uint64_t rule = trace_rule_find(frame->pc - !frame->interrupted, generation).rule;

	if (UNWIND_KIND(rule) == UNWIND_UNKNOWN) {
		const struct trace_point at = {.pc = frame->pc, .sp = frame->sp};
		rule = trace_jit_rule(&at, bounds->low, bounds->high);
	}
	*whole = true;
	if (UNWIND_KIND(rule) == UNWIND_END)
		return false;
	if (UNWIND_KIND(rule) == UNWIND_SIGNAL)
		return *whole = step_signal(frame, bounds);
	if (UNWIND_KIND(rule) != UNWIND_UNKNOWN && step_by_rule(frame, rule, bounds))
		return frame->pc != 0;
	if (frame->fp == 0) /* the record of the outermost frame */
		return false;
	*whole = step_by_record(frame, bounds);
	return *whole && frame->pc != 0;
}

static uint64_t walk_from(struct trace_walk *walk, const struct trace_bounds *own,
			  struct registers *at, unsigned skipped)
{
	uint64_t generation = atomic_load_explicit(&trace_rules_generation, memory_order_relaxed);
	struct stack_bounds bounds = {.page = UNWIND_NO_PAGE};
	unsigned count = 0;
	bool whole = at->pc != 0;

	if (at->sp >= own->stack_low && at->sp < own->stack_high) {
		bounds.low = at->sp;
		bounds.high = own->stack_high;
	}
	while (whole) {
		if (count == UNWIND_MAX_FRAMES) {
			whole = false;
			break;
		}
		walk->fresh[count] = (struct trace_frame){.pc = at->pc, .sp = at->sp};
		if (skipped)
			skipped--;
		else
			count++;
		if (!step(at, generation, &bounds, &whole))
			break;
	}
	walk->whole = whole;
	walk->reusable = false;
	trace_walk_restart(walk, generation);
	return trace_walk_keep(walk, own, count);
}

__attribute__((noinline)) uint64_t trace_unwind(struct trace_walk *walk,
						const struct trace_bounds *own)
{
	struct registers at = {.interrupted = true};

	__asm__ volatile("adr %0, .\n\t"
			 "mov %1, sp\n\t"
			 "mov %2, x29\n\t"
			 "mov %3, x30"
			 : "=&r"(at.pc), "=&r"(at.sp), "=&r"(at.fp), "=r"(at.lr));
	uint64_t hash = walk_from(walk, own, &at, 1);
	__asm__ volatile("" : "+r"(hash)); /* no tail call: this frame has to stay */
	return hash;
}

uint64_t trace_unwind_at(struct trace_walk *walk, const struct trace_bounds *own,
			 const struct trace_point *point)
{
	struct registers at = {.pc = point->pc,
			       .sp = point->sp,
			       .fp = point->bp,
			       .lr = point->lr,
			       .interrupted = true};

	return walk_from(walk, own, &at, 0);
}
