/* Walks the calling thread's stack. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tracer.h"
#include "unwind.h"

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

/* A walk's hash is the sum of each PC times the factor of its distance from the leaf: the terms do
 * not wait for each other. */
static uint64_t factors[UNWIND_MOST_FRAMES];

static void draw_factors(void)
{
	uint64_t x = 0x853c49e6748fea9bull;

	for (unsigned i = 0; i < UNWIND_MOST_FRAMES; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		factors[i] = (x * 0x9e3779b97f4a7c15ull) | 1;
	}
}

static uint64_t finish_hash(uint64_t sum, bool whole)
{
	sum = (sum ^ sum >> 32 ^ (uint64_t)whole << 7) * 0xd6e8feb86659fd93ull;
	return sum ^ sum >> 32;
}

unsigned trace_walk_pcs(const struct trace_walk *walk, const struct trace_bounds *own,
			uint64_t *pcs)
{
	unsigned count = 0;

	for (unsigned i = 0; i < walk->count; i++) {
		uintptr_t pc = walk->frames[walk->second][i].pc;
		if (pc < own->own_start || pc >= own->own_end)
			pcs[count++] = pc;
	}
	if (!walk->whole)
		pcs[count++] = 0;
	return count;
}

uintptr_t trace_walk_owner(const struct trace_walk *walk, uintptr_t place)
{
	const struct trace_frame *frames = walk->frames[walk->second];

	for (unsigned i = 0; i + 1 < walk->count; i++)
		if (place >= frames[i].sp && place < frames[i + 1].sp)
			return frames[i].pc;
	return 0;
}

#if defined(__x86_64__)

#define CACHE_BITS 16u
#define PROBES 4u

/* One cache for all threads, without locks: `check` is the key mixed with the rule, so an entry read
 * while it is being replaced does not match and is a miss. */
struct cached_rule {
	uint64_t check, rule;
};

static struct cached_rule *cache;
static _Atomic uint64_t generation;

bool trace_unwind_start(void)
{
	draw_factors();
	if (!cache)
		cache = trace_map(sizeof *cache << CACHE_BITS, PROT_READ | PROT_WRITE);
	return cache && trace_unwind_modules_start();
}

void trace_unwind_modules_changed(void)
{
	trace_unwind_modules_refresh();
	atomic_fetch_add(&generation, 1);
}

static TRACE_SLOW uint64_t learn_rule(uintptr_t pc, uint64_t key, uint64_t slot)
{
	const uint8_t *tables = trace_eh_frame_hdr(pc);
	uint64_t rule = trace_cfi_rule(pc, tables);
	struct cached_rule *entry = NULL;

	/* No module here yet: there may be one later, so this is not to be remembered. */
	if (!tables)
		return rule;

	for (unsigned i = 0; i < PROBES && !entry; i++) {
		struct cached_rule *candidate = &cache[(slot + i) & ((1u << CACHE_BITS) - 1)];
		if (__atomic_load_n(&candidate->rule, __ATOMIC_RELAXED) == 0)
			entry = candidate;
	}
	if (!entry)
		entry = &cache[(slot + (pc >> 4) % PROBES) & ((1u << CACHE_BITS) - 1)];
	__atomic_store_n(&entry->check, key ^ rule, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->rule, rule, __ATOMIC_RELAXED);
	return rule;
}

static inline uint64_t find_rule(uintptr_t pc, uint64_t now)
{
	uint64_t key = pc ^ now << 48;
	uint64_t slot = pc ^ pc >> CACHE_BITS;

	for (unsigned i = 0; i < PROBES; i++) {
		const struct cached_rule *entry = &cache[(slot + i) & ((1u << CACHE_BITS) - 1)];
		uint64_t rule = __atomic_load_n(&entry->rule, __ATOMIC_RELAXED);
		uint64_t check = __atomic_load_n(&entry->check, __ATOMIC_RELAXED);
		if (trace_likely((check ^ rule) == key && rule))
			return rule;
	}
	return learn_rule(pc, key, slot);
}

/* Offsets of saved registers in the kernel's struct ucontext (asm/ucontext.h), at rsp of the
 * sigreturn trampoline. */
#define UCONTEXT_RBP 120
#define UCONTEXT_RSP 160
#define UCONTEXT_RIP 168

