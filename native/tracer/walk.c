/* What is kept of a walk: its frames from the root, and the words of the stack that led through them.
 * Places follow from PCs, return addresses and the bp where a frame is based on it, so equal words
 * mean an equal walk. */
#include "unwind.h"

/* A walk's hash is the sum of each PC times the factor of its distance from the root: the terms do not
 * wait for each other, and those of frames that stay do not change. */
static uint64_t factors[UNWIND_MOST_FRAMES];

void trace_walk_start(void)
{
	uint64_t x = 0x853c49e6748fea9bull;

	for (unsigned i = 0; i < UNWIND_MOST_FRAMES; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		factors[i] = (x * 0x9e3779b97f4a7c15ull) | 1;
	}
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

unsigned trace_walk_unchanged(const struct trace_walk *walk, unsigned count)
{
	const struct trace_kept *frames = walk->frames;
	unsigned at = 0, bps = walk->ways[count - 1].bps;

	for (; at + 4 < count; at += 4)
		if (difference(&frames[at]) | difference(&frames[at + 1]) |
		    difference(&frames[at + 2]) | difference(&frames[at + 3]))
			break;
	while (at + 1 < count && difference(&frames[at]) == 0)
		at++;
	for (unsigned i = 0; i < bps && walk->bps[i].frame <= at; i++)
		if (read_unasked(walk->bps[i].place) != walk->bps[i].value)
			return walk->bps[i].frame;
	return at + 1;
}

/* Where bp has a part in a frame's way to its caller's. */
static __attribute__((noinline)) void note_bp(struct trace_walk *walk,
					      const struct trace_frame *frame, unsigned at)
{
	struct trace_way *way = &walk->ways[at];

	if (frame->bp_at > 1 && way->bp) {
		walk->bps[way->bps].place = frame->bp_at & ~(uintptr_t)1;
		walk->bps[way->bps].value = walk->bases[way->bp];
		walk->bps[way->bps++].frame = at;
	}
	if (frame->bp_at > 1)
		way->bp = 0;
	if (frame->bp_at & 1) {
		way->bp = at + 1;
		walk->bases[at + 1] = frame->bp;
	}
}

static inline bool is_told(uintptr_t pc, const struct trace_bounds *own)
{
	return pc < own->own_start || pc >= own->own_end;
}

uint64_t trace_walk_keep(struct trace_walk *walk, const struct trace_bounds *own, unsigned count)
{
	static const struct trace_way root;
	unsigned at = walk->count;
	const struct trace_way *caller = at ? &walk->ways[at - 1] : &root;

	if (walk->same > at)
		walk->same = at;
	for (; count-- > 0; at++) {
		const struct trace_frame *frame = &walk->fresh[count];
		struct trace_way *way = &walk->ways[at];
		walk->frames[at] = (struct trace_kept){frame->pc, frame->sp};
		way->sum = caller->sum + frame->pc * factors[at];
		way->told = (uint16_t)(caller->told + is_told(frame->pc, own));
		way->bps = caller->bps;
		way->bp = caller->bp;
		if (frame->bp_at && (way->bp || frame->bp_at & 1))
			note_bp(walk, frame, at);
		caller = way;
	}
	walk->count = at;
	uint64_t sum = caller->sum;
	sum = (sum ^ sum >> 32 ^ (uint64_t)walk->whole << 7) * 0xd6e8feb86659fd93ull;
	return sum ^ sum >> 32;
}

unsigned trace_walk_pcs(const struct trace_walk *walk, const struct trace_bounds *own,
			unsigned without, uint64_t *pcs)
{
	unsigned count = 0;

	for (unsigned i = walk->count; i-- > without;)
		if (is_told(walk->frames[i].pc, own))
			pcs[count++] = walk->frames[i].pc;
	if (!walk->whole)
		pcs[count++] = 0;
	return count;
}

uintptr_t trace_walk_owner(const struct trace_walk *walk, uintptr_t place, unsigned *from)
{
	const struct trace_kept *frames = walk->frames;

	for (unsigned i = *from < walk->count ? *from : walk->count; i-- > 1;)
		if (place >= frames[i].sp && place < frames[i - 1].sp) {
			*from = i + 1;
			return frames[i].pc;
		}
	return 0;
}
