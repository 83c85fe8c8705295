/* Reads the interpreter's frame chain. A thread reads only its own frames, so they stand still, with
 * or without the GIL: their code objects live as long as they do. Only where a signal interrupted it
 * may a frame be half made: then the kernel is asked before a page is read. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "../include/trace_format.h"
#include "python.h"
#include "python_code.h"
#include "python_layout.h"
#include "sampler.h"
#include "syscall.h"

#define POINTER_TAGS 7u /* 3.14 keeps how a reference is counted in its lowest bits */

static const struct trace_python_layout *known; /* of this interpreter */
static void *(*gil_thread_state)(void);
static void *(*holding_thread_state)(void); /* of whoever holds the GIL */
static void *(*running_thread_state)(void); /* since 3.12 that is the calling thread's own */

static TRACE_INLINE bool is_own(const char *state)
{
	return python_is_plausible(state) &&
	       python_pointer(state, known->thread_id) == (const char *)pthread_self();
}

/* In a subinterpreter a thread runs with another state than the one it began with; while it lets go
 * of the GIL it runs with none, and its frames stand still. `locked`: as the allocator's rules have it;
 * who breaks them must not lead us to another thread's frames. */
static TRACE_INLINE void *this_thread_state(bool locked)
{
	void *state = NULL;

	if (running_thread_state)
		state = running_thread_state();
	else if (locked && holding_thread_state)
		state = holding_thread_state();
	if (!state || (!running_thread_state && !is_own(state)))
		state = gil_thread_state();
	return state;
}

static bool start(void)
{
	void *current = trace_python_symbol("_PyThreadState_UncheckedGet");

	known = trace_python_layout(trace_python.version, trace_python_symbol("_PyRuntime"));
	if (known && known->thread_id)
		holding_thread_state = (void *(*)(void))current;
	else
		running_thread_state = (void *(*)(void))current;
	gil_thread_state = (void *(*)(void))trace_python_symbol("PyGILState_GetThisThreadState");
	return gil_thread_state && known;
}

struct readable {
	bool sure; /* no need to ask */
	unsigned next;
	uintptr_t pages[4]; /* found readable before */
};

static __attribute__((noinline)) bool page_is_readable(struct readable *readable, uintptr_t page)
{
	for (unsigned i = 0; i < 4; i++)
		if (readable->pages[i] == page)
			return true;
	/* An unknown `how` is refused after the set has been read: EFAULT tells that it could not be. */
	long result = trace_syscall(SYS_rt_sigprocmask, ~0L, page, NULL, 8L);
	if (result == 0 || result == -EFAULT)
		return false;
	readable->pages[readable->next++ & 3] = page;
	return true;
}

static TRACE_INLINE bool is_readable(struct readable *readable, const char *object, unsigned size)
{
	uintptr_t first = (uintptr_t)object & ~(uintptr_t)(TRACE_MIN_PAGE - 1);
	uintptr_t last = ((uintptr_t)object + size - 1) & ~(uintptr_t)(TRACE_MIN_PAGE - 1);

	return readable->sure || (page_is_readable(readable, first) &&
				  (first == last || page_is_readable(readable, last)));
}

static TRACE_INLINE const char *current_frame(const struct trace_python_layout *layout, bool locked)
{
	const char *thread = this_thread_state(locked);

	if (!python_is_plausible(thread))
		return NULL;
	const char *frame = python_pointer(thread, layout->thread_frame);
	if (layout->has_cframe)
		frame = python_is_plausible(frame) ? python_pointer(frame, layout->cframe_frame)
						   : NULL;
	return frame;
}

static TRACE_INLINE const char *code_of(const struct trace_python_layout *layout, const char *frame)
{
	uintptr_t tagged = (uintptr_t)python_pointer(frame, layout->frame_code);

	return (const char *)(tagged & ~(uintptr_t)POINTER_TAGS);
}

