/* Allocates what it knows: a list, a table, lost blocks with what hangs on them, a lost cycle, a buffer at the peak. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct node {
	struct node *next;
	char data[92];
};

#define KEEP_STORES(pointer) __asm__ volatile("" : : "r"(pointer) : "memory")

static struct node *g_list;
static void *g_table[1000];

__attribute__((noinline)) static void fill_list(void)
{
	for (int i = 0; i < 5000; i++) {
		struct node *node = calloc(1, sizeof *node);
		node->next = g_list;
		g_list = node;
	}
}

__attribute__((noinline)) static void fill_table(void)
{
	for (int i = 0; i < 1000; i++)
		g_table[i] = memset(malloc(301), 1, 301);
}

__attribute__((noinline)) static void lose(void)
{
	for (int i = 0; i < 200; i++) {
		char **outer = malloc(64);
		outer[0] = memset(malloc(200), 1, 200);
		outer[1] = NULL;
		KEEP_STORES(outer);
	}
}

__attribute__((noinline)) static void lose_cycle(void)
{
	void **one = malloc(48), **other = malloc(48);

	one[0] = other;
	other[0] = one;
	KEEP_STORES(one);
	KEEP_STORES(other);
}

__attribute__((noinline)) static void clear_stack(void)
{
	char room[16384];

	memset(room, 0, sizeof room);
	KEEP_STORES(room);
}

__attribute__((noinline)) static void peak(void)
{
	char *buffer = malloc(24 << 20);

	memset(buffer, 1, 24 << 20);
	KEEP_STORES(buffer);
	free(buffer);
}

int main(void)
{
	fill_list();
	fill_table();
	lose();
	lose_cycle();
	peak();
	clear_stack();
	printf("%p %p\n", (void *)g_list, g_table[0]);
	return 0;
}
