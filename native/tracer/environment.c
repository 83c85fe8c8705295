/* Environments of the traced program and of programs that it starts. */
#define _GNU_SOURCE
#include "environment.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "modules.h"
#include "session_socket.h"
#include "state.h"
#include "syscall.h"

#define SESSION TRACE_SESSION_VARIABLE "="
#define PRELOAD "LD_PRELOAD="
#define OPENED "/proc/self/fd/"

/* A static program may start anything by system calls that no hook sees. glibc's loader expands $ORIGIN;
 * musl's does not, finds no such file, and runs its program bare. Without it musl's loader would refuse to
 * start a program, since it cannot relocate the tracer. */
#define UP_4 "/../../../.."
#define UP_32 UP_4 UP_4 UP_4 UP_4 UP_4 UP_4 UP_4 UP_4
#define ORIGIN "$ORIGIN" UP_32

#define ADDED 3u /* entries of a copy: LD_PRELOAD, the session, NULL */

static char preload[sizeof PRELOAD + PATH_MAX];
static char origin_preload[sizeof PRELOAD + sizeof ORIGIN + PATH_MAX];

/* A file, whatever its name. */
struct file_id {
	uint32_t major, minor;
	uint64_t inode; /* 0: none */
};

static struct file_id own_file; /* where the library was loaded from a descriptor */
static struct {
	int fd;
	struct file_id id;
} library = {-1,
	     {0}}; /* opened by the collector, for programs that cannot reach the library's path */

static const char *own_path(void)
{
	return preload + strlen(PRELOAD);
}

static struct file_id identify(const char *path)
{
	struct statx status;

	if (trace_syscall(SYS_statx, AT_FDCWD, path, 0, STATX_INO, &status) != 0)
		return (struct file_id){0};
	return (struct file_id){status.stx_dev_major, status.stx_dev_minor, status.stx_ino};
}

/* A descriptor may be another file's by now. */
static bool is_file(const char *path, const struct file_id *id)
{
	struct file_id now = identify(path);

	return now.inode && now.inode == id->inode && now.major == id->major &&
	       now.minor == id->minor;
}

void trace_environment_start(void)
{
	const struct link_map *own = trace_own_module();

	if (!own || !own->l_name || strlen(own->l_name) >= PATH_MAX)
		return;
	bool opened = strncmp(own->l_name, OPENED, strlen(OPENED)) == 0;
	/* Attach closes the descriptor that it loaded the library from; an exec inherits it. */
	if (opened && trace_session.attached)
		return;
	const char *expanded = strstr(own->l_name, UP_32);
	const char *path = expanded ? expanded + strlen(UP_32) : own->l_name;
	strcat(strcpy(preload, PRELOAD), path);
	strcat(strcpy(origin_preload, PRELOAD ORIGIN), path);
	if (strncmp(path, OPENED, strlen(OPENED)) == 0)
		own_file = identify(path);
}

bool trace_environment_is_known(void)
{
	return preload[0] != 0;
}

static int find_variable(char *const *environment, const char *prefix)
{
	for (int i = 0; environment && environment[i]; i++)
		if (strncmp(environment[i], prefix, strlen(prefix)) == 0)
			return i;
	return -1;
}

static const char *find_preload(char *const *environment, size_t *ret_length)
{
	const char *variable;

	*ret_length = 0;
	for (size_t i = 0; environment && (variable = environment[i]); i++) {
		if (strncmp(variable, PRELOAD, strlen(PRELOAD)) != 0)
			continue;
		*ret_length = strlen(variable);
		return variable;
	}
	return NULL;
}

static size_t count_variables(char *const *environment)
{
	size_t count = 0;

	while (environment && environment[count])
		count++;
	return count;
}

static bool is_own_entry(const char *entry, size_t length)
{
	size_t own = strlen(own_path());

	if (length > own && strncmp(entry, ORIGIN, strlen(ORIGIN)) == 0)
		entry += length - own, length = own;
	return own > 0 && length == own && strncmp(entry, own_path(), own) == 0;
}

/* Removes the tracer from the value of LD_PRELOAD, split as the loader splits it, and leaves the rest as it
 * is. True: the tracer was all of it. */
