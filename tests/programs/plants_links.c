/* Plants links to a file of another user wherever it is given a folder of a tracing session:
 * plants_links FILE. Prints "ready", allocates until its standard input ends, and exits with 5. */
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {"attached",    "lock",         "control",
				    "control.new", "preallocated", "preallocated.new",
				    "spare",       "spare.new"};
static void *volatile block;

static void plant(const char *folder, const char *target)
{
	char path[1024];

	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		unlink(path);
		if (symlink(target, path) == 0)
			fprintf(stderr, "planted %s\n", names[i]);
	}
}

static void look_into(const char *base, const char *target)
{
	DIR *directory = opendir(base);
	char path[600];

	for (struct dirent *entry; directory && (entry = readdir(directory));)
		if (strncmp(entry->d_name, "mematlas-", 9) == 0) {
			snprintf(path, sizeof path, "%s/%s", base, entry->d_name);
			plant(path, target);
		}
	if (directory)
		closedir(directory);
}

int main(int count, char **arguments)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};
	const char *temporary = getenv("TMPDIR");

	if (count < 2)
		return 2;
	puts("ready");
	fflush(stdout);
	do {
		look_into("/dev/shm", arguments[1]);
		look_into(temporary ? temporary : "/tmp", arguments[1]);
		block = malloc(1000);
	} while (poll(&input, 1, 1) == 0);
	return 5;
}
