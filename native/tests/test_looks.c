/* When the collector reads residency: growth, and processes that wait for it before their RSS falls. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/resource.h>

#include "../collector/torn.h"
#include "producer.h"

#define LARGE (64u << 20)
#define ASK_MS 50
#define LONG_MS 60000
#define SPLIT 2000 /* mappings that take time to read */
#define LOOKS 20

static int next_event(struct mematlas_collector *collector, int timeout_ms)
{
	struct mematlas_event event;

	CHECK(mematlas_collector_poll(collector, timeout_ms, &event) >= 0);
	return event.type;
}

static void skip_events(struct mematlas_collector *collector)
{
	struct mematlas_account account;
	int type;

	while ((type = next_event(collector, 0)) != MEMATLAS_EVENT_NONE)
		if (type == MEMATLAS_EVENT_PEAK)
			CHECK(mematlas_collector_snapshot(collector, 0, &account) == 0);
}

static uint32_t answered(const struct producer *p)
{
	return __atomic_load_n(&p->process->looks_answered, __ATOMIC_ACQUIRE);
}

static uint64_t look_above(const struct producer *p)
{
	return __atomic_load_n(&p->process->look_above, __ATOMIC_ACQUIRE);
}

static void *fill(void)
{
	char *memory =
		mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(memory != MAP_FAILED);
	memset(memory, 1, LARGE);
	return memory;
}

struct asker {
	struct producer *producer;
	struct mematlas_collector *collector;
};

static void *ask_later(void *argument)
{
	const struct asker *asker = argument;
	uint32_t *bell = &asker->collector->common->bell;

	usleep(ASK_MS * 1000);
	__atomic_add_fetch(&asker->producer->process->looks_asked, 1, __ATOMIC_RELEASE);
	__atomic_add_fetch(bell, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, bell, FUTEX_WAKE, 1, NULL, NULL, 0);
	return NULL;
}

/* The bell ends the poll, though rings are idle. The process is let go by the snapshot, not by the event. */
static void test_growth_is_looked_at_when_asked(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	struct mematlas_account account;
	struct asker asker = {&p, collector};
	pthread_t thread;

	announce(&p);
	skip_events(collector);
	uint64_t before = look_above(&p);
	CHECK(before > 0);
	char *memory = fill();
	collector->processes[0]->next_peak = 1e300; /* growth alone is not looked at */
	CHECK(pthread_create(&thread, NULL, ask_later, &asker) == 0);
	CHECK(next_event(collector, LONG_MS) == MEMATLAS_EVENT_PEAK);
	CHECK(answered(&p) == 0);
	CHECK(mematlas_collector_snapshot(collector, 0, &account) == 0);
	CHECK(answered(&p) == 1);
	CHECK(account.rss_bytes >= LARGE && account.peak_rss_bytes >= account.rss_bytes);
	CHECK(look_above(&p) > account.rss_bytes && look_above(&p) > before);
	CHECK(look_above(&p) < account.rss_bytes + account.rss_bytes / 10);
	pthread_join(thread, NULL);
	munmap(memory, LARGE);
	session_end(collector);
}

static void test_without_growth_nobody_waits(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);

	announce(&p);
	skip_events(collector);
	collector->processes[0]->looked_rss = 1ull << 40; /* a sanitizer touches memory meanwhile */
	p.process->looks_asked = 7;
	CHECK(next_event(collector, 0) == MEMATLAS_EVENT_NONE);
	CHECK(answered(&p) == 7);
	p.process->looks_asked = 3; /* a program may write anything */
	CHECK(next_event(collector, 0) == MEMATLAS_EVENT_NONE);
	CHECK(answered(&p) == 3);
	session_end(collector);
}

