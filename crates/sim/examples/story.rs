//! Prints the story of one seed, or how many of a range of seeds end well.
//!
//! `cargo run -p freehold-sim --example story -- 1007` or `… -- 1000 3000`.

use freehold_sim::{Profile, run};

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    match numbers[..] {
        [seed] => {
            let report = run(seed, &Profile::STORM);
            for line in &report.trace {
                println!("{line}");
            }
            println!("broken: {:#?}", report.broken);
        }
        [first, last] => {
            let broken: Vec<_> = (first..last)
                .map(|seed| run(seed, &Profile::STORM))
                .filter(|report| !report.broken.is_empty())
                .collect();
            for report in &broken {
                println!("seed {}: {:?}", report.seed, report.broken);
            }
            println!("{} seeds, {} broken", last - first, broken.len());
        }
        _ => println!("say one seed, or the first and one past the last"),
    }
}
