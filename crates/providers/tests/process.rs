//! The process provider with real processes, some of which are killed at the worst moment.
//!
//! No test leaves a process behind: each world ends everything that carries the marker of one of its instances.

mod world;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use freehold_domain::resource::{Outcome, Rejection, RejectionClass, Resource, ResourceKind, RuntimeState};
use freehold_engine::ports::{LogQuery, Order, Provider};
use rustix::process::Signal;
use world::{World, eventually, on_two_threads};

/// Not a test of its own: the program of an instance that listens where it is told to. It ends after its first line.
#[test]
fn a_program_that_listens() {
    use std::io::{BufRead, BufReader, Write};
    let Ok(port) = std::env::var("TEST_LISTENS").and_then(|_| std::env::var("PORT")) else { return };
    let listener = std::net::TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        if !line.is_empty() {
            let told = ["FREEHOLD_INSTANCE_ID", "GREETING", "TEST_SECRET_OF_THE_SERVER"];
            let told = told.map(|name| std::env::var(name).unwrap_or_default());
            writeln!(stream, "{}", told.join(" ")).unwrap();
            return;
        }
    }
}

/// Not a test of its own: a server that launches one instance and is killed.
#[test]
fn a_server_to_be_killed() {
    let Ok(data_dir) = std::env::var("TEST_SERVER_DATA_DIR") else { return };
    on_two_threads(async {
        let world = World::over(data_dir.clone().into());
        world.ensure(&world.ident(7)).await;
        fs::write(format!("{data_dir}/launched"), "").unwrap();
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_program_outlives_the_server_that_launched_it() {
    on_two_threads(async {
        let world = World::new();
        let mut server = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["a_server_to_be_killed", "--exact", "--nocapture"])
            .env("TEST_SERVER_DATA_DIR", world.data_dir())
            .spawn()
            .unwrap();
        eventually("the server to launch", async || world.data_dir().join("launched").exists()).await;
        server.kill().unwrap();
        server.wait().unwrap();

        let ident = world.ident(7);
        let program = world.programs(&ident);
        assert_eq!(program.len(), 1);
        world.until(&ident, RuntimeState::Running).await;
        let made = world.ensure_runtime(&ident).await;
        assert!(made.resource.handle.contains(&format!("\"pid\":{}", program[0])), "found again: {made:?}");
        assert_eq!(world.programs(&ident), program, "and not made again");
        world.stop(&ident).await;
        world.until(&ident, RuntimeState::Stopped).await;
        assert!(world.programs(&ident).is_empty());
    });
}

/// What the janitor is shown must be what a destroy removes.
#[test]
fn a_copy_of_an_instances_folder_costs_the_instance_nothing() {
    on_two_threads(async {
        let world = World::new();
        let (ident, other) = (world.ident(1), world.ident(2));
        let made = world.ensure(&ident).await;
        let copy = world.folder(&other);
        fs::create_dir(&copy).unwrap();
        fs::copy(world.folder(&ident).join("owner"), copy.join("owner")).unwrap();

        let listed = world.provider.list_owned("test", None).await.unwrap().resources;
        assert_eq!(listed.len(), 3, "base, storage and runtime of the one: {listed:?}");
        assert!(listed.iter().all(|owned| owned.resource.id == made.resource.id), "{listed:?}");
        let elsewhere = Resource { id: other.name.clone(), ..made.resource.clone() };
        let refused = world.provider.destroy(&ident, &elsewhere).await;
        assert!(matches!(refused, Outcome::Rejected(_)), "{refused:?}");
        assert_eq!(world.programs(&ident).len(), 1, "its program lives");

        world.remove(&ident).await;
        assert!(matches!(world.provider.seal(&ident).await, Outcome::Done(())));
        let listed = world.provider.list_owned("test", None).await.unwrap().resources;
        assert!(listed.is_empty(), "a tombstone is no resource: {listed:?}");
    });
}

#[test]
fn twenty_who_launch_at_once_get_one_program() {
    on_two_threads(async {
        let world = Arc::new(World::new());
        let ident = world.ident(1);
        world.ensure_base(&ident).await;
        let launches: Vec<_> = (0..20)
            .map(|_| {
                let (world, ident) = (Arc::clone(&world), ident.clone());
                tokio::spawn(async move { world.ensure_runtime(&ident).await.resource })
            })
            .collect();
        let mut made = BTreeSet::new();
        for launch in launches {
            made.insert(launch.await.unwrap().handle);
        }
        assert_eq!(made.len(), 1, "{made:?}");
        assert_eq!(world.programs(&ident).len(), 1);
    });
}

#[test]
fn a_record_of_a_pid_that_somebody_else_has_now_is_not_believed() {
    on_two_threads(async {
        let world = World::new();
        let ident = world.ident(1);
        world.ensure(&ident).await;
        world.kill_everything(&ident);
        // Somebody else got the number of our program.
        let mut stranger = std::process::Command::new("sleep").arg("3600").spawn().unwrap();
        let mut record = world.record(&ident);
        record["main"]["pid"] = stranger.id().into();
        record["shim"]["pid"] = stranger.id().into();
        // Within one tick of the clock even the start time is the same.
        let stat = fs::read_to_string(format!("/proc/{}/stat", stranger.id())).unwrap();
        let start: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
        record["main"]["start"] = start.into();
        world.set_record(&ident, &record);

        let seen = world.provider.observe(&ident).await.unwrap();
        assert!(matches!(seen.runtime, RuntimeState::Exited(_)), "{seen:?}");
        world.stop(&ident).await;
        let made = world.ensure_runtime(&ident).await;
        assert_eq!(made.runtime, Some(RuntimeState::Starting), "it is launched again");
        world.remove(&ident).await;
        assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    });
}

#[test]
fn a_program_that_nobody_wrote_down_is_found_adopted_and_removed() {
    on_two_threads(async {
        let world = World::new();
        let ident = world.ident(1);
        world.ensure(&ident).await;
        let program = world.programs(&ident);
        // As if the launcher had died between the start and the record.
        for shim in world.shims(&ident) {
            world::signal(shim, Signal::KILL);
        }
        fs::remove_file(world.folder(&ident).join("runtime")).unwrap();

        let seen = world.provider.observe(&ident).await.unwrap();
        assert!(seen.found.iter().any(|found| found.resource.kind == ResourceKind::Runtime), "{seen:?}");
        let made = world.ensure_runtime(&ident).await;
        assert_eq!(world.programs(&ident), program, "adopted, not made again");
        assert!(made.resource.handle.contains(&format!("\"pid\":{}", program[0])));
        fs::remove_file(world.folder(&ident).join("runtime")).unwrap();
        world.remove(&ident).await;
        assert!(world.programs(&ident).is_empty());
    });
}

#[test]
fn a_launcher_that_is_killed_leaves_a_program_that_can_be_stopped_and_started() {
    on_two_threads(async {
        let world = World::new();
        let ident = world.ident(1);
        world.ensure(&ident).await;
        let program = world.programs(&ident);
        for shim in world.shims(&ident) {
            world::signal(shim, Signal::KILL);
        }
        eventually("the launcher to be dead", async || world.shims(&ident).is_empty()).await;
        assert_eq!(world.programs(&ident), program);
        world.until(&ident, RuntimeState::Running).await;
        world.stop(&ident).await;
        world.until(&ident, RuntimeState::Stopped).await;
        world.ensure_runtime(&ident).await;
        assert_eq!(world.programs(&ident).len(), 1);
        assert_ne!(world.programs(&ident), program);
    });
}

#[test]
fn a_command_that_cannot_be_executed_is_refused_and_leaves_nothing() {
    on_two_threads(async {
        let world = World::new();
        let plain = world.data_dir().join("plain.txt");
        fs::write(&plain, "words").unwrap();
        let plain = plain.to_str().unwrap();
        for (command, text) in [
            ("no-such-command-anywhere", "command not found: no-such-command-anywhere"),
            ("/no/such/path", "command not found: /no/such/path"),
            ("/", "permission denied: /"),
            (plain, "permission denied"),
            ("", "needs a command"),
            ("a\0b", "NUL"),
        ] {
            let ident = world.ident(1);
            world.ensure_base(&ident).await;
            match world.try_runtime(&ident, &[command]).await {
                Outcome::Rejected(Rejection { class: RejectionClass::Invalid, detail }) => {
                    assert!(detail.contains(text), "{detail}");
                }
                other => panic!("{command}: {other:?}"),
            }
            let seen = world.provider.observe(&ident).await.unwrap();
            assert_eq!(seen.runtime, RuntimeState::Missing, "{seen:?}");
        }
    });
}

#[test]
fn an_update_to_what_cannot_be_executed_leaves_the_program_that_runs() {
    on_two_threads(async {
        let world = World::new();
        let ident = world.ident(1);
        world.ensure(&ident).await;
        let program = world.programs(&ident);
        let plain = world.data_dir().join("plain.txt");
        fs::write(&plain, "words").unwrap();
        for command in ["no-such-command-anywhere", "/no/such/path", "/", plain.to_str().unwrap()] {
            let outcome = world.try_update(&ident, &[command]).await;
            assert!(matches!(outcome, Outcome::Rejected(_)), "{command}: {outcome:?}");
            assert_eq!(world.programs(&ident), program, "{command}");
        }
        let own = world.volume(&ident).join("bin");
        fs::create_dir_all(&own).unwrap();
        fs::copy("/bin/sleep", own.join("own-sleep")).unwrap();
        let outcome = world.try_update_with(&ident, &["own-sleep", "1800"], ("PATH", "bin")).await;
        assert!(matches!(outcome, Outcome::Done(_)), "a folder of PATH may begin in the instance's own: {outcome:?}");
        assert_ne!(world.programs(&ident), program, "a good one replaces it");
    });
}

#[test]
fn a_program_that_ends_at_once_says_how() {
    on_two_threads(async {
        let world = World::new();
        for (n, script, how) in [
            (1, "echo fine; echo oops >&2; exit 3", "exit status 3: oops"),
            (2, "kill -9 $$", "killed by signal 9"),
            (3, "exit 0", "exit status 0"),
            (4, "no-such-tool", "exit status 127: "),
        ] {
            let ident = world.ident(n);
            world.ensure_base(&ident).await;
            let outcome = world.try_runtime(&ident, &["sh", "-c", script]).await;
            assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
            eventually("the program to end", async || {
                let seen = world.provider.observe(&ident).await.unwrap();
                matches!(seen.runtime, RuntimeState::Exited(how_it_was) if how_it_was.starts_with(how))
            })
            .await;
        }
    });
}

#[test]
fn a_late_launch_is_refused_by_the_tombstone() {
    on_two_threads(async {
        let world = Arc::new(World::new());
        let ident = world.ident(1);
        world.ensure_base(&ident).await;
        // It is a launch's turn, and it does not get on.
        let turn = fs::File::open(world.folder(&ident)).unwrap();
        turn.lock().unwrap();
        let launch = {
            let (world, ident) = (Arc::clone(&world), ident.clone());
            tokio::spawn(async move { world.try_runtime(&ident, &["sleep", "3600"]).await })
        };
        eventually("the launcher to wait", async || !world.shims(&ident).is_empty()).await;
        let shim = world.shims(&ident)[0];
        world::signal(shim, Signal::STOP);
        drop(turn);
        assert_eq!(world.provider.seal(&ident).await, Outcome::Done(()));
        world::signal(shim, Signal::CONT);
        match launch.await.unwrap() {
            Outcome::Rejected(rejection) => assert!(rejection.detail.contains("sealed"), "{rejection:?}"),
            other => panic!("{other:?}"),
        }
        world.remove(&ident).await;
        assert!(world.programs(&ident).is_empty() && world.shims(&ident).is_empty());
        let left: Vec<_> = fs::read_dir(world.folder(&ident)).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(left, ["tombstone"], "a tombstone is all that stays");
    });
}

#[test]
fn a_launcher_that_stalls_in_its_turn_is_ended_by_the_seal() {
    on_two_threads(async {
        let world = Arc::new(World::new());
        let ident = world.ident(1);
        world.ensure_base(&ident).await;
        // Somebody of the instance holds the folder and does not let go: a stopped launcher looks just like it.
        let turn = fs::File::open(world.folder(&ident)).unwrap();
        turn.lock().unwrap();
        rustix::io::fcntl_setfd(&turn, rustix::io::FdFlags::empty()).unwrap();
        let mut stalled = std::process::Command::new("sleep").arg("3600").envs(world::marker(&ident)).spawn().unwrap();
        drop(turn);
        assert_eq!(world.provider.seal(&ident).await, Outcome::Done(()));
        assert!(!stalled.wait().unwrap().success(), "it was killed");
    });
}

#[test]
fn a_destroy_reaches_the_whole_tree_and_what_hides() {
    on_two_threads(async {
        let world = World::new();
        let ident = world.ident(1);
        world.ensure_base(&ident).await;
        // A number that no other process here sleeps for.
        let long = format!("98{:06}", std::process::id() % 1_000_000);
        let script = format!(
            "trap '' TERM; sleep {long} & setsid sleep {long} & env -i setsid sleep {long} & \
             (env -i setsid sh -c 'sleep {long}' &) ; wait"
        );
        let outcome = world.try_runtime(&ident, &["bash", "-c", &script]).await;
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        let sleepers = || world::processes_with_argument(&long).len();
        eventually("the whole tree to be there", async || sleepers() >= 4).await;
        world.remove(&ident).await;
        assert_eq!(sleepers(), 0);
    });
}

#[test]
fn a_stop_is_gentle_first_and_ends_what_does_not_listen() {
    on_two_threads(async {
        let world = World::new();
        let gentle = world.ident(1);
        world.ensure_base(&gentle).await;
        let script = "trap 'echo asked' TERM; echo ready; sleep 3600; sleep 0.05; echo bye";
        assert!(matches!(world.try_runtime(&gentle, &["bash", "-c", script]).await, Outcome::Done(_)));
        eventually("the trap to be set", async || world.log(&gentle).contains("ready")).await;
        world.stop(&gentle).await;
        eventually("its last words", async || world.log(&gentle).contains("bye")).await;
        assert_eq!(world.log(&gentle).matches("asked").count(), 1, "it is asked once: {}", world.log(&gentle));

        let deaf = world.ident(2);
        world.ensure_base(&deaf).await;
        let script = "trap '' TERM; echo ready; while :; do sleep 0.01; done";
        assert!(matches!(world.try_runtime(&deaf, &["bash", "-c", script]).await, Outcome::Done(_)));
        eventually("the trap to be set", async || world.log(&deaf).contains("ready")).await;
        world.stop(&deaf).await;
        assert!(world.programs(&deaf).is_empty());
        world.until(&deaf, RuntimeState::Stopped).await;
    });
}

#[test]
fn a_stop_ends_a_launch_that_is_under_way() {
    on_two_threads(async {
        let world = Arc::new(World::new());
        let ident = world.ident(1);
        world.ensure(&ident).await;
        world.stop(&ident).await;
        eventually("its launcher to be gone", async || world.shims(&ident).is_empty()).await;
        // A start that a stop replaced: its launcher is on its way to the turn, and slow.
        let turn = fs::File::open(world.folder(&ident)).unwrap();
        turn.lock().unwrap();
        let launch = {
            let (world, ident) = (Arc::clone(&world), ident.clone());
            tokio::spawn(async move { world.try_runtime(&ident, &["sleep", "3600"]).await })
        };
        eventually("the launcher to wait", async || !world.shims(&ident).is_empty()).await;
        let shim = world.shims(&ident)[0];
        world::signal(shim, Signal::STOP);
        drop(turn);
        world.stop(&ident).await;
        world::signal(shim, Signal::CONT);
        let outcome = launch.await.unwrap();
        assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
        assert!(world.programs(&ident).is_empty());
        world.until(&ident, RuntimeState::Stopped).await;
    });
}

#[test]
fn a_start_while_the_program_is_stopping_starts_another() {
    on_two_threads(async {
        let world = Arc::new(World::new());
        let ident = world.ident(1);
        world.ensure_base(&ident).await;
        let command =
            ["bash", "-c", "trap 'echo asked; sleep 0.3; exit' TERM; echo ready; while :; do sleep 0.01; done"];
        assert!(matches!(world.try_runtime(&ident, &command).await, Outcome::Done(_)));
        eventually("the trap to be set", async || world.log(&ident).contains("ready")).await;
        let stop = {
            let (world, ident) = (Arc::clone(&world), ident.clone());
            tokio::spawn(async move { world.stop(&ident).await })
        };
        eventually("it to be asked", async || world.log(&ident).contains("asked")).await;
        let outcome = world.try_runtime(&ident, &command).await;
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        stop.await.unwrap();
        world.until(&ident, RuntimeState::Running).await;
        assert_eq!(
            world.record(&ident)["launch"],
            2,
            "the one that was asked to stop is not taken for the one to start"
        );
    });
}

#[test]
fn a_program_listens_where_it_is_told_and_sees_no_secret_of_the_server() {
    on_two_threads(async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let world = World::new();
        let ident = world.ident(1);
        world.ensure_base(&ident).await;
        let this = std::env::current_exe().unwrap();
        let command = [this.to_str().unwrap(), "a_program_that_listens", "--exact", "--nocapture"];
        let made = match world.try_runtime(&ident, &command).await {
            Outcome::Done(made) => made,
            other => panic!("{other:?}"),
        };
        assert_eq!(made.runtime, Some(RuntimeState::Starting));
        let endpoint = world.provider.endpoint(&[made.resource]).unwrap().0;
        let address = endpoint.strip_prefix("http://").unwrap().to_owned();
        world.until(&ident, RuntimeState::Running).await;
        eventually("the program to listen", async || tokio::net::TcpStream::connect(&address).await.is_ok()).await;
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"hello\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.trim_end(), format!("{} hi", ident.instance));
    });
}

#[test]
fn a_port_stays_over_restarts_unless_a_stranger_takes_it() {
    on_two_threads(async {
        let world = World::new();
        let ident = world.ident(1);
        world.ensure(&ident).await;
        let first = world.record(&ident)["port"].as_u64().unwrap();
        world.stop(&ident).await;
        world.ensure_runtime(&ident).await;
        assert_eq!(world.record(&ident)["port"], first);
        world.stop(&ident).await;
        let _stranger = std::net::TcpListener::bind(("127.0.0.1", u16::try_from(first).unwrap())).unwrap();
        world.ensure_runtime(&ident).await;
        assert_ne!(world.record(&ident)["port"], first);
        let reserved = || fs::read_dir(world.data_dir().join("ports")).unwrap().count();
        assert_eq!(reserved(), 1);
        world.remove(&ident).await;
        assert_eq!(reserved(), 0);
    });
}

#[test]
fn the_volume_outlives_the_runtime_and_goes_with_the_storage() {
    on_two_threads(async {
        let world = World::new();
        let ident = world.ident(1);
        world.ensure(&ident).await;
        let note = world.folder(&ident).join("volume/note");
        let script = "echo kept > note; mkdir deep; chmod 000 deep; exec sleep 3600";
        world.stop(&ident).await;
        assert!(matches!(world.try_runtime(&ident, &["sh", "-c", script]).await, Outcome::Done(_)));
        eventually("the note", async || fs::read_to_string(&note).is_ok_and(|text| text == "kept\n")).await;
        world.destroy(&ident, ResourceKind::Runtime).await;
        assert!(note.exists());
        world.destroy(&ident, ResourceKind::Storage).await;
        assert!(!world.folder(&ident).join("volume").exists());
        let seen = world.provider.observe(&ident).await.unwrap();
        assert_eq!(seen.found.len(), 1, "only the base is left: {seen:?}");
        world.remove(&ident).await;
    });
}

#[test]
fn a_program_whose_volume_is_gone_is_not_started_without_it() {
    on_two_threads(async {
        let world = World::new();
        let ident = world.ident(1);
        world.ensure(&ident).await;
        let kept = world.data_dir().join("kept");
        fs::rename(world.volume(&ident), &kept).unwrap();
        let storage =
            Resource { kind: ResourceKind::Storage, id: ident.name.clone(), region: None, handle: String::new() };
        let started = || async {
            let blueprint = world::blueprint(&["sleep", "3600"]);
            let order = Order { ident: &ident, blueprint: &blueprint, resources: std::slice::from_ref(&storage) };
            [world.provider.start(&order).await, world.provider.restart(&order).await]
        };
        for refused in started().await {
            let Outcome::Rejected(Rejection { detail, .. }) = &refused else { panic!("{refused:?}") };
            assert!(detail.contains("is gone"), "{detail}");
        }
        assert_eq!(world.programs(&ident).len(), 1, "what runs is not stopped for it");
        fs::rename(&kept, world.volume(&ident)).unwrap();
        for done in started().await {
            assert!(matches!(done, Outcome::Done(_)), "{done:?}");
        }
        world.remove(&ident).await;
    });
}

#[test]
fn followed_logs_end_with_their_program() {
    on_two_threads(async {
        let world = World::new();
        let ident = world.ident(1);
        world.ensure_base(&ident).await;
        let gate = world.data_dir().join("gate");
        let script =
            format!("seq 1 10; while [ ! -e {} ]; do sleep 0.01; done; echo and out; printf end >&2", gate.display());
        assert!(matches!(world.try_runtime(&ident, &["sh", "-c", &script]).await, Outcome::Done(_)));
        eventually("ten lines", async || world.log(&ident).lines().count() == 10).await;
        let mut reader = world.provider.logs(&ident, LogQuery { tail: 2, follow: true }).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), b"9\n10\n");
        // Whoever gives up waiting loses nothing.
        assert!(tokio::time::timeout(Duration::from_millis(1), reader.next()).await.is_err());
        fs::write(&gate, "").unwrap();
        let mut rest = Vec::new();
        while let Some(piece) = reader.next().await {
            rest.extend(piece);
        }
        let rest = String::from_utf8(rest).unwrap();
        let lines: BTreeSet<_> = rest.lines().collect();
        assert_eq!(lines, BTreeSet::from(["and out", "end"]));
        let mut reader = world.provider.logs(&ident, LogQuery { tail: 100, follow: false }).await.unwrap();
        assert_eq!(reader.next().await.unwrap().split(|byte| *byte == b'\n').count(), 13);
        assert_eq!(reader.next().await, None);
        assert!(world.provider.logs(&world.ident(2), LogQuery { tail: 1, follow: false }).await.is_err());
    });
}

