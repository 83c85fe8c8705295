#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lock.h"
#include "membarrier.h"
#include "remote_free.h"
#include "thread_cache.h"

/* A cache of the calling thread. The entry names the allocator by its serial, because the allocator
 * may be closed by then. */
struct entry {
	uint64_t serial;
	struct tcache *tcache;
	struct entry *next;
};

__thread __attribute__((
	tls_model("initial-exec"))) struct tcache_lookup mematlas_tcache_lookups[TCACHE_LOOKUPS];

static __thread struct entry *entries;
static pthread_key_t exit_key; /* runs leave_all() at the end of each thread that has entries */
static int init_error;
/* Guards the lists of allocators and caches. No path that has a cache takes this lock. */
static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static struct tcache_group *groups;

/* NULL: the allocator of that serial is closed. Registry's lock held. */
static struct tcache_group *find_group(uint64_t serial)
{
	for (struct tcache_group *group = groups; group; group = group->next)
		if (group->serial == serial)
			return group;
	return NULL;
}

/* At the end of a thread, after the destructors of its other keys may have allocated. Slots of
 * the magazines go back; the cache itself waits for its next thread, because batches to it may
 * be on their way. A child whose lists were not rebuilt yet leaves them alone. */
static void leave_all(void *argument)
{
	(void)argument;
	LOCK_SCOPE(&registry);
	memset(mematlas_tcache_lookups, 0, sizeof mematlas_tcache_lookups);
	while (entries) {
		struct entry *entry = entries;
		struct tcache_group *group = find_group(entry->serial);

		entries = entry->next;
		if (group) {
			if (!GET(group->needs_rebuild))
				group->flush(group, entry->tcache);
			entry->tcache->abandoned = true;
		}
		free(entry);
	}
}

/* Registry first, then the locks of each allocator in its own order. */
static void before_fork(void)
{
	pthread_mutex_lock(&registry);
	for (struct tcache_group *group = groups; group; group = group->next)
		if (group->lock)
			group->lock(group);
}

static void after_fork(void)
{
	for (struct tcache_group *group = groups; group; group = group->next)
		if (group->unlock)
			group->unlock(group);
	pthread_mutex_unlock(&registry);
}

/* The thread that called fork(2) is the only one of the child, and keeps its caches. */
static bool is_own_tcache(const struct tcache *tcache)
{
	for (struct entry *entry = entries; entry; entry = entry->next)
		if (entry->tcache == tcache)
			return true;
	return false;
}

/* The child lacks the other threads, which may have been anywhere in an operation. The lists are
 * rebuilt at the first use, because most children only call execve(2). */
static void after_fork_in_child(void)
{
	memset(mematlas_tcache_lookups, 0, sizeof mematlas_tcache_lookups);
	for (struct tcache_group *group = groups; group; group = group->next) {
		if (group->forked)
			group->forked(group);
		if (!group->private)
			continue;
		SET(group->needs_rebuild, true);
		for (uint32_t i = 0; i < GET(group->tcache_count); i++) {
			struct tcache *tcache = GET(group->tcaches[i]);
			tcache->abandoned = !is_own_tcache(tcache);
		}
	}
	after_fork();
}

void tcache_group_rebuild(struct tcache_group *group)
{
	LOCK_SCOPE(&registry); /* several threads of the child may arrive at once */
	if (GET(group->needs_rebuild)) {
		group->rebuild(group);
		membarrier_register();
		atomic_store_explicit(&group->needs_rebuild, false, memory_order_release);
	}
}

/* Called by `rebuild`, which has counted the slots in batches as free. All other threads are
 * gone, so nothing is atomic here but by type. */
void tcache_group_reset(struct tcache_group *group)
{
	SET(group->batches_made, 0);
	SET(group->free_batches, 0);
	for (uint32_t i = 0; i < GET(group->tcache_count); i++) {
		struct tcache *tcache = GET(group->tcaches[i]);
		SET(tcache->freeing, 0);
		SET(tcache->remote_queue, 0);
		memset(tcache->outgoing, 0, sizeof tcache->outgoing);
	}
}

/* Once in a process. The key and the fork handlers are never removed: another allocator may need
 * them. */
