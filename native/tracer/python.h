/* CPython inside the traced program: its frames and its object allocator. No Python.h: functions are
 * looked up by name, structures read by offsets. */
#ifndef MEMATLAS_TRACER_PYTHON_H
#define MEMATLAS_TRACER_PYTHON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../include/trace_format.h"

#define TRACE_CODE_SLOTS 4096u

struct trace_python {
	uint32_t version; /* PY_VERSION_HEX of an interpreter whose frames can be read; 0: none */
	uint64_t eval_start[TRACE_EVAL_RANGES], eval_end[TRACE_EVAL_RANGES];
	int (*is_finalizing)(void); /* is it taking itself down? */
	bool hooked;
	bool free_threaded;
	bool unlocked; /* its allocator is called without the interpreter's lock, too */
	bool small_blocks; /* its allocator is pymalloc: blocks of at most 512 bytes, under the lock */
	const void *code_type; /* PyCode_Type, where all frees of code are seen; else NULL */
	_Atomic uint32_t codes_freed, codes_freed_at[TRACE_CODE_SLOTS]; /* by trace_code_slot() */
};
extern struct trace_python trace_python;

/* python_find.c: looks for an interpreter; true once it is found. */
bool trace_python_find(void);
void *trace_python_symbol(const char *name);

/* python_layout.c: where things are in one version's structures. Offsets in bytes. */
struct trace_python_layout {
	uint32_t minor; /* 3.minor */
	uint16_t thread_frame; /* PyThreadState: current frame, or with `cframe` the _PyCFrame */
	uint16_t thread_id; /* in 3.11, whose state it is: pthread_self() */
	bool has_cframe; /* until 3.12 */
	uint16_t cframe_frame, cframe_previous;
	uint16_t frame_code; /* _PyInterpreterFrame */
	uint16_t frame_previous;
	uint16_t frame_instruction;
	uint16_t frame_owner;
	uint16_t frame_is_entry; /* 0: entries are told by a shim frame owned by the C stack */
	uint16_t frame_bytecode; /* 0: all threads run a code object's one bytecode */
	uint16_t code_file, code_name, code_linetable, code_first_line, code_instructions;
	uint16_t code_bytecodes; /* the threads' copies */
	uint16_t string_length, string_state, string_ascii_data, string_compact_data;
	uint8_t string_kind_bit; /* in the state; then follow compact and ASCII */
	uint16_t bytes_size, bytes_data;
	uint8_t owned_by_c_stack; /* first value of frame_owner that is no Python frame */
};
/* NULL: a version nobody has measured. `runtime` is the address of _PyRuntime. */
const struct trace_python_layout *trace_python_layout(uint32_t version, const void *runtime);

/* python_frames.c */
struct trace_code {
	const char *name, *file, *linetable;
	size_t name_length, file_length, linetable_length;
	int first_line;
	unsigned linetable_format;
};

#define TRACE_CODE_TEXT 4096u

/* A code object is known by its address and, since addresses are used again, by what it points at and by
 * the code freed there before, where that is seen. */
struct trace_code_key {
	const char *code, *linetable, *name;
	int32_t first_line;
	uint32_t freed;
};
struct trace_code;
struct trace_code_cache {
	/* Tells what is not known yet, before its number is used. */
	void (*emit)(void *context, uint32_t id, const struct trace_code *code);
	void *context;
	struct {
		struct trace_code_key key;
		uint32_t id;
	} slots[TRACE_CODE_SLOTS];
	uint32_t last_id;
	char name[TRACE_CODE_TEXT], file[TRACE_CODE_TEXT];
};

/* A frame of the last look at the chain: all that tells it from another one of the same code. Its caller's
 * is the next to the root. */
struct trace_python_frame {
	const char *frame;
	uintptr_t state; /* its instruction, at an even place, and whether it says it is an entry */
};
/* And what its word was made of, besides. */
struct trace_python_word {
	struct trace_code_key key;
	uint64_t word; /* of trace_format.h */
	uint64_t sum; /* hash of the way to the root */
	unsigned depth; /* words of that way */
	bool has_word; /* it has a word; links between C and Python have none */
};

/* A thread's last look, counted from the root, whose number is 1; number 0 stands for what no frame leads
 * to. The next one takes over the frames that still are what they were; most are, for they wait for the
 * one at the leaf. */
struct trace_python_chain {
	unsigned count;
	unsigned same; /* how many from the root stood there in all looks since it was last set */
	bool whole; /* it was followed to its end */
	uint32_t codes_freed; /* before it was */
	struct trace_python_frame frames[TRACE_MAX_FRAMES + 1];
	struct trace_python_word words[TRACE_MAX_FRAMES + 1];
	/* While looking: from the leaf. */
	struct trace_python_frame fresh_frames[TRACE_MAX_FRAMES];
	struct trace_python_word fresh_words[TRACE_MAX_FRAMES];
};

/* Looks at the Python frames of the calling thread; a hash of them, 0 if there are none. `locked`: the
 * thread holds the interpreter's lock. */
uint64_t trace_python_snapshot(struct trace_python_chain *chain, struct trace_code_cache *cache,
			       bool locked);
/* At any instruction, perhaps one that is changing the chain; what cannot be read then ends it. */
uint64_t trace_python_snapshot_interrupted(struct trace_python_chain *chain,
					   struct trace_code_cache *cache);
/* Their words, leaf first, but for the first `without` frames from the root; `words` has room for
 * TRACE_MAX_FRAMES. */
unsigned trace_python_words(const struct trace_python_chain *chain, unsigned without,
			    uint64_t *words);

/* What each entry of the eval loop keeps on the C stack below `until`, leaf first. */
unsigned trace_python_entries(uintptr_t *places, unsigned max, uintptr_t until);

/* python_hooks.c: wraps the object allocator. Blocks over 512 bytes come from malloc() and are seen
 * there. */
struct trace_python_callbacks {
	void (*allocated)(const void *hook, const void *block, size_t size); /* `hook`: its frame */
	bool (*freeing)(void *block); /* true: it was recorded */
	void (*restore)(void *block);
	bool every_free; /* freeing() is told of each block, recorded or not */
};
void trace_python_hook(const struct trace_python_callbacks *callbacks);
void trace_python_unhook(void); /* with the interpreter's lock held */
void trace_python_check_hooks(void); /* Python may have set its allocators since */
/* At a mapping while Python starts: true if it comes from an allocator chosen just now (PYTHONMALLOC). */
bool trace_python_on_arena_map(void);

#endif
