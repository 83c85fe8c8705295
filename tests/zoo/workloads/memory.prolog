fill(N) :- forall(between(1, N, I), (atom_concat(atom_, I, A), assertz(fact(I, A)))).
main :- fill(200000), numlist(1, 500000, L), sum_list(L, S), aggregate_all(count, fact(_, _), C), sleep(1.5),
        format("~w ~w~n", [S, C]), length(L, N), format("~w~n", [N]), halt(5).
