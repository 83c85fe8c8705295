"""Print a graph for dot."""

print("digraph g {")
for node in range(1, 130):
    print(f"n{node} -> n{node // 3}; n{node} -> n{node * 7 % 97};")
print("}")
