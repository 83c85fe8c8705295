/* One table for /proc/PID/maps and smaps: a row per mapping, a column per field. */
#ifndef MEMATLAS_SCAN_MAPS_H
#define MEMATLAS_SCAN_MAPS_H

#include "mematlas.h"

#define MAPS_KEYS 64
#define MAPS_FLAGS 64
#define MAPS_KEY_LENGTH 31

/* A field the kernel printed. Keys are learnt from the text, so new kernels need no change here. */
struct maps_key {
	char name[MAPS_KEY_LENGTH + 1];
	uint32_t length;
	uint64_t *values;
};

/* Invariant: every column has `capacity` slots, of which the first `count` are set; rows ascend
 * and do not overlap, except where `overlaps` says so. */
struct mematlas_maps {
	uint64_t count;
	uint64_t capacity;
	uint64_t overlaps;
	uint64_t ignored; /* lines that were neither a mapping nor a field */
	uint64_t *base[MEMATLAS_MAPS_BASE];
	uint32_t key_count;
	uint32_t next_key; /* where the kernel's fixed order says the next field is */
	struct maps_key keys[MAPS_KEYS];
	uint32_t flag_count;
	char flags[MAPS_FLAGS][3];
	char *names;
	uint64_t names_size;
	uint64_t names_capacity;
};

/* Takes one line, without its newline. 0 or -ENOMEM. */
int maps_take_line(struct mematlas_maps *maps, const char *line, const char *end);

#endif
