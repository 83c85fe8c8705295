/* Line tables of CPython code objects: the line of an instruction. */
#include <errno.h>

#include "mematlas.h"
#include "trace_format.h"

/* Codes of an entry (CPython: Objects/locations.md, InternalDocs/code_objects.md since 3.14). */
enum { ONE_LINE = 10, NO_COLUMNS = 13, LONG_FORM = 14, NO_LOCATION = 15 };

/* `line` is that of the last entry which has one. `bytes` and `shown` are of the entry just read. */
struct reader {
	const uint8_t *at, *end;
	int64_t line, shown;
	uint32_t bytes;
};

static bool read_byte(struct reader *reader, uint8_t *ret)
{
	if (reader->at == reader->end)
		return false;
	*ret = *reader->at++;
	return true;
}

static bool read_varint(struct reader *reader, uint64_t *ret)
{
	uint8_t byte;

	*ret = 0;
	for (unsigned int shift = 0; shift < 60; shift += 6) {
		if (!read_byte(reader, &byte))
			return false;
		*ret |= (uint64_t)(byte & 63) << shift;
		if (!(byte & 64))
			return true;
	}
	return false; /* no line has 60 bits */
}

static bool step_line(struct reader *reader, int64_t step)
{
	return !__builtin_add_overflow(reader->line, step, &reader->line);
}

static bool read_location(struct reader *reader, uint8_t code)
{
	uint64_t step, column;
	uint8_t byte;

	if (code == NO_COLUMNS || code == LONG_FORM) {
		if (!read_varint(reader, &step))
			return false;
		int64_t half = (int64_t)(step >> 1);
		if (!step_line(reader, step & 1 ? -half : half))
			return false;
		for (int i = 0; code == LONG_FORM && i < 3; i++)
			if (!read_varint(reader, &column))
				return false;
		return true;
	}
	if (code < ONE_LINE)
		return read_byte(reader, &byte);
	return step_line(reader, code - ONE_LINE) && read_byte(reader, &byte) &&
	       read_byte(reader, &byte);
}

static bool next_location(struct reader *reader)
{
	uint8_t head;

	if (!read_byte(reader, &head))
		return false;
	uint8_t code = head >> 3 & 15;
	reader->bytes = 2 * ((head & 7) + 1u);
	reader->shown = INT64_MIN;
	if (code == NO_LOCATION)
		return true;
	if (!read_location(reader, code))
		return false;
	reader->shown = reader->line;
	return true;
}

static bool next_pep626(struct reader *reader)
{
	uint8_t bytes, step;

	if (!read_byte(reader, &bytes) || !read_byte(reader, &step))
		return false;
	reader->bytes = bytes;
	reader->shown = INT64_MIN;
	if ((int8_t)step == INT8_MIN)
		return true;
	if (!step_line(reader, (int8_t)step))
		return false;
	reader->shown = reader->line;
	return true;
}

int mematlas_linetable_lines(uint32_t format, const uint8_t *table, uint64_t size,
			     int64_t first_line, const uint32_t *offsets, uint64_t count,
			     int64_t *ret_lines)
{
	struct reader reader = {.at = table, .end = table + size, .line = first_line};
	bool (*next)(struct reader *) = format == TRACE_LINES_LOCATIONS ? next_location
					: format == TRACE_LINES_PEP626  ? next_pep626
									: NULL;
	uint64_t done = 0, end = 0;

	for (uint64_t i = 1; i < count; i++)
		if (offsets[i] < offsets[i - 1])
			return -EINVAL;
	while (next && done < count && next(&reader)) {
		end += reader.bytes;
		for (; done < count && offsets[done] < end; done++)
			ret_lines[done] = reader.shown;
	}
	for (; done < count; done++)
		ret_lines[done] = INT64_MIN;
	return 0;
}
