/* Finds the Python interpreter in this process. */
#include "modules.h"
#include "python.h"

struct trace_python trace_python;
static const struct link_map *interpreter; /* the module with its symbols; NULL: not found */
static unsigned interpreter_namespace;

void *trace_python_symbol(const char *name)
{
	struct trace_symbol found;

	return interpreter && trace_symbol_in(interpreter, name, &found) ? found.address : NULL;
}

const struct link_map *trace_python_module(unsigned *namespace)
{
	*namespace = interpreter_namespace;
	return trace_python.version ? interpreter : NULL;
}

/* The symbols of a Python that was loaded as a plugin are not in the global scope, those of one loaded by
 * dlmopen() not even in the program's namespace. */
static bool find_interpreter(void)
{
	const struct link_map *module;
	struct trace_symbol found;

	for (unsigned n = 0; (module = trace_namespace(n)); n++) {
		for (; module; module = module->l_next) {
			if (!trace_module_is_ready(module) ||
			    !trace_symbol_in(module, "PyGILState_GetThisThreadState", &found))
				continue;
			interpreter = module;
			interpreter_namespace = n;
			return true;
		}
	}
	return false;
}

static void find_eval_loop(void)
{
	struct trace_symbol eval;

	if (!trace_symbol_in(interpreter, "_PyEval_EvalFrameDefault", &eval))
		return;
	trace_python.eval_start[0] = (uintptr_t)eval.address;
	trace_python.eval_end[0] = (uintptr_t)eval.address + eval.size;
}

static void find_code(void)
{
	struct trace_object object;

	trace_python.code_start = trace_python.eval_start[0];
	trace_python.code_end = trace_python.eval_end[0];
	if (trace_find_object &&
	    trace_find_object((void *)trace_python.eval_start[0], &object) == 0) {
		trace_python.code_start = (uintptr_t)object.map_start;
		trace_python.code_end = (uintptr_t)object.map_end;
	}
}

static enum trace_python_use choose_use(void)
{
	return trace_is_start_module(interpreter) ? TRACE_PYTHON_EVERYWHERE
						  : TRACE_PYTHON_WHERE_SEEN;
}

bool trace_python_find(void)
{
	if (trace_python.version)
		return true;
	if (!find_interpreter())
		return false;
	const unsigned long *version = trace_python_symbol("Py_Version"); /* since 3.11 */
	if (!version || !trace_python_layout((uint32_t)*version, trace_python_symbol("_PyRuntime")))
		return false;
	find_eval_loop();
	find_code();
	void *is_finalizing = trace_python_symbol("Py_IsFinalizing"); /* since 3.13 */
	if (!is_finalizing)
		is_finalizing = trace_python_symbol("_Py_IsFinalizing");
	trace_python.is_finalizing = (int (*)(void))is_finalizing;
	trace_python.free_threaded = trace_python_symbol("_Py_DecRefShared") != NULL;
	trace_python.unlocked = trace_python.free_threaded;
	trace_python.version = (uint32_t)*version;
	/* Last: other threads read the interpreter's frames from here on. */
	__atomic_store_n(&trace_python.use, choose_use(), __ATOMIC_RELEASE);
	return true;
}
