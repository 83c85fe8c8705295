/* How threads share an allocator's slots without an atomic read-modify-write per object.
 *
 * Each slot has a holder word: which keeper (a thread's record at this allocator) took it, and in
 * which turn; keeper 0 means free. Only that keeper frees it, with a plain store. Another thread that
 * gives the slot back notes the holder word in `posted`, so that a second try sees it, and sends
 * (slot, holder word) to the keeper by parcel. The keeper takes the slot back only if the word is
 * still the same: a slot given twice by two threads at the same instant, which no plain store can
 * prevent, arrives twice and is taken back once.
 *
 * Parcels are numbered; stacks of them are an index and a tag in one word (no ABA), their links are
 * in the parcels, which are never unmapped while the allocator lives. */
#ifndef MEMATLAS_MEMORY_EXCHANGE_H
#define MEMATLAS_MEMORY_EXCHANGE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PARCEL_ITEMS 63u
#define BATCH 56u /* whole cache lines of slots: threads that start on fresh ones share none */
#define OUTBOXES 4u
#define KEEPERS_MAX 65535u
/* Of a keeper in its page. Objects begin at a page; were a keeper to do so, writing the first object
 * would delay each read of the keeper after it, since processors compare low address bits first. */
#define KEEPER_OFFSET 2048u
#define TURN_MASK 0xffffu

/* Plain loads and stores of words that other threads may read. */
#define GET(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define SET(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)
#define BUMP(word) SET(word, GET(word) + 1)

struct slot {
	_Atomic uint32_t holder; /* keeper << 16 | turn */
	_Atomic uint32_t posted; /* the holder word for which another thread gave it back */
};

struct parcel {
	_Atomic uint32_t next; /* number of another parcel, 0 for none */
	uint32_t count;
	uint64_t items[PARCEL_ITEMS]; /* slot << 32 | holder word */
};

struct outbox {
	uint32_t to;     /* keeper */
	uint32_t parcel; /* being filled; 0: none */
};

/* A thread's part of an allocator; its numbers outlive the thread and pass on to another one. */
struct keeper {
	_Atomic uint32_t busy; /* in between reading a slot's words and freeing it */
	uint32_t mark; /* its number << 16 */
	bool unused; /* its thread has ended */
	_Atomic uint64_t given, sent,
		late; /* of those given, others' slots; slots received too often */
	struct outbox outboxes[OUTBOXES];
	_Alignas(128) _Atomic uint32_t inbox; /* parcels from other threads; taken all at once */
	_Alignas(128) char end[];
};

struct exchange {
	uint64_t serial; /* never used again */
	uint32_t recent; /* where in mematlas_recent_keepers */
	size_t keeper_size;
	void (*prepare)(struct exchange *exchange, struct keeper *keeper); /* may be NULL */
	void (*leave)(struct exchange *exchange, struct keeper *keeper); /* its thread ends */
	void (*adopt)(struct exchange *exchange); /* in a forked child: put everything in order */
	void (*lock)(struct exchange *exchange);                         /* around fork */
	void (*unlock)(struct exchange *exchange);
	bool private;         /* a forked child has a copy */
	_Atomic bool orphan;  /* in such a child, until adopted */
	_Atomic uint32_t keeper_count;
	struct keeper *_Atomic *keepers; /* by id - 1 */
	_Atomic uint32_t parcels_made;
	struct parcel *_Atomic *chunks;
	_Alignas(128) _Atomic uint64_t spare; /* stack of parcels */
	struct exchange *next;
};

int exchange_open(struct exchange *exchange);
void exchange_close(struct exchange *exchange);
/* In a forked child: forget all parcels and who sent them. */
void exchange_reset(struct exchange *exchange);

/* 0: no memory. */
uint32_t parcel_get(struct exchange *exchange);
void parcel_put(struct exchange *exchange, uint32_t number);
void parcel_push(struct exchange *exchange, _Atomic uint64_t *stack, uint32_t number);
uint32_t parcel_pop(struct exchange *exchange, _Atomic uint64_t *stack);

