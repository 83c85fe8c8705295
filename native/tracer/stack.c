/* The calling thread's stack as a number. A stack seen before costs a walk and one look-up; a new one
 * is written to the ring once. */
#define _GNU_SOURCE
#include "stack.h"

#include <elf.h>
#include <link.h>
#include <string.h>

#include "late_modules.h"
#include "modules.h"
#include "python_eval.h"
#include "ring.h"

static _Atomic uint32_t modules_generation;

void trace_modules_changed(void)
{
	atomic_fetch_add(&modules_generation, 1);
	trace_unwind_modules_changed();
}

static size_t format_hex(char *text, const unsigned char *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		text[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
		text[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
	}
	return 2 * count;
}

/* Searches one PT_NOTE segment. */
static size_t find_build_id(const char *note, const char *end, char *text, size_t size)
{
	while (note + sizeof(ElfW(Nhdr)) <= end) {
		const ElfW(Nhdr) *n = (const void *)note;
		const char *name = note + sizeof *n;
		const char *bytes = name + ((n->n_namesz + 3u) & ~3u);
		if (n->n_type == NT_GNU_BUILD_ID && n->n_namesz == 4 &&
		    memcmp(name, "GNU", 4) == 0 && n->n_descsz * 2 <= size)
			return format_hex(text, (const unsigned char *)bytes, n->n_descsz);
		note = bytes + ((n->n_descsz + 3u) & ~3u);
	}
	return 0;
}

/* Build ID in lower-case hexadecimal. Returns its length; 0: none. */
static size_t build_id(const struct trace_object *object, char *text, size_t size)
{
	const ElfW(Ehdr) *header = object->map_start;

	if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_phoff != sizeof *header)
		return 0;
	const ElfW(Phdr) *segments = (const void *)((const char *)header + header->e_phoff);
	for (unsigned i = 0; i < header->e_phnum; i++) {
		if (segments[i].p_type != PT_NOTE)
			continue;
		const char *note = (const char *)object->link_map->l_addr + segments[i].p_vaddr;
		size_t length = find_build_id(note, note + segments[i].p_memsz, text, size);
		if (length)
			return length;
	}
	return 0;
}

static void emit_module(struct trace_thread *thread, const struct trace_object *object)
{
	char id[128];
	size_t id_length = build_id(object, id, sizeof id);
	const char *path = object->link_map->l_name;

	if (!path || !*path)
		path = trace_session.process->executable;
	size_t path_length = strlen(path);
	unsigned words = 4 + trace_bytes_words(path_length) + trace_bytes_words(id_length);
	if (!trace_begin(thread, words))
		return;
	trace_word(thread, TRACE_MODULE | (uint64_t)words << 8);
	trace_word(thread, object->link_map->l_addr);
	trace_word(thread, (uintptr_t)object->map_start);
	trace_word(thread, (uintptr_t)object->map_end);
	trace_bytes(thread, path, path_length);
	trace_bytes(thread, id, id_length);
	trace_publish(thread);
}

enum seen { UNSEEN, SEEN, REPLACED };

/* Looks an object up among those the thread has recorded. Another object at the same addresses means
 * that one was unloaded past our hook of dlclose(), as libc does with its own plugins. */
static enum seen find_seen(const struct trace_thread *thread, const struct trace_object *object)
{
	uintptr_t start = (uintptr_t)object->map_start, end = (uintptr_t)object->map_end;

	for (unsigned i = 0; i < thread->modules; i++) {
		const struct trace_seen_module *seen = &thread->seen[i];
		if (seen->start >= end || seen->end <= start)
			continue;
		bool same = seen->start == start && seen->end == end &&
			    seen->dynamic == (uintptr_t)object->link_map->l_ld;
		return same ? SEEN : REPLACED;
	}
	return UNSEEN;
}

/* Code without a file, such as a JIT's. */
static void emit_no_module(struct trace_thread *thread, uint64_t pc)
{
	uint64_t page = pc & ~(uint64_t)(TRACE_MIN_PAGE - 1);
	unsigned words = 4 + 2 * trace_bytes_words(0);

	if (!trace_begin(thread, words))
		return;
	trace_word(thread, TRACE_MODULE | (uint64_t)words << 8);
	trace_word(thread, 0);
	trace_word(thread, page);
	trace_word(thread, page + TRACE_MIN_PAGE);
	trace_bytes(thread, "", 0);
	trace_bytes(thread, "", 0);
	trace_publish(thread);
}

