/* Requests to the collector, and its answers. */
#define _GNU_SOURCE
#include "session_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "descriptor.h"
#include "session_message.h"
#include "state.h"
#include "syscall.h"

#ifndef SO_COOKIE
#define SO_COOKIE 57 /* since Linux 4.12 */
#endif

#define UNMAPPED_USER 65534u
#define REPEATS 4

/* name[0] == 0: the session has no name, and is reached by an inherited socket alone. */
static struct {
	char name[TRACE_NAME_BYTES];
	uint64_t token[2];
	int fd; /* connected to the collector, by this process or an ancestor; < 0: none */
	uint64_t cookie; /* of that socket; the descriptor may be another file's by now; 0: any */
	char namespaces
		[80]; /* where the name holds and has a known owner; "": none that is known */
} own = {.fd = -1};

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	uint32_t size = sizeof cookie;

	return trace_syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) < 0
		       ? 0
		       : cookie;
}

static bool is_socket_kept(void)
{
	int type = 0;
	uint32_t size = sizeof type;

	if (own.fd < 0)
		return false;
	if (own.cookie)
		return cookie_of(own.fd) == own.cookie;
	return trace_syscall(SYS_getsockopt, own.fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
	       type == SOCK_SEQPACKET;
}

static int digit_of(char character)
{
	if (character >= '0' && character <= '9')
		return character - '0';
	return character >= 'a' && character <= 'f' ? character - 'a' + 10 : -1;
}

/* Returns what comes after the digits; NULL: there are none, or too many. */
static const char *read_number(const char *text, int base, unsigned most, uint64_t *ret)
{
	unsigned count = 0;

	*ret = 0;
	for (int digit; (digit = digit_of(text[count])) >= 0 && digit < base; count++) {
		if (count == most)
			return NULL;
		*ret = *ret * (unsigned)base + (unsigned)digit;
	}
	return count ? text + count : NULL;
}

static char *write_number(char *text, uint64_t number, unsigned base, unsigned least)
{
	char digits[24];
	unsigned count = 0;

	do
		digits[count++] = "0123456789abcdef"[number % base];
	while ((number /= base) > 0 || count < least);
	while (count > 0)
		*text++ = digits[--count];
	return text;
}

static bool read_token(const char *text, const char **after)
{
	char half[17] = "";

	for (int i = 0; i < 2; i++) {
		strncpy(half, text + 16 * i, 16);
		const char *end = read_number(half, 16, 16, &own.token[i]);
		if (end != half + 16)
			return false;
	}
	*after = text + TRACE_TOKEN_DIGITS;
	return true;
}

static bool read_socket(const char *text)
{
	uint64_t fd, cookie = 0;
	const char *after = read_number(text, 10, 9, &fd);

	if (after && *after == ':')
		after = read_number(after + 1, 16, 16, &cookie);
	if (!after || *after)
		return false;
	own.fd = (int)fd;
	own.cookie = cookie;
	return true;
}

/* In another user namespace, whose the name is may be hidden. */
static void read_namespaces(char *text, size_t size)
{
	long network = trace_syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/ns/net", text, size / 2);
	size_t length = network > 0 ? (size_t)network : 0;
	long user = trace_syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/ns/user", text + length,
				  size - 1 - length);

	text[network > 0 && user > 0 ? length + (size_t)user : 0] = 0;
}

void trace_socket_close(void)
{
	if (is_socket_kept())
		trace_syscall(SYS_close, own.fd);
	own.fd = -1;
}

bool trace_socket_set(const char *text)
{
	const char *colon = text ? strchr(text, ':') : NULL, *after;

	if (!colon || colon - text >= (ptrdiff_t)sizeof own.name ||
	    strlen(colon + 1) < TRACE_TOKEN_DIGITS || !read_token(colon + 1, &after))
		return false;
	memcpy(own.name, text, (size_t)(colon - text));
	own.name[colon - text] = 0;
	trace_socket_close();
	return *after == 0 || (*after == ':' && read_socket(after + 1));
}

static struct trace_request make_request(uint32_t kind)
{
	return (struct trace_request){.magic = TRACE_REQUEST_MAGIC,
				      .version = TRACE_VERSION,
				      .kind = kind,
				      .token = {own.token[0], own.token[1]}};
}