static TRACE_INLINE uint8_t owner_of(const struct trace_python_layout *layout, const char *frame)
{
	return (uint8_t)frame[layout->frame_owner];
}

/* Does the frame say of itself that it is an entry? */
static TRACE_INLINE uint8_t entry_mark(const struct trace_python_layout *layout, const char *frame)
{
	return layout->frame_is_entry ? (uint8_t)frame[layout->frame_is_entry] : 0;
}

static TRACE_INLINE uintptr_t state_of(const struct trace_python_layout *layout, const char *frame)
{
	return (uintptr_t)python_pointer(frame, layout->frame_instruction) |
	       entry_mark(layout, frame);
}

static TRACE_INLINE bool is_shim(const struct trace_python_layout *layout, const char *frame)
{
	return owner_of(layout, frame) >= layout->owned_by_c_stack;
}

static TRACE_INLINE bool is_entry(const struct trace_python_layout *layout, const char *frame,
				  const char *previous)
{
	if (layout->frame_is_entry)
		return entry_mark(layout, frame) != 0;
	return !python_is_plausible(previous) || is_shim(layout, previous);
}

#define FRAME_BYTES 96u /* a frame's head, up to all that is read of it */
#define CODE_BYTES 256u

static TRACE_INLINE bool is_code(const struct trace_python_layout *layout,
				 struct readable *readable, const char *code)
{
	if (!python_is_plausible(code) || !is_readable(readable, code, CODE_BYTES))
		return false;
	return readable->sure ||
	       (python_is_plausible(python_pointer(code, layout->code_linetable)) &&
		python_is_plausible(python_pointer(code, layout->code_name)) &&
		is_readable(readable, python_pointer(code, layout->code_linetable), 64) &&
		is_readable(readable, python_pointer(code, layout->code_name), 64));
}

/* Where the bytecode begins that the frame runs: in the code object, or the thread's copy of it, whose
 * number the frame has. The copies' addresses follow their count. */
static TRACE_INLINE const char *bytecode_of(const struct trace_python_layout *layout,
					    const char *frame, const char *code,
					    struct readable *readable)
{
	const char *unknown = python_pointer(frame, layout->frame_instruction);
	int32_t number = 0;
	int64_t count;

	if (layout->frame_bytecode)
		memcpy(&number, frame + layout->frame_bytecode, sizeof number);
	if (number <= 0)
		return code + layout->code_instructions;
	const char *copies = python_pointer(code, layout->code_bytecodes);
	if (!python_is_plausible(copies) || !is_readable(readable, copies, sizeof count))
		return unknown;
	memcpy(&count, copies, sizeof count);
	const char *place = copies + sizeof count + (uint32_t)number * sizeof(char *);
	return number < count && is_readable(readable, place, sizeof(char *))
		       ? python_pointer(place, 0)
		       : unknown;
}

#define OFFSET_LIMIT (1ll << 30)

/* Before its first instruction a frame points in front of the code. */
static TRACE_INLINE uint64_t offset_bits(int64_t offset)
{
	return offset > 0 && offset < OFFSET_LIMIT ? (uint64_t)offset : 0;
}

static TRACE_INLINE uint64_t word_of(const struct trace_python_layout *layout, const char *frame,
				     const struct trace_code_key *key, struct readable *readable,
				     struct trace_code_cache *cache)
{
	const char *bytecode = bytecode_of(layout, frame, key->code, readable);
	int64_t offset = python_pointer(frame, layout->frame_instruction) - bytecode;
	const char *previous = python_pointer(frame, layout->frame_previous);
	uint64_t id = trace_code_number(cache, key);

	if (__builtin_expect(id == 0, 0))
		id = trace_code_emit(layout, cache, key);
	return id << 32 | (is_entry(layout, frame, previous) ? TRACE_PYTHON_ENTRY : 0) |
	       offset_bits(offset);
}

