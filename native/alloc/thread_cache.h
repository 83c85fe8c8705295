/* Per-thread caches of an allocator (a pool or an arena), and the registry that finds them.
 *
 * A cache outlives its thread. The next thread that joins the allocator takes over an abandoned
 * cache together with its id and its objects. */
#ifndef MEMATLAS_ALLOC_THREAD_CACHE_H
#define MEMATLAS_ALLOC_THREAD_CACHE_H

#include <pthread.h>
#include <stddef.h>

#include "slot.h"

#define TCACHES_MAX 65535u
#define OUTGOING_BATCHES 4u
#define TCACHE_LOOKUPS 8u
/* Two cache lines, since x86 CPUs prefetch lines in pairs. */
#define TCACHE_LINE 128u
/* Offset of a cache in its mapping. Objects begin at page boundaries. A cache at a page boundary
 * would suffer 4K aliasing: a load from the cache would wait for a store to the first object of a
 * page. */
#define TCACHE_OFFSET 2048u

struct outgoing_batch {
	struct batch *batch; /* being filled; NULL: none, and `to` is 0 */
	uint32_t number;     /* of the batch */
	uint32_t to;         /* id of the receiving thread cache */
};

/* Add to a word that its thread alone writes. Release: a thread that reads the new value sees the puts and
 * takes that are counted in it, so no difference of the two is below 0. */
static inline void moved_add(_Atomic uint64_t *moved, uint64_t slots)
{
	atomic_store_explicit(moved, GET(*moved) + slots, memory_order_release);
}

/* The part of a thread cache that pools and arenas share. Only its thread writes the cache, except
 * for `remote_queue`.
 *
 *   0 <= late_double_frees <= remote frees by other threads */
struct tcache {
	_Atomic uint32_t freeing; /* 1 while the thread is between reading and freeing a slot */
	uint32_t id;              /* as in slot.owner, from 1 */
	bool abandoned;           /* the thread has ended; guarded by the registry's lock */
	_Atomic uint64_t moved_in,
		moved_out; /* slots of the magazines, other than by alloc and free */
	_Atomic uint64_t remote_frees, late_double_frees;
	struct outgoing_batch outgoing[OUTGOING_BATCHES]; /* by id % OUTGOING_BATCHES */
	/* Stack of batches from other threads. The receiver pops one when it needs slots, a thread
	 * that steals takes all. */
	_Alignas(TCACHE_LINE) _Atomic uint64_t remote_queue;
	_Alignas(TCACHE_LINE) char end[];
};

_Static_assert(TCACHES_MAX <= OWNER_MASK, "an id fits slot.owner");
_Static_assert(offsetof(struct tcache, remote_queue) == TCACHE_LINE,
	       "senders must not write to the lines of the owner");
_Static_assert(sizeof(struct tcache) == 2 * TCACHE_LINE && TCACHE_OFFSET % TCACHE_LINE == 0,
	       "what follows a cache begins at a line of its own");

struct batch;

/* The thread caches of one allocator and the batches that travel between them.
 *
 *   tcaches[i] != NULL for all i < tcache_count <= TCACHES_MAX
 *   tcaches[i]->id == i + 1
 *   each batch 1 .. batches_made is in exactly one place: free_batches, an outgoing batch, a remote
 *   queue, the allocator's own stacks, or a thread's hands */
struct tcache_group {
	uint64_t serial; /* unique in this process, never reused */
	uintptr_t lookup_offset; /* bytes from the thread pointer to the group's lookup */
	size_t tcache_size; /* bytes of the allocator's struct that begins with struct tcache */
	/* Initialise a new, zeroed cache. May be NULL. */
	void (*init)(struct tcache_group *group, struct tcache *tcache);
	/* Make the objects of an ending thread's cache available to other threads. */
	void (*flush)(struct tcache_group *group, struct tcache *tcache);
	/* In a forked child, recompute all free lists from the slots. */
	void (*rebuild)(struct tcache_group *group);
	/* Hold all locks of the allocator across fork(2). Both may be NULL. */
	void (*lock)(struct tcache_group *group);
	void (*unlock)(struct tcache_group *group);
	/* In a forked child, before `unlock`. May be NULL. */
	void (*forked)(struct tcache_group *group);
	bool private; /* memory that a forked child has a copy of */
	_Atomic bool needs_rebuild; /* in a forked child, until `rebuild` has run */
	_Atomic uint32_t tcache_count;
	struct tcache *_Atomic *tcaches; /* by id - 1 */
	_Atomic uint32_t batches_made;
	struct batch *_Atomic *batch_chunks;
	_Alignas(TCACHE_LINE) _Atomic uint64_t free_batches; /* stack, see remote_free.h */
	struct tcache_group *next;
};

/* The caller has set tcache_size, private and the callbacks, the rest is 0. Returns 0, -ENOMEM, or
 * -EAGAIN if the process has no pthread key left. */
int tcache_group_open(struct tcache_group *group);
void tcache_group_close(struct tcache_group *group);
/* For the `rebuild` callback: drop all batches and queues. */
void tcache_group_reset(struct tcache_group *group);
void tcache_group_rebuild(struct tcache_group *group);

/* The cache of this thread, created if there is none. NULL: no memory, or TCACHES_MAX caches
 * exist. */
struct tcache *tcache_join(struct tcache_group *group);

/* serial == 0 || tcache != NULL */
struct tcache_lookup {
	uint64_t serial;
	struct tcache *tcache;
};

/* Direct-mapped table of this thread's caches. The initial-exec model uses the static TLS reserve
 * of the C library, also in libraries loaded by dlopen(3). Any other model costs two calls and
 * saves all registers around them, half the time of an allocation. */
extern __thread __attribute__((
	tls_model("initial-exec"))) struct tcache_lookup mematlas_tcache_lookups[TCACHE_LOOKUPS];

/* The cache of this thread if the table holds it, else NULL. A forked child starts with an empty
 * table, so a cache found here never needs tcache_group_ready(). */
static inline struct tcache *tcache_lookup(const struct tcache_group *group)
{
/* Addresses relative to the thread pointer, in no register. Sanitizers take them for plain ones. */
#if defined __SEG_FS && !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
	const struct tcache_lookup __seg_fs *lookup = (void __seg_fs *)group->lookup_offset;
#else
	const struct tcache_lookup *lookup =
		(void *)((char *)__builtin_thread_pointer() + group->lookup_offset);
#endif

	if (__builtin_expect(lookup->serial != group->serial, 0))
		return NULL;
	struct tcache *tcache = lookup->tcache;
	if (!tcache) /* spares the caller's test of the result */
		__builtin_unreachable();
	return tcache;
}

/* As tcache_join(), but quick for the common case. */
static inline struct tcache *tcache_get(struct tcache_group *group)
{
	struct tcache *tcache = tcache_lookup(group);

	return __builtin_expect(tcache != NULL, 1) ? tcache : tcache_join(group);
}

/* Call before any use of the allocator without a cache from tcache_lookup(). */
static inline void tcache_group_ready(struct tcache_group *group)
{
	if (__builtin_expect(atomic_load_explicit(&group->needs_rebuild, memory_order_acquire), 0))
		tcache_group_rebuild(group);
}

/* remote_free_steal() waits for the section between these two calls. The fence only orders the
 * compiler; membarrier(2) in remote_free_steal() orders the CPU. */
static inline void tcache_begin_free(struct tcache *tcache)
{
	SET(tcache->freeing, 1);
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void tcache_end_free(struct tcache *tcache)
{
	atomic_store_explicit(&tcache->freeing, 0, memory_order_release);
}

#endif
