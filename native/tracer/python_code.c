/* Reads code objects. */
#include <string.h>

#include "python.h"
#include "python_code.h"

/* Shifted right by string_kind_bit. */
#define STATE_KIND(state) ((state) & 7)
#define STATE_COMPACT(state) ((state) >> 3 & 1)
#define STATE_ASCII(state) ((state) >> 4 & 1)

static size_t write_utf8(char *to, uint32_t character)
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

/* Returns a str as UTF-8, truncated to the capacity of `buffer`. ASCII is not copied. */
static const char *read_text(const struct trace_python_layout *layout, const char *string,
			     char *buffer, size_t *length)
{
	uint32_t state;
	uint64_t characters;
	size_t at = 0;

	*length = 0;
	if (!python_is_plausible(string))
		return "";
	memcpy(&state, string + layout->string_state, sizeof state);
	memcpy(&characters, string + layout->string_length, sizeof characters);
	state >>= layout->string_kind_bit;
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
		at += write_utf8(buffer + at, character);
	}
	*length = at;
	return buffer;
}

static void read_code(const struct trace_python_layout *layout, struct trace_code_cache *cache,
		      const char *object, struct trace_code *code)
{
	const char *table = python_pointer(object, layout->code_linetable);
	int32_t first_line;

	memcpy(&first_line, object + layout->code_first_line, sizeof first_line);
	code->first_line = first_line;
	code->name = read_text(layout, python_pointer(object, layout->code_name), cache->name,
			       &code->name_length);
	code->file = read_text(layout, python_pointer(object, layout->code_file), cache->file,
			       &code->file_length);
	code->linetable_format = TRACE_LINES_LOCATIONS;
	code->linetable = "";
	code->linetable_length = 0;
	if (python_is_plausible(table)) {
		memcpy(&code->linetable_length, table + layout->bytes_size, sizeof(size_t));
		code->linetable = table + layout->bytes_data;
	}
}

uint32_t trace_code_emit(const struct trace_python_layout *layout, struct trace_code_cache *cache,
			 const struct trace_code_key *key)
{
	uint64_t slot = trace_code_slot(key->code);
	struct trace_code code;

	read_code(layout, cache, key->code, &code);
	cache->emit(cache->context, ++cache->last_id, &code);
	if (cache->slots[slot].key.code != key->code)
		cache->slots[slot ^ 1] = cache->slots[slot];
	cache->slots[slot].key = *key;
	cache->slots[slot].id = cache->last_id;
	return cache->last_id;
}
