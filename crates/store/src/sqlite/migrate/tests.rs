//! Schemas that are newer, altered, foreign, or were interrupted.

use std::path::Path;

use freehold_domain::ids::OperationId;
use freehold_engine::ports::{Share, Store as _};

use super::*;
use crate::sqlite::{SqliteOptions, SqliteStore};

fn fresh() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("registry.db");
    (dir, path)
}

const NOW: Timestamp = Timestamp::from_micros(1);

/// The newest schema.
const LATEST: u32 = MIGRATIONS[MIGRATIONS.len() - 1].version;

fn raw(path: &Path) -> Connection {
    connect::writer(path).expect("it opens")
}

fn tables(conn: &Connection) -> Vec<String> {
    let mut statement = conn.prepare("SELECT name FROM sqlite_schema ORDER BY name").expect("it prepares");
    statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("names")
}

#[test]
fn a_missing_database_is_made_once() {
    let (_dir, path) = fresh();
    let missing = status(&path).expect("a missing file is an empty database");
    assert_eq!((missing.database, missing.program, missing.pending.len()), (0, LATEST, MIGRATIONS.len()));
    assert!(!path.exists(), "looking makes nothing");
    assert_eq!(up(&path, NOW).expect("it is made"), missing);
    let made = status(&path).expect("it is there");
    assert_eq!((made.database, made.pending.len(), made.applied.len()), (LATEST, 0, MIGRATIONS.len()));
    assert_eq!((made.applied[0].name.as_str(), made.applied[0].applied_at), ("registry", NOW));
    assert_eq!(up(&path, Timestamp::from_micros(2)).expect("again changes nothing"), made);
    assert_eq!(status(&path).expect("it is there"), made);
}

#[test]
fn a_newer_database_is_refused_and_both_versions_are_named() {
    let (_dir, path) = fresh();
    up(&path, NOW).expect("it is made");
    raw(&path).execute_batch("PRAGMA user_version = 7").expect("it is newer");
    for refused in [up(&path, NOW), status(&path)] {
        let refused = refused.expect_err("it is newer");
        assert!(matches!(refused, MigrateError::Newer { database: 7, program: LATEST }), "{refused}");
        assert!(refused.to_string().contains(&format!("at schema 7, this program knows up to {LATEST}")), "{refused}");
    }
}

#[test]
fn an_altered_step_is_refused() {
    let (_dir, path) = fresh();
    up(&path, NOW).expect("it is made");
    raw(&path).execute_batch("UPDATE schema_migrations SET checksum = 'x'").expect("it is altered");
    let refused = up(&path, NOW).expect_err("it is altered");
    assert!(matches!(refused, MigrateError::Drift { version: 1, .. }), "{refused}");
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let (_dir, path) = fresh();
    raw(&path).execute_batch("CREATE TABLE theirs (x)").expect("a table");
    assert!(matches!(up(&path, NOW), Err(MigrateError::Foreign)));
    assert_eq!(tables(&raw(&path)), ["theirs"]);
}

#[test]
fn a_step_that_fails_leaves_the_one_before() {
    let (_dir, path) = fresh();
    let broken =
        [MIGRATIONS[0], Migration { version: 2, name: "broken", sql: "CREATE TABLE half (x); SELECT nonsense;" }];
    let refused = apply(&mut raw(&path), &broken, NOW).expect_err("it is broken");
    assert!(matches!(refused, MigrateError::Failed { version: 2, .. }), "{refused}");
    let conn = raw(&path);
    assert!(!tables(&conn).contains(&"half".to_owned()));
    assert_eq!(read(&conn, &broken).expect("it reads").database, 1);
}

#[test]
fn a_kill_in_the_middle_leaves_the_old_schema_and_the_next_start_goes_on() {
    let statements: Vec<&str> = MIGRATIONS[0].sql.split_inclusive(";\n").collect();
    for killed_after in 0..=statements.len() {
        let (dir, path) = fresh();
        let conn = raw(&path);
        // Everything goes to the file at once, as it does when a transaction outgrows its cache.
        conn.execute_batch("PRAGMA cache_size = 1; BEGIN EXCLUSIVE").expect("it begins");
        conn.execute_batch(LEDGER).expect("a table");
        conn.execute_batch(&statements[..killed_after].concat()).expect("it goes on");
        let after = tempfile::tempdir().expect("a folder");
        for file in std::fs::read_dir(dir.path()).expect("files") {
            let file = file.expect("a file");
            // The shared memory is gone with the process.
            if !file.file_name().to_string_lossy().ends_with("-shm") {
                std::fs::copy(file.path(), after.path().join(file.file_name())).expect("a copy");
            }
        }
        let path = after.path().join("registry.db");
        assert_eq!(status(&path).expect("it reads").database, 0, "killed after statement {killed_after}");
        up(&path, NOW).expect("it goes on");
        assert_eq!(status(&path).expect("it reads").database, LATEST);
    }
}

#[test]
fn two_that_migrate_at_once_agree() {
    let (_dir, path) = fresh();
    raw(&path);
    std::thread::scope(|scope| {
        let both: Vec<_> = (0..2).map(|_| scope.spawn(|| up(&path, NOW))).collect();
        for one in both {
            one.join().expect("no panic").expect("both succeed");
        }
    });
    assert_eq!(status(&path).expect("it reads").applied.len(), MIGRATIONS.len());
}

#[tokio::test]
async fn what_was_due_before_owners_took_turns_is_still_due() {
    let (_dir, path) = fresh();
    let clock = std::sync::Arc::new(crate::conformance::TestClock::default());
    let mut conn = raw(&path);
    apply(&mut conn, &MIGRATIONS[..2], NOW).expect("the version before");
    let ids: Vec<OperationId> = (0..3).map(|number| OperationId::mint(number, [1; 10])).collect();
    for (due_at, id) in ids.iter().enumerate() {
        conn.execute(
            "INSERT INTO operations (id, instance_id, kind, status, attempt, due_at, deadline, steps, regions_full, \
                 request_id, started_at) VALUES (?1, ?1, 'provision', 'waiting', 1, ?2, 1, '[]', 0, 'r', 1)",
            rusqlite::params![id.as_bytes(), i64::try_from(due_at).expect("few")],
        )
        .expect("a row");
    }
    drop(conn);
    let options = SqliteOptions::file(&path, clock, crate::conformance::TERM);
    let store = SqliteStore::open(options).expect("it opens");
    assert_eq!(status(&path).expect("it reads").database, LATEST);
    assert_eq!(store.due_list(10, Share::ALL, &[]).await.expect("it answers"), ids);
    assert_eq!(store.due_list(2, Share::ALL, &[]).await.expect("it answers"), ids[..2], "more than are wanted");
}