static TRACE_INLINE void read_frame(const struct trace_python_layout *layout,
				    struct trace_python_chain *chain, unsigned fresh,
				    const char *frame, struct readable *readable,
				    struct trace_code_cache *cache)
{
	struct trace_python_word *is = &chain->fresh_words[fresh];
	const char *code = code_of(layout, frame);

	chain->fresh_frames[fresh] = (struct trace_python_frame){frame, state_of(layout, frame)};
	is->key.code = code;
	is->word = 0;
	is->has_word = !is_shim(layout, frame) && is_code(layout, readable, code);
	if (is->has_word) {
		is->key = trace_code_key(layout, code);
		is->word = word_of(layout, frame, &is->key, readable, cache);
	}
}

/* Apart: few frames are read anew, and what is not run need not be in the processor's cache. */
static __attribute__((noinline)) void read_surely(const struct trace_python_layout *layout,
						  struct trace_python_chain *chain, unsigned fresh,
						  const char *frame, struct trace_code_cache *cache)
{
	struct readable sure = {.sure = true};

	read_frame(layout, chain, fresh, frame, &sure, cache);
}

/* Is there still the code that there was? */
static TRACE_INLINE bool is_same_code(const struct trace_python_layout *layout, const char *frame,
				      const struct trace_python_word *was)
{
	if (code_of(layout, frame) != was->key.code)
		return false;
	if (!was->has_word)
		return true;
	struct trace_code_key key = trace_code_key(layout, was->key.code);
	return trace_code_is(&key, &was->key);
}

/* Of frame number `count` and those it leads to, how many are the same, but for their code. One by one:
 * the memory of the next is there only if this one leads to it. */
static TRACE_INLINE unsigned same_from(const struct trace_python_layout *layout,
				       const struct trace_python_frame *frames, unsigned count)
{
	const struct trace_python_frame *was = &frames[count];
	const char *frame = was->frame;

	while (state_of(layout, frame) == was->state) {
		const char *caller = was[-1].frame;
		if (python_pointer(frame, layout->frame_previous) != caller) {
			if (was == frames + 1 &&
			    !python_is_plausible(python_pointer(frame, layout->frame_previous)))
				was--;
			break;
		}
		frame = caller;
		was--;
	}
	return count - (unsigned)(was - frames);
}

/* How many of these have the code that they had. */
static __attribute__((noinline)) unsigned same_codes(const struct trace_python_layout *layout,
						     const struct trace_python_chain *chain,
						     unsigned count, unsigned same)
{
	unsigned at = count;

	while (count - at < same &&
	       is_same_code(layout, chain->frames[at].frame, &chain->words[at]))
		at--;
	return count - at;
}

#define FAR 4u /* frames left since the last look before the next that stayed is searched no more */

static inline unsigned find_old(const struct trace_python_chain *chain, unsigned old,
				const char *frame)
{
	for (unsigned i = old; i && old - i < FAR; i--)
		if (chain->frames[i].frame == frame)
			return i;
	return 0;
}

/* A word's part in the hash: the terms do not wait for each other. */
static TRACE_INLINE uint64_t part_of(uint64_t word, unsigned at)
{
	uint64_t part = (word ^ at * 0xa0761d6478bd642full) * 0x9fb21c651e98df25ull;

	return part ^ part >> 29;
}

static inline uint64_t hash_of(const struct trace_python_chain *chain)
{
	return chain->count ? chain->words[chain->count].sum * 0xd6e8feb86659fd93ull | 1 : 0;
}

/* No more than these first frames, which were there before: the chain's hash. */
static inline uint64_t shorten(struct trace_python_chain *chain, unsigned count)
{
	chain->count = count;
	if (chain->same > count)
		chain->same = count;
	return hash_of(chain);
}

