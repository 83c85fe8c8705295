/* Frames: those of generators and frame objects lie in the object, those of running functions in the
 * thread's stack of frames. */
#include "python.h"

#include <string.h>

#define TAGS 3ULL /* of a frame's words, from 3.14 on; 3: an integer */
#define MOST_LOCALS (1U << 20)
#define FRAME_OF_OBJECT 24 /* f_frame */

static uint64_t word_at(const struct heap *heap, uint64_t address)
{
	uint64_t word = 0;

	heap_word(&heap->image, address, &word);
	return word;
}

static uint64_t untag(const struct python_row *row, uint64_t word)
{
	if (!row->tagged_frames)
		return word;
	return (word & TAGS) == TAGS ? 0 : word & ~TAGS;
}

/* Words of the frame that are in use: locals, and the stack as far as it is known. The stack of a
 * running frame ends where a register of the thread says: all of it is read then. */
uint64_t python_frame_words(const struct heap *heap, uint64_t frame)
{
	const struct python_row *row = heap->python->row;
	uint64_t code = untag(row, word_at(heap, frame + row->frame_code));
	uint32_t locals = (uint32_t)word_at(heap, code + row->code_locals);
	uint32_t stack = (uint32_t)word_at(heap, code + row->code_locals - 8U);
	uint64_t top = word_at(heap, frame + row->frame_top);

	if (locals > MOST_LOCALS || stack > MOST_LOCALS)
		return 0;
	if (row->tagged_frames)
		top = (top - frame - row->frame_items) / 8;
	else
		top = (uint32_t)top;
	return top >= locals && top <= locals + stack ? top : locals + stack;
}

void python_read_frame(const struct python_reader *reader, uint64_t frame)
{
	const struct python_row *row = reader->heap->python->row;
	const uint16_t fields[] = {row->frame_code, row->frame_function, row->frame_locals,
				   row->frame_object};
	uint64_t at = frame + row->frame_items;
	uint64_t end = at + python_frame_words(reader->heap, frame) * 8;

	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		reader->visit(reader->to, untag(row, word_at(reader->heap, frame + fields[i])));
	for (; at < end && at + 8 <= reader->end; at += 8)
		reader->visit(reader->to, untag(row, word_at(reader->heap, at)));
}

void python_read_generator(const struct python_reader *reader)
{
	const struct python_row *row = reader->heap->python->row;
	const int8_t *state;

	if (!row) {
		python_visit_words(reader, reader->object + PYTHON_HEAD, reader->end);
		return;
	}
	python_visit_words(reader, reader->object + PYTHON_HEAD,
			   reader->object + row->generator_frame);
	state = heap_at(&reader->heap->image, reader->object + row->generator_state, 1);
	if (state && *state < row->generator_cleared)
		python_read_frame(reader, reader->object + row->generator_frame);
}

void python_read_frame_object(const struct python_reader *reader)
{
	const struct python_row *row = reader->heap->python->row;
	uint64_t own = reader->object + (row ? row->frame_data : 0);

	if (!row) {
		python_visit_words(reader, reader->object + PYTHON_HEAD, reader->end);
		return;
	}
	python_visit_words(reader, reader->object + PYTHON_HEAD, reader->object + FRAME_OF_OBJECT);
	python_visit_words(reader, reader->object + FRAME_OF_OBJECT + 8, own);
	if (word_at(reader->heap, reader->object + FRAME_OF_OBJECT) == own)
		python_read_frame(reader, own);
}
