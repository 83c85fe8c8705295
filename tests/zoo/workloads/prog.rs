use std::collections::HashMap;

fn main() {
    let table: HashMap<u32, String> = (0..1000).map(|i| (i, format!("text {i}"))).collect();
    println!("{}", table.values().map(String::len).sum::<usize>());
}
