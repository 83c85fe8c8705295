/* Which thread has which keeper; threads that end, processes that fork. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "membarrier.h"
#include "remote_free.h"

/* A keeper of this thread, by its exchange's serial: the exchange itself may be gone. */
struct membership {
	uint64_t serial;
	struct keeper *keeper;
	struct membership *next;
};

__thread __attribute__((
	tls_model("initial-exec"))) struct recent_keeper mematlas_recent_keepers[RECENT_KEEPERS];

static __thread struct membership *memberships;
static pthread_key_t at_exit; /* its destructor runs when a thread with memberships ends */
static int key_error;
/* Guards the lists of exchanges and keepers; not held while an object is taken or given. */
static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static struct exchange *exchanges;

static void lock_registry(void)
{
	pthread_mutex_lock(&registry);
}

static void unlock_registry(void)
{
	pthread_mutex_unlock(&registry);
}

static struct exchange *find_exchange(uint64_t serial)
{
	for (struct exchange *exchange = exchanges; exchange; exchange = exchange->next)
		if (exchange->serial == serial)
			return exchange;
	return NULL;
}

static void leave_all(void *argument)
{
	(void)argument;
	lock_registry();
	memset(mematlas_recent_keepers, 0, sizeof mematlas_recent_keepers);
	while (memberships) {
		struct membership *one = memberships;
		struct exchange *exchange = find_exchange(one->serial);

		memberships = one->next;
		if (exchange) {
			if (!GET(exchange->orphan))
				exchange->leave(exchange, one->keeper);
			one->keeper->unused = true;
		}
		free(one);
	}
	unlock_registry();
}

static void before_fork(void)
{
	lock_registry();
	for (struct exchange *exchange = exchanges; exchange; exchange = exchange->next)
		if (exchange->lock)
			exchange->lock(exchange);
}

static void after_fork(void)
{
	for (struct exchange *exchange = exchanges; exchange; exchange = exchange->next)
		if (exchange->unlock)
			exchange->unlock(exchange);
	unlock_registry();
}

static bool is_mine(const struct keeper *keeper)
{
	for (struct membership *one = memberships; one; one = one->next)
		if (one->keeper == keeper)
			return true;
	return false;
}

/* The other threads are gone, in the middle of whatever they did. What they had is found again when it
 * is needed: most children only call exec. */
static void after_fork_in_child(void)
{
	memset(mematlas_recent_keepers, 0, sizeof mematlas_recent_keepers);
	for (struct exchange *exchange = exchanges; exchange; exchange = exchange->next) {
		if (!exchange->private)
			continue;
		SET(exchange->orphan, true);
		for (uint32_t i = 0; i < GET(exchange->keeper_count); i++) {
			struct keeper *keeper = GET(exchange->keepers[i]);
			keeper->unused = !is_mine(keeper);
		}
	}
	after_fork();
}

void exchange_adopt(struct exchange *exchange)
{
	lock_registry(); /* several threads of the child may come here at once */
	if (GET(exchange->orphan)) {
		exchange->adopt(exchange);
		membarrier_register();
		atomic_store_explicit(&exchange->orphan, false, memory_order_release);
	}
	unlock_registry();
}

static void prepare(void)
{
	key_error = pthread_key_create(&at_exit, leave_all);
	if (!key_error)
		key_error = pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

int keepers_register(struct exchange *exchange)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	static uint64_t serials;

	pthread_once(&once, prepare);
	if (key_error)
		return -key_error;
	lock_registry();
	exchange->serial = ++serials;
	exchange->recent = (uint32_t)(serials % RECENT_KEEPERS);
	exchange->next = exchanges;
	exchanges = exchange;
	unlock_registry();
	return 0;
}

void keepers_forget(struct exchange *exchange)
{
	lock_registry();
	for (struct exchange **at = &exchanges; *at; at = &(*at)->next) {
		if (*at == exchange) {
			*at = exchange->next;
			break;
		}
	}
	unlock_registry();
}

static struct keeper *make_keeper(struct exchange *exchange)
{
	uint32_t count = GET(exchange->keeper_count);

	for (uint32_t i = 0; i < count; i++) {
		struct keeper *keeper = GET(exchange->keepers[i]);
		if (keeper->unused) {
			keeper->unused = false;
			return keeper;
		}
	}
	if (count == KEEPERS_MAX)
		return NULL;
	char *mapping = mmap(NULL, KEEPER_OFFSET + exchange->keeper_size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mapping == MAP_FAILED)
		return NULL;
	struct keeper *keeper = (struct keeper *)(mapping + KEEPER_OFFSET);
	keeper->mark = (count + 1) << 16;
	if (exchange->prepare)
		exchange->prepare(exchange, keeper);
	atomic_store_explicit(&exchange->keepers[count], keeper, memory_order_release);
	SET(exchange->keeper_count, count + 1);
	return keeper;
}

static struct membership *add_membership(struct exchange *exchange)
{
	struct membership *one = calloc(1, sizeof *one);

	if (!one || pthread_setspecific(at_exit, one) != 0) {
		free(one);
		return NULL;
	}
	lock_registry();
	for (struct membership **at = &memberships; *at;) {
		struct membership *old = *at;
		if (find_exchange(old->serial)) {
			at = &old->next;
			continue;
		}
		*at = old->next;
		free(old);
	}
	one->serial = exchange->serial;
	one->keeper = make_keeper(exchange);
	unlock_registry();
	if (!one->keeper) {
		free(one);
		return NULL;
	}
	one->next = memberships;
	memberships = one;
	return one;
}

struct keeper *keeper_join(struct exchange *exchange)
{
	struct membership *one = memberships;

	exchange_settle(exchange);
	while (one && one->serial != exchange->serial)
		one = one->next;
	if (!one)
		one = add_membership(exchange);
	if (!one)
		return NULL;
	mematlas_recent_keepers[exchange->recent] =
		(struct recent_keeper){exchange->serial, one->keeper};
	return one->keeper;
}
