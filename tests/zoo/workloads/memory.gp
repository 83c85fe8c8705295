default(parisizemax, 500000000);
a = vector(300000, i, i^20);
b = matrix(400, 400, i, j, i^j % 1000003);
c = matdet(b[1..60, 1..60]);
print(#a, " ", matsize(b), " ", c == 0);
