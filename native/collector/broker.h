/* The collector's end of trace_request.h: a thread of its own answers processes that want to join, since
 * they wait for that, whatever the collector is busy with. */
#ifndef MEMATLAS_COLLECTOR_BROKER_H
#define MEMATLAS_COLLECTOR_BROKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "trace_request.h"

struct process;

/* Who sent a message, by the kernel's word. pidfd < 0: this kernel cannot tell (before 6.5). */
struct sender {
	pid_t pid; /* in the collector's PID namespace; 0: it is in none that the collector sees */
	uid_t uid;
	int pidfd;
};

/* A process image that joined: its descriptors are the collector's proof of who it is. */
struct image {
	uint64_t number; /* in the session, from 1 */
	pid_t pid; /* 0: it is forgotten, but for its user */
	uid_t uid;
};

struct refusal {
	pid_t pid;
	char reason[sizeof((struct trace_request *)0)->reason];
};

/* Descriptors of perf events that an image sent. */
struct held_events {
	uint64_t image;
	int fds[2];
};

struct peer;

/* What is below `lock` is shared with the collector's thread and used under it.
 *
 *   images[i].number < images[i + 1].number <= newest_image; image_count <= image_capacity, and so on */
struct broker {
	char name[TRACE_NAME_BYTES]; /* without the leading NUL */
	uint64_t token[2];
	int listener, epoll;
	int stop; /* eventfd */
	int arrival; /* eventfd: something for the collector is queued */
	int reserve; /* given up for a moment, to turn a connection away where no other is left */
	int control, common, library; /* handed out; < 0: none */
	uint32_t ring_bytes;
	bool lacks_pidfd; /* a test acts as a kernel before 6.5 */
	bool is_open, is_running;
	pthread_t thread;
	pthread_mutex_t serving; /* guards the peers */
	struct peer *newest, *oldest;
	uint32_t strangers; /* peers that have sent no valid request */

	pthread_mutex_t lock;
	struct process **arrived;
	uint32_t arrived_count, arrived_capacity;
	struct image *images;
	uint32_t image_count, image_capacity;
	uint64_t newest_image; /* its number */
	struct refusal *refusals;
	uint32_t refusal_count, refusal_capacity;
	struct held_events *events;
	uint32_t events_count, events_capacity;
	pid_t root; /* whose descendants may join; 0: only the collector's own */
	pid_t entered; /* may join as any user; 0: none */
};

/* Opens the sockets. `library`: path of the tracer's library, or NULL. Returns 0 or -errno. */
int broker_open(struct broker *broker, uint32_t ring_bytes, const char *library);
/* Begins to serve: `control` and `common` are set by then. Returns 0 or -errno. */
int broker_start(struct broker *broker);
/* May be called after a failure, or none of the former. */
void broker_close(struct broker *broker);
/* Serves a socket whose other end is another process's. It becomes the broker's, also on -errno. */
int broker_adopt(struct broker *broker, int fd);

/* admission.c: lets a process image in, with memory of its own, and queues it for the collector. Returns a
 * descriptor of the memory, or -errno: refused. */
int broker_admit(struct broker *broker, const struct sender *sender,
		 const struct trace_request *request, struct trace_answer *ret);

/* The image with that number; NULL: there is none, or it is forgotten. Under the lock. */
const struct image *broker_image(const struct broker *broker, uint64_t number);
/* Forgets an image that has ended. Its user may join as before. */
void broker_forget(struct broker *broker, uint64_t number);

/* process_end.c: closes and unmaps all that a process has. */
void process_free(struct process *process);

#endif
