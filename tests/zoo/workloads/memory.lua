local kept = {}
for i = 1, 300000 do kept[i] = { name = ("text"):rep(3) .. i } end
local finish = os.clock() + 1
while os.clock() < finish do end
print(#kept)