static inline struct parcel *parcel_at(const struct exchange *exchange, uint32_t number)
{
	struct parcel *chunk =
		atomic_load_explicit(&exchange->chunks[number >> 10], memory_order_acquire);

	return chunk + (number & 1023);
}

/* Sends what lies in the outboxes. */
void exchange_send_all(struct exchange *exchange, struct keeper *from);
/* Whether a parcel on its way to `to` is now this thread's to open; 0: none. More hang on its `next`. */
uint32_t exchange_receive(struct keeper *to);
/* Takes what was sent to another keeper, for a thread that finds nothing else. */
uint32_t exchange_rob(struct keeper *other);

/* The one slot of a parcel's item, if it is still to be taken back; the word is then set free. */
static inline bool slot_take_back(struct slot *slot, uint32_t holder)
{
	if (GET(slot->holder) != holder) {
		if (GET(slot->posted) == holder)
			SET(slot->posted, 0);
		return false;
	}
	SET(slot->holder, holder & TURN_MASK);
	atomic_store_explicit(&slot->posted, 0, memory_order_release);
	return true;
}

static inline void slot_take(struct slot *slot, const struct keeper *keeper)
{
	SET(slot->holder, keeper->mark | ((GET(slot->holder) + 1) & TURN_MASK));
}

static inline bool slot_in_use(struct slot *slot)
{
	uint32_t holder = GET(slot->holder);

	return holder >> 16 && GET(slot->posted) != holder;
}

static inline void keeper_begin(struct keeper *keeper)
{
	SET(keeper->busy, 1);
	atomic_signal_fence(memory_order_seq_cst); /* the processor's part is exchange_rob's */
}

static inline void keeper_end(struct keeper *keeper)
{
	atomic_store_explicit(&keeper->busy, 0, memory_order_release);
}

/* Frees a slot that this keeper took, inside keeper_begin(). False: it is another's, or free. */
static inline bool slot_free(struct slot *slot, const struct keeper *keeper)
{
	uint32_t holder = GET(slot->holder);

	if ((holder & ~TURN_MASK) != keeper->mark || GET(slot->posted) == holder)
		return false;
	SET(slot->holder, holder & TURN_MASK);
	return true;
}

/* Gives back what slot_free would not, to be sent once there are `limit` for its keeper.
 * -EALREADY: it is free. -ENOMEM: nothing happened. */
int exchange_give(struct exchange *exchange, struct keeper *from, struct slot *slot, uint32_t item,
		  uint32_t limit);

/* thread_cache.c */
struct recent_keeper {
	uint64_t serial;
	struct keeper *keeper;
};

#define RECENT_KEEPERS 8u
/* In static TLS, which libraries loaded late find a reserve of: any other model costs two calls and all
 * the registers around them, half the time that taking an object takes. */
extern __thread __attribute__((
	tls_model("initial-exec"))) struct recent_keeper mematlas_recent_keepers[RECENT_KEEPERS];

static inline struct keeper *keeper_recent(const struct exchange *exchange)
{
	struct recent_keeper *recent = &mematlas_recent_keepers[exchange->recent];

	return recent->serial == exchange->serial ? recent->keeper : NULL;
}

/* This thread's keeper, made if need be. NULL: no memory, or too many threads. */
struct keeper *keeper_join(struct exchange *exchange);
int keepers_register(struct exchange *exchange);
void keepers_forget(struct exchange *exchange);
void exchange_adopt(struct exchange *exchange);

/* Before any use but by a keeper found in `mematlas_recent_keepers`, of which a child has none. */
static inline void exchange_settle(struct exchange *exchange)
{
	if (__builtin_expect(atomic_load_explicit(&exchange->orphan, memory_order_acquire), 0))
		exchange_adopt(exchange);
}

#endif
