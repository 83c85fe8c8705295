/* What a process sets for itself before exec: -errno out. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mematlas.h"

static int outcome(long result)
{
	return result < 0 ? -errno : (int)result;
}

int mematlas_policy_set(int mode, const uint64_t *nodes, uint64_t bits)
{
	return outcome(syscall(SYS_set_mempolicy, mode, nodes, bits + 1));
}

int mematlas_policy_get(int *mode, uint64_t *nodes, uint64_t bits)
{
	return outcome(syscall(SYS_get_mempolicy, mode, nodes, bits + 1, 0, 0));
}

int mematlas_personality_add(uint32_t flags)
{
	int now = personality(0xffffffff); /* asks only */

	return now < 0 ? -errno : outcome(personality((unsigned long)now | flags));
}

int mematlas_thp_disable(int disable)
{
	return outcome(prctl(PR_SET_THP_DISABLE, disable, 0, 0, 0));
}