#[test]
fn a_folder_with_our_name_and_nothing_else_is_never_touched() {
    on_two_threads(async {
        let world = World::new();
        let ident = world.ident(1);
        let folder = world.folder(&ident);
        fs::create_dir_all(folder.join("volume")).unwrap();
        fs::write(folder.join("volume/precious"), "").unwrap();
        let refused = |outcome: Outcome<()>| match outcome {
            Outcome::Rejected(rejection) => assert_eq!(rejection.class, RejectionClass::ConflictForeign),
            other => panic!("{other:?}"),
        };
        refused(world.try_runtime(&ident, &["true"]).await.map(drop));
        refused(world.provider.seal(&ident).await);
        for kind in ResourceKind::ALL {
            refused(world.try_destroy(&ident, kind).await);
        }
        assert!(folder.join("volume/precious").exists());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert!(world.provider.observe(&ident).await.unwrap().foreign().is_some());
    });
}

#[test]
fn a_launcher_that_cannot_be_started_or_dies_is_told_apart() {
    on_two_threads(async {
        let mut world = World::new();
        let ident = world.ident(1);
        world.ensure_base(&ident).await;
        world.use_launcher("/no/such/launcher", &[]);
        assert!(matches!(world.try_runtime(&ident, &["true"]).await, Outcome::NotSent(_)));
        world.use_launcher("true", &[]);
        assert!(matches!(world.try_runtime(&ident, &["true"]).await, Outcome::Unknown(_)));
        world.use_launcher("echo", &["{\"surprising\":1}"]);
        assert!(matches!(world.try_runtime(&ident, &["true"]).await, Outcome::Unknown(_)));
    });
}