static void test_the_highest_rss_outlives_its_memory(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	struct mematlas_account account;

	announce(&p);
	skip_events(collector);
	munmap(fill(), LARGE);
	CHECK(mematlas_collector_snapshot(collector, 0, &account) == 0);
	CHECK(account.peak_rss_bytes >= account.rss_bytes + LARGE / 2);
	CHECK(traced_of(collector, 0).peak_rss_bytes == account.peak_rss_bytes);
	session_end(collector);
}

/* Counters of statm may stay above the sum of smaps. A snapshot satisfies them all the same, and so does one that
 * fails. */
static void test_a_look_ends_the_wish_for_one(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	struct mematlas_account account;

	announce(&p);
	skip_events(collector);
	struct process *process = collector->processes[0];
	CHECK(mematlas_collector_snapshot(collector, 0, &account) == 0);
	uint64_t smaps = account.rss_bytes, high = process->high_rss;
	look_taken(process, smaps, smaps + LARGE, 0);
	process->rss = smaps + LARGE;
	CHECK(!look_is_worth(process) && process->last_rss == process->rss);
	CHECK(look_above(&p) > smaps + LARGE && process->high_rss == high);
	process->rss = smaps + 2 * LARGE;
	CHECK(look_is_worth(process));
	p.process->looks_asked = 5;
	look_failed(process, 5);
	CHECK(!look_is_worth(process) && answered(&p) == 5);
	session_end(collector);
}

/* A traced process can move the bell's waiters to a word that nobody wakes. The session ends all the same. */
static void test_a_stolen_bell_does_not_hang_the_end(void)
{
	struct mematlas_collector *collector = session_start(0);
	uint32_t *bell = &collector->common->bell, *other = bell + 1;
	long moved = 0;

	for (int i = 0; i < 60000 && !moved; i++) {
		usleep(1000);
		moved = syscall(SYS_futex, bell, FUTEX_CMP_REQUEUE, 0, 64, other, *bell);
	}
	CHECK(moved == 1);
	session_end(collector);
}

/* 100 MiB by the counters, which are right to 4.375 MiB. */
static void test_sums_of_no_moment(void)
{
	const uint64_t mib = 1 << 20;
	struct counters counters = {100 * mib, 100 * mib, 100 * mib, mib};
	struct counters many_cpus = {100 * mib, 100 * mib, 100 * mib, 128 * mib};

	CHECK(!sum_is_torn(&counters, 100 * mib, 0));
	CHECK(!sum_is_torn(&counters, 104 * mib, 0) && sum_is_torn(&counters, 105 * mib, 0));
	CHECK(!sum_is_torn(&counters, 96 * mib, 0) && sum_is_torn(&counters, 95 * mib, 0));
	CHECK(!sum_is_torn(&counters, 132 * mib, 32 * mib));
	CHECK(sum_is_torn(&counters, 100 * mib, 32 * mib));
	CHECK(sum_is_torn(&counters, 164 * mib, 32 * mib));
	CHECK(!sum_is_torn(&counters, 68 * mib, -32 * (int64_t)mib));
	CHECK(!sum_is_torn(&many_cpus, 200 * mib, 0) && !sum_is_torn(&many_cpus, 0, 0));
	counters.highest = 0; /* unknown: so is the bound */
	CHECK(!sum_is_torn(&counters, 200 * mib, 0) && sum_is_torn(&counters, 95 * mib, 0));
	counters.after = 0;
	CHECK(!sum_is_torn(&counters, 95 * mib, 0));
}

/* Pages that only smaps counts are the same each time, also while the program grows. */
static void test_sums_that_differ_by_the_same(void)
{
	const uint64_t mib = 1 << 20;
	struct counters counters = {100 * mib, 100 * mib, 100 * mib, mib};
	struct torn torn = TORN_NONE, moved = TORN_NONE;

	for (int i = 0; i < 8; i++, counters.after += 20 * mib)
		CHECK(torn_add(&torn, &counters, counters.after + 64 * mib));
	CHECK(!torn_add(&torn, &counters, counters.after));
	counters.after = 100 * mib;
	CHECK(torn_add(&moved, &counters, 36 * mib) && !torn_add(&moved, &counters, 164 * mib));
}

