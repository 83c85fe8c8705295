let kept = Array.init 300000 (fun i -> "text " ^ string_of_int i)
let lists = List.init 400000 (fun i -> (i, float_of_int i))
let () =
  ignore (Sys.command "sleep 2");
  Printf.printf "%d\n" (Array.length kept + List.length lists)
