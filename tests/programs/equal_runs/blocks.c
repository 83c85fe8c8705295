/* Replaces blocks of 16 to 1,015 bytes again and again, in as many threads as the argument says. $GROW bytes are
 * held besides. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define HELD 40000
#define ROUNDS 200000

static void *work(void *argument)
{
	unsigned x = 12345u + (unsigned)(long)argument;
	char **held = calloc(HELD, sizeof *held);

	for (int i = 0; i < ROUNDS; i++) {
		x ^= x << 13, x ^= x >> 17, x ^= x << 5;
		size_t size = 16 + (x >> 8) % 1000;
		free(held[x % HELD]);
		held[x % HELD] = malloc(size);
		memset(held[x % HELD], 1, size);
	}
	return held;
}

int main(int count, char **arguments)
{
	const char *grow = getenv("GROW");
	size_t more = grow ? (size_t)atol(grow) : 0;
	char *volatile extra = malloc(more + 1);
	int threads = count > 1 ? atoi(arguments[1]) : 0;
	pthread_t ids[16];

	memset(extra, 1, more + 1);
	for (int i = 0; i < threads && i < 16; i++)
		pthread_create(&ids[i], NULL, work, (void *)(long)i);
	for (int i = 0; i < threads && i < 16; i++)
		pthread_join(ids[i], NULL);
	if (!threads)
		work(NULL);
	return extra[more] != 1;
}