static bool step_signal(struct trace_frame *frame, struct stack_bounds *bounds)
{
	uintptr_t context = frame->sp;

	return read_word(bounds, context + UCONTEXT_RIP, &frame->pc) &&
	       read_word(bounds, context + UCONTEXT_RBP, &frame->bp) &&
	       read_word(bounds, context + UCONTEXT_RSP, &frame->sp);
}

static inline bool find_cfa(const struct trace_frame *frame, uint64_t rule,
			    struct stack_bounds *bounds, uintptr_t *cfa)
{
	int64_t offset = (int32_t)(rule >> 32);

	switch (rule & 15) {
	case UNWIND_CFA_RSP:
		*cfa = frame->sp + (uintptr_t)offset;
		return true;
	case UNWIND_CFA_RBP:
		*cfa = frame->bp + (uintptr_t)offset;
		return true;
	case UNWIND_CFA_AT_RBP:
		return read_word(bounds, frame->bp + (uintptr_t)offset, cfa);
	case UNWIND_CFA_AT_RSP:
		return read_word(bounds, frame->sp + (uintptr_t)offset, cfa);
	default:
		return false;
	}
}

/* From a frame to its caller's. Notes in the frame left how bp had a part in it. */
static inline bool step(struct trace_frame *frame, uint64_t rule, struct stack_bounds *bounds,
			struct trace_frame *left)
{
	int64_t rbp_offset = (int64_t)(rule << 32) >> 38;
	uintptr_t cfa;

	/* Frames lie one above the other: anything else is a broken chain. */
	if (!find_cfa(frame, rule, bounds, &cfa) || cfa <= frame->sp)
		return false;
	unsigned saved = rule >> 4 & 3;
	uintptr_t at = saved == UNWIND_RBP_KEPT     ? 0
		       : saved == UNWIND_RBP_AT_CFA ? cfa + (uintptr_t)rbp_offset
						    : frame->bp + (uintptr_t)rbp_offset;
	if (at && !read_word(bounds, at, &frame->bp))
		return false;
	left->bp_at = at | ((rule & 15) != UNWIND_CFA_RSP);
	frame->sp = cfa;
	return read_word(bounds, cfa - 8, &frame->pc);
}