/* Elsewhere than in the first user namespace, unmapped users all look alike. */
static bool are_all_users_mapped(void)
{
	static const char *const words[] = {"0", "0", "4294967295"};
	char text[64] = "";
	SCOPED_FD fd = (int)trace_syscall(SYS_openat, AT_FDCWD, "/proc/self/uid_map",
					  O_RDONLY | O_CLOEXEC, 0);
	const char *at = text;

	if (fd < 0 || trace_syscall(SYS_read, fd, text, sizeof text - 1) <= 0)
		return false;
	for (int i = 0; i < 3; i++) {
		at += strspn(at, " ");
		size_t length = strcspn(at, " \n");
		if (length != strlen(words[i]) || strncmp(at, words[i], length) != 0)
			return false;
		at += length;
	}
	return true;
}

/* The name is free for all once the collector has ended. Whoever listens there gives memory and a library,
 * so that must be a user who has power over this process anyway. */
static bool is_trusted(int fd)
{
	struct ucred peer;
	uint32_t size = sizeof peer;

	if (trace_syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
		return false;
	return peer.uid == 0 || (peer.uid == (uid_t)trace_syscall(SYS_geteuid) &&
				 (peer.uid != UNMAPPED_USER || are_all_users_mapped()));
}

/* Makes a call that needs descriptors, once more beyond the program's limit if that is reached. */
#define BEYOND_LIMIT(call)                                                                         \
	({                                                                                         \
		struct rlimit before_;                                                             \
		int result_ = (int)(call);                                                         \
		if ((result_ == -EMFILE || result_ == -ENFILE) &&                                  \
		    trace_raise_descriptors(&before_)) {                                           \
			result_ = (int)(call);                                                     \
			trace_restore_descriptors(&before_);                                       \
		}                                                                                  \
		result_;                                                                           \
	})

static int open_socket(void)
{
	return BEYOND_LIMIT(trace_syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
}

static int connect_by_name(int fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(own.name);

	if (length == 0)
		return -ECONNREFUSED;
	memcpy(address.sun_path + 1, own.name, length);
	long error;
	do
		error = trace_syscall(SYS_connect, fd, &address,
				      offsetof(struct sockaddr_un, sun_path) + 1 + length);
	while (error == -EINTR);
	return error || is_trusted(fd) ? (int)error : -ECONNREFUSED;
}

/* Asks over a socket that is this process's own from then on. */
static int ask_by_name(const struct trace_request *request, int *ret_fd, struct trace_joining *ret)
{
	SCOPED_FD fd = open_socket();

	if (fd < 0)
		return fd;
	trace_message_limit_waits(fd);
	int error = connect_by_name(fd);
	if (error)
		return error;
	long sent = trace_message_send(fd, request, NULL, 0);
	error = sent < 0 ? (int)sent : trace_message_receive(fd, ret);
	for (int i = 0; error == -EAGAIN && i < REPEATS; i++) {
		sent = trace_message_send(fd, request, NULL, 0);
		error = sent < 0 ? (int)sent : trace_message_receive(fd, ret);
	}
	*ret_fd = fd;
	fd = -1;
	return error;
}

static int ask_by_socket(const struct trace_request *request, int *ret_fd,
			 struct trace_joining *ret)
{
	int pair[2];

	if (!is_socket_kept())
		return -ENOTCONN;
	int error = BEYOND_LIMIT(
		trace_syscall(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	if (error)
		return error;
	trace_message_limit_waits(pair[0]);
	long sent = trace_message_send(own.fd, request, &pair[1], 1);
	trace_syscall(SYS_close, pair[1]);
	error = sent < 0 ? (int)sent : trace_message_receive(pair[0], ret);
	for (int i = 0; error == -EAGAIN && i < REPEATS; i++) {
		sent = trace_message_send(pair[0], request, NULL, 0);
		error = sent < 0 ? (int)sent : trace_message_receive(pair[0], ret);
	}
	*ret_fd = pair[0];
	return error;
}

/* The name needs no descriptor that a program may have closed, so it comes first. */
static int ask(const struct trace_request *request, int *ret_fd, bool *ret_named,
	       struct trace_joining *ret)
{
	*ret_fd = -1;
	int error = ask_by_name(request, ret_fd, ret);
	*ret_named = !error;
	if (error && *ret_fd < 0)
		error = ask_by_socket(request, ret_fd, ret);
	return error;
}

/* A descriptor that a program may stumble over is not kept: then its children ask by the name. */
static void keep_socket(int fd)
{
	int moved = trace_move_descriptor(fd, false);

	trace_socket_close();
	if (!trace_descriptor_is_out_of_the_way(moved)) {
		trace_syscall(SYS_close, moved);
		return;
	}
	own.fd = moved;
	own.cookie = cookie_of(moved);
}

/* Memory that somebody could shrink would end the program by SIGBUS. */
static bool is_sealed(int fd)
{
	long seals = fd < 0 ? -EBADF : trace_syscall(SYS_fcntl, fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_SHRINK) && (seals & F_SEAL_GROW);
}

int trace_socket_join(uint64_t image, uint64_t fork_serial, struct trace_joining *ret)
{
	struct trace_request request = make_request(TRACE_JOIN);
	bool named;
	int fd;

	request.image = image;
	request.fork_serial = fork_serial;
	request.rings = TRACE_MAX_RINGS;
	int error = ask(&request, &fd, &named, ret);
	if (error) {
		trace_close_descriptor(&fd);
		return error;
	}
	if (!is_sealed(ret->fds[TRACE_JOINED_CONTROL]) ||
	    !is_sealed(ret->fds[TRACE_JOINED_MEMORY]) ||
	    !is_sealed(ret->fds[TRACE_JOINED_COMMON])) {
		trace_message_close(ret);
		trace_close_descriptor(&fd);
		return -EPROTO;
	}
	keep_socket(fd);
	own.namespaces[0] = 0;
	if (named)
		read_namespaces(own.namespaces, sizeof own.namespaces);
	return 0;
}

static void tell(const struct trace_request *request, const int *fds, unsigned count)
{
	if (is_socket_kept() && trace_message_send(own.fd, request, fds, count) >= 0)
		return;
	SCOPED_FD fd = open_socket();
	if (fd < 0)
		return;
	trace_message_limit_waits(fd);
	if (connect_by_name(fd) == 0)
		trace_message_send(fd, request, fds, count);
}

void trace_socket_send_events(const int *fds, unsigned count)
{
	struct trace_request request = make_request(TRACE_EVENTS);

	request.image = trace_session.image;
	tell(&request, fds, count);
}

void trace_socket_refuse(const char *reason)
{
	struct trace_request request = make_request(TRACE_REFUSED);

	strncpy(request.reason, reason, sizeof request.reason - 1);
	tell(&request, NULL, 0);
}

static char *write_text(char *to, const char *from)
{
	size_t length = strlen(from);

	memcpy(to, from, length);
	return to + length;
}

void trace_socket_format(char *text)
{
	char namespaces[sizeof own.namespaces];

	text = write_text(text, own.name);
	*text++ = ':';
	for (int i = 0; i < 2; i++)
		text = write_number(text, own.token[i], 16, 16);
	read_namespaces(namespaces, sizeof namespaces);
	bool elsewhere = !own.namespaces[0] || strcmp(namespaces, own.namespaces) != 0;
	if (elsewhere && is_socket_kept()) {
		/* In a child by vfork() the descriptors are its own, this memory is not. */
		trace_syscall(SYS_fcntl, own.fd, F_SETFD, 0);
		*text++ = ':';
		text = write_number(text, (uint64_t)own.fd, 10, 1);
		*text++ = ':';
		text = write_number(text, own.cookie, 16, 1);
	}
	*text = 0;
}

int trace_socket_library(void)
{
	struct trace_request request = make_request(TRACE_LIBRARY);
	struct trace_joining joining;
	SCOPED_FD fd = -1;
	bool named;
	int error = ask(&request, &fd, &named, &joining);

	if (error)
		return error;
	return joining.fds[0] < 0 ? -ENOENT : trace_move_descriptor(joining.fds[0], true);
}
