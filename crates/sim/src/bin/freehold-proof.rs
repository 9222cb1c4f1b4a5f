//! hunt
use freehold_domain::protection::Protection;
use freehold_sim::scenes::SCENES;
use freehold_sim::twins::{TWINS, hunt};

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [name, cell] = &args[..] {
        if cell.contains('/') {
            let p = Protection::ALL.iter().find(|p| p.name() == name).unwrap();
            let o = freehold_domain::protection::without(*p, || freehold_sim::grid::run(&cell.parse().unwrap()));
            for l in o.trace {
                println!("{l}");
            }
            println!("{:?}", o.broken);
            return;
        }
    }
    if let Some(name) = args.first() {
        let p = Protection::ALL.iter().find(|p| p.name() == name).unwrap();
        println!("{:?}", hunt(*p, args.get(1).and_then(|s| s.parse().ok()).unwrap_or(7), 500));
        return;
    }
    for scene in SCENES {
        println!("{} {:?}", scene.name, scene.run());
    }
    for twin in TWINS {
        println!("{:?} {:?}: {:.250}", twin.protection, twin.hunt, format!("{:?}", twin.catch()));
    }
    for p in Protection::ALL {
        if !TWINS.iter().any(|t| t.protection == *p) {
            println!("MISSING {p:?}");
        }
    }
}
