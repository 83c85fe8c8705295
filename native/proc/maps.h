/* One table for /proc/PID/maps and smaps: a row per mapping, a column per field. */
#ifndef MEMATLAS_PROC_MAPS_H
#define MEMATLAS_PROC_MAPS_H

#include "mematlas.h"

#define MAPS_KEYS 64
#define MAPS_FLAGS 64
#define MAPS_KEY_LENGTH 31
#define MAPS_COLUMN 16 /* characters of "Key:" and its spaces in smaps */

/* A field the kernel printed. Keys are collected from the text, so that new kernels need no change
 * here. */
struct maps_key {
	char name[MAPS_KEY_LENGTH + 1];
	uint32_t length;
	char column[MAPS_COLUMN]; /* as smaps prints the key; 0: a key that is longer */
	uint64_t *values;
};

/* count <= capacity, the length of every column
 * key_count <= MAPS_KEYS, flag_count <= MAPS_FLAGS, names_size <= names_capacity
 * base[START] strictly ascends; start < end of the row before at most `overlaps` times */
struct mematlas_maps {
	uint64_t count;
	uint64_t capacity;
	uint64_t overlaps;
	uint64_t ignored; /* lines that were neither a mapping nor a field */
	uint64_t *base[MEMATLAS_MAPS_BASE];
	uint32_t key_count;
	uint32_t next_key; /* the kernel prints fields in a fixed order: the likely next one */
	struct maps_key keys[MAPS_KEYS];
	uint32_t flag_count;
	char flags[MAPS_FLAGS][3];
	uint8_t flag_at[1024]; /* by five bits of each letter: the likely index */
	char *names;
	uint64_t names_size;
	uint64_t names_capacity;
};

/* Parses one line without its newline. 0 or -ENOMEM. */
int maps_parse_line(struct mematlas_maps *maps, const char *line, const char *end);

/* Sets the column of a key whose name is known. */
void maps_key_set_column(struct maps_key *key);
/* Parses a line that begins at `line`, if it is the field that follows the last one, printed as the kernel
 * does. Returns what follows its newline; NULL: it is another line, or not whole, and nothing is changed. */
const char *maps_parse_field(struct mematlas_maps *maps, const char *line, const char *end);

/* Reads /proc/PID/maps as it is now. 0 or -errno. */
int maps_of_process(int pid, struct mematlas_maps **ret);

#endif
