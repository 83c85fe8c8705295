/* Makes a file of 64 MiB in /dev/shm, maps it and writes to it until the file system is full. */
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	size_t size = 64UL << 20;
	int file = open("/dev/shm/large", O_RDWR | O_CREAT, 0600);
	char *block;

	if (file < 0 || ftruncate(file, (off_t)size))
		return 2;
	block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (block == MAP_FAILED)
		return 2;
	for (size_t at = 0; at < size; at += 4096) {
		block[at] = 1;
		if (at == 8UL << 20)
			usleep(300000); /* it is seen while it maps the file */
	}
	return 0;
}