/* This library keeps frame pointers, so its own frames need no rules, but where a signal struck one. */
static bool leave_own_frames(struct trace_frame *frame, struct stack_bounds *bounds,
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

/* Is the way from frame `from` of the last walk to its end still what it was, now that we stand there
 * with this bp? Places follow from PCs, return addresses and the bp where a frame is based on it, so
 * equal words mean an equal walk. Adds the frames' part of the hash, which begins at factor `at`. */
__attribute__((no_sanitize("address"))) static bool is_unchanged(struct trace_frame *frames,
								 unsigned count, unsigned from,
								 uintptr_t bp, unsigned at,
								 uint64_t *sum)
{
	uintptr_t differences = 0;
	uint64_t part = 0;

	for (unsigned i = from;; i++) {
		struct trace_frame *frame = &frames[i];
		part += frame->pc * factors[at++];
		if (frame->bp_at & 1)
			differences |= bp ^ frame->bp;
		frame->bp = bp;
		if (i + 1 == count)
			break;
		differences |= *(const uintptr_t *)(frame[1].sp - 8) ^ frame[1].pc;
		if (frame->bp_at > 1)
			bp = *(const uintptr_t *)(frame->bp_at & ~(uintptr_t)1);
		if (differences)
			return false;
	}
	*sum += part;
	return differences == 0;
}

/* From `frame`, which a signal interrupted or which waits for a call to return. */
static inline __attribute__((always_inline)) uint64_t walk_from(struct trace_walk *walk,
								const struct trace_bounds *own,
								struct trace_frame frame,
								unsigned interrupted)
{
	struct stack_bounds bounds = {.low = frame.sp, .high = own->stack_high, .page = NO_PAGE};
	struct trace_frame *old = walk->frames[walk->second], *fresh = walk->frames[!walk->second];
	uint64_t now = atomic_load_explicit(&generation, memory_order_relaxed);
	/* On some other stack than the thread's: nothing is known to be there. */
	bool plain = frame.sp >= own->stack_low && frame.sp < own->stack_high;
	unsigned old_count = plain && !interrupted && walk->reusable && walk->generation == now
				     ? walk->count
				     : 0;
	unsigned count = 0, passed = 0;
	uint64_t sum = 0;

	if (!plain)
		bounds.low = bounds.high = 0;
	plain &= !interrupted;
	bool whole = interrupted || leave_own_frames(&frame, &bounds, own);
	while (whole && frame.pc) {
		while (passed < old_count && old[passed].sp < frame.sp)
			passed++;
		unsigned rest = old_count - passed;
		if (rest && old[passed].sp == frame.sp && old[passed].pc == frame.pc &&
		    count + rest <= UNWIND_MOST_FRAMES) {
			if (is_unchanged(old, old_count, passed, frame.bp, count, &sum)) {
				memcpy(&fresh[count], &old[passed], rest * sizeof *fresh);
				count += rest;
				whole = walk->whole;
				break;
			}
			old_count = 0;
		}
		if (count == UNWIND_MOST_FRAMES) {
			whole = plain = false;
			break;
		}
		fresh[count] = frame;
		sum += frame.pc * factors[count];
		uint64_t rule = find_rule(frame.pc - !interrupted, now);
		struct trace_frame *left = &fresh[count++];
		unsigned kind = rule & 15;
		interrupted = 0;
		if (kind == UNWIND_END)
			break;
		if (trace_unlikely(kind == UNWIND_SIGNAL)) {
			plain = false;
			interrupted = 1;
			whole = step_signal(&frame, &bounds);
			continue;
		}
		plain &= kind == UNWIND_CFA_RSP || kind == UNWIND_CFA_RBP || kind == UNWIND_UNKNOWN;
		whole = step(&frame, rule, &bounds, left);
		/* A later walk reads these words again unasked, so they must be the stack's own. */
		uintptr_t bp_at = left->bp_at & ~(uintptr_t)1;
		plain &= frame.sp <= bounds.high &&
			 (!bp_at || bp_at - bounds.low < bounds.high - bounds.low);
	}
	walk->second = !walk->second;
	walk->count = count;
	walk->whole = whole;
	walk->generation = now;
	walk->reusable = plain;
	return finish_hash(sum, whole);
}

__attribute__((noinline)) uint64_t trace_unwind(struct trace_walk *walk,
						const struct trace_bounds *own)
{
	uintptr_t *here = __builtin_frame_address(0);
	struct trace_frame frame = {.pc = here[1], .sp = (uintptr_t)(here + 2), .bp = here[0]};

	return walk_from(walk, own, frame, 0);
}

uint64_t trace_unwind_at(struct trace_walk *walk, const struct trace_bounds *own,
			 const struct trace_point *point)
{
	struct trace_frame frame = {.pc = point->pc, .sp = point->sp, .bp = point->bp};

	return walk_from(walk, own, frame, 1);
}

#else

bool trace_unwind_start(void)
{
	draw_factors();
	return true;
}

void trace_unwind_modules_changed(void) {}

/* Frame records {caller's frame, return address}: what AArch64 and others keep by convention. */
static uint64_t walk_records(struct trace_walk *walk, const struct trace_bounds *own, uintptr_t at,
			     uint64_t sum)
{
	struct stack_bounds bounds = {own->stack_low, own->stack_high, NO_PAGE};
	struct trace_frame *frame = &walk->frames[0][walk->count];

	for (; walk->count < UNWIND_MOST_FRAMES; walk->count++, frame++) {
		uintptr_t caller;
		walk->whole =
			read_word(&bounds, at, &caller) && read_word(&bounds, at + 8, &frame->pc);
		if (!walk->whole || !frame->pc)
			break;
		sum += frame->pc * factors[walk->count];
		walk->whole = !caller || caller > at;
		if (!walk->whole || !caller) {
			walk->count++;
			break;
		}
		at = caller;
	}
	return finish_hash(sum, walk->whole);
}

__attribute__((noinline)) uint64_t trace_unwind(struct trace_walk *walk,
						const struct trace_bounds *own)
{
	walk->count = 0;
	return walk_records(walk, own, (uintptr_t)__builtin_frame_address(0), 0);
}

uint64_t trace_unwind_at(struct trace_walk *walk, const struct trace_bounds *own,
			 const struct trace_point *point)
{
	walk->frames[0][0] = (struct trace_frame){.pc = point->pc};
	walk->count = 1;
	return walk_records(walk, own, point->bp, point->pc * factors[0]);
}

#endif
