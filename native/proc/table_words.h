/* Reads of the kernel's files of one 64-bit word a page or a frame. */
#pragma once
#include <stdint.h>

/* Returns the words read, fewer at the end of the file, or -errno. */
int64_t read_words(int fd, uint64_t first, uint64_t count, uint64_t *ret);
