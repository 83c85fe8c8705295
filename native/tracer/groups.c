/* The address space of rings and slots. */
#define _GNU_SOURCE
#include "groups.h"

#include <sys/mman.h>

#include "memory.h"
#include "syscall.h"

#define FIRST_RINGS 4u
#define GROUPS 11u

_Static_assert(FIRST_RINGS << (GROUPS - 1) == TRACE_MAX_RINGS, "the groups have all rings");

/* `rings` and `slots` are published by compare-and-swap, NULL: not mapped yet. A group has at most as
 * many as most_rings allowed when it was mapped. */
static struct group {
	char *rings, *slots;
	uint32_t count; /* chosen by the thread that maps it first */
} groups[GROUPS];

static unsigned group_of(uint32_t ring)
{
	return ring < FIRST_RINGS ? 0 : (unsigned)(30 - __builtin_clz(ring));
}

static uint32_t first_ring(unsigned group)
{
	return group ? FIRST_RINGS << (group - 1) : 0;
}

static size_t ring_bytes(void)
{
	return (size_t)trace_session.ring_words * 8;
}

static uint32_t rings_of(unsigned group)
{
	uint32_t first = first_ring(group), most = trace_session.most_rings;
	uint32_t count = group ? first : FIRST_RINGS;

	return first + count <= most ? count : most - first;
}

/* The process file is closed by now: a descriptor kept open would be the program's to close. mremap()
 * with an old size of 0 maps a shared mapping once more, and beyond its end as far as the file goes. */
static char *map_after(const char *last_page, size_t bytes)
{
	size_t page = trace_session.page_bytes;
	long again = trace_syscall(SYS_mremap, last_page, 0L, page + bytes, MREMAP_MAYMOVE);

	if (again < 0 && again >= -4095)
		return NULL;
	trace_syscall(SYS_munmap, again, page);
	return (char *)again + page;
}

static bool publish(char **place, char *mapped, bool private, size_t bytes)
{
	char *none = NULL;

	if (mapped && !__atomic_compare_exchange_n(place, &none, mapped, false, __ATOMIC_ACQ_REL,
						   __ATOMIC_RELAXED)) {
		if (private)
			trace_unmap(mapped, bytes);
		else
			trace_syscall(SYS_munmap, mapped, bytes);
	}
	return mapped;
}

/* most_rings may shrink meanwhile, and two threads may map the same group. */
static uint32_t choose_count(unsigned index)
{
	uint32_t none = 0, count = rings_of(index);

	if (__atomic_compare_exchange_n(&groups[index].count, &none, count, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE))
		return count;
	return none;
}

static bool add_slots(struct group *group, uint32_t count)
{
	size_t bytes = trace_slot_bytes() * count;

	return __atomic_load_n(&group->slots, __ATOMIC_ACQUIRE) ||
	       publish(&group->slots, trace_map(bytes, PROT_NONE), true, bytes);
}

bool trace_groups_start(int fd)
{
	struct group *group = &groups[0];

	uint32_t count = choose_count(0);
	long rings = trace_syscall(SYS_mmap, NULL, ring_bytes() * count, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_NORESERVE, fd, TRACE_DATA_OFFSET);
	bool mapped = rings >= 0 || rings < -4095;
	group->rings = mapped ? (char *)rings : NULL;
	if (mapped && add_slots(group, count))
		return true;
	trace_groups_release();
	return false;
}

bool trace_groups_extend(uint32_t ring)
{
	unsigned index = group_of(ring);
	struct group *group = &groups[index];

	if (__atomic_load_n(&group->rings, __ATOMIC_ACQUIRE) &&
	    __atomic_load_n(&group->slots, __ATOMIC_ACQUIRE))
		return true;
	const struct group *before = group - 1;
	if (index == 0 || !before->rings)
		return false;
	uint32_t count = choose_count(index);
	if (!add_slots(group, count))
		return false;
	const char *last_page =
		before->rings + ring_bytes() * before->count - trace_session.page_bytes;
	return __atomic_load_n(&group->rings, __ATOMIC_ACQUIRE) ||
	       publish(&group->rings, map_after(last_page, ring_bytes() * count), false,
		       ring_bytes() * count);
}

void trace_groups_release(void)
{
	for (unsigned i = 0; i < GROUPS; i++) {
		if (groups[i].rings)
			trace_syscall(SYS_munmap, groups[i].rings, ring_bytes() * groups[i].count);
		if (groups[i].slots)
			trace_unmap(groups[i].slots, trace_slot_bytes() * groups[i].count);
	}
	trace_groups_abandon();
}

void trace_groups_abandon(void)
{
	for (unsigned i = 0; i < GROUPS; i++)
		groups[i] = (struct group){0};
}

void trace_groups_shorten(uint32_t rings)
{
	unsigned index = group_of(rings);
	struct group *group = &groups[index];
	uint32_t kept = rings - first_ring(index);

	if (!group->rings || !group->slots || kept >= group->count)
		return;
	trace_syscall(SYS_munmap, group->rings + ring_bytes() * kept,
		      ring_bytes() * (group->count - kept));
	trace_shorten_map(group->slots, trace_slot_bytes() * group->count,
			  trace_slot_bytes() * kept);
	group->count = kept;
}

uint64_t *trace_group_words(uint32_t ring)
{
	unsigned group = group_of(ring);

	return (uint64_t *)(groups[group].rings + ring_bytes() * (ring - first_ring(group)));
}

struct trace_thread *trace_group_slot(uint32_t ring)
{
	unsigned group = group_of(ring);

	return (struct trace_thread *)(groups[group].slots +
				       trace_slot_bytes() * (ring - first_ring(group)));
}
