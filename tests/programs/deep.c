/* Recursion 2,000 deep, allocation at the bottom; then a handler on an alternate stack. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((noinline, noclone)) static char *down(int depth)
{
	volatile char pad[64];
	pad[0] = (char)depth;
	char *room = depth ? down(depth - 1) : memset(malloc(5000), 1, 5000);
	pad[1] = pad[0];
	return room;
}

static char *from_handler;

static void on_signal(int number)
{
	(void)number;
	from_handler = down(3); /* safe: raise() is synchronous */
}

int main(void)
{
	stack_t other = {.ss_sp = malloc(65536), .ss_size = 65536};
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
	char *room = down(2000);

	sigaltstack(&other, NULL);
	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
	printf("%d %d\n", room[1], from_handler[1]);
	return 0;
}
