/* Prints its environment in all the ways that a program can read its own, and that of its shells. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char too_long[256 << 10]; /* for one argument */

static void print_all(const char *title, char **list)
{
	puts(title);
	for (; *list; list++)
		puts(*list);
	fflush(stdout);
}

int main(int count, char **words, char **environment)
{
	char line[4096];

	(void)count, (void)words;
	printf("getenv %s %s\n", getenv("LD_PRELOAD") ? "set" : "unset",
	       getenv("MEMATLAS_SESSION") ? "set" : "unset");
	print_all("main", environment);
	print_all("environ", environ);
	printf("system %d\n", system("env; exit 7"));
	errno = 0;
	memset(too_long, ':', sizeof too_long - 1);
	int status = system(too_long);
	printf("too long %d %d\n", status, errno);
	printf("no shell %d\n", system(NULL));
	FILE *shell = popen("env; exit 5", "r");
	while (shell && fgets(line, sizeof line, shell))
		fputs(line, stdout);
	printf("popen %d\n", shell ? pclose(shell) : -1);
	print_all("after", environ);
	return 4;
}