/* Keeps `fresh` frames on top of `old` ones. `whole`: the chain was followed to its end. */
static __attribute__((noinline)) uint64_t keep(struct trace_python_chain *chain, unsigned old,
					       unsigned fresh, bool whole)
{
	unsigned at = old;
	uint64_t sum = chain->words[old].sum;
	unsigned depth = chain->words[old].depth;

	if (chain->same > old)
		chain->same = old;
	chain->frames[0].frame = (const char *)chain;
	while (fresh-- > 0) {
		struct trace_python_word *is = &chain->words[++at];
		chain->frames[at] = chain->fresh_frames[fresh];
		*is = chain->fresh_words[fresh];
		is->sum = sum += part_of(is->word, at);
		is->depth = depth += is->has_word;
	}
	chain->count = at;
	chain->whole = whole;
	return hash_of(chain);
}

/* The same frames as `chain->frames` up to `found`, but upon others: they are taken over one by one. */
static __attribute__((noinline)) unsigned copy_same(struct trace_python_chain *chain,
						    unsigned found, unsigned same, unsigned fresh)
{
	for (; same > 0 && fresh < TRACE_MAX_FRAMES; same--, fresh++) {
		chain->fresh_frames[fresh] = chain->frames[found];
		chain->fresh_words[fresh] = chain->words[found--];
	}
	return fresh;
}

/* Where the chain leads on to a frame: where it was in the last look, and how much from there to the root is
 * as it was. */
struct met {
	const char *frame;
	unsigned found; /* 0: nowhere */
	unsigned same;
};

static TRACE_INLINE struct met meet(const struct trace_python_layout *layout,
				    const struct trace_python_chain *chain, unsigned old,
				    const char *frame)
{
	unsigned found = find_old(chain, old, frame);

	return (struct met){frame, found, found ? same_from(layout, chain->frames, found) : 0};
}

/* Has the leaf only come to another instruction, and is all the rest as it was? Then that is noted. */
static TRACE_INLINE bool move_on(const struct trace_python_layout *layout,
				 struct trace_python_chain *chain, struct met met)
{
	struct trace_python_frame *leaf = &chain->frames[met.found];
	struct trace_python_word *is = &chain->words[met.found];
	uintptr_t state = state_of(layout, met.frame);

	if (met.found < 2 || !is->has_word || layout->frame_bytecode || (state ^ leaf->state) & 1 ||
	    code_of(layout, met.frame) != is->key.code ||
	    python_pointer(met.frame, layout->frame_previous) != leaf[-1].frame ||
	    same_from(layout, chain->frames, met.found - 1) != met.found - 1)
		return false;
	const char *bytecode = is->key.code + layout->code_instructions;
	int64_t offset = python_pointer(met.frame, layout->frame_instruction) - bytecode;
	leaf->state = state;
	is->word = (is->word & ~(uint64_t)(OFFSET_LIMIT - 1)) | offset_bits(offset);
	is->sum = is[-1].sum + part_of(is->word, met.found);
	if (chain->same >= met.found)
		chain->same = met.found - 1;
	return true;
}

/* From the leaf on, where it is not what it was. */
static TRACE_INLINE uint64_t look_on(const struct trace_python_layout *layout,
				     struct trace_python_chain *chain,
				     struct trace_code_cache *cache, struct met met,
				     bool sure_of_codes)
{
	unsigned fresh = 0, old = chain->count;

	for (;;) {
		if (!sure_of_codes)
			met.same = same_codes(layout, chain, met.found, met.same);
		if (met.same && met.same == met.found && fresh + met.found <= TRACE_MAX_FRAMES)
			return keep(chain, met.found, fresh, true);
		if (met.same)
			fresh = copy_same(chain, met.found, met.same, fresh);
		else
			read_surely(layout, chain, fresh++, met.frame, cache);
		if (met.found)
			old = met.found - (met.same ? met.same : 1);
		const char *frame = python_pointer(chain->fresh_frames[fresh - 1].frame,
						   layout->frame_previous);
		if (!python_is_plausible(frame) || fresh == TRACE_MAX_FRAMES)
			return keep(chain, 0, fresh, !python_is_plausible(frame));
		met = meet(layout, chain, old, frame);
	}
}

