//! What tests may rely on in a pair.

use freehold_postgres_lab::{Pair, Patroni, Rejoined};

#[test]
fn what_is_acknowledged_survives_the_loss_of_the_primary_again_and_again() {
    let pair = Pair::start().expect("a pair");
    pair.primary().database().expect("a database");
    let mut bouncer = pair.bouncer(4).expect("a bouncer");
    let through = |port: u16, statement: &str| {
        let mut psql = std::process::Command::new("/usr/lib/postgresql/15/bin/psql");
        psql.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            "freehold",
            "-d",
            "db0",
            "-XqAt",
            "-c",
            statement,
        ]);
        let output = psql.output().expect("psql starts");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    assert!(through(bouncer.port(), "CREATE TABLE t (n int)").0);
    for round in 0..3 {
        let port = pair.primary().port();
        assert!(through(bouncer.port(), &format!("INSERT INTO t VALUES ({round})")).0);
        assert!(pair.promote().is_err(), "two may not take writes");
        pair.until_in_sync().expect("it is");
        pair.primary().kill().expect("it ran");
        pair.promote().expect("it takes writes");
        bouncer.repoint(pair.primary().port()).expect("it is");
        assert_ne!(pair.primary().port(), port);
        // Nobody follows yet, and it does not wait for that.
        let mut told = through(bouncer.port(), &format!("INSERT INTO t VALUES ({round})"));
        for _ in 0..100 {
            if told.0 {
                break;
            }
            // PgBouncer had a connection to the one that is gone.
            told = through(bouncer.port(), &format!("INSERT INTO t VALUES ({round})"));
        }
        assert!(told.0);
        assert_eq!(pair.rejoin().expect("it follows"), Rejoined::Rewound);
        let kept = through(bouncer.port(), "SELECT count(*) FROM t").1;
        assert_eq!(kept, (2 * (round + 1)).to_string());
        assert_eq!(pair.standby().sql("db0", "SELECT pg_is_in_recovery()").expect("it answers"), "t");
    }
    // Where nothing is left to rewind, it is copied.
    pair.primary().kill().expect("it ran");
    pair.promote().expect("it takes writes");
    std::fs::remove_file(pair.standby().data().join("global/pg_control")).expect("it is there");
    assert!(matches!(pair.rejoin().expect("it follows"), Rejoined::Copied(_)));
    assert_eq!(pair.standby().sql("db0", "SELECT count(*) FROM t").expect("it answers"), "6");
    bouncer.kill();
    bouncer.restart().expect("it starts where it was");
}

/// The twin: a commit does wait for the standby.
#[test]
fn without_its_standby_a_primary_acknowledges_nothing() {
    let pair = Pair::start().expect("a pair");
    pair.primary().database().expect("a database");
    pair.standby().freeze().expect("it runs");
    std::thread::scope(|scope| {
        let commit = scope.spawn(|| pair.primary().sql("db0", "CREATE TABLE t (n int)"));
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        while pair.primary().sql("postgres", waiting).expect("it answers") != "1" {
            assert!(!commit.is_finished(), "it was acknowledged before the standby had it");
        }
        pair.standby().thaw().expect("it runs");
        commit.join().expect("it ends").expect("it is committed");
    });
}

#[test]
#[ignore = "needs a minute, Patroni and etcd: cargo xtask failover --patroni"]
fn patroni_puts_the_standby_in_the_place_of_a_lost_primary() {
    let patroni = Patroni::start().expect("two members");
    patroni.database("db0").expect("a database");
    for _ in 0..2 {
        let before = patroni.primary().expect("it is in sync");
        let lost = patroni.kill_primary().expect("it ran");
        while patroni.primary().is_none_or(|primary| primary == before) {
            std::thread::yield_now();
        }
        patroni.launch(lost).expect("it starts");
        patroni.until_in_sync().expect("it follows");
    }
}
