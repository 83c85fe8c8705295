/* Snapshots of the interpreter's frame chain. Each snapshot reuses the frames of the last one that are
 * unchanged; most are, since only the leaf runs. */
#define _GNU_SOURCE
#include <pthread.h>

#include "python_frame.h"
#include "python_layout.h"

static const struct trace_python_layout
	*detected; /* of this interpreter; NULL: not looked up yet */
static void *(*gil_thread_state)(void);
static void *(*holding_thread_state)(void); /* of the thread that holds the GIL */
static void *(*running_thread_state)(void); /* since 3.12: of the calling thread */

static TRACE_INLINE bool is_own(const char *state)
{
	return python_is_plausible(state) &&
	       python_pointer(state, detected->thread_id) == (const char *)pthread_self();
}

/* In a subinterpreter a thread runs with another state than its first one; without the GIL it has none,
 * and its frames do not change. `locked`: the allocator's contract says the GIL is held; a caller that
 * breaks the contract must not lead to another thread's frames. */
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

	const struct trace_python_layout *layout =
		trace_python_layout(trace_python.version, trace_python_symbol("_PyRuntime"));
	if (layout && layout->thread_id)
		holding_thread_state = (void *(*)(void))current;
	else
		running_thread_state = (void *(*)(void))current;
	gil_thread_state = (void *(*)(void))trace_python_symbol("PyGILState_GetThisThreadState");
	if (!gil_thread_state)
		return false;
	__atomic_store_n(&detected, layout, __ATOMIC_RELEASE); /* last: it tells that all are set */
	return layout;
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

/* Not inlined: few frames are read anew, and the hot path should stay small. */
static __attribute__((noinline)) void read_fresh(const struct trace_python_layout *layout,
						 struct trace_python_chain *chain, unsigned fresh,
						 const char *frame, struct trace_code_cache *cache)
{
	struct readable sure = {.sure = true};

	read_frame(layout, chain, fresh, frame, &sure, cache);
}

/* Does the frame still run the code it ran at the last snapshot? */
static TRACE_INLINE bool is_same_code(const struct trace_python_layout *layout, const char *frame,
				      const struct trace_python_word *was)
{
	if (code_of(layout, frame) != was->key.code)
		return false;
	if (!was->has_word)
		return true;
	struct trace_code_key key = trace_code_key(layout, was->key.code);
	return trace_code_equals(&key, &was->key);
}

/* Counts from frame `count` towards the root how many frames are unchanged, their code apart. A frame may
 * be read only if its callee still points to it. */
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

/* Counts how many of these frames run the code they ran. */
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

#define MAX_POPPED 4u /* frames to search for the next one that stayed */

static inline unsigned find_old(const struct trace_python_chain *chain, unsigned old,
				const char *frame)
{
	for (unsigned i = old; i && old - i < MAX_POPPED; i--)
		if (chain->frames[i].frame == frame)
			return i;
	return 0;
}

/* A word's term in the hash. The terms are independent, so they are computed in parallel. */
static TRACE_INLINE uint64_t part_of(uint64_t word, unsigned at)
{
	uint64_t part = (word ^ at * 0xa0761d6478bd642full) * 0x9fb21c651e98df25ull;

	return part ^ part >> 29;
}

static inline uint64_t hash_of(const struct trace_python_chain *chain)
{
	return chain->count ? chain->words[chain->count].sum * 0xd6e8feb86659fd93ull | 1 : 0;
}

/* Shortens the chain to its first `count` frames and returns its hash. */
static inline uint64_t shorten(struct trace_python_chain *chain, unsigned count)
{
	chain->count = count;
	if (chain->same > count)
		chain->same = count;
	return hash_of(chain);
}

/* Pushes the `fresh` frames on the first `old` ones and returns the hash. `whole`: the chain was followed
 * to its end. */
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

/* Copies `same` unchanged frames that now stand on others. */
static __attribute__((noinline)) unsigned copy_same(struct trace_python_chain *chain,
						    unsigned found, unsigned same, unsigned fresh)
{
	for (; same > 0 && fresh < TRACE_MAX_FRAMES; same--, fresh++) {
		chain->fresh_frames[fresh] = chain->frames[found];
		chain->fresh_words[fresh] = chain->words[found--];
	}
	return fresh;
}

/* A frame matched against the last snapshot.
 *
 *   same <= found */
struct match {
	const char *frame;
	unsigned found; /* its number in the last snapshot; 0: it was not there */
	unsigned same; /* frames from there to the root that are unchanged */
};

static TRACE_INLINE struct match match_frame(const struct trace_python_layout *layout,
					     const struct trace_python_chain *chain, unsigned old,
					     const char *frame)
{
	unsigned found = find_old(chain, old, frame);

	return (struct match){frame, found, found ? same_from(layout, chain->frames, found) : 0};
}

/* Updates the leaf if only its instruction changed. False: more has changed. */
static TRACE_INLINE bool update_leaf(const struct trace_python_layout *layout,
				     struct trace_python_chain *chain, struct match match)
{
	struct trace_python_frame *leaf = &chain->frames[match.found];
	struct trace_python_word *is = &chain->words[match.found];
	uintptr_t state = state_of(layout, match.frame);

