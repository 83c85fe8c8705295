// Allocates with every C++ operator and keeps half; with "throw", also makes an allocation fail.
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <vector>

struct alignas(64) Line {
	char bytes[192];
};

static std::vector<std::string *> *strings;
static void *volatile escaped; // keeps the compiler from removing pairs of new and delete

[[gnu::noinline]] static void by_new(int count)
{
	for (int i = 0; i < count; i++)
		strings->push_back(new std::string(100, 'x'));
}

[[gnu::noinline]] static Line *by_aligned_new(int count)
{
	Line *lines = new Line[count];
	escaped = lines;
	return lines;
}

[[gnu::noinline]] static char *by_nothrow(std::size_t size)
{
	char *room = new (std::nothrow) char[size];
	escaped = room;
	return room;
}

[[gnu::noinline]] static bool refused()
{
	try {
		std::size_t most = static_cast<std::size_t>(-1) >> 2;
		char *room = new char[most];
		escaped = room;
		delete[] room;
	} catch (const std::bad_alloc &) {
		return true;
	}
	return false;
}

int main(int argc, char **argv)
{
	bool thrown = argc < 2 || std::strcmp(argv[1], "throw") != 0 || (refused() && refused());

	strings = new std::vector<std::string *>;
	strings->reserve(2000);
	by_new(2000);
	for (int i = 0; i < 2000; i += 2)
		delete (*strings)[i];
	Line *lines = by_aligned_new(100);
	char *room = by_nothrow(50000);
	delete[] by_nothrow(60000);
	delete[] by_aligned_new(50);
	std::printf("%d\n", thrown && lines && room);
	return 0;
}
