/* Finds the Python interpreter in this process. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>

#include "python.h"

struct trace_python trace_python;
static void *library; /* with the interpreter's symbols; NULL: the global scope */

void *trace_python_symbol(const char *name)
{
	return dlsym(library ? library : RTLD_DEFAULT, name);
}

/* The symbols of a Python that was loaded as a plugin are not in the global scope. */
static bool find_plugin(void)
{
	struct link_map *map = NULL;
	void *self = dlopen(NULL, RTLD_LAZY | RTLD_NOLOAD);

	if (!self || dlinfo(self, RTLD_DI_LINKMAP, &map) != 0)
		return false;
	for (; map; map = map->l_next) {
		if (!map->l_name || !strstr(map->l_name, "libpython"))
			continue;
		library = dlopen(map->l_name, RTLD_LAZY | RTLD_NOLOAD);
		if (library && trace_python_symbol("PyGILState_GetThisThreadState"))
			return true;
	}
	library = NULL;
	return false;
}

static void find_eval_loop(void)
{
	void *eval = trace_python_symbol("_PyEval_EvalFrameDefault");
	const ElfW(Sym) *symbol = NULL;
	Dl_info info;

	if (!eval || !dladdr1(eval, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol)
		return;
	trace_python.eval_start[0] = (uintptr_t)eval;
	trace_python.eval_end[0] = (uintptr_t)eval + symbol->st_size;
}

bool trace_python_find(void)
{
	if (trace_python.version)
		return true;
	if (!trace_python_symbol("PyGILState_GetThisThreadState") && !find_plugin())
		return false;
	const unsigned long *version = trace_python_symbol("Py_Version"); /* since 3.11 */
	if (!version || !trace_python_layout((uint32_t)*version, trace_python_symbol("_PyRuntime")))
		return false;
	find_eval_loop();
	void *is_finalizing = trace_python_symbol("Py_IsFinalizing"); /* since 3.13 */
	if (!is_finalizing)
		is_finalizing = trace_python_symbol("_Py_IsFinalizing");
	trace_python.is_finalizing = (int (*)(void))is_finalizing;
	trace_python.free_threaded = trace_python_symbol("_Py_DecRefShared") != NULL;
	trace_python.unlocked = trace_python.free_threaded;
	trace_python.version = (uint32_t)*version;
	return true;
}
