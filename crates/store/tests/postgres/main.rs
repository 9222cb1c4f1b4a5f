//! The records in PostgreSQL, at a real one and a real PgBouncer.

mod conformance;
mod faults;
mod house;
mod migrate;
mod places;
mod plans;
mod registry;
mod rules;

use std::sync::Arc;

use freehold_postgres_lab::Lab;
use freehold_store::PostgresRecords;
use freehold_store::conformance::records::Book;
use freehold_store::postgres::Options;

/// Records in a database of their own.
struct Place {
    lab: Lab,
    url: String,
}

impl Place {
    fn new() -> Self {
        let lab = Lab::start().expect("a cluster");
        let url = lab.database().expect("a database");
        Self { lab, url }
    }

    fn records(&self) -> Arc<PostgresRecords> {
        connect(&self.url)
    }

    fn book(&self) -> Arc<Book> {
        Arc::new(Book::of(self.records()))
    }

    fn bounced(&self) -> String {
        self.lab.bouncer(&self.url).expect("a bouncer")
    }

    /// As superuser.
    fn sql(&self, statements: &str) -> Result<String, String> {
        self.lab.sql("db0", statements).map_err(|error| format!("{error:#}"))
    }
}

fn connect(url: &str) -> Arc<PostgresRecords> {
    Arc::new(PostgresRecords::connect(url, Options::default()).expect("a place"))
}

fn block_on<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(story)
}
