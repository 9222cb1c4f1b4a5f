//! Places that are wrong, away or guarded, and what is said of them.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use freehold_domain::records::RecordsView;
use freehold_engine::ports::{Records, RecordsError};
use freehold_postgres_lab::{Lab, PASSWORD, PASSWORD_ROLE};
use freehold_store::PostgresRecords;
use freehold_store::conformance::records::{Book, because};
use freehold_store::conformance::user;
use freehold_store::postgres::Options;

use super::{Place, block_on, connect};

/// What a probe complains of.
fn complaint(url: &str) -> String {
    match block_on(async { connect(url).probe().await }) {
        Err(RecordsError::Unavailable(why)) => why,
        other => panic!("{url}: {other:?}"),
    }
}

#[test]
fn what_is_wrong_with_a_place_is_said() {
    let lab = Lab::start().expect("a cluster");
    lab.database().expect("a database");
    let port = lab.port();
    let of = |place: &str| complaint(&format!("postgres://{place}?sslmode=disable"));
    let wrong = of(&format!("{PASSWORD_ROLE}:hunter2@127.0.0.1:{port}/db0"));
    assert!(wrong.contains("password authentication failed") && !wrong.contains("hunter2"), "{wrong}");
    let missing = of(&format!("freehold@127.0.0.1:{port}/nowhere"));
    assert!(missing.contains("database \"nowhere\" does not exist"), "{missing}");
    let nobody = of(&format!("nobody@127.0.0.1:{port}/db0"));
    assert!(nobody.contains("role \"nobody\" does not exist"), "{nobody}");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let closed = of(&format!("freehold:hunter2@127.0.0.1:{free}/db0"));
    assert!(closed.contains("Connection refused") && closed.contains(&format!("127.0.0.1:{free}/db0")), "{closed}");
    assert!(closed.contains("does PostgreSQL listen there?") && !closed.contains("hunter2"), "{closed}");
    let unguarded = complaint(&format!("postgres://{PASSWORD_ROLE}@127.0.0.1:{port}/db0?sslmode=disable"));
    assert!(unguarded.contains("password missing"), "{unguarded}");
}

/// Something listens, and it is not PostgreSQL: it closes, it talks about other things, or it is silent.
#[test]
fn what_is_no_postgresql_is_suspected() {
    use std::io::{Read, Write};
    for answer in [Some("HTTP/1.1 400 Bad Request\r\n\r\n"), Some(""), None] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                if let Some(answer) = answer {
                    let _ = stream.read(&mut [0; 64]).expect("something");
                    stream.write_all(answer.as_bytes()).expect("written");
                } else {
                    kept.push(stream);
                }
            }
        });
        let began = Instant::now();
        for mode in ["disable", "prefer"] {
            let said = complaint(&format!("postgres://freehold:hunter2@127.0.0.1:{port}/db0?sslmode={mode}"));
            assert!(said.contains("does PostgreSQL listen there?") && !said.contains("hunter2"), "{answer:?}: {said}");
        }
        assert!(began.elapsed() < Duration::from_secs(12), "{answer:?}: {:?}", began.elapsed());
    }
}

/// A server starts while its records are away, and uses them once they are there.
#[test]
fn records_may_come_later() {
    let lab = Lab::start().expect("a cluster");
    let url = lab.database().expect("a database");
    lab.stop().expect("it ran");
    block_on(async {
        let records = connect(&url);
        let book = Book::of(records.clone());
        let away = records.insert(book.row(&user("alice")), &because()).await;
        assert!(matches!(&away, Err(RecordsError::Unavailable(why)) if why.contains("refused")), "{away:?}");
        lab.restart().expect("it starts");
        let view = records.insert(book.row(&user("alice")), &because()).await.expect("written");
        assert!(view.row_is_active());
        records.probe().await.expect("ready");
    });
}

/// With a certificate that the named authority signed for the host's name, and with a password.
#[test]
fn tls_is_verified() {
    let lab = Lab::start().expect("a cluster");
    lab.database().expect("a database");
    lab.sql("postgres", &format!("GRANT ALL ON DATABASE db0 TO {PASSWORD_ROLE}")).expect("granted");
    let roots = lab.authority();
    // Copied to where its name needs no quoting and everybody may read it.
    let copy = std::env::temp_dir().join(format!("freehold-ca-{}.pem", std::process::id()));
    std::fs::copy(roots, &copy).expect("copied");
    let (port, roots) = (lab.port(), copy.display());
    let of = |host: &str, mode: &str| {
        format!("postgres://{PASSWORD_ROLE}:{PASSWORD}@{host}:{port}/db0?sslmode={mode}&sslrootcert={roots}")
    };
    block_on(async {
        for mode in ["require", "verify-full", "prefer"] {
            connect(&of("localhost", mode)).probe().await.expect(mode);
        }
        let encrypted =
            "SELECT bool_and(ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE usename = 'guarded'";
        assert_ne!(lab.sql("postgres", encrypted).expect("it answers"), "f");
    });
    let said = complaint(&of("127.0.0.1", "require"));
    assert!(said.contains("certificate"), "it is for localhost: {said}");
    let untrusted = format!("postgres://{PASSWORD_ROLE}:{PASSWORD}@localhost:{port}/db0?sslmode=require");
    let said = complaint(&untrusted);
    assert!(said.contains("certificate") && !said.contains(PASSWORD), "nobody here trusts it: {said}");
    std::fs::remove_file(&copy).expect("it was there");
    let missing = PostgresRecords::connect(&of("localhost", "require"), Options::default()).expect_err("no such file");
    assert!(missing.to_string().contains("freehold-ca-"), "{missing}");
}

/// A standby answers, and takes nothing.
#[test]
fn a_server_that_takes_no_writes_is_not_ready() {
    let place = Place::new();
    block_on(async {
        let records = place.records();
        records.probe().await.expect("ready");
        place.sql("ALTER DATABASE db0 SET default_transaction_read_only = on").expect("set");
        let records = place.records();
        let said = records.probe().await;
        assert!(matches!(&said, Err(RecordsError::Unavailable(why)) if why.contains("no writes")), "{said:?}");
        let book = Book::of(records.clone());
        let written = records.insert(book.row(&user("alice")), &because()).await;
        assert!(matches!(&written, Err(RecordsError::Unavailable(why)) if why.contains("25006")), "{written:?}");
    });
}

/// Another database is put in its place, from before there were any records: it is brought up to date, and has none.
#[test]
fn a_database_that_was_replaced_is_used_as_it_is() {
    let place = Place::new();
    block_on(async {
        let records = place.records();
        let book = Book::of(records.clone());
        let row = book.inserted(&user("alice")).await;
        place.sql("DROP SCHEMA freehold CASCADE").expect("dropped");
        assert_eq!(records.describe(row.instance).await, Ok(RecordsView::default()));
        assert!(records.insert(row, &because()).await.expect("written again").row_is_active());
    });
}
