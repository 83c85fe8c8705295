"""Print an XML document of many items."""

print("<items>")
for item in range(60_000):
    print(f'<item id="{item}" group="{item % 50}"><name>Item {item}</name></item>')
print("</items>")
