/* Frames: those of generators and frame objects lie in the object, those of running functions in the
 * thread's stack of frames. */
#include "python.h"

#include <string.h>

#define TAGS 3ULL /* of a frame's words, from 3.14 on; 3: an integer */
#define MOST_LOCALS (1U << 20)
#define FRAME_OF_OBJECT 24 /* f_frame */

static uint64_t untag(const struct mematlas_python_layout *layout, uint64_t word)
{
	if (!layout->tagged_frames)
		return word;
	return (word & TAGS) == TAGS ? 0 : word & ~TAGS;
}

/* Words of the frame that are in use: locals, and the stack as far as it is known. The stack of a
 * running frame ends where a register of the thread says: all of it is read then. */
static uint64_t words_in_use(const struct heap *heap, uint64_t frame)
{
	const struct mematlas_python_layout *layout = heap->python->layout;
	uint64_t code = untag(layout, python_word(heap, frame + layout->frame_code));
	uint32_t locals = (uint32_t)python_word(heap, code + layout->code_locals);
	uint32_t stack = (uint32_t)python_word(heap, code + layout->code_locals - 8U);
	uint64_t top = python_word(heap, frame + layout->frame_top);

	if (locals > MOST_LOCALS || stack > MOST_LOCALS)
		return 0;
	if (layout->tagged_frames)
		top = (top - frame - layout->frame_items) / 8;
	else
		top = (uint32_t)top;
	return top >= locals && top <= locals + stack ? top : locals + stack;
}

void python_read_frame(const struct python_reader *reader, uint64_t frame)
{
	const struct mematlas_python_layout *layout = reader->heap->python->layout;
	const uint16_t fields[] = {layout->frame_code, layout->frame_function, layout->frame_locals,
				   layout->frame_object};
	uint64_t at = frame + layout->frame_items;
	uint64_t end = at + words_in_use(reader->heap, frame) * 8;

	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		reader->visit(reader->to,
			      untag(layout, python_word(reader->heap, frame + fields[i])));
	for (; at < end && at + 8 <= reader->end; at += 8)
		reader->visit(reader->to, untag(layout, python_word(reader->heap, at)));
}

void python_read_generator(const struct python_reader *reader)
{
	const struct mematlas_python_layout *layout = reader->heap->python->layout;
	const int8_t *state;

	if (!layout) {
		python_visit_words(reader, reader->object + PYTHON_HEAD, reader->end);
		return;
	}
	python_visit_words(reader, reader->object + PYTHON_HEAD,
			   reader->object + layout->generator_frame);
	state = heap_at(&reader->heap->image, reader->object + layout->generator_state, 1);
	if (state && *state < layout->generator_cleared)
		python_read_frame(reader, reader->object + layout->generator_frame);
}

void python_read_frame_object(const struct python_reader *reader)
{
	const struct mematlas_python_layout *layout = reader->heap->python->layout;
	uint64_t own = reader->object + (layout ? layout->frame_data : 0);

	if (!layout) {
		python_visit_words(reader, reader->object + PYTHON_HEAD, reader->end);
		return;
	}
	python_visit_words(reader, reader->object + PYTHON_HEAD, reader->object + FRAME_OF_OBJECT);
	python_visit_words(reader, reader->object + FRAME_OF_OBJECT + 8, own);
	if (python_word(reader->heap, reader->object + FRAME_OF_OBJECT) == own)
		python_read_frame(reader, own);
}

uint64_t mematlas_heap_python_frame(const struct mematlas_heap *handle, uint64_t frame)
{
	const struct heap *heap = (const struct heap *)handle;

	if (!heap->python || !heap->python->layout)
		return 0;
	return heap->python->layout->frame_items + words_in_use(heap, frame) * 8;
}
