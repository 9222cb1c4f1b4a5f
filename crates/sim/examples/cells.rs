//! Runs the cells of the grid whose names contain a word, or tells the story of the one that has it as its name.
//!
//! `cargo run -p freehold-sim --example cells -- runtime:sent/crash` or
//! `… -- names+seal/runtime:sent/crash/answer-lost`.

use freehold_sim::grid;

fn main() {
    let word = std::env::args().nth(1).unwrap_or_default();
    if let Ok(cell) = word.parse::<grid::Cell>() {
        let outcome = grid::run(&cell);
        for line in &outcome.trace {
            println!("{line}");
        }
        println!("broken: {:#?}", outcome.broken);
        return;
    }
    let cells: Vec<_> = grid::all().into_iter().filter(|cell| cell.to_string().contains(&word)).collect();
    let mut broken = 0;
    let mut slowest = std::time::Duration::ZERO;
    for cell in &cells {
        let outcome = grid::run(cell);
        slowest = slowest.max(outcome.slowest_settle);
        if !outcome.broken.is_empty() {
            broken += 1;
            println!("{cell}: {:?}", outcome.broken);
        }
    }
    println!("{} cells, {broken} broken, slowest settle {slowest:?}", cells.len());
}