static bool remove_own(char *value)
{
	char *at = value;

	while (*at) {
		size_t length = strcspn(at, ": ");
		bool last = at[length] == 0;
		if (!is_own_entry(at, length)) {
			at += length + !last;
			continue;
		}
		if (last && at == value) {
			*at = 0;
			return true;
		}
		if (last)
			at[-1] = 0; /* with the separator before it */
		else
			memmove(at, at + length + 1, strlen(at + length + 1) + 1);
		if (last)
			break;
	}
	return false;
}

static bool has_own(const char *value)
{
	while (*value) {
		size_t length = strcspn(value, ": ");
		if (is_own_entry(value, length))
			return true;
		value += length + (value[length] != 0);
	}
	return false;
}

static bool is_go_note(const char *note, size_t size)
{
	Elf64_Nhdr header;

	if (size < sizeof header + 4)
		return false;
	memcpy(&header, note, sizeof header);
	return header.n_namesz == 4 && memcmp(note + sizeof header, "Go\0", 4) == 0;
}

/* Go starts programs by system calls, which no hook sees: its environment must keep the variables. */
static bool is_go_program(void)
{
	const Elf64_Phdr *headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
	size_t count = headers ? getauxval(AT_PHNUM) : 0;
	uintptr_t bias = 0;

	for (size_t i = 0; i < count; i++)
		if (headers[i].p_type == PT_PHDR)
			bias = (uintptr_t)headers - headers[i].p_vaddr;
	for (size_t i = 0; i < count; i++)
		if (headers[i].p_type == PT_NOTE &&
		    is_go_note((const char *)bias + headers[i].p_vaddr, headers[i].p_memsz))
			return true;
	return false;
}

static void remove_variable(char **variable)
{
	do
		variable[0] = variable[1];
	while (*variable++);
}

void trace_environment_hide(void)
{
	int at = find_variable(environ, PRELOAD);

	if (!preload[0] || at < 0 || !has_own(environ[at] + strlen(PRELOAD)) || is_go_program())
		return;
	if (environ[at] == preload || environ[at] == origin_preload ||
	    remove_own(environ[at] + strlen(PRELOAD)))
		remove_variable(environ + at);
	at = find_variable(environ, SESSION);
	if (at >= 0)
		remove_variable(environ + at);
}

static bool is_readable(const char *path)
{
	int saved = errno;
	bool readable = faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) == 0;

	errno = saved;
	return readable;
}

/* setpriv changes its user and keeps capabilities until the exec: what can be read now may be out of reach
 * then. */
static bool reads_by_capability(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {{0}};

	return geteuid() != 0 && trace_syscall(SYS_capget, &header, sets) == 0 &&
	       sets[0].effective & (1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH);
}

/* As another user, or under another root directory, a program may be unable to load the tracer, and the
 * loader would print an error on its standard error. Behind a seccomp filter, any system call of the tracer
 * may kill the program. */
static bool is_reachable(void)
{
	return !trace_session.sandboxed && is_readable(own_path()) && !reads_by_capability() &&
	       (!own_file.inode || is_file(own_path(), &own_file));
}

static char *format_opened(char *path, int fd)
{
	char *at = stpcpy(path, OPENED), digits[12];
	int count = 0;

	do
		digits[count++] = (char)('0' + fd % 10);
	while ((fd /= 10) > 0);
	while (count > 0)
		*at++ = digits[--count];
	*at = 0;
	return path;
}

/* Returns a descriptor of the library that the program inherits; < 0: there is none, or no /proc. */
static int open_library(void)
{
	char path[sizeof OPENED + 12];

	if (trace_session.sandboxed)
		return -1;
	if (library.fd >= 0 && is_file(format_opened(path, library.fd), &library.id))
		return library.fd;
	int fd = trace_socket_library();
	if (fd < 0)
		return fd;
	library.id = identify(format_opened(path, fd));
	if (library.id.inode && is_readable(path)) {
		library.fd = fd;
		return fd;
	}
	trace_syscall(SYS_close, fd);
	return -1;
}

static bool is_stripped(const struct trace_environment_plan *plan)
{
	return plan->left != TRACE_LEFT_NOT && plan->left != TRACE_LEFT_STATIC;
}

/* For a program whose libraries alone are instrumented. */
static bool preloads_sanitizer(const char *variable)
{
	return strstr(variable, "/libasan.so") || strstr(variable, "/libtsan.so") ||
	       strstr(variable, "/liblsan.so") || strstr(variable, "libclang_rt.");
}