static __attribute__((noinline)) uint64_t look_on_3_11(struct trace_python_chain *chain,
						       struct trace_code_cache *cache,
						       struct met met, bool sure_of_codes)
{
	return look_on(&trace_python_3_11, chain, cache, met, sure_of_codes);
}

static __attribute__((noinline)) uint64_t look_on_known(struct trace_python_chain *chain,
							struct trace_code_cache *cache,
							struct met met, bool sure_of_codes)
{
	return look_on(known, chain, cache, met, sure_of_codes);
}

static TRACE_INLINE uint64_t look(const struct trace_python_layout *layout,
				  struct trace_python_chain *chain, struct trace_code_cache *cache,
				  bool locked,
				  uint64_t (*on)(struct trace_python_chain *,
						 struct trace_code_cache *, struct met, bool))
{
	uint32_t freed = atomic_load_explicit(&trace_python.codes_freed, memory_order_relaxed);
	bool sure_of_codes = trace_python.code_type && freed == chain->codes_freed;

	chain->codes_freed = freed;
	const char *frame = current_frame(layout, locked);
	if (!python_is_plausible(frame))
		return keep(chain, 0, 0, true);
	if (!chain->whole)
		chain->count = 0;
	struct met met = meet(layout, chain, chain->count, frame);
	if (sure_of_codes && met.found &&
	    (met.same ? met.same == met.found : move_on(layout, chain, met)))
		return shorten(chain, met.found);
	return on(chain, cache, met, sure_of_codes);
}

uint64_t trace_python_snapshot(struct trace_python_chain *chain, struct trace_code_cache *cache,
			       bool locked)
{
	if (trace_unlikely(!known) && !start())
		return 0;
	/* With offsets that the compiler knows it takes three quarters of the time. */
	return known->minor == trace_python_3_11.minor
		       ? look(&trace_python_3_11, chain, cache, locked, look_on_3_11)
		       : look(known, chain, cache, locked, look_on_known);
}

uint64_t trace_python_snapshot_interrupted(struct trace_python_chain *chain,
					   struct trace_code_cache *cache)
{
	const struct trace_python_layout *layout = known;
	struct readable asked = {.sure = false};
	unsigned fresh = 0;

	/* Looking for the interpreter's layout may take the loader's lock. */
	const char *frame = layout ? current_frame(layout, false) : NULL;
	while (python_is_plausible(frame) && fresh < TRACE_MAX_FRAMES &&
	       is_readable(&asked, frame, FRAME_BYTES)) {
		read_frame(layout, chain, fresh++, frame, &asked, cache);
		frame = python_pointer(frame, layout->frame_previous);
	}
	return keep(chain, 0, fresh, false);
}

unsigned trace_python_words(const struct trace_python_chain *chain, unsigned without,
			    uint64_t *words)
{
	unsigned count = 0;

	for (unsigned i = chain->count; i > without; i--)
		if (chain->words[i].has_word)
			words[count++] = chain->words[i].word;
	return count;
}

unsigned trace_python_entries(uintptr_t *places, unsigned max, uintptr_t until)
{
	const struct trace_python_layout *layout = known;
	unsigned count = 0;

	if (layout->has_cframe) {
		const char *cframe = python_pointer(this_thread_state(false), layout->thread_frame);
		for (; python_is_plausible(cframe) && (uintptr_t)cframe < until && count < max;
		     cframe = python_pointer(cframe, layout->cframe_previous))
			places[count++] = (uintptr_t)cframe;
		return count;
	}
	const char *frame = current_frame(layout, false);
	for (; python_is_plausible(frame) && count < max;
	     frame = python_pointer(frame, layout->frame_previous))
		if (is_shim(layout, frame)) {
			if ((uintptr_t)frame >= until)
				break;
			places[count++] = (uintptr_t)frame;
		}
	return count;
}