	if (match.found < 2 || !is->has_word || layout->frame_bytecode ||
	    (state ^ leaf->state) & 1 || code_of(layout, match.frame) != is->key.code ||
	    python_pointer(match.frame, layout->frame_previous) != leaf[-1].frame ||
	    same_from(layout, chain->frames, match.found - 1) != match.found - 1)
		return false;
	const char *bytecode = is->key.code + layout->code_instructions;
	int64_t offset = python_pointer(match.frame, layout->frame_instruction) - bytecode;
	leaf->state = state;
	is->word = (is->word & ~(uint64_t)(OFFSET_LIMIT - 1)) | offset_bits(offset);
	is->sum = is[-1].sum + part_of(is->word, match.found);
	if (chain->same >= match.found)
		chain->same = match.found - 1;
	return true;
}

/* Number of the cached frames left below a matched one; `old`: before the match. */
static inline unsigned below(struct match match, unsigned old)
{
	if (!match.found)
		return old;
	return match.found - (match.same ? match.same : 1);
}

/* Follows the chain from the leaf where it has changed. */
static TRACE_INLINE uint64_t follow(const struct trace_python_layout *layout,
				    struct trace_python_chain *chain,
				    struct trace_code_cache *cache, struct match match,
				    bool sure_of_codes)
{
	unsigned fresh = 0, old = chain->count;

	for (;;) {
		if (!sure_of_codes)
			match.same = same_codes(layout, chain, match.found, match.same);
		if (match.same && match.same == match.found &&
		    fresh + match.found <= TRACE_MAX_FRAMES)
			return keep(chain, match.found, fresh, true);
		if (match.same)
			fresh = copy_same(chain, match.found, match.same, fresh);
		else
			read_fresh(layout, chain, fresh++, match.frame, cache);
		old = below(match, old);
		const char *frame = python_pointer(chain->fresh_frames[fresh - 1].frame,
						   layout->frame_previous);
		if (!python_is_plausible(frame) || fresh == TRACE_MAX_FRAMES)
			return keep(chain, 0, fresh, !python_is_plausible(frame));
		match = match_frame(layout, chain, old, frame);
	}
}

static __attribute__((noinline)) uint64_t follow_3_11(struct trace_python_chain *chain,
						      struct trace_code_cache *cache,
						      struct match match, bool sure_of_codes)
{
	return follow(&trace_python_3_11, chain, cache, match, sure_of_codes);
}

static __attribute__((noinline)) uint64_t follow_detected(struct trace_python_chain *chain,
							  struct trace_code_cache *cache,
							  struct match match, bool sure_of_codes)
{
	return follow(detected, chain, cache, match, sure_of_codes);
}

static TRACE_INLINE uint64_t snapshot(const struct trace_python_layout *layout,
				      struct trace_python_chain *chain,
				      struct trace_code_cache *cache, bool locked,
				      uint64_t (*follow_changed)(struct trace_python_chain *,
								 struct trace_code_cache *,
								 struct match, bool))
{
	uint32_t freed = atomic_load_explicit(&trace_python.codes_freed, memory_order_relaxed);
	bool sure_of_codes = trace_python.code_type && freed == chain->codes_freed;

	chain->codes_freed = freed;
	const char *frame = current_frame(layout, locked);
	if (!python_is_plausible(frame))
		return keep(chain, 0, 0, true);
	if (!chain->whole)
		chain->count = 0;
	struct match match = match_frame(layout, chain, chain->count, frame);
	if (sure_of_codes && match.found &&
	    (match.same ? match.same == match.found : update_leaf(layout, chain, match)))
		return shorten(chain, match.found);
	return follow_changed(chain, cache, match, sure_of_codes);
}

uint64_t trace_python_snapshot(struct trace_python_chain *chain, struct trace_code_cache *cache,
			       bool locked)
{
	if (trace_unlikely(!detected) && !start())
		return 0;
	/* Constant offsets save a quarter of the time. */
	return detected->minor == trace_python_3_11.minor
		       ? snapshot(&trace_python_3_11, chain, cache, locked, follow_3_11)
		       : snapshot(detected, chain, cache, locked, follow_detected);
}

uint64_t trace_python_snapshot_interrupted(struct trace_python_chain *chain,
					   struct trace_code_cache *cache)
{
	const struct trace_python_layout *layout = detected;
	struct readable asked = {.sure = false};
	unsigned fresh = 0;

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

unsigned trace_python_entries(uintptr_t *addresses, unsigned max, uintptr_t until)
{
	const struct trace_python_layout *layout = detected;
	unsigned count = 0;

	if (layout->has_cframe) {
		const char *cframe = python_pointer(this_thread_state(false), layout->thread_frame);
		for (; python_is_plausible(cframe) && (uintptr_t)cframe < until && count < max;
		     cframe = python_pointer(cframe, layout->cframe_previous))
			addresses[count++] = (uintptr_t)cframe;
		return count;
	}
	const char *frame = current_frame(layout, false);
	for (; python_is_plausible(frame) && count < max;
	     frame = python_pointer(frame, layout->frame_previous))
		if (is_shim(layout, frame)) {
			if ((uintptr_t)frame >= until)
				break;
			addresses[count++] = (uintptr_t)frame;
		}
	return count;
}
