//! hunt
use freehold_domain::protection::{Protection, without};
use freehold_sim::{Profile, grid, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let cells = grid::all();
    let only: Vec<String> = std::env::args().skip(1).collect();
    for &protection in Protection::ALL {
        if !only.is_empty() && !only.iter().any(|o| o == protection.name()) {
            continue;
        }
        let began = Instant::now();
        let mut found = None;
        for i in (0..cells.len()).map(|i| i * 7919 % cells.len()) { let cell = &cells[i];
            let outcome = catch_unwind(AssertUnwindSafe(|| without(protection, || grid::run(cell))));
            let broken = match outcome {
                Ok(o) => o.broken,
                Err(_) => vec!["panicked".to_owned()],
            };
            if !broken.is_empty() {
                found = Some(format!("cell {i} {cell}: {:?}", broken[0]));
                break;
            }
            if began.elapsed().as_secs() > 9 {
                break;
            }
        }
        let t1 = began.elapsed();
        let began = Instant::now();
        let mut seeds = None;
        for seed in 0..2000 {
            let outcome = catch_unwind(AssertUnwindSafe(|| without(protection, || run(seed, &Profile::mixed(seed)))));
            let broken = match outcome {
                Ok(o) => o.broken,
                Err(_) => vec!["panicked".to_owned()],
            };
            if !broken.is_empty() {
                seeds = Some(format!("seed {seed}: {:?}", broken[0]));
                break;
            }
            if began.elapsed().as_secs() > 6 {
                break;
            }
        }
        println!("{}\n   {:?} in {t1:?}\n   {:?} in {:?}", protection.name(), found, seeds, began.elapsed());
    }
}
