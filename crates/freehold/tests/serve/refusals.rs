//! Starts that are refused: one `error:` line, one `hint:`, an exit code, and nothing half done.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Output;

use crate::support::{Home, stderr};

/// What a refused start said: the error and the hint.
fn refused(output: &Output, exit: i32) -> (String, String) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(exit), "{said}");
    assert!(output.stdout.is_empty(), "nothing was announced");
    let told: Vec<&str> = said.lines().filter(|line| !line.contains(" INFO ") && !line.contains(" WARN ")).collect();
    match told.as_slice() {
        [error, hint] => (
            error.strip_prefix("error: ").unwrap_or_else(|| panic!("{said}")).to_owned(),
            hint.strip_prefix("hint: ").unwrap_or_else(|| panic!("{said}")).to_owned(),
        ),
        _ => panic!("{said}"),
    }
}

const SERVE: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];

#[test]
fn a_second_server_in_one_folder_is_told_who_has_it() {
    let home = Home::new();
    let first = home.serve();
    let (error, hint) = refused(&home.run(&SERVE), 1);
    assert!(error.contains("is in use by the server with pid"), "{error}");
    assert!(error.contains(&first.pid().to_string()), "{error}");
    assert!(hint.contains("--data-dir"), "{hint}");
    // With the first one's address too, the folder is still the better news.
    let (error, _) = refused(&home.run(&["serve", "--listen", &first.address]), 1);
    assert!(error.contains("is in use by the server with pid"), "{error}");
    assert_eq!(first.get("/healthz").status, 200);
    first.kill();
    assert_eq!(home.serve().get("/healthz").status, 200, "a dead server holds nothing");
}

#[test]
fn a_second_server_on_one_database_is_told_who_has_it() {
    let home = Home::new();
    let first = home.serve();
    let database = home.data().join("registry.db");
    let other = Home::new().with("REGISTRY__URL", &format!("sqlite:{}", database.display()));
    for args in [&SERVE[..], &["migrate", "up"]] {
        let (error, hint) = refused(&other.run(args), 1);
        assert!(error.contains("the database") && error.contains(&first.pid().to_string()), "{error}");
        assert!(hint.contains("registry.url"), "{hint}");
    }
    assert_eq!(first.get("/healthz").status, 200);
    first.kill();
    assert!(other.run(&["migrate", "up"]).status.success(), "a dead server holds nothing");
}

#[test]
fn a_port_that_is_taken_is_named_and_no_folder_is_made() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let home = Home::new();
    let (error, hint) = refused(&home.run(&["serve", "--listen", &address]), 1);
    assert_eq!(error, format!("cannot listen on {address}: address already in use"));
    assert!(hint.contains("--listen"), "{hint}");
    assert!(!home.data().exists());
}

#[test]
fn a_database_newer_than_the_program_is_left_alone() {
    let home = Home::new();
    assert!(home.serve().end().0.success());
    let database = home.data().join("registry.db");
    // `PRAGMA user_version`, where SQLite's file format has it (§1.3.12).
    let mut file = fs::OpenOptions::new().write(true).open(&database).unwrap();
    file.seek(std::io::SeekFrom::Start(60)).unwrap();
    file.write_all(&9_999_u32.to_be_bytes()).unwrap();
    drop(file);
    let before = fs::read(&database).unwrap();
    let (error, hint) = refused(&home.run(&SERVE), 1);
    assert!(error.contains("is newer than this program (schema 9999"), "{error}");
    assert!(hint.contains("restore a backup"), "{hint}");
    assert_eq!(fs::read(&database).unwrap(), before);
    let status = home.run(&["migrate", "status"]);
    assert_eq!(status.status.code(), Some(1), "{}", stderr(&status));
}

#[test]
fn a_damaged_database_is_told_and_left_alone() {
    for damage in
        [b"this is no database, but it is long enough to be looked at as one......".repeat(100), vec![0xff; 8192]]
    {
        let home = Home::new();
        fs::create_dir(home.data()).unwrap();
        fs::write(home.data().join("registry.db"), &damage).unwrap();
        let (error, hint) = refused(&home.run(&SERVE), 1);
        assert!(error.contains("is damaged, or is no database"), "{error}");
        assert!(hint.contains("restore a backup"), "{hint}");
        assert_eq!(fs::read(home.data().join("registry.db")).unwrap(), damage);
        assert!(!home.data().join("operator.key").exists(), "nothing is half done");
    }
}

