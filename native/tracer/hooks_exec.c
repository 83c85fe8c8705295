/* Programs started with an environment of their own making are traced too. */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <string.h>
#include <unistd.h>

#include "tracer.h"

#define SESSION TRACE_SESSION_VARIABLE "="
#define PRELOAD "LD_PRELOAD="

static char session[sizeof SESSION + PATH_MAX];
static char preload[sizeof PRELOAD + PATH_MAX];

void trace_exec_start(const char *directory)
{
	Dl_info own;

	if (strlen(directory) >= PATH_MAX || !dladdr(&trace_session, &own) || !own.dli_fname ||
	    strlen(own.dli_fname) >= PATH_MAX)
		return;
	strcat(strcpy(session, SESSION), directory);
	strcat(strcpy(preload, PRELOAD), own.dli_fname);
}

static int find_variable(char *const *environment, const char *prefix)
{
	for (int i = 0; environment && environment[i]; i++)
		if (strncmp(environment[i], prefix, strlen(prefix)) == 0)
			return i;
	return -1;
}

static size_t count_variables(char *const *environment)
{
	size_t count = 0;

	while (environment && environment[count])
		count++;
	return count;
}

/* As another user, or under another root, a program could load no tracer and join no session, and the
 * loader would complain on its standard error. */
static bool is_reachable(void)
{
	int saved = errno;
	bool reachable =
		trace_session.sandboxed ||
		(faccessat(AT_FDCWD, preload + strlen(PRELOAD), R_OK, AT_EACCESS) == 0 &&
		 faccessat(AT_FDCWD, session + strlen(SESSION), W_OK | X_OK, AT_EACCESS) == 0);

	errno = saved;
	return reachable;
}

struct plan {
	size_t entries,
		characters; /* room needed; no entries: the environment is as it should be */
	bool leave_behind;
};

static struct plan make_plan(char *const *environment)
{
	struct plan plan = {0, 0, false};
	int at = find_variable(environment, PRELOAD);
	bool loads = at >= 0 && strstr(environment[at], preload + strlen(PRELOAD));

	if (!session[0] || trace_session_is_over())
		return plan;
	plan.leave_behind = !is_reachable();
	if (plan.leave_behind ? !loads : loads && find_variable(environment, SESSION) >= 0)
		return plan;
	if (at >= 0)
		plan.characters = strlen(preload) + 1 + strlen(environment[at]) + 1;
	plan.entries = count_variables(environment) + 3;
	return plan;
}

static void complete(char *const *environment, char **entries, char *text)
{
	size_t count = count_variables(environment);
	int at = find_variable(environment, PRELOAD);

	memcpy(entries, environment, count * sizeof *entries);
	if (at < 0)
		entries[count++] = preload;
	else if (!strstr(environment[at], preload + strlen(PRELOAD)))
		entries[at] = strcat(strcat(strcpy(text, preload), ":"),
				     environment[at] + strlen(PRELOAD));
	if (find_variable(environment, SESSION) < 0)
		entries[count++] = session;
	entries[count] = NULL;
}

/* What LD_PRELOAD holds without us, as the loader splits it. */
static bool without_tracer(const char *variable, char *text)
{
	const char *own = preload + strlen(PRELOAD);
	const char *at = variable + strlen(PRELOAD);
	bool any = false;

	strcpy(text, PRELOAD);
	while (*at) {
		size_t length = strcspn(at, ": ");
		if (length && (length != strlen(own) || strncmp(at, own, length) != 0)) {
			if (any)
				strcat(text, ":");
			strncat(text, at, length);
			any = true;
		}
		at += length + (at[length] != 0);
	}
	return any;
}

static void strip(char *const *environment, char **entries, char *text)
{
	size_t count = 0;

	for (size_t i = 0; environment[i]; i++) {
		if (strncmp(environment[i], SESSION, strlen(SESSION)) == 0)
			continue;
		entries[count] = environment[i];
		if (strncmp(environment[i], PRELOAD, strlen(PRELOAD)) == 0) {
			if (!without_tracer(environment[i], text))
				continue;
			entries[count] = text;
		}
		count++;
	}
	entries[count] = NULL;
	if (trace_session.process)
		__atomic_add_fetch(&trace_session.process->left_behind, 1, __ATOMIC_RELAXED);
}

/* On the stack: after vfork() the heap is the parent's. */
#define COMPLETED(environment)                                                                     \
	({                                                                                         \
		struct plan plan_ = make_plan(environment);                                        \
		char *const *completed_ = (environment);                                           \
		if (plan_.entries) {                                                               \
			char **list_ = alloca(plan_.entries * sizeof *list_);                      \
			(plan_.leave_behind ? strip : complete)(environment, list_,                \
								alloca(plan_.characters + 1));     \
			completed_ = list_;                                                        \
		}                                                                                  \
		completed_;                                                                        \
	})

/* The image that ends here gets its last look, and its life back should the call fail. */
#define EXECUTE(call)                                                                              \
	({                                                                                         \
		trace_before_exec();                                                               \
		int result_ = (call);                                                              \
		trace_exec_failed();                                                               \
		result_;                                                                           \
	})

int trace_execve(const char *path, char *const argv[], char *const environment[])
{
	return EXECUTE(TRACE_REAL(execve)(path, argv, COMPLETED(environment)));
}

int trace_execvpe(const char *file, char *const argv[], char *const environment[])
{
	return EXECUTE(TRACE_REAL(execvpe)(file, argv, COMPLETED(environment)));
}

TRACE_EXPORT int execve(const char *path, char *const argv[], char *const environment[])
	__attribute__((alias("trace_execve")));
TRACE_EXPORT int execvpe(const char *file, char *const argv[], char *const environment[])
	__attribute__((alias("trace_execvpe")));

TRACE_EXPORT int fexecve(int fd, char *const argv[], char *const environment[])
{
	return EXECUTE(TRACE_REAL(fexecve)(fd, argv, COMPLETED(environment)));
}

TRACE_EXPORT int posix_spawn(pid_t *pid, const char *path,
			     const posix_spawn_file_actions_t *actions,
			     const posix_spawnattr_t *attributes, char *const argv[],
			     char *const environment[])
{
	return TRACE_REAL(posix_spawn)(pid, path, actions, attributes, argv,
				       COMPLETED(environment));
}

TRACE_EXPORT int posix_spawnp(pid_t *pid, const char *file,
			      const posix_spawn_file_actions_t *actions,
			      const posix_spawnattr_t *attributes, char *const argv[],
			      char *const environment[])
{
	return TRACE_REAL(posix_spawnp)(pid, file, actions, attributes, argv,
					COMPLETED(environment));
}
