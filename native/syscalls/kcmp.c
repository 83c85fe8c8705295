#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mematlas.h"

#define COMPARE_ADDRESS_SPACES 1 /* KCMP_VM of linux/kcmp.h */

int mematlas_kcmp_vm(int32_t first, int32_t second)
{
	long order = syscall(SYS_kcmp, first, second, COMPARE_ADDRESS_SPACES, 0, 0);

	return order < 0 ? -errno : (int)order;
}