#[test]
fn a_folder_that_cannot_be_written_or_made_is_named() {
    let home = Home::new();
    fs::create_dir(home.data()).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(home.data(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut serve = home.command(&SERVE);
    if rustix::process::geteuid().is_root() {
        // The superuser may write anywhere; somebody else may not.
        serve.uid(65_534).gid(65_534);
    }
    let (error, hint) = refused(&serve.output().unwrap(), 1);
    assert!(error.contains("permission denied") && error.contains("data"), "{error}");
    assert!(hint.contains("--data-dir"), "{hint}");

    fs::write(home.path().join("file"), "").unwrap();
    let below = home.path().join("file/data");
    let (error, _) = refused(&home.command(&SERVE).env("FREEHOLD__DATA_DIR", &below).output().unwrap(), 1);
    assert!(error.contains("file/data: not a directory"), "{error}");
}

#[test]
fn an_installation_keeps_its_name_and_its_keys() {
    let key = "ab".repeat(32);
    let mut home = Home::new().with("KEYS__SECRET_KEY_ENV", "OUTSIDE");
    let serve = |home: &Home, key: &str| home.command(&SERVE).env("OUTSIDE", key).output().unwrap();
    let mut first = home.serving();
    first.env("OUTSIDE", &key);
    assert!(home.serve_with(first).end().0.success());
    let registry = fs::read(home.data().join("registry.db")).unwrap();
    assert!(!registry.windows(32).any(|window| window == [0xab; 32]), "a key from outside stays outside");

    let (error, _) = refused(&serve(&home, &"cd".repeat(32)), 2);
    assert_eq!(error, "keys.secret_key is not the key that this registry was begun with");
    let (error, hint) = refused(&serve(&home, "hunter2"), 2);
    assert!(error.contains("keys.secret_key: $OUTSIDE holds no key"), "{error}");
    assert!(!hint.contains("hunter2") && !error.contains("hunter2"));
    home.set("INSTALL_ID", "another");
    let (error, hint) = refused(&serve(&home, &key), 2);
    assert!(error.starts_with("install_id is `another`, and this registry belongs to `test-"), "{error}");
    assert!(hint.contains("set install_id back"), "{hint}");
}

#[test]
fn a_bad_configuration_or_crash_point_is_exit_code_2_and_changes_nothing() {
    let home = Home::new();
    let file = home.path().join("freehold.toml");
    fs::write(&file, "[timing]\nlese = \"1s\"\n").unwrap();
    let (error, hint) = refused(&home.run(&["serve", "--config", file.to_str().unwrap()]), 2);
    assert_eq!(error, format!("{}:2:1: timing.lese: there is no such setting", file.display()));
    assert_eq!(hint, "did you mean `lease`?");
    let roles = home.run(&["serve", "--roles", "http,prxy"]);
    assert_eq!(roles.status.code(), Some(2));
    assert!(!home.data().exists());
    let crash = home.command(&SERVE).env("FREEHOLD_CRASH_AT", "runtime:somewhere").output().unwrap();
    assert_eq!(crash.status.code(), Some(2));
    assert!(stderr(&crash).contains("names no crash point"), "{}", stderr(&crash));
}

/// Programs are in the data folder, and the registry is elsewhere: a server that has another folder would take them for
/// gone and start each a second time.
#[test]
fn a_server_whose_instances_are_in_another_folder_is_told_so() {
    let lab = freehold_postgres_lab::Lab::start().unwrap();
    let right = Home::new().with("REGISTRY__URL", &lab.database().unwrap()).with("NODE_ID", "node-a");
    let wrong = right.elsewhere();
    let server = right.serve();
    let made = server.until_over(&server.begin("user:alice"));
    let path = format!("/i/{}/", made["instance_id"].as_str().unwrap());
    server.until(&path, |greeting| greeting.status == 200);
    server.kill();
    for _ in 0..2 {
        let (error, hint) = refused(&wrong.run(&SERVE), 2);
        assert!(error.contains("are in another one than") && error.contains("provider `local`"), "{error}");
        assert!(hint.contains("--data-dir"), "{hint}");
    }
    let server = right.serve();
    assert_eq!(server.get(&path).status, 200);
    server.kill();

    // If it is lost, as the hint has it.
    fs::create_dir(wrong.data().join("instances")).unwrap();
    let server = wrong.serve();
    server.until(&path, |greeting| greeting.status == 200);
}
