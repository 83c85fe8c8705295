#include "mematlas.h"

int mematlas_abi(void)
{
	return 1;
}
