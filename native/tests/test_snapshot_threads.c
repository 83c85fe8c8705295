/* Threads in states that a copy must leave as they are, and stacks that share their mapping. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif

#include "../proc/maps.h"
#include "../snapshot/image.h"
#include "../snapshot/userfault.h"
#include "snapshot_child.h"

#if !defined(__x86_64__)
int main(void)
{
	SKIP("processes are copied on x86-64 only");
}
#else

/* It comes while the thread makes our calls. */
static void test_stop_signal_is_kept(void)
{
	const uint64_t none[6] = {0};
	int pid = start(counts_alone);
	struct ground ground;
	struct detour *detour;

	CHECK(ground_read(&ground, pid) == 0);
	CHECK(detour_begin(&ground, pid, TIMEOUT_S, &detour) == 0);
	CHECK(kill(pid, SIGSTOP) == 0);
	CHECK(detour_call(detour, SYS_getpid, none) == pid);
	detour_end(detour);
	ground_free(&ground);
	WAIT_FOR(state_of(pid) == 'T');
	CHECK(kill(pid, SIGCONT) == 0);
	check_goes_on(pid);
	end(pid);
}

#ifdef RSEQ_SIG
/* A restartable sequence that does not end. What aborts it begins it again. */
static void spins_in_sequence(void)
{
	static struct rseq_cs sequence __attribute__((aligned(32)));
	char *base;

	__asm__("movq %%fs:0, %0" : "=r"(base));
	shared->results[0] = __rseq_size > 0;
	shared->ready = 1;
	if (!__rseq_size)
		pause();
	__asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
			 "movq %%rax, 8(%0)\n\t"
			 "movq $(2f - 1f), 16(%0)\n\t"
			 "leaq 3f(%%rip), %%rax\n\t"
			 "movq %%rax, 24(%0)\n"
			 "0:\n\t"
			 "movq %0, 8(%1)\n"
			 "1:\n\t"
			 "pause\n\t"
			 "jmp 1b\n"
			 "2:\n\t"
			 ".byte 0x0f, 0xb9, 0x3d\n\t"
			 ".long 0x53053053\n"
			 "3:\n\t"
			 "incq (%2)\n\t"
			 "jmp 0b\n"
			 :
			 : "r"(&sequence), "r"(base + __rseq_offset), "r"(&shared->count)
			 : "rax", "memory", "cc");
}

/* The kernel aborts it whenever the thread is stopped, but not if it finds it at another address. */
static void test_restartable_sequence(void)
{
	int pid = start(spins_in_sequence), error = 0;
	struct mematlas_image *image;

	for (int tries = 0; tries < 5 && shared->results[0] && error != -EXDEV; tries++)
		error = mematlas_image_capture(pid, MEMATLAS_IMAGE_COPY_FIRST, TIMEOUT_S, 0,
					       &estimate_s, &image);
	CHECK(error == -EXDEV || !shared->results[0]);
	mematlas_image_destroy(capture(pid, MEMATLAS_IMAGE_STOP));
	if (shared->results[0])
		check_goes_on(pid);
	end(pid);
}
#endif

/* Before Linux 6.7 the memory behind a thread's stack is merged with it. */
static void test_stack_ends_with_its_thread(void)
{
	static const char text[] = "7f0000000000-7f0000001000 ---p 00000000 00:00 0 \n"
				   "7f0000001000-7f0000901000 rw-p 00000000 00:00 0 \n";
	const struct mematlas_image_thread thread = {.sp = 0x7f00007ff000, .tls = 0x7f00008006c0};
	int fd = memfd_create("maps", 0);
	struct mematlas_maps *maps;
	struct parts parts = {0};

	CHECK(write(fd, text, sizeof text - 1) == sizeof text - 1 && lseek(fd, 0, SEEK_SET) == 0);
	CHECK(mematlas_maps_create(fd, &maps) == 0);
	CHECK(parts_select(&parts, maps, &thread, 1) == 0);
	CHECK(parts.count == 2);
	CHECK(parts.rows[0].kind == MEMATLAS_HEAP_STACK && parts.rows[0].start == thread.sp - 128 &&
	      parts.rows[0].end == 0x7f0000801000);
	CHECK(parts.rows[1].kind == MEMATLAS_HEAP_ANONYMOUS &&
	      parts.rows[1].start == 0x7f0000801000 && parts.rows[1].end == 0x7f0000901000);
	parts_free(&parts);
	mematlas_maps_destroy(maps);
	close(fd);
}

int main(void)
{
	map_shared();
	test_stack_ends_with_its_thread();
	find_abilities();
	if (can_copy_first) {
		test_stop_signal_is_kept();
#ifdef RSEQ_SIG
		test_restartable_sequence();
#endif
	}
	puts("fine");
	return 0;
}
#endif
