/* The cost of the kernel alone: reads and discards. "read FILE...", "words FILE OFFSET COUNT ..." */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char buffer[1 << 20];

int main(int argc, char **argv)
{
	if (strcmp(argv[1], "read") == 0) {
		for (int index = 2; index < argc; index++) {
			int fd = open(argv[index], O_RDONLY);

			while (fd >= 0 && read(fd, buffer, sizeof(buffer)) > 0)
				;
			close(fd);
		}
		return 0;
	}
	for (int index = 2; index + 2 < argc; index += 3) {
		int fd = open(argv[index], O_RDONLY);
		uint64_t at = strtoull(argv[index + 1], NULL, 10) * 8;
		uint64_t end = at + strtoull(argv[index + 2], NULL, 10) * 8;

		while (at < end) {
			uint64_t want = end - at < sizeof(buffer) ? end - at : sizeof(buffer);
			ssize_t got = pread(fd, buffer, want, (off_t)at);

			if (got <= 0)
				break;
			at += (uint64_t)got;
		}
		close(fd);
	}
	return 0;
}
