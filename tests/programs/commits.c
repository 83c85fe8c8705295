/* Reserves address space and commits it in each of the ways there are. Argument: "hold", or "churn N": only
 * opens and closes memory N times. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MB (1ul << 20)
#define NO_INLINE __attribute__((noinline))

static char *volatile kept[16];

NO_INLINE static char *reserve(void)
{
	return mmap(NULL, 64 * MB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

NO_INLINE static void commit_by_mprotect(char *memory)
{
	mprotect(memory, 7 * MB, PROT_READ | PROT_WRITE);
	memset(memory, 1, 7 * MB);
}

NO_INLINE static void commit_by_pkey(char *memory)
{
	if (pkey_mprotect(memory, 6 * MB, PROT_READ | PROT_WRITE, -1) != 0)
		mprotect(memory, 6 * MB, PROT_READ | PROT_WRITE);
	memset(memory, 1, 6 * MB);
}

NO_INLINE static void commit_by_syscall(char *memory)
{
	syscall(SYS_mprotect, memory, 5 * MB, PROT_READ | PROT_WRITE);
	memset(memory, 1, 5 * MB);
}

NO_INLINE static void commit_and_return(char *memory)
{
	mprotect(memory, 4 * MB, PROT_READ | PROT_WRITE);
	memset(memory, 1, 4 * MB);
	madvise(memory, 4 * MB, MADV_DONTNEED);
	mprotect(memory, 4 * MB, PROT_NONE);
}

NO_INLINE static void commit_and_close(char *memory)
{
	mprotect(memory, 3 * MB, PROT_READ | PROT_WRITE);
	memset(memory, 1, 3 * MB);
	mprotect(memory, 3 * MB, PROT_NONE);
}

NO_INLINE static void raw_mmap(void)
{
	kept[0] = (char *)syscall(SYS_mmap, NULL, 8 * MB, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(kept[0], 1, 8 * MB);
}

NO_INLINE static void own_break(void)
{
	char *start = sbrk(0);

	if (brk(start + 2 * MB) != 0 || sbrk(10 * MB) != start + 2 * MB)
		exit(3);
	memset(start, 1, 12 * MB);
}

NO_INLINE static void segment(void)
{
	int id = shmget(IPC_PRIVATE, 9 * MB, 0600);
	char *memory = shmat(id, NULL, 0);

	shmctl(id, IPC_RMID, NULL);
	memset(memory, 1, 9 * MB);
	kept[1] = shmat(shmget(IPC_PRIVATE, MB, 0600), NULL, 0);
	shmdt(kept[1]);
}

static int churn(long count)
{
	char *memory = reserve();

	for (long i = 0; i < count; i++) {
		mprotect(memory, MB, PROT_READ | PROT_WRITE);
		mprotect(memory, MB, PROT_NONE);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 2)
		return churn(strtol(argv[2], NULL, 10));
	char *space = reserve();
	commit_by_mprotect(space);
	commit_by_pkey(space + 8 * MB);
	commit_by_syscall(space + 16 * MB);
	commit_and_return(space + 24 * MB);
	commit_and_close(space + 32 * MB);
	raw_mmap();
	own_break();
	segment();
	puts("held");
	return 14;
}
