/* Marks: moments that the program names. */
#include "mark.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "../include/mematlas_mark.h"
#include "guard.h"
#include "look.h"
#include "ring.h"
#include "syscall.h"
#include "thread.h"

#define WAIT_NS 1000000000L
#define POLL_NS 500000L
#define MAX_POLL_NS 20000000L /* a longer gap between two polls means we were stopped */
#define NEAR 1024u /* bytes from the frame of the hook; that of mematlas_mark() is smaller */
#define SLOTS 64u /* for names, which may share one */
#define MOST_OF_NAME 32u
#define MOST_OF_ALL 256u
#define NAME_WORDS (MEMATLAS_MARK_BYTES / 8)

/* What a thread waits for: `answered` of its ring reaches `serial`. 0: nothing. */
struct awaited {
	const struct trace_ring *ring;
	uint64_t serial;
	uint32_t generation;
};

/* A program may pass any address with a length of 0. One that is on the stack just above the hook's frame can
 * be read. */
static const struct mematlas_mark_request *request_at(const void *start, const void *frame)
{
	const struct mematlas_mark_request *request = start;
	uintptr_t at = (uintptr_t)start, above = (uintptr_t)frame;

	if (at % 16 || at < above || at - above > NEAR)
		return NULL;
	return request->magic[0] == MEMATLAS_MARK_MAGIC && request->magic[1] == ~MEMATLAS_MARK_MAGIC
		       ? request
		       : NULL;
}

/* A program that sets a mark in a loop is not to be slowed down for ever: the first marks of each name are worth
 * an account, and only these wait. */
static bool is_worth_waiting(const char *name)
{
	static _Atomic uint32_t session, total, of_name[SLOTS];
	uint32_t hash = 2166136261u;

	if (atomic_exchange(&session, trace_generation) != trace_generation) {
		atomic_store(&total, 0);
		for (unsigned i = 0; i < SLOTS; i++)
			atomic_store(&of_name[i], 0);
	}
	for (unsigned i = 0; i < MEMATLAS_MARK_BYTES && name[i]; i++)
		hash = (hash ^ (unsigned char)name[i]) * 16777619u;
	_Atomic uint32_t *count = &of_name[(hash ^ hash >> 16) % SLOTS];
	if (atomic_load(count) >= MOST_OF_NAME || atomic_load(&total) >= MOST_OF_ALL)
		return false;
	atomic_fetch_add(&total, 1);
	return atomic_fetch_add(count, 1) < MOST_OF_NAME;
}

/* Under the guard. */
static struct awaited record(const struct mematlas_mark_request *request)
{
	struct trace_thread *thread = trace_is_joined() ? trace_thread_get() : NULL;
	uint64_t words[2 + NAME_WORDS];

	if (!thread || !trace_begin(thread, 2 + NAME_WORDS))
		return (struct awaited){0};
	words[0] = TRACE_MARK | trace_now_ordered() << 8;
	/* Under seccomp a wait would be a loop without sleep. */
	bool waits = !trace_session.sandboxed && is_worth_waiting(request->name);
	words[1] = waits ? ++thread->marks : 0;
	memcpy(words + 2, request->name, MEMATLAS_MARK_BYTES);
	trace_record(thread, words, 2 + NAME_WORDS);
	return (struct awaited){thread->ring, words[1], trace_generation};
}

/* Rings and control may be unmapped while no thread has the guard. */
static bool is_pending(const struct awaited *awaited, uint64_t *heartbeat)
{
	bool pending = false;

	if (!trace_enter())
		return false;
	if (trace_is_joined() && !trace_is_forked() && awaited->generation == trace_generation) {
		pending = __atomic_load_n(&awaited->ring->answered, __ATOMIC_ACQUIRE) <
				  awaited->serial &&
			  !trace_session_has_ended();
		*heartbeat = __atomic_load_n(&trace_session.control->heartbeat, __ATOMIC_RELAXED);
	}
	trace_leave();
	return pending;
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A collector that did not answer, as one that is stopped, is not waited for again until it goes on. */
static void wait(const struct awaited *awaited)
{
	static _Atomic uint64_t silent_at = UINT64_MAX;
	uint64_t heartbeat = 0;
	int64_t last = now_ns();
	bool pending = is_pending(awaited, &heartbeat);

	if (pending && heartbeat == atomic_load(&silent_at))
		return;
	for (int64_t waited = 0; pending && waited < WAIT_NS;) {
		trace_sleep(POLL_NS);
		int64_t now = now_ns();
		waited += now - last < MAX_POLL_NS ? now - last : MAX_POLL_NS;
		last = now;
		pending = is_pending(awaited, &heartbeat);
	}
	if (pending)
		atomic_store(&silent_at, heartbeat);
}

void trace_unmapped_nothing(const void *start, const void *frame)
{
	const struct mematlas_mark_request *request = request_at(start, frame);
	int saved = errno;

	if (!request || trace_is_forked() || !trace_enter())
		return;
	struct awaited awaited = record(request);
	trace_leave();
	if (awaited.serial) {
		trace_wake_collector();
		wait(&awaited);
	}
	errno = saved;
}
