/* PSS and USS where PAGEMAP_SCAN is missing, as before Linux 6.7: pagemap does not tell zero pages. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "../collector/sharing.h"
#include "producer.h"
#include "refuse_call.h"

#define BYTES ((size_t)8 << 20)

/* Zero pages, and one page that a forked child has, too. */
static int share_a_page(void)
{
	volatile char *memory =
		mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(memory != MAP_FAILED);
	CHECK(madvise((void *)memory, BYTES, MADV_NOHUGEPAGE) == 0);
	for (size_t at = 0; at < BYTES; at += page_bytes())
		(void)memory[at];
	memory[0] = 1;
	int child = fork();
	CHECK(child >= 0);
	if (!child)
		for (;;)
			pause();
	return child;
}

/* Of all mappings together, by smaps and by the pages. */
static void check_sums(const struct sharing *sharing)
{
	struct mematlas_account account;
	uint64_t once = 0, pss = 0, shared = 0, pages_shared = 0;

	for (size_t i = 0; i < sharing->count; i++) {
		const struct vma_sharing *vma = &sharing->items[i];
		once += vma->rss - vma->shared;
		pss += vma->pss;
		shared += vma->shared;
		pages_shared += vma->pages_shared;
	}
	CHECK(pages_shared > shared + BYTES / 2);
	sharing_sum(sharing, &account);
	CHECK(account.uss_bytes == once && account.pss_bytes == pss);
}

static void test_zero_pages_are_not_shared(void)
{
	struct mematlas_collector *collector = session_start(0);
	int proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC), child = share_a_page();
	struct sharing sharing;
	struct vmas vmas;
	struct runs runs;

	CHECK(proc >= 0);
	refuse_call(SYS_ioctl, ENOTTY);
	CHECK(vmas_read(proc, &vmas) == 0);
	CHECK(runs_read(collector, proc, &vmas, &runs) == 0);
	CHECK(sharing_read(proc, &sharing) == 0);
	CHECK(sharing_split(proc, &sharing, &runs) == 0);
	check_sums(&sharing);
	CHECK(kill(child, SIGKILL) == 0);
	CHECK(waitpid(child, NULL, 0) == child);
	sharing_free(&sharing);
	free(runs.items);
	vmas_free(&vmas);
	close(proc);
	session_end(collector);
}

int main(void)
{
	test_zero_pages_are_not_shared();
	return 0;
}
