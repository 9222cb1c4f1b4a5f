//! Prints the story of one seed, or how many of a range of seeds end well.
//!
//! `cargo run -p freehold-sim --example story -- mixed 1007` or `… -- storm 1000 3000`.

use freehold_sim::{Profile, run};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((profile, numbers)) = words.split_first().and_then(|(name, rest)| Some((Profile::named(name)?, rest)))
    else {
        println!("say a profile, and one seed or the first and one past the last");
        return;
    };
    let numbers: Vec<u64> = numbers.iter().filter_map(|text| text.parse().ok()).collect();
    match numbers[..] {
        [seed] => {
            let report = run(seed, &profile(seed));
            for line in &report.trace {
                println!("{line}");
            }
            println!("broken: {:#?}", report.broken);
        }
        [first, last] => {
            let reports: Vec<_> = (first..last).map(|seed| run(seed, &profile(seed))).collect();
            let broken: Vec<_> = reports.iter().filter(|report| !report.broken.is_empty()).collect();
            for report in &broken {
                println!("seed {}: {:?}", report.seed, report.broken);
            }
            let slowest = reports.iter().max_by_key(|report| report.slowest_settle);
            println!("{} seeds, {} broken", last - first, broken.len());
            println!("slowest: {:?}", slowest.map(|report| (report.seed, report.slowest_settle)));
        }
        _ => println!("say one seed, or the first and one past the last"),
    }
}