static void init_process(void)
{
	init_error = pthread_key_create(&exit_key, leave_all);
	if (!init_error)
		init_error = pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

/* A serial is never used twice, so that the entry of a closed allocator cannot be taken for one
 * of its successor's at the same address. */
static int register_group(struct tcache_group *group)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	static uint64_t serials;

	pthread_once(&once, init_process);
	if (init_error)
		return -init_error;
	LOCK_SCOPE(&registry);
	group->serial = ++serials;
	struct tcache_lookup *lookup = &mematlas_tcache_lookups[serials % TCACHE_LOOKUPS];
	group->lookup_offset = (uintptr_t)lookup - (uintptr_t)__builtin_thread_pointer();
	group->next = groups;
	groups = group;
	return 0;
}

static void unregister_group(struct tcache_group *group)
{
	LOCK_SCOPE(&registry);
	for (struct tcache_group **at = &groups; *at; at = &(*at)->next) {
		if (*at == group) {
			*at = group->next;
			break;
		}
	}
}

int tcache_group_open(struct tcache_group *group)
{
	void *table = mmap(NULL, TCACHES_MAX * sizeof *group->tcaches, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (table == MAP_FAILED)
		return -ENOMEM;
	group->tcaches = table;
	int error = batch_chunks_open(group);
	if (!error)
		error = register_group(group);
	if (error)
		tcache_group_close(group);
	return error;
}

void tcache_group_close(struct tcache_group *group)
{
	unregister_group(group);
	for (uint32_t i = 0; i < GET(group->tcache_count); i++)
		munmap((char *)GET(group->tcaches[i]) - TCACHE_OFFSET,
		       TCACHE_OFFSET + group->tcache_size);
	batch_chunks_close(group);
	munmap(group->tcaches, TCACHES_MAX * sizeof *group->tcaches);
}

/* An abandoned cache, or a new one. Registry's lock held. */
static struct tcache *acquire_tcache(struct tcache_group *group)
{
	uint32_t count = GET(group->tcache_count);

	for (uint32_t i = 0; i < count; i++) {
		struct tcache *tcache = GET(group->tcaches[i]);
		if (tcache->abandoned) {
			tcache->abandoned = false;
			return tcache;
		}
	}
	if (count == TCACHES_MAX)
		return NULL;
	char *mapping = mmap(NULL, TCACHE_OFFSET + group->tcache_size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mapping == MAP_FAILED)
		return NULL;
	struct tcache *tcache = (struct tcache *)(mapping + TCACHE_OFFSET);
	tcache->id = count + 1;
	if (group->init)
		group->init(group, tcache);
	atomic_store_explicit(&group->tcaches[count], tcache, memory_order_release);
	/* After the pointer, since readers load the count first. */
	atomic_store_explicit(&group->tcache_count, count + 1, memory_order_release);
	return tcache;
}

/* Registry's lock held. */
static void drop_stale_entries(void)
{
	for (struct entry **at = &entries; *at;) {
		struct entry *old = *at;
		if (find_group(old->serial)) {
			at = &old->next;
			continue;
		}
		*at = old->next;
		free(old);
	}
}

/* NULL: TCACHES_MAX threads have caches, or no memory. */
static struct tcache *join_group(struct tcache_group *group)
{
	LOCK_SCOPE(&registry);
	drop_stale_entries();
	return acquire_tcache(group);
}

/* The value of the key only has to be non-NULL, since leave_all() reads `entries`. It is set
 * before a cache is acquired, because a cache without leave_all() would never be given back. */
static struct entry *add_entry(struct tcache_group *group)
{
	struct entry *entry = calloc(1, sizeof *entry);
	struct tcache *tcache = NULL;

	if (entry && pthread_setspecific(exit_key, entry) == 0)
		tcache = join_group(group);
	if (!tcache) {
		free(entry);
		return NULL;
	}
	*entry = (struct entry){group->serial, tcache, entries};
	entries = entry;
	return entry;
}

struct tcache *tcache_join(struct tcache_group *group)
{
	struct entry *entry = entries;

	tcache_group_ready(group);
	while (entry && entry->serial != group->serial)
		entry = entry->next;
	if (!entry)
		entry = add_entry(group);
	if (!entry)
		return NULL;
	mematlas_tcache_lookups[group->serial % TCACHE_LOOKUPS] =
		(struct tcache_lookup){group->serial, entry->tcache};
	return entry->tcache;
}
