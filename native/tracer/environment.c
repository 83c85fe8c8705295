/* Environments of programs that the traced program starts. */
#define _GNU_SOURCE
#include "environment.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "modules.h"
#include "session_socket.h"
#include "state.h"

#define SESSION TRACE_SESSION_VARIABLE "="
#define PRELOAD "LD_PRELOAD="

static char preload[sizeof PRELOAD + PATH_MAX];

void trace_environment_start(void)
{
	const struct link_map *own = trace_own_module();

	if (!own || !own->l_name || strlen(own->l_name) >= PATH_MAX)
		return;
	strcat(strcpy(preload, PRELOAD), own->l_name);
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

/* As another user, or under another root directory, a program may be unable to load the tracer, and the
 * loader would print an error on its standard error. */
static bool is_reachable(void)
{
	int saved = errno;
	bool reachable = trace_session.sandboxed ||
			 faccessat(AT_FDCWD, preload + strlen(PRELOAD), R_OK, AT_EACCESS) == 0;

	errno = saved;
	return reachable;
}

struct trace_environment_plan trace_environment_plan(char *const *environment)
{
	struct trace_environment_plan plan = {0, 0, false};
	int at = find_variable(environment, PRELOAD);
	bool loads = at >= 0 && strstr(environment[at], preload + strlen(PRELOAD));

	if (!preload[0] || trace_session_is_over())
		return plan;
	plan.strip = !is_reachable();
	if (plan.strip && !loads)
		return plan;
	if (at >= 0)
		plan.characters = strlen(preload) + 1 + strlen(environment[at]) + 1;
	plan.characters += sizeof SESSION + TRACE_SESSION_TEXT;
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
	else if (!strstr(environment[at], preload + strlen(PRELOAD))) {
		entries[at] = strcat(strcat(strcpy(text, preload), ":"),
				     environment[at] + strlen(PRELOAD));
		text += strlen(text) + 1;
	}
	trace_socket_format(stpcpy(text, SESSION));
	at = find_variable(environment, SESSION);
	entries[at >= 0 ? (size_t)at : count++] = text;
	entries[count] = NULL;
}

/* Copies LD_PRELOAD without the tracer, split as the loader splits it. False: nothing is left. */
static bool copy_without_tracer(const char *variable, char *text)
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
			if (!copy_without_tracer(environment[i], text))
				continue;
			entries[count] = text;
		}
		count++;
	}
	entries[count] = NULL;
	if (trace_session.process)
		__atomic_add_fetch(&trace_session.process->left_behind, 1, __ATOMIC_RELAXED);
}

void trace_environment_complete(const struct trace_environment_plan *plan, char *const *environment,
				char **entries, char *text)
{
	(plan->strip ? strip : complete)(environment, entries, text);
}
