/* jit [FILE]: code made at run time allocates, in two ways: with a frame pointer, and as CPython's
 * trampolines without one. Their names go to FILE, by default to the perf map of this process. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef void *caller(void *(*function)(void));

static void *kept[64];

__attribute__((noinline, noclone)) static void *allocates(void)
{
	void *block = malloc(1 << 20);

	if (block)
		memset(block, 1, 1 << 20);
	return block;
}

/* push %rbp; mov %rsp, %rbp; call *%rdi; pop %rbp; ret */
static const unsigned char framed[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
/* sub $8, %rsp; call *%rdi; add $8, %rsp; ret */
static const unsigned char frameless[] = {0x48, 0x83, 0xec, 0x08, 0xff, 0xd7,
					  0x48, 0x83, 0xc4, 0x08, 0xc3};

__attribute__((noinline, noclone)) static void calls_framed(caller *code)
{
	for (int i = 0; i < 12; i++)
		kept[i] = code(allocates);
}

__attribute__((noinline, noclone)) static void calls_frameless(caller *code)
{
	for (int i = 12; i < 20; i++)
		kept[i] = code(allocates);
}

int main(int argc, char **argv)
{
	char path[64];
	unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (code == MAP_FAILED)
		return 2;
	memcpy(code, framed, sizeof framed);
	memcpy(code + 64, frameless, sizeof frameless);
	snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
	if (argc < 2)
		unlink(path); /* an earlier process with this PID can have left a link */
	FILE *map = fopen(argc > 1 ? argv[1] : path, "w");
	if (!map)
		return 3;
	fprintf(map, "%lx %lx app::framed code\n", (unsigned long)code, sizeof framed);
	fprintf(map, "0x%016lx 0x%016lx void app.Frameless.run(int)\n", (unsigned long)code + 64,
		sizeof frameless);
	fclose(map);
	calls_framed((caller *)(void *)code);
	calls_frameless((caller *)(void *)(code + 64));
	return kept[19] ? 0 : 4;
}
