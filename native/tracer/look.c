#define _GNU_SOURCE
#include "look.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/resource.h>
#include <time.h>

#include "live_set.h"
#include "ring.h"
#include "syscall.h"

#define FIRST_LOOK_BYTES (8u << 20) /* below, a process has the looks of its start and end only */
#define MOST_WAIT_NS 1000000000L
#define MOST_LOOKS 3 /* before one fall of RSS */
#define STEP_NS 10000000L
#define BLIND_GAP_NS 20000000L /* between looks that may be in vain */
#define BLIND_SHARE 50 /* of the time may pass in such waits: one part in so many */
#define MISSED_SHARE 10 /* the same for waits that were not answered */

_Atomic uint64_t trace_looked_at;
static _Atomic uint64_t
	known_high; /* highest RSS when a look was asked for, or by an earlier image */
static _Atomic int64_t next_look, next_blind_look; /* CLOCK_MONOTONIC, ns */

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

/* Of this image or an earlier one of the process. For the thread alone, since a sum of the times of all threads
 * would cost more, the more there are; the memory is that of all. */
static uint64_t highest_rss(void)
{
	struct rusage usage;

	if (trace_syscall(SYS_getrusage, RUSAGE_THREAD, &usage) < 0)
		return 0;
	return (uint64_t)usage.ru_maxrss * 1024;
}

void trace_look_start(bool forked)
{
	uint64_t high = trace_session.sandboxed ? 0 : highest_rss();
	uint64_t above = FIRST_LOOK_BYTES + (forked ? high + high / 20 : 0);

	atomic_store(&known_high, high);
	atomic_store(&next_look, 0);
	atomic_store(&next_blind_look, 0);
	__atomic_store_n(&trace_session.process->look_above, above, __ATOMIC_RELAXED);
}

/* 0: unknown. */
static uint64_t read_rss(void)
{
	char text[64];
	uint64_t pages = 0;
	long fd = trace_syscall(SYS_openat, AT_FDCWD, "/proc/self/statm", O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return 0;
	long length = trace_syscall(SYS_read, fd, text, sizeof text), at = 0;
	trace_syscall(SYS_close, fd);
	while (at < length && text[at] != ' ')
		at++;
	for (at++; at < length && text[at] >= '0' && text[at] <= '9'; at++)
		pages = pages * 10 + (uint64_t)(text[at] - '0');
	return pages * trace_session.page_bytes;
}

/* What RSS has been tells nothing once that is old. Then RSS is read, by a descriptor: where other threads run, one
 * of them could be given its number by chance, or fork with it. There the collector reads it, which costs a wait. */
static bool is_above_unseen(uint64_t above)
{
	if (!*trace_single_threaded)
		return now_ns() >= atomic_load(&next_blind_look);
	return read_rss() > above;
}

static bool is_new_peak(const struct trace_process *process)
{
	uint64_t above = __atomic_load_n(&process->look_above, __ATOMIC_RELAXED);
	uint64_t high = highest_rss(), known = atomic_load(&known_high);

	if (high <= above || now_ns() < atomic_load(&next_look))
		return false;
	if (high > known + known / 64 && atomic_compare_exchange_strong(&known_high, &known, high))
		return true;
	return is_above_unseen(above);
}

static uint32_t asked(const struct trace_process *process)
{
	return __atomic_load_n(&process->looks_asked, __ATOMIC_ACQUIRE);
}

static bool is_answered(const struct trace_process *process, uint32_t number)
{
	uint32_t answered = __atomic_load_n(&process->looks_answered, __ATOMIC_ACQUIRE);

	return (int32_t)(answered - number) >= 0;
}

void trace_wake_collector(void)
{
	uint32_t *bell = &trace_session.common->bell;

	__atomic_add_fetch(bell, 1, __ATOMIC_RELEASE);
	trace_syscall(SYS_futex, bell, FUTEX_WAKE, 1);
}

static uint32_t ask(struct trace_process *process)
{
	uint32_t number = __atomic_add_fetch(&process->looks_asked, 1, __ATOMIC_RELEASE);

	trace_wake_collector();
	return number;
}

/* Time while the program itself was stopped does not count. False: there was no answer in time. */
static bool wait_for_answer(struct trace_process *process, uint32_t number)
{
	const struct timespec step = {.tv_nsec = STEP_NS};
	struct timespec last;

	clock_gettime(CLOCK_MONOTONIC, &last);
	for (long waited = 0; waited < MOST_WAIT_NS; waited += trace_lap_ns(&last)) {
		uint32_t answered = __atomic_load_n(&process->looks_answered, __ATOMIC_ACQUIRE);
		if (is_answered(process, number) || trace_session_has_ended() || !trace_is_joined())
			return true;
		trace_syscall(SYS_futex, &process->looks_answered, FUTEX_WAIT, answered, &step);
	}
	__atomic_add_fetch(&process->looks_missed, 1, __ATOMIC_RELAXED);
	return false;
}

/* Other threads that are about to give memory back come here and wait as well. */
static void look(struct trace_process *process, uint32_t number)
{
	int64_t start = now_ns();

	atomic_store(&trace_looked_at, 0);
	bool answered = wait_for_answer(process, number);
	int64_t end = now_ns(), waited = end - start;
	if (!answered)
		atomic_store(&next_look, end + MISSED_SHARE * waited);
	atomic_store(
		&next_blind_look,
		end + (BLIND_SHARE * waited > BLIND_GAP_NS ? BLIND_SHARE * waited : BLIND_GAP_NS));
}

static bool is_possible(void)
{
	return trace_is_joined() && !trace_is_forked() && !trace_session.sandboxed &&
	       !trace_tls.shared_ring &&
	       trace_session.process->pid == (int32_t)trace_syscall(SYS_getpid);
}

TRACE_SLOW void trace_look(uint64_t ticks)
{
	if (!is_possible())
		return;
	struct trace_process *process = trace_session.process;
	uint32_t pending = asked(process);
	if (!is_answered(process, pending) && now_ns() >= atomic_load(&next_look))
		look(process, pending);
	/* Other threads may have touched memory while this one waited. */
	for (int i = 0; i < MOST_LOOKS && is_new_peak(process); i++)
		look(process, ask(process));
	atomic_store(&trace_looked_at, ticks);
}
