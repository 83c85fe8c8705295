/* The settled choices of the process. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "choice.h"
#include "mematlas.h"

#define TABLE 256u /* classes of work; the oldest goes first */

_Static_assert(MEMATLAS_KERNELS == CHOICE_MOST, "the public array has an entry for each kernel");

/* count <= TABLE; entry i is valid <=> i < count; entries have distinct keys */
static struct mematlas_kernel_choice table[TABLE];
static uint32_t count, oldest;
static uint64_t made;
static _Atomic uint32_t cleared;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void lock_table(void)
{
	pthread_mutex_lock(&lock);
}

static void unlock_table(void)
{
	pthread_mutex_unlock(&lock);
}

/* A child of fork(2) finds the lock free and the table whole, whatever other threads do. */
__attribute__((constructor)) static void watch_forks(void)
{
	pthread_atfork(lock_table, unlock_table, unlock_table);
}

static struct choice_key key_of(const struct mematlas_kernel_choice *entry)
{
	return (struct choice_key){.work = entry->work,
				   .allowed = entry->allowed,
				   .rows = entry->rows,
				   .columns = entry->columns,
				   .from_step = entry->from_step,
				   .to_step = entry->to_step,
				   .from_pages = entry->from_pages,
				   .to_pages = entry->to_pages};
}

static struct mematlas_kernel_choice *find(const struct choice_key *key)
{
	for (uint32_t i = 0; i < count; i++) {
		struct choice_key other = key_of(&table[i]);
		if (memcmp(&other, key, sizeof(other)) == 0)
			return &table[i];
	}
	return NULL;
}

static void put_locked(const struct mematlas_kernel_choice *entry)
{
	struct choice_key key = key_of(entry);
	struct mematlas_kernel_choice *place = find(&key);

	if (!place && count < TABLE) {
		place = &table[count++];
	} else if (!place) {
		place = &table[oldest];
		oldest = (oldest + 1) % TABLE;
	}
	*place = *entry;
}

void choice_put(const struct mematlas_kernel_choice *entry)
{
	lock_table();
	put_locked(entry);
	unlock_table();
}

bool choice_find(const struct choice_key *key, struct choice *ret)
{
	lock_table();
	const struct mematlas_kernel_choice *found = find(key);
	if (found) {
		*ret = (struct choice){
			.key = *key, .best = found->best, .settled = true, .sure = true};
		for (unsigned i = 0; i < CHOICE_MOST; i++)
			ret->cost[i] = (float)found->cost[i];
	}
	unlock_table();
	return found != NULL;
}

void choice_publish(const struct choice *choice)
{
	const struct choice_key *key = &choice->key;
	struct mematlas_kernel_choice entry = {.work = key->work,
					       .allowed = key->allowed,
					       .rows = key->rows,
					       .columns = key->columns,
					       .from_step = key->from_step,
					       .to_step = key->to_step,
					       .from_pages = key->from_pages,
					       .to_pages = key->to_pages,
					       .best = choice->best,
					       .measured_here = 1};

	for (unsigned i = 0; i < CHOICE_MOST; i++)
		entry.cost[i] = (double)choice->cost[i];
	lock_table();
	put_locked(&entry);
	made++;
	unlock_table();
}

uint32_t choice_generation(void)
{
	return atomic_load_explicit(&cleared, memory_order_acquire);
}

uint32_t mematlas_kernel_choices(struct mematlas_kernel_choice *ret, uint32_t capacity)
{
	lock_table();
	uint32_t all = count;
	memcpy(ret, table, (all < capacity ? all : capacity) * sizeof(*ret));
	unlock_table();
	return all;
}

uint64_t mematlas_kernel_choices_made(void)
{
	lock_table();
	uint64_t found = made;
	unlock_table();
	return found;
}

void mematlas_kernel_choices_clear(void)
{
	lock_table();
	count = oldest = 0;
	unlock_table();
	atomic_fetch_add_explicit(&cleared, 1, memory_order_release);
}
