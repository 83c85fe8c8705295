kept = Array.new(300_000) { |i| "text #{i}" * 3 }
hash = (0...200_000).to_h { |i| [i, i.to_s] }
sleep 2
puts kept.size + hash.size
exit 4
