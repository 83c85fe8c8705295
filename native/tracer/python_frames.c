/* Reads the interpreter's frame chain. A thread reads only its own frames, so they stand still, with
 * or without the GIL: their code objects live as long as they do. Only where a signal interrupted it
 * may a frame be half made: then the kernel is asked before a page is read. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../include/trace_format.h"
#include "python.h"

#define STATE_KIND(state) ((state) >> 2 & 7)
#define STATE_COMPACT(state) ((state) >> 5 & 1)
#define STATE_ASCII(state) ((state) >> 6 & 1)
#define POINTER_TAGS 7u /* 3.14 keeps how a reference is counted in its lowest bits */

static const struct trace_python_layout *layout;
static void *(*gil_thread_state)(void);
static void *(*running_thread_state)(void); /* since 3.12 the calling thread's own */

/* In a subinterpreter a thread runs with another state than the one it began with; while it lets go
 * of the GIL it runs with none, and its frames stand still. */
static void *this_thread_state(void)
{
	void *running = running_thread_state ? running_thread_state() : NULL;

	return running ? running : gil_thread_state();
}

static bool start(void)
{
	gil_thread_state = (void *(*)(void))trace_python_symbol("PyGILState_GetThisThreadState");
	if (trace_python.version >= 0x030c0000)
		running_thread_state =
			(void *(*)(void))trace_python_symbol("_PyThreadState_UncheckedGet");
	layout = trace_python_layout(trace_python.version, trace_python_symbol("_PyRuntime"));
	return gil_thread_state && layout;
}

static inline const char *pointer_at(const char *object, unsigned offset)
{
	const char *value;

	memcpy(&value, object + offset, sizeof value);
	return value;
}

static inline bool is_plausible(const char *pointer)
{
	return (uintptr_t)pointer > 4096 && ((uintptr_t)pointer & 7) == 0 &&
	       (uintptr_t)pointer >> 47 == 0;
}

struct readable {
	bool sure; /* no need to ask */
	unsigned next;
	uintptr_t pages[4]; /* found readable before */
};

static bool page_is_readable(struct readable *readable, uintptr_t page)
{
	for (unsigned i = 0; i < 4; i++)
		if (readable->pages[i] == page)
			return true;
	/* An unknown `how` is refused after the set has been read: EFAULT tells that it could not be. */
	long result = syscall(SYS_rt_sigprocmask, ~0L, page, NULL, 8L);
	if (result == 0 || errno == EFAULT)
		return false;
	readable->pages[readable->next++ & 3] = page;
	return true;
}

static bool is_readable(struct readable *readable, const char *object, unsigned size)
{
	uintptr_t first = (uintptr_t)object & ~(uintptr_t)4095;
	uintptr_t last = ((uintptr_t)object + size - 1) & ~(uintptr_t)4095;

	return readable->sure || (page_is_readable(readable, first) &&
				  (first == last || page_is_readable(readable, last)));
}

static size_t put_utf8(char *to, uint32_t character)
{
	if (character < 0x80) {
		to[0] = (char)character;
		return 1;
	}
	if (character < 0x800) {
		to[0] = (char)(0xc0 | character >> 6);
		to[1] = (char)(0x80 | (character & 63));
		return 2;
	}
	if (character < 0x10000) {
		to[0] = (char)(0xe0 | character >> 12);
		to[1] = (char)(0x80 | (character >> 6 & 63));
		to[2] = (char)(0x80 | (character & 63));
		return 3;
	}
	to[0] = (char)(0xf0 | character >> 18);
	to[1] = (char)(0x80 | (character >> 12 & 63));
	to[2] = (char)(0x80 | (character >> 6 & 63));
	to[3] = (char)(0x80 | (character & 63));
	return 4;
}

/* A str's text as UTF-8, cut to what fits `buffer`; ASCII is not copied. */
static const char *read_text(const char *string, char *buffer, size_t *length)
{
	uint32_t state;
	uint64_t characters;
	size_t at = 0;

	*length = 0;
	if (!is_plausible(string))
		return "";
	memcpy(&state, string + layout->string_state, sizeof state);
	memcpy(&characters, string + layout->string_length, sizeof characters);
	if (!STATE_COMPACT(state) || characters > 1u << 20)
		return "";
	if (STATE_ASCII(state)) {
		*length = characters < TRACE_CODE_TEXT ? characters : TRACE_CODE_TEXT;
		return string + layout->string_ascii_data;
	}
	const char *data = string + layout->string_compact_data;
	unsigned width = STATE_KIND(state);
	for (uint64_t i = 0; i < characters && at + 4 <= TRACE_CODE_TEXT; i++) {
		uint32_t character = 0;
		memcpy(&character, data + i * width, width);
		at += put_utf8(buffer + at, character);
	}
	*length = at;
	return buffer;
}

