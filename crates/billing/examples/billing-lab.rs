//! The billing lab as a program: `cargo run -p freehold-billing --features lab --example billing-lab -- 127.0.0.1:9911`.
//! A line on stdin is a command: `down MESSAGE` (`entitlement.resolve`, `subscription.start`, `subscription.end`),
//! `heal`, `books`.

use freehold_billing::lab::{BillingLab, Fault, Message, SECRET};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let address = address.parse().map_err(|why| std::io::Error::other(format!("{address}: {why}")))?;
    let lab = BillingLab::start_at(address, SECRET).await?;
    println!("url {} secret {SECRET}", lab.url());
    // Reading a line blocks, and the server answers on the other threads meanwhile.
    for line in std::io::stdin().lines() {
        let line = line?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("down", name) => {
                for message in Message::ALL.into_iter().filter(|message| message.name() == name) {
                    lab.fail_always(message, Fault::Down);
                }
            }
            ("heal", _) => lab.heal(),
            _ => println!("{:#?}", lab.books()),
        }
    }
    Ok(())
}