/* False: the modules have changed unnoticed. */
static bool add_module(struct trace_thread *thread, uint64_t pc)
{
	struct trace_object object;

	if (!trace_find_object)
		return true;
	if (trace_find_object((void *)(uintptr_t)(pc - 1), &object) != 0) {
		emit_no_module(thread, pc - 1);
		return true;
	}
	enum seen seen = find_seen(thread, &object);
	if (seen != UNSEEN)
		return seen == SEEN;
	emit_module(thread, &object);
	unsigned slot =
		thread->modules < TRACE_SEEN_MODULES ? thread->modules++ : TRACE_SEEN_MODULES - 1;
	thread->seen[slot] =
		(struct trace_seen_module){(uintptr_t)object.map_start, (uintptr_t)object.map_end,
					   (uintptr_t)object.link_map->l_ld};
	return true;
}

static void forget_modules(struct trace_thread *thread)
{
	uint32_t generation = atomic_load_explicit(&modules_generation, memory_order_relaxed);

	if (thread->modules_generation == generation)
		return;
	thread->modules_generation = generation;
	thread->modules = 0;
	memset(thread->emitted, 0, sizeof thread->emitted);
}

/* A module is emitted when a stack first runs through it. A hook on dlopen() would change its result,
 * which depends on the caller, and would need the loader's lock. */
static void emit_modules(struct trace_thread *thread, const uint64_t *pcs, unsigned count)
{
	forget_modules(thread);
	for (unsigned i = 0; i < count; i++) {
		uint64_t *emitted = &thread->emitted[pcs[i] * 0x9e3779b97f4a7c15ull >>
						     (64 - TRACE_EMITTED_BITS)];
		if (*emitted == pcs[i]) /* also the 0 of a truncated list */
			continue;
		if (!add_module(thread, pcs[i])) {
			trace_modules_changed();
			forget_modules(thread);
			add_module(thread, pcs[i]);
		}
		*emitted = pcs[i];
	}
}

/* `counts` is of the whole stack; `native_count` and `python_count` are of the part that differs from
 * the previous stack. */
static bool emit_stack(struct trace_thread *thread, uint32_t id, uint64_t counts,
		       unsigned native_count, unsigned python_count)
{
	unsigned words = 3 + native_count + python_count;

	emit_modules(thread, thread->native, native_count);
	if (!trace_begin(thread, words))
		return false;
	trace_word(thread, TRACE_STACK | (uint64_t)words << 8);
	trace_word(thread, id);
	trace_word(thread, counts);
	for (unsigned i = 0; i < native_count; i++)
		trace_word(thread, thread->native[i]);
	for (unsigned i = 0; i < python_count; i++)
		trace_word(thread, thread->python[i]);
	trace_publish(thread);
	return true;
}

static void emit_code(void *context, uint32_t id, const struct trace_code *code)
{
	struct trace_thread *thread = context;
	size_t linetable = code->linetable_length;

	/* A table that does not fit a record is omitted; its lines are then unknown, not wrong. */
	if (linetable > (size_t)trace_session.ring_words * 2)
		linetable = 0;
	unsigned words = 3 + trace_bytes_words(code->name_length) +
			 trace_bytes_words(code->file_length) + trace_bytes_words(linetable) +
			 trace_bytes_words(0);
	if (!trace_begin(thread, words))
		return;
	trace_word(thread, TRACE_CODE | (uint64_t)words << 8);
	trace_word(thread, id | (uint64_t)(uint32_t)code->first_line << 32);
	trace_word(thread, code->linetable_format);
	trace_bytes(thread, code->name, code->name_length);
	trace_bytes(thread, code->file, code->file_length);
	trace_bytes(thread, code->linetable, linetable);
	trace_bytes(thread, "", 0);
	trace_publish(thread);
}

void trace_stack_start(struct trace_thread *thread)
{
	thread->walk.reusable = false;
	thread->walk.same = thread->chain.same = 0;
	thread->code_cache.emit = emit_code;
	thread->code_cache.context = thread;
}

/* A reader can reuse words of the last emitted stack only if both stacks are complete. */
static void limit_kept(struct trace_thread *thread, bool python)
{
	if (!thread->walk.whole || !thread->emitted_whole)
		thread->walk.same = 0;
	if (!python)
		thread->chain.same = 0;
}

static uint32_t stack_id(struct trace_thread *thread, uint64_t native, uint64_t python,
			 bool interrupted);

/* Looks for an interpreter loaded late, and for its frames in a stack without Python. True: the thread runs
 * Python, which was not known of it. */
static bool meets_python(struct trace_thread *thread)
{
	if (trace_has_late_modules())
		trace_look_for_late_modules();
	if (trace_python.use != TRACE_PYTHON_WHERE_SEEN || trace_tls.runs_python)
		return false;
	unsigned count = trace_walk_pcs(&thread->walk, &thread->bounds, 0, thread->native);
	for (unsigned i = 0; i < count && !trace_tls.runs_python; i++)
		trace_tls.runs_python = thread->native[i] >= trace_python.code_start &&
					thread->native[i] < trace_python.code_end;
	return trace_tls.runs_python;
}

