/* With FAKE_PAGE_BYTES, the core finds itself on a kernel with pages of that size. */
#include <dlfcn.h>
#include <unistd.h>

#ifdef FAKE_PAGE_BYTES
long sysconf(int name)
{
	static long (*real)(int);

	if (name == _SC_PAGESIZE)
		return FAKE_PAGE_BYTES;
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "sysconf");
	return real(name);
}
#endif
