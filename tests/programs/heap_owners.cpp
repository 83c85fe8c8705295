// A program whose memory has owners by construction. Prints its PID, then waits for its standard input to end.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unistd.h>
#include <unordered_map>
#include <vector>

struct Base {
	virtual ~Base() = default;
	int number = 1;
};

struct Order : Base {
	char padding[40] = {};
	std::string name;
	explicit Order(int i) : name(50, static_cast<char>('a' + i % 26))
	{
	}
};

namespace shop
{
struct Customer : Base {
	std::vector<Order *> orders;
};
} // namespace shop

namespace
{
struct Hidden : Base {
	char padding[72] = {};
};
} // namespace

struct Node {
	std::shared_ptr<Node> next;
	char data[100] = {};
};

struct Item {
	Item *next;
	long values[3];
};

std::unordered_map<int, Order *> g_sessions;
static std::map<int, std::string> g_names;
shop::Customer *g_customer;
static Item *g_list;
static Base *g_hidden[1000];
thread_local char *t_buffer;
thread_local int t_other = 1;
char *g_first, *g_second; // one block

__attribute__((noinline)) static void fill()
{
	for (int i = 0; i < 20000; i++)
		g_sessions[i] = new Order(i);
	for (int i = 0; i < 5000; i++)
		g_names[i] = std::string(30, 'x');
	g_customer = new shop::Customer;
	g_customer->orders.reserve(3000);
	for (int i = 0; i < 3000; i++)
		g_customer->orders.push_back(new Order(i));
	for (int i = 0; i < 100000; i++)
		g_list = new Item{ g_list, { i, i, i } };
	for (auto &each : g_hidden)
		each = new Hidden;
}

__attribute__((noinline)) static void lose()
{
	for (int i = 0; i < 300; i++) {
		auto first = std::make_shared<Node>(), second = std::make_shared<Node>();
		first->next = second;
		second->next = first;
	}
	for (int i = 0; i < 100; i++) {
		char *volatile text = strdup("a lost text of some length");
		(void)text;
	}
	char **volatile table = static_cast<char **>(calloc(50, sizeof(char *)));
	for (int i = 0; i < 50; i++)
		table[i] = strdup("held by a lost table");
}

// Overwrites what is left of calls below this frame.
__attribute__((noinline)) static void clear_stack()
{
	char volatile old[16384];

	for (auto &each : old)
		each = 0;
}

__attribute__((noinline)) static void serve_requests()
{
	char *volatile request = static_cast<char *>(calloc(1, 90000));

	for (;;)
		pause();
	(void)request;
}

static void wait_in_thread()
{
	t_buffer = static_cast<char *>(calloc(1, 70000));
	serve_requests();
}

int main()
{
	char *volatile used = static_cast<char *>(calloc(1, 110000)); // and so by a variable, too

	g_first = g_second = used;
	std::thread(wait_in_thread).detach();
	fill();
	lose();
	clear_stack();
	printf("%d\n", getpid());
	fflush(stdout);
	while (getchar() != EOF)
		;
	_exit(0);
}