static void read_code(struct trace_code_cache *cache, const char *object, struct trace_code *code)
{
	const char *table = pointer_at(object, layout->code_linetable);
	int32_t first_line;

	memcpy(&first_line, object + layout->code_first_line, sizeof first_line);
	code->first_line = first_line;
	code->name =
		read_text(pointer_at(object, layout->code_name), cache->name, &code->name_length);
	code->file =
		read_text(pointer_at(object, layout->code_file), cache->file, &code->file_length);
	code->linetable_format = TRACE_LINES_LOCATIONS;
	code->linetable = "";
	code->linetable_length = 0;
	if (is_plausible(table)) {
		memcpy(&code->linetable_length, table + layout->bytes_size, sizeof(size_t));
		code->linetable = table + layout->bytes_data;
	}
}

/* A code object is known by its address and, since addresses are used again, by what it points at. */
static uint32_t find_code(struct trace_code_cache *cache, const char *object,
			  void (*emit)(void *, uint32_t, const struct trace_code *), void *context)
{
	const char *linetable = pointer_at(object, layout->code_linetable);
	const char *name = pointer_at(object, layout->code_name);
	uint64_t slot = ((uintptr_t)object >> 4) * 0x9e3779b97f4a7c15ull >> 52;
	struct trace_code code;
	int32_t first_line;

	memcpy(&first_line, object + layout->code_first_line, sizeof first_line);
	for (unsigned way = 0; way < 2; way++) {
		uint64_t at = slot ^ way;
		if (cache->slots[at].code == object && cache->slots[at].linetable == linetable &&
		    cache->slots[at].name == name && cache->slots[at].first_line == first_line)
			return cache->slots[at].id;
	}
	read_code(cache, object, &code);
	emit(context, ++cache->last_id, &code);
	if (cache->slots[slot].code)
		cache->slots[slot ^ 1] = cache->slots[slot];
	cache->slots[slot].code = object;
	cache->slots[slot].linetable = linetable;
	cache->slots[slot].name = name;
	cache->slots[slot].first_line = first_line;
	cache->slots[slot].id = cache->last_id;
	return cache->last_id;
}

static const char *current_frame(void)
{
	const char *thread = this_thread_state();

	if (!is_plausible(thread))
		return NULL;
	const char *frame = pointer_at(thread, layout->thread_frame);
	if (layout->has_cframe)
		frame = is_plausible(frame) ? pointer_at(frame, layout->cframe_frame) : NULL;
	return frame;
}

static const char *code_of(const char *frame)
{
	uintptr_t tagged = (uintptr_t)pointer_at(frame, layout->frame_code);

	return (const char *)(tagged & ~(uintptr_t)POINTER_TAGS);
}

static bool is_shim(const char *frame)
{
	return (uint8_t)frame[layout->frame_owner] >= layout->owned_by_c_stack;
}

static bool is_entry(const char *frame, const char *previous)
{
	if (layout->frame_is_entry)
		return frame[layout->frame_is_entry] != 0;
	return !is_plausible(previous) || is_shim(previous);
}

#define FRAME_BYTES 96u /* a frame's head, up to all that is read of it */
#define CODE_BYTES 256u

static bool is_code(struct readable *readable, const char *code)
{
	if (!is_plausible(code) || !is_readable(readable, code, CODE_BYTES))
		return false;
	return readable->sure ||
	       (is_plausible(pointer_at(code, layout->code_linetable)) &&
		is_plausible(pointer_at(code, layout->code_name)) &&
		is_readable(readable, pointer_at(code, layout->code_linetable), 64) &&
		is_readable(readable, pointer_at(code, layout->code_name), 64));
}

unsigned trace_python_frames(struct trace_code_cache *cache, bool interrupted, uint64_t *words,
			     unsigned max,
			     void (*emit)(void *, uint32_t, const struct trace_code *),
			     void *context)
{
	struct readable readable = {.sure = !interrupted};
	unsigned count = 0;

	/* Looking for it may take the loader's lock. */
	if (!layout && (interrupted || !start()))
		return 0;
	const char *frame = current_frame();
	while (is_plausible(frame) && count < max && is_readable(&readable, frame, FRAME_BYTES)) {
		const char *previous = pointer_at(frame, layout->frame_previous);
		const char *code = code_of(frame);
		if (!is_shim(frame) && is_code(&readable, code)) {
			const char *at = pointer_at(frame, layout->frame_instruction);
			int64_t offset = at - (code + layout->code_instructions);
			uint64_t id = find_code(cache, code, emit, context);
			/* Before its first instruction a frame points in front of the code. */
			words[count++] = id << 32 |
					 (is_entry(frame, previous) ? TRACE_PYTHON_ENTRY : 0) |
					 (offset > 0 && offset < 1 << 30 ? (uint64_t)offset : 0);
		}
		frame = previous;
	}
	return count;
}

unsigned trace_python_entries(uintptr_t *places, unsigned max)
{
	unsigned count = 0;

	if (layout->has_cframe) {
		const char *cframe = pointer_at(this_thread_state(), layout->thread_frame);
		for (; is_plausible(cframe) && count < max;
		     cframe = pointer_at(cframe, layout->cframe_previous))
			places[count++] = (uintptr_t)cframe;
		return count;
	}
	const char *frame = current_frame();
	for (; is_plausible(frame) && count < max;
	     frame = pointer_at(frame, layout->frame_previous))
		if (is_shim(frame))
			places[count++] = (uintptr_t)frame;
	return count;
}
