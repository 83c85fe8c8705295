/* AddressSanitizer's runtime, where it is a shared library, refuses to start unless it is the first one.
 * Behind the tracer it finds the same functions by dlsym(RTLD_NEXT), so the order does no harm. */
#include "state.h"

/* For a program that was started past the exec hooks, which leave sanitizers alone. A program that defines
 * this function itself comes first. */
TRACE_EXPORT const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "verify_asan_link_order=0";
}
