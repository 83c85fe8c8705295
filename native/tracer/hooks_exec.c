/* Programs started with an environment of their own making are traced too. */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
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

/* Entries and characters a completed environment needs; 0 entries: it is complete as it is. */
static size_t room_needed(char *const *environment, size_t *characters)
{
	int at = find_variable(environment, PRELOAD);

	*characters = 0;
	if (!session[0] || trace_session_is_over())
		return 0;
	if (at >= 0 && strstr(environment[at], preload + strlen(PRELOAD))) {
		if (find_variable(environment, SESSION) >= 0)
			return 0;
	} else if (at >= 0) {
		*characters = strlen(preload) + 1 + strlen(environment[at]) + 1;
	}
	return count_variables(environment) + 3;
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

/* On the stack: after vfork() the heap is the parent's. */
#define COMPLETED(environment)                                                                     \
	({                                                                                         \
		size_t characters_;                                                                \
		size_t entries_ = room_needed(environment, &characters_);                          \
		char *const *completed_ = (environment);                                           \
		if (entries_) {                                                                    \
			char **list_ = alloca(entries_ * sizeof *list_);                           \
			complete(environment, list_, alloca(characters_ + 1));                     \
			completed_ = list_;                                                        \
		}                                                                                  \
		completed_;                                                                        \
	})

TRACE_EXPORT int execve(const char *path, char *const argv[], char *const environment[])
{
	return trace_real.execve(path, argv, COMPLETED(environment));
}

TRACE_EXPORT int execvpe(const char *file, char *const argv[], char *const environment[])
{
	return trace_real.execvpe(file, argv, COMPLETED(environment));
}

TRACE_EXPORT int fexecve(int fd, char *const argv[], char *const environment[])
{
	return trace_real.fexecve(fd, argv, COMPLETED(environment));
}

TRACE_EXPORT int posix_spawn(pid_t *pid, const char *path,
			     const posix_spawn_file_actions_t *actions,
			     const posix_spawnattr_t *attributes, char *const argv[],
			     char *const environment[])
{
	return trace_real.posix_spawn(pid, path, actions, attributes, argv, COMPLETED(environment));
}

TRACE_EXPORT int posix_spawnp(pid_t *pid, const char *file,
			      const posix_spawn_file_actions_t *actions,
			      const posix_spawnattr_t *attributes, char *const argv[],
			      char *const environment[])
{
	return trace_real.posix_spawnp(pid, file, actions, attributes, argv,
				       COMPLETED(environment));
}
