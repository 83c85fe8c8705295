/* The frames of a stopped thread, from a copy of its memory. */
#include "heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../attach/frame.h"
#include "../cleanup.h"

#if defined(__x86_64__)

_Static_assert(CFI_REGISTERS + 1 == MEMATLAS_HEAP_UNWOUND, "registers and the program counter");

static bool read_image(const void *image, uint64_t address, void *ret, size_t size)
{
	const void *at = heap_at(image, address, size);

	if (!at)
		return false;
	memcpy(ret, at, size);
	return true;
}

static const struct mematlas_heap_module *find_module(const struct mematlas_heap_module *modules,
						      uint64_t count, uint64_t code)
{
	uint64_t low = 0, high = count;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (code >= modules[middle].end)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && code >= modules[low].start ? &modules[low] : NULL;
}

int64_t mematlas_heap_unwind(const struct mematlas_heap *handle,
			     const struct mematlas_heap_module *modules, uint64_t module_count,
			     const uint64_t *registers, struct mematlas_heap_frame *frames,
			     uint64_t most)
{
	const struct heap *heap = (const struct heap *)handle;
	CLEANUP_FREE struct process_memory *memory = calloc(1, sizeof *memory);
	struct frame frame = {.pc = registers[CFI_REGISTERS], .interrupted = true};
	enum frame_step step = FRAME_CALLER;
	struct image image;
	uint64_t count = 0;

	if (!memory)
		return -ENOMEM;
	memory->read = read_image;
	memory->context = &heap->image;
	memcpy(frame.registers, registers, sizeof frame.registers);
	while (count < most && step == FRAME_CALLER) {
		uint64_t code = frame_code(&frame), sp = frame.registers[CFI_SP];
		const struct mematlas_heap_module *module =
			find_module(modules, module_count, code);

		if (!module || !image_read(memory, module->header, &image))
			break;
		step = frame_step(memory, &image, &frame);
		if (step == FRAME_CALLER && frame.registers[CFI_SP] > sp)
			frames[count++] = (struct mematlas_heap_frame){
				.code = code, .end = frame.registers[CFI_SP]};
		else
			break;
	}
	return (int64_t)count;
}

#else

int64_t mematlas_heap_unwind(const struct mematlas_heap *heap,
			     const struct mematlas_heap_module *modules, uint64_t module_count,
			     const uint64_t *registers, struct mematlas_heap_frame *frames,
			     uint64_t most)
{
	(void)heap, (void)modules, (void)module_count, (void)registers, (void)frames, (void)most;
	return -ENOSYS;
}

#endif
