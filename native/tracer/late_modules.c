/* Modules loaded after the tracer's start. */
#define _GNU_SOURCE
#include "late_modules.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <time.h>

#include "modules.h"
#include "patch.h"
#include "python.h"
#include "python_eval.h"
#include "state.h"
#include "unwind.h"

#define HOLD_POLL_NS 50000L
#define MOST_POLLS 2000u      /* a signal handler may have interrupted the holder */
#define LOOK_STEP 64u         /* events between two looks where the loader's count is unknown */
#define SETTLE_NS 100000000 /* for glibc before 2.35, which does not tell what is ready */

static _Atomic bool held;
static _Atomic unsigned closing; /* threads in dlclose() */
static _Atomic unsigned seen;    /* the loader's count of modules at the last look */

/* The start of the loader's _rtld_global in every glibc since 2.4: the program's namespace. */
struct namespace {
	const struct link_map *loaded;
	unsigned count;
};

static unsigned count_modules(void)
{
	unsigned count = 0;

	for (const struct link_map *module = trace_first_module(); module; module = module->l_next)
		count++;
	return count;
}

/* NULL: this loader keeps no such count. */
static const struct namespace *find_namespace(void)
{
	static const struct namespace *_Atomic known;
	static _Atomic bool searched;
	struct trace_symbol found;

	if (atomic_load_explicit(&searched, memory_order_acquire))
		return atomic_load_explicit(&known, memory_order_relaxed);
	if (!trace_loader_is_idle() ||
	    !trace_symbol_from(trace_first_module(), "_rtld_global", &found))
		return NULL;
	const struct namespace *namespace = found.address;
	if (found.size >= sizeof *namespace && namespace->loaded == trace_first_module() &&
	    namespace->count == count_modules())
		atomic_store_explicit(&known, namespace, memory_order_relaxed);
	atomic_store_explicit(&searched, true, memory_order_release);
	return atomic_load_explicit(&known, memory_order_relaxed);
}

static bool is_due(void)
{
	static _Atomic uint32_t events;

	return atomic_fetch_add_explicit(&events, 1, memory_order_relaxed) % LOOK_STEP == 0;
}

bool trace_has_late_modules(void)
{
	const struct namespace *namespace = find_namespace();

	if (!namespace)
		return is_due();
	return __atomic_load_n(&namespace->count, __ATOMIC_RELAXED) !=
		       atomic_load_explicit(&seen, memory_order_relaxed) ||
	       (trace_namespace(1) && is_due());
}

/* Has the list been the same for a while? The loader relocates a new module after it is in the list. */
static bool is_settled(unsigned count)
{
	static unsigned last; /* under the hold, as `since` */
	static struct timespec since;
	struct timespec now;

	if (trace_find_object)
		return true;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (count == last)
		return (now.tv_sec - since.tv_sec) * 1000000000 + now.tv_nsec - since.tv_nsec >
		       SETTLE_NS;
	last = count;
	since = now;
	return false;
}

static bool are_all_ready(void)
{
	for (const struct link_map *module = trace_first_module(); module; module = module->l_next)
		if (!trace_module_is_ready(module))
			return false;
	return true;
}

static void look(void)
{
	unsigned count = count_modules();

	if (!is_settled(count))
		return;
	bool complete = are_all_ready();
	trace_unwind_modules_refresh();
	if (trace_session.attached && !trace_session.sandboxed)
		trace_patch_modules();
	if (!trace_python.version && trace_python_find()) {
		trace_python_hook_late();
		trace_describe_python();
	}
	if (complete)
		atomic_store_explicit(&seen, count, memory_order_relaxed);
}

static bool try_hold(void)
{
	if (atomic_exchange(&held, true))
		return false;
	if (!atomic_load(&closing))
		return true;
	trace_modules_release();
	return false;
}

void trace_look_for_late_modules(void)
{
	if (!trace_loader_is_idle() || !try_hold())
		return;
	look();
	trace_modules_release();
}

static void hold(void)
{
	while (atomic_exchange(&held, true))
		trace_sleep(HOLD_POLL_NS);
}

void trace_modules_hold(void)
{
	hold();
	/* A call of dlclose() may not end: a destructor of the module may wait for this thread. */
	for (unsigned polls = 0; atomic_load(&closing) && polls < MOST_POLLS; polls++) {
		trace_modules_release();
		trace_sleep(HOLD_POLL_NS);
		hold();
	}
}

void trace_modules_release(void)
{
	atomic_store(&held, false);
}

/* A Python that goes away would leave pointers into it here. Until now it was not needed to keep it: this
 * is the one place where a call of the loader is safe, since the program calls the loader itself. */
static void keep_python(void)
{
	static _Atomic bool kept;
	unsigned namespace = 0;
	const struct link_map *module = trace_python_module(&namespace);
	struct trace_symbol found;

	if (!module || trace_python.use != TRACE_PYTHON_WHERE_SEEN || !*module->l_name ||
	    atomic_exchange(&kept, true) ||
	    !trace_symbol_from(trace_first_module(), "dlmopen", &found))
		return;
	void *(*open_in)(Lmid_t, const char *, int) =
		(void *(*)(Lmid_t, const char *, int))found.address;
	open_in((Lmid_t)namespace, module->l_name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

void trace_modules_before_close(void)
{
	keep_python();
	atomic_fetch_add(&closing, 1);
	for (unsigned polls = 0; atomic_load(&held) && polls < MOST_POLLS; polls++)
		trace_sleep(HOLD_POLL_NS);
}

void trace_modules_after_close(void)
{
	/* The last of several calls finds what all of them have removed. */
	if (trace_session.attached && atomic_load(&closing) == 1) {
		hold();
		trace_patch_closed();
		trace_modules_release();
	}
	atomic_fetch_sub(&closing, 1);
}

void trace_modules_after_fork(void)
{
	atomic_store(&held, false);
	atomic_store(&closing, 0);
}