static bool is_moving;

/* `bytes` lie at one of the two ends of a range, with SPLIT mappings between them. */
struct moved {
	char *range;
	size_t bytes;
};

static struct moved map_moved(size_t bytes)
{
	char *range = mmap(NULL, 3 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			   -1, 0);

	CHECK(range != MAP_FAILED);
	CHECK(mprotect(range, bytes, PROT_READ | PROT_WRITE) == 0);
	memset(range, 1, bytes);
	for (size_t i = 0; i < SPLIT; i++)
		CHECK(mprotect(range + bytes + 2 * i * 4096, 4096, PROT_READ) == 0);
	return (struct moved){range, bytes};
}

static void *move_pages(void *argument)
{
	const struct moved *moved = argument;
	char *at = moved->range;

	while (__atomic_load_n(&is_moving, __ATOMIC_ACQUIRE)) {
		char *to = at == moved->range ? moved->range + 2 * moved->bytes : moved->range;
		/* The old place stays mapped: other threads must not get it. */
		CHECK(mremap(at, moved->bytes, moved->bytes,
			     MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) == to);
		at = to;
	}
	return NULL;
}

static void check_rss(const struct mematlas_account *account, size_t moved)
{
	struct rusage usage;

	CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
	CHECK(account->rss_bytes > moved);
	CHECK(account->rss_bytes < (uint64_t)usage.ru_maxrss * 1024 + moved / 2);
}

/* smaps is read piece by piece. What moves meanwhile counts neither twice nor not at all. */
static void test_pages_that_move_count_once(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	struct mematlas_account account;
	pthread_t thread;
	/* More than the counters may be wrong by, however many CPUs there are. */
	struct moved moved = map_moved(LARGE + 4 * lag_read().bytes);
	int good = 0;

	announce(&p);
	skip_events(collector);
	struct process *process = collector->processes[0];
	is_moving = true;
	CHECK(pthread_create(&thread, NULL, move_pages, &moved) == 0);
	for (int i = 0; i < LOOKS; i++) {
		int error = mematlas_collector_snapshot(collector, 0, &account);
		CHECK(error == 0 || error == -EAGAIN);
		good += !error && !process->sums_off;
		if (!error && !process->sums_off) /* else it moved in step with all tries */
			check_rss(&account, moved.bytes);
		process->sums_off = 0;
	}
	__atomic_store_n(&is_moving, false, __ATOMIC_RELEASE);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(good > 0);
	CHECK(munmap(moved.range, 3 * moved.bytes) == 0);
	session_end(collector);
}

/* A difference that was taken for a steady one ends with the next sum that is right. */
static void test_a_false_difference_ends(void)
{
	struct mematlas_collector *collector = session_start(0);
	struct producer p = produce(collector, getpid(), 1);
	struct mematlas_account account;
	struct moved moved = map_moved(LARGE + 4 * lag_read().bytes);

	announce(&p);
	skip_events(collector);
	struct process *process = collector->processes[0];
	process->sums_off = -(int64_t)moved.bytes;
	CHECK(mematlas_collector_snapshot(collector, 0, &account) == 0);
	check_rss(&account, moved.bytes);
	CHECK(process->sums_off > -(int64_t)moved.bytes / 2);
	CHECK(munmap(moved.range, 3 * moved.bytes) == 0);
	session_end(collector);
}

int main(void)
{
	test_growth_is_looked_at_when_asked();
	test_without_growth_nobody_waits();
	test_the_highest_rss_outlives_its_memory();
	test_a_look_ends_the_wish_for_one();
	test_sums_of_no_moment();
	test_sums_that_differ_by_the_same();
	test_pages_that_move_count_once();
	test_a_false_difference_ends();
	test_a_stolen_bell_does_not_hang_the_end();
	return 0;
}
