/* Marks of a program: moments with a name, at which a traced run takes an account of its memory.
 *
 *   #include <mematlas_mark.h>
 *   mematlas_mark("loaded");
 *
 * `mematlas report --at loaded` and `mematlas diff --at loaded` show that moment. The name is cut after 63
 * bytes. Safe in all threads and signal handlers; errno is kept. Needs no library and no link option: the mark
 * is a munmap() of length 0, which the kernel refuses (EINVAL) and the tracer knows by what it points to.
 * A program that is not traced pays one system call. */
#ifndef MEMATLAS_MARK_H
#define MEMATLAS_MARK_H

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#define MEMATLAS_MARK_MAGIC 0x6b72616d6c74616dull
#define MEMATLAS_MARK_BYTES 64u /* of a name and its NUL */

struct mematlas_mark_request {
	uint64_t magic[2]; /* MEMATLAS_MARK_MAGIC and its complement */
	char name[MEMATLAS_MARK_BYTES];
};

/* Not inlined: the tracer expects the request near the frame of its hook. */
__attribute__((noinline, unused)) static void mematlas_mark(const char *name)
{
	__attribute__((aligned(16))) struct mematlas_mark_request request = {
		{MEMATLAS_MARK_MAGIC, ~MEMATLAS_MARK_MAGIC}, {0}};
	int saved = errno;

	for (unsigned i = 0; name && name[i] && i < MEMATLAS_MARK_BYTES - 1; i++)
		request.name[i] = name[i];
	munmap(&request, 0);
	errno = saved;
}

#endif