struct trace_environment_plan trace_environment_plan(char *const *environment,
						     enum trace_left_kind left)
{
	struct trace_environment_plan plan = {.left = left, .library = -1};

	if (!preload[0] || trace_session_has_ended())
		return (struct trace_environment_plan){.left = TRACE_LEFT_NOT, .library = -1};
	bool reachable = is_reachable();
	if (!reachable && !is_stripped(&plan))
		plan.library = open_library();
	/* Other threads may have changed the environment while the library was asked for. */
	plan.preload = find_preload(environment, &plan.preload_length);
	if (!reachable && plan.library < 0)
		plan.left = TRACE_LEFT_UNREACHABLE;
	else if (plan.left == TRACE_LEFT_NOT && plan.preload && preloads_sanitizer(plan.preload))
		plan.left = TRACE_LEFT_SANITIZED;
	plan.characters = strlen(origin_preload) + sizeof OPENED + 12;
	plan.characters += plan.preload_length + 1;
	plan.characters += sizeof SESSION + TRACE_SESSION_TEXT;
	plan.entries = count_variables(environment) + ADDED;
	return plan;
}

/* Writes LD_PRELOAD with the tracer alone; "": the program gets none of it. */
static void write_own(const struct trace_environment_plan *plan, char *text)
{
	bool from_origin = plan->left == TRACE_LEFT_STATIC;

	*text = 0;
	if (is_stripped(plan))
		return;
	if (plan->library < 0)
		strcpy(text, from_origin ? origin_preload : preload);
	else
		format_opened(stpcpy(text, from_origin ? PRELOAD ORIGIN : PRELOAD), plan->library);
}

/* Writes the value of LD_PRELOAD that the program gets. NULL: none. */
static char *format_preload(const struct trace_environment_plan *plan, char *text)
{
	write_own(plan, text);
	bool own = *text;
	if (!plan->preload)
		return own ? text : NULL;
	if (!own)
		strcpy(text, PRELOAD);
	char *rest = text + strlen(text);
	strncat(strcpy(rest, own ? ":" : ""), plan->preload + strlen(PRELOAD),
		plan->preload_length - strlen(PRELOAD));
	bool alone = remove_own(rest + own);
	if (alone && own)
		*rest = 0; /* with the separator */
	return alone && !own ? NULL : text;
}

static void count_untraced(enum trace_left_kind left)
{
	if (left != TRACE_LEFT_NOT && trace_session.process)
		__atomic_add_fetch(&trace_session.process->left[left], 1, __ATOMIC_RELAXED);
}

static bool is_variable(const char *variable, const char *prefix)
{
	return strncmp(variable, prefix, strlen(prefix)) == 0;
}

struct copied {
	size_t count; /* <= capacity - ADDED */
	bool has_preload, has_session;
};

/* Copies the variables but LD_PRELOAD, whose place `preload` takes, and of a stripped one the session. */
static struct copied copy_variables(const struct trace_environment_plan *plan,
				    char *const *environment, char **entries, char *preload_value)
{
	struct copied copied = {0, false, false};
	char *variable;

	for (size_t i = 0;
	     environment && copied.count + ADDED < plan->entries && (variable = environment[i]);
	     i++) {
		bool session = !copied.has_session && is_variable(variable, SESSION);
		if (!copied.has_preload && is_variable(variable, PRELOAD)) {
			copied.has_preload = true;
			variable = preload_value;
		}
		copied.has_session |= session;
		if (variable && !(session && is_stripped(plan)))
			entries[copied.count++] = variable;
	}
	return copied;
}

/* Variables keep their places, and new ones come last: hidden again, the program sees its own order. */
void trace_environment_complete(const struct trace_environment_plan *plan, char *const *environment,
				char **entries, char *text)
{
	*text = 0;
	char *value = format_preload(plan, text);
	struct copied copied = copy_variables(plan, environment, entries, value);
	size_t count = copied.count;

	if (!copied.has_preload && value)
		entries[count++] = value;
	if (!copied.has_session &&
	    !is_stripped(plan)) { /* one that is there is of a session inside this one */
		text += strlen(text) + 1;
		trace_socket_format(stpcpy(text, SESSION));
		entries[count++] = text;
	}
	entries[count] = NULL;
	count_untraced(plan->left);
}
