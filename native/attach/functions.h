/* The functions of the C library that a thread may be in when it is entered. */
#ifndef MEMATLAS_ATTACH_FUNCTIONS_H
#define MEMATLAS_ATTACH_FUNCTIONS_H

#include "symbols.h"

enum function_kind {
	FUNCTION_OTHER,    /* may hold a lock of the library */
	FUNCTION_WAITS,    /* waits for the outside world, and no allocator calls it */
	FUNCTION_CALLS,    /* a system call that an allocator may make as well */
	FUNCTION_AROUND /* calls the program, or is around one of the above, and holds no lock */
};

/* start < end */
struct function {
	uint64_t start, end;
	uint32_t name; /* in the names */
	uint32_t kind; /* enum function_kind */
};

/* functions[i].end <= functions[i + 1].start, aliases merged */
struct functions {
	struct function *entries;
	uint64_t count;
	struct symbols symbols;
};

int functions_read(struct process_memory *memory, const struct image *image, struct functions *ret);
void functions_free(struct functions *functions);
/* Returns the exported function around an address; NULL: a static one, or none. */
const struct function *functions_at(const struct functions *functions, uint64_t address);
const char *functions_name(const struct functions *functions, const struct function *function);

#endif
