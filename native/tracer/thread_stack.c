/* Where the stack of the calling thread is. pthread_getattr_np() would tell, but allocates. */
#include "thread_stack.h"

#include <pthread.h>
#include <stddef.h>

/* glibc's descriptor of a thread, which pthread_self() points to, lies at the high end of the thread's
 * stack. Somewhere in it are, in this order since glibc 2.3.3: the stack's address, its size with the guard,
 * and the size of the guard. */
#define DESCRIPTOR_BYTES 0x700u /* at least, in every glibc since 2.17 */
#define PAGE 4096u
#define MOST_STACK ((uintptr_t)1 << 36) /* less than any pointer into a stack */
#define MOST_ABOVE                                                                                 \
	((uintptr_t)64 << 20) /* the descriptor, and on some processors thread-local storage */

struct candidate {
	uintptr_t address, size, guard;
};

static bool is_stack(const struct candidate *c, uintptr_t here, uintptr_t descriptor)
{
	uintptr_t end = c->address + c->size;

	return c->address && c->size <= MOST_STACK && c->address <= here && end > descriptor &&
	       end - descriptor < MOST_ABOVE && c->guard < c->size && c->guard % PAGE == 0;
}

/* The descriptor's end is unknown, but no page starts within its last part. */
static size_t readable_words(uintptr_t descriptor)
{
	uintptr_t end = descriptor + DESCRIPTOR_BYTES;

	return ((end + PAGE - 1) / PAGE * PAGE - descriptor) / sizeof(uintptr_t);
}

bool trace_find_thread_stack(uintptr_t *low, uintptr_t *high)
{
	uintptr_t descriptor = (uintptr_t)pthread_self();
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	const uintptr_t *words = (const uintptr_t *)descriptor;
	size_t count = readable_words(descriptor);

	if (here >= descriptor)
		return false;
	for (size_t i = 0; i + 3 <= count; i++) {
		struct candidate c = {words[i], words[i + 1], words[i + 2]};
		if (!is_stack(&c, here, descriptor))
			continue;
		*low = c.address + c.guard;
		*high = c.address + c.size;
		return true;
	}
	return false;
}