/* Stack IDs are given again from 1 on. Each is defined again before it is used. */
static void limit_stacks(struct trace_thread *thread)
{
	if (thread->next_stack < TRACE_MOST_IDS)
		return;
	memset(thread->stacks, 0, sizeof thread->stacks);
	thread->next_stack = 0;
}

/* So are code IDs, once no words are needed that hold some: hashes of stacks and the last snapshot do, too. */
static void limit_codes(struct trace_thread *thread)
{
	if (thread->code_cache.last_id < TRACE_MOST_IDS)
		return;
	memset(thread->stacks, 0, sizeof thread->stacks);
	memset(thread->code_cache.slots, 0, sizeof thread->code_cache.slots);
	thread->code_cache.last_id = 0;
	thread->chain.count = thread->chain.same = 0;
}

static TRACE_SLOW uint32_t emit_new(struct trace_thread *thread, struct trace_stack_slot *slot,
				    uint64_t hash, bool python, bool interrupted)
{
	struct trace_walk *walk = &thread->walk;
	struct trace_python_chain *chain = &thread->chain;

	thread->changing = true;
	limit_stacks(thread);
	uint32_t id = thread->next_stack + 1;
	thread->next_stack = id; /* also of the next owner of the ring */
	limit_kept(thread, python);
	bool may_ask = python && !interrupted; /* Python, which a signal handler must not */
	thread->eval_seen = may_ask && trace_discover_eval_loop(walk, thread->eval_seen);
	unsigned kept = TRACE_WAY_EMITTED(walk->ways[walk->same].rest);
	unsigned python_kept = chain->words[chain->same].depth;
	unsigned count = trace_walk_pcs(walk, &thread->bounds, walk->same, thread->native);
	unsigned python_count = python ? trace_python_words(chain, chain->same, thread->python) : 0;
	uint64_t counts = TRACE_COUNTS(kept + count, python_kept + python_count, kept, python_kept);
	if (interrupted && count)
		thread->native[0]++; /* readers look up every PC - 1 */
	if (!emit_stack(thread, id, counts, count, python_count)) {
		thread->next_stack = id - 1; /* readers allow for few IDs that are not used */
		limit_codes(thread);
		thread->changing = false;
		return 0;
	}
	walk->same = walk->count;
	chain->same = python ? chain->count : 0;
	thread->emitted_whole = walk->whole;
	if (may_ask && trace_python_check_hooks())
		trace_describe_python();
	slot[1] = slot[0];
	slot[0] = (struct trace_stack_slot){.hash = hash, .id = id};
	limit_codes(thread);
	thread->changing = false;
	return id;
}

static TRACE_SLOW uint32_t new_stack(struct trace_thread *thread, struct trace_stack_slot *slot,
				     uint64_t hash, bool python, bool interrupted)
{
	if (python || interrupted || !meets_python(thread))
		return emit_new(thread, slot, hash, python, interrupted);
	uint64_t frames = trace_python_snapshot(&thread->chain, &thread->code_cache, false);
	return stack_id(thread, hash, frames, false);
}

static TRACE_INLINE uint32_t find_stack_id(struct trace_thread *thread, uint64_t native,
					   uint64_t python, bool interrupted)
{
	uint64_t hash = native ^ python;
	struct trace_stack_slot *slot = &thread->stacks[hash & (TRACE_STACK_SLOTS - 2)];

	if (trace_likely(slot[0].hash == hash && slot[0].id))
		return slot[0].id;
	if (slot[1].hash == hash && slot[1].id)
		return slot[1].id;
	return new_stack(thread, slot, hash, python != 0, interrupted);
}

static uint32_t stack_id(struct trace_thread *thread, uint64_t native, uint64_t python,
			 bool interrupted)
{
	return find_stack_id(thread, native, python, interrupted);
}

/* With an interpreter that was loaded at the start, one comparison more than without any. */
static TRACE_INLINE bool asks_python(void)
{
	uint32_t use = trace_python.use;

	return use && (use == TRACE_PYTHON_EVERYWHERE || trace_tls.runs_python);
}

uint32_t trace_stack(struct trace_thread *thread, bool locked)
{
	uint64_t native = trace_unwind(&thread->walk, &thread->bounds), python = 0;

	if (asks_python())
		python = trace_python_snapshot(&thread->chain, &thread->code_cache, locked);
	return find_stack_id(thread, native, python, false);
}

uint32_t trace_stack_at(struct trace_thread *thread, const struct trace_point *point)
{
	/* + 1, so that its hash differs from the same stack at a return address. */
	uint64_t native = trace_unwind_at(&thread->walk, &thread->bounds, point) + 1, python = 0;

	if (asks_python())
		python = trace_python_snapshot_interrupted(&thread->chain, &thread->code_cache);
	return find_stack_id(thread, native, python, true);
}
