/* CPython inside the traced program: its frames and its object allocator. Without Python.h: functions are
 * looked up by name, structures are read by offsets. */
#ifndef MEMATLAS_TRACER_PYTHON_H
#define MEMATLAS_TRACER_PYTHON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../include/trace_format.h"

#define TRACE_CODE_SLOTS 4096u

/* Which threads are asked for their Python frames. The answer may be in thread-local storage, which the loader
 * allocates on a thread's first use if the interpreter was not loaded at the start. Then only threads that
 * were seen to run the interpreter are asked. */
enum trace_python_use { TRACE_NO_PYTHON, TRACE_PYTHON_EVERYWHERE, TRACE_PYTHON_WHERE_SEEN };

/* use == TRACE_NO_PYTHON <=> version == 0 */
struct trace_python {
	uint32_t version; /* PY_VERSION_HEX; 0: no interpreter with a known layout */
	uint32_t use; /* enum trace_python_use */
	uintptr_t code_start, code_end; /* of the module with the interpreter */
	uint64_t eval_start[TRACE_EVAL_RANGES], eval_end[TRACE_EVAL_RANGES];
	int (*is_finalizing)(void); /* NULL: not exported */
	bool hooked;
	bool free_threaded;
	bool unlocked; /* its allocator may be called without the GIL */
	bool small_blocks; /* its allocator is pymalloc: blocks of <= 512 bytes, under the GIL */
	const void *code_type; /* PyCode_Type, if every free of a code object is seen; else NULL */
	_Atomic uint32_t codes_freed, codes_freed_at[TRACE_CODE_SLOTS]; /* by trace_code_slot() */
};
extern struct trace_python trace_python;

struct link_map;

/* python_find.c. True: an interpreter is found, now or before. */
bool trace_python_find(void);
void *trace_python_symbol(const char *name);
/* The module with the interpreter, and the number of its namespace; NULL: none is found. */
const struct link_map *trace_python_module(unsigned *namespace);

/* python_layout.c: offsets in the structures of one version, in bytes; 0 where a version lacks the field. */
struct trace_python_layout {
	uint32_t minor; /* 3.minor */
	uint16_t thread_frame; /* PyThreadState: current frame, or with `cframe` the _PyCFrame */
	uint16_t thread_id; /* 3.11: pthread_self() of the owner */
	bool has_cframe; /* until 3.12 */
	uint16_t cframe_frame, cframe_previous;
	uint16_t frame_code; /* _PyInterpreterFrame */
	uint16_t frame_previous;
	uint16_t frame_instruction;
	uint16_t frame_owner;
	uint16_t frame_is_entry; /* 3.11; later a shim frame owned by the C stack marks entries */
	uint16_t frame_bytecode; /* free-threaded: index of the thread's copy of the bytecode */
	uint16_t code_file, code_name, code_linetable, code_first_line, code_instructions;
	uint16_t code_bytecodes; /* free-threaded: the copies */
	uint16_t string_length, string_state, string_ascii_data, string_compact_data;
	uint8_t string_kind_bit; /* in the state; compact and ASCII follow */
	uint16_t bytes_size, bytes_data;
	uint8_t owned_by_c_stack; /* frame_owner >= this: no Python frame */
};
/* `runtime`: address of _PyRuntime. NULL: an unknown version. */
const struct trace_python_layout *trace_python_layout(uint32_t version, const void *runtime);

/* python_frames.c */
struct trace_code {
	const char *name, *file, *linetable;
	size_t name_length, file_length, linetable_length;
	int first_line;
	unsigned linetable_format;
};

#define TRACE_CODE_TEXT 4096u

/* Identity of a code object. Addresses are reused, so it includes what the object points at and, where
 * frees are seen, how many code objects were freed at its address. */
struct trace_code_key {
	const char *code, *linetable, *name;
	int32_t first_line;
	uint32_t freed;
};
struct trace_code_cache {
	/* Writes the CODE record before the first use of its ID. */
	void (*emit)(void *context, uint32_t id, const struct trace_code *code);
	void *context;
	struct {
		struct trace_code_key key;
		uint32_t id;
	} slots[TRACE_CODE_SLOTS];
	uint32_t last_id;
	char name[TRACE_CODE_TEXT], file[TRACE_CODE_TEXT];
};

/* A frame of the last snapshot: what differs between two frames of the same code. Its caller is the next
 * one towards the root. */
struct trace_python_frame {
	const char *frame;
	uintptr_t state; /* instruction (an even address) | entry mark */
};
/* The frame's word and what it was made of. */
struct trace_python_word {
	struct trace_code_key key;
	uint64_t word; /* of trace_format.h */
	uint64_t sum; /* hash of the words from the root to here */
	unsigned depth; /* number of those words */
	bool has_word; /* shim frames between C and Python have none */
};

/* A thread's last snapshot. Frames are numbered from the root, which is 1; entry 0 is a sentinel.
 *
 *   same <= count <= TRACE_MAX_FRAMES
 *   words[i].sum, .depth cover frames 1..i; words[0].sum == words[0].depth == 0 */
struct trace_python_chain {
	unsigned count;
	unsigned same; /* frames from the root unchanged since the last emitted stack */
	bool whole; /* followed to the root */
	uint32_t codes_freed; /* at the snapshot */
	struct trace_python_frame frames[TRACE_MAX_FRAMES + 1];
	struct trace_python_word words[TRACE_MAX_FRAMES + 1];
	/* During a snapshot: from the leaf. */
	struct trace_python_frame fresh_frames[TRACE_MAX_FRAMES];
	struct trace_python_word fresh_words[TRACE_MAX_FRAMES];
};

/* Takes a snapshot of the calling thread's Python frames. Returns a hash; 0: there are none. `locked`: the
 * thread holds the GIL. */
uint64_t trace_python_snapshot(struct trace_python_chain *chain, struct trace_code_cache *cache,
			       bool locked);
/* The same in a signal handler, where the chain may be half updated: an unreadable frame ends it. */
uint64_t trace_python_snapshot_interrupted(struct trace_python_chain *chain,
					   struct trace_code_cache *cache);
/* Copies the words, leaf first, without those of the first `without` frames from the root. `words` has a
 * capacity of TRACE_MAX_FRAMES. Returns their number. */
unsigned trace_python_words(const struct trace_python_chain *chain, unsigned without,
			    uint64_t *words);

/* Finds what each call of the eval loop keeps on the C stack below `until`, leaf first. Returns the
 * number of addresses. */
unsigned trace_python_entries(uintptr_t *addresses, unsigned max, uintptr_t until);

/* python_hooks.c: wraps the object allocator. Blocks over 512 bytes come from malloc(), whose hook records
 * them. */
struct trace_python_callbacks {
	void (*allocated)(const void *hook, const void *block, size_t size); /* `hook`: a frame */
	bool (*freeing)(void *block); /* true: it was recorded as live */
	void (*restore)(void *block);
	bool every_free; /* freeing() is called for every block, recorded or not */
};
void trace_python_register(const struct trace_python_callbacks *callbacks);
/* Before the interpreter is initialized, or with the GIL held. */
void trace_python_hook(void);
/* For an interpreter loaded late: prepares for the two functions below. */
void trace_python_hook_late(void);
/* The caller holds the GIL. */
void trace_python_unhook(void);
/* Wraps allocators that Python has set since. True: there were some. */
bool trace_python_check_hooks(void);
/* At a mapping made by code at `caller`, while Python starts. True: it comes from an allocator chosen just now
 * (PYTHONMALLOC), or of an interpreter loaded late, which is wrapped from here on. */
bool trace_python_on_arena_map(const void *caller);

#endif
