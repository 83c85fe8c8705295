/* Memory system calls as they are: -errno out, nothing else. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mematlas.h"
#include "mematlas_mark.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static void *pointer(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

static int64_t outcome(long result)
{
	return result < 0 ? -errno : result;
}

void mematlas_mark_moment(const char *name)
{
	mematlas_mark(name);
}

int mematlas_map(uint64_t length, int flags, int fd, uint64_t *ret)
{
	void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (memory == MAP_FAILED)
		return -errno;
	*ret = (uintptr_t)memory;
	return 0;
}

int mematlas_unmap(uint64_t address, uint64_t length)
{
	return (int)outcome(munmap(pointer(address), length));
}

int mematlas_protect(uint64_t address, uint64_t length, int protection)
{
	return (int)outcome(mprotect(pointer(address), length, protection));
}

int mematlas_advise(uint64_t address, uint64_t length, int advice)
{
	return (int)outcome(madvise(pointer(address), length, advice));
}

int mematlas_lock(uint64_t address, uint64_t length, int flags)
{
	return (int)outcome(syscall(SYS_mlock2, pointer(address), length, flags));
}

int mematlas_unlock(uint64_t address, uint64_t length)
{
	return (int)outcome(munlock(pointer(address), length));
}

int mematlas_lock_all(int flags)
{
	return (int)outcome(flags ? mlockall(flags) : munlockall());
}

int mematlas_name_memory(uint64_t address, uint64_t length, const char *name)
{
	return (int)outcome(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, address, length, name));
}

int mematlas_memfd(const char *name, uint32_t flags)
{
	return (int)outcome(memfd_create(name, flags));
}

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

int mematlas_memfd_secret(uint32_t flags)
{
	return (int)outcome(syscall(SYS_memfd_secret, flags));
}

/* The barrier keeps the compiler from dropping a store that nobody reads. */
void mematlas_wipe(uint64_t address, uint64_t length)
{
	memset(pointer(address), 0, length);
	__asm__ volatile("" ::"r"(pointer(address)) : "memory");
}

/* The kernel takes one more than the number of bits it reads. */
int mematlas_bind(uint64_t address, uint64_t length, int mode, const uint64_t *nodes, uint64_t bits,
		  uint32_t flags)
{
	return (int)outcome(
		syscall(SYS_mbind, pointer(address), length, mode, nodes, bits + 1, flags));
}

int64_t mematlas_move_pages(int pid, uint64_t count, const uint64_t *pages, const int *nodes,
			    int *ret, int flags)
{
	return outcome(syscall(SYS_move_pages, pid, count, pages, nodes, ret, flags));
}

int64_t mematlas_migrate_pages(int pid, const uint64_t *from, const uint64_t *to, uint64_t bits)
{
	return outcome(syscall(SYS_migrate_pages, pid, bits + 1, from, to));
}
