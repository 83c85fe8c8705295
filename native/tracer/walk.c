/* The cached frames of a walk, and the stack words that led through them. A frame's caller depends only
 * on its PC, its return address and, if its rule is rbp-based, bp; so equal words mean an equal walk. */
#include "unwind.h"

/* A walk's hash is the sum of each PC times the factor of its distance from the root. The terms are
 * independent, and those of cached frames stay valid. */
static uint64_t factors[UNWIND_MAX_FRAMES + 1];

void trace_walk_start(void)
{
	uint64_t x = 0x853c49e6748fea9bull;

	for (unsigned i = 0; i <= UNWIND_MAX_FRAMES; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		factors[i] = (x * 0x9e3779b97f4a7c15ull) | 1;
	}
}

/* Adds the dependencies on bp of a frame's step to its caller; `rest` is of struct trace_way. */
static __attribute__((noinline)) uint64_t add_bp(struct trace_walk *walk,
						 const struct trace_frame *frame, unsigned at,
						 uint64_t rest)
{
	if (UNWIND_SAVES(frame->rule)) {
		if (TRACE_WAY_BP(rest)) {
			walk->bps[TRACE_WAY_BPS(rest)].address = trace_frame_saved(frame);
			walk->bps[TRACE_WAY_BPS(rest)].value = walk->bases[TRACE_WAY_BP(rest)];
			walk->bps[TRACE_WAY_BPS(rest)].frame = at;
			rest++;
		}
		rest = (uint32_t)rest;
	}
	if (UNWIND_KIND(frame->rule) == UNWIND_CFA_RBP) {
		walk->bases[at] = frame->bp;
		rest = (uint32_t)rest | (uint64_t)at << 32;
	}
	return rest;
}

uint64_t trace_walk_keep(struct trace_walk *walk, const struct trace_bounds *own, unsigned count)
{
	const struct trace_bounds bounds = *own;
	unsigned at = walk->count;
	uint64_t sum = walk->ways[at].sum, rest = walk->ways[at].rest;

	while (count-- > 0) {
		const struct trace_frame *frame = &walk->fresh[count];
		at++;
		walk->frames[at] = (struct trace_kept){frame->pc, frame->sp};
		sum += frame->pc * factors[at];
		rest += (uint64_t)!trace_is_own(frame->pc, &bounds) << 16;
		if (UNWIND_KIND(frame->rule) == UNWIND_CFA_RBP ||
		    (TRACE_WAY_BP(rest) && UNWIND_SAVES(frame->rule)))
			rest = add_bp(walk, frame, at, rest);
		walk->ways[at] = (struct trace_way){sum, rest};
	}
	if (walk->same > walk->count)
		walk->same = walk->count;
	walk->count = at;
	return trace_walk_hash(walk);
}

unsigned trace_walk_pcs(const struct trace_walk *walk, const struct trace_bounds *own,
			unsigned without, uint64_t *pcs)
{
	unsigned count = 0;

	for (unsigned i = walk->count; i > without; i--)
		if (!trace_is_own(walk->frames[i].pc, own))
			pcs[count++] = walk->frames[i].pc;
	if (!walk->whole)
		pcs[count++] = 0;
	return count;
}

uintptr_t trace_walk_owner(const struct trace_walk *walk, uintptr_t address, unsigned *from)
{
	const struct trace_kept *frames = walk->frames;

	for (unsigned i = *from < walk->count ? *from : walk->count; i > 1; i--)
		if (address >= frames[i].sp && address < frames[i - 1].sp) {
			*from = i;
			return frames[i].pc;
		}
	return 0;
}
