//! `demo`: the promises, shown on a real server with real processes, and checked against the machine.
//!
//! It runs in a new folder, which stays, and starts this very program as the server, because that is killed in the
//! middle. What did not hold is the exit code.

mod processes;
mod scenes;
mod server;

use std::os::unix::fs::DirBuilderExt as _;
use std::time::Instant;

use clap::Args;
use freehold_api::client::{Client, Token};
use serde::Serialize;

use self::scenes::{Census, Crash, InFlight, Proxied, Race, Stampede, broken};
use self::server::{Place, Server};
use super::chain::{Scope, Verified, verify};
use super::{Context, OPERATOR_KEY_FILE};
use crate::api_key::chance_name;
use crate::config::{Secret, read_file};
use crate::exit::Failure;
use crate::output::{Output, say, word};
use crate::serve::Ending;

/// Where the server listens if it can: where the other commands look for one.
const USUAL_PORT: u16 = 7788;

/// How often ten provisions are begun, should they be done before the server can be killed in the middle of them.
const ROUNDS_MAX: usize = 5;

/// Take the tour: a stampede, a crash in the middle, a destroy that wins, on real processes.
#[derive(Debug, Args)]
#[command(after_help = "\
It makes a folder of its own and says where. Afterwards the server stays up until Ctrl-C, to be played with.
Exit code 1 if anything it promises did not hold.

Examples:
  freehold demo
  freehold demo --exit --json")]
pub(crate) struct Demo {
    /// End the server afterwards, and destroy its instances
    #[arg(long)]
    exit: bool,
}

/// What was seen.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    folder: String,
    server: String,
    key_file: String,
    stampede: Stampede,
    proxy: Proxied,
    crash: Crash,
    destroy: Race,
    processes: Census,
    audit: Verified,
    total_ms: u128,
}

/// The stage.
struct Tour {
    output: Output,
    began: Instant,
    place: Place,
    install: String,
    server: Server,
    client: Client,
    key: Secret,
}

impl Demo {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let output = context.output;
        let (place, install) = make_place()?;
        tell(output, &format!("freehold demo: a fresh server with real processes, in {}\n", place.folder.display()))?;
        let mut tour = Tour::begin(output, place, install).await?;
        match tour.show_unless_asked_to_end().await {
            Ok(report) => {
                tour.close(&report)?;
                if !self.exit {
                    tour.stay().await?;
                }
                tour.clean_up().await
            }
            Err(failure) => {
                let hint = format!("the server's log is {}", tour.place.log().display());
                // What did not hold is the news; a mess that stays is told beside it.
                if let Err(mess) = tour.clean_up().await {
                    mess.lines.iter().for_each(|line| say(line));
                }
                Err(Failure { hint: failure.hint.or(Some(hint)), ..failure })
            }
        }
    }
}

impl Tour {
    async fn begin(output: Output, place: Place, install: String) -> Result<Self, Failure> {
        let began = Instant::now();
        let server = Server::start_at_best(&place, &format!("127.0.0.1:{USUAL_PORT}")).await?;
        let key =
            read_file(&place.data().join(OPERATOR_KEY_FILE)).map_err(|error| Failure::failed(error.to_string()))?;
        let client = client_of(&server, &key)?;
        let tour = Self { output, began, place, install, server, client, key };
        tour.tell(&format!("the server answers {} after its start", tour.about_server()))?;
        Ok(tour)
    }

    fn about_server(&self) -> String {
        let Server { address, ready_after, .. } = &self.server;
        format!("at http://{address} (pid {}), {} ms", self.server.pid(), ready_after.as_millis())
    }

    /// Shows everything, unless somebody is tired of it.
    async fn show_unless_asked_to_end(&mut self) -> Result<Report, Failure> {
        let mut ending = match Ending::watch() {
            Ok(ending) => ending,
            Err(error) => return Err(error.into()),
        };
        tokio::select! {
            shown = self.show() => shown,
            by = ending.asked() => Err(Failure::failed(format!("the demo was ended by {by}"))),
        }
    }

    async fn show(&mut self) -> Result<Report, Failure> {
        self.tell(&format!("stampede: {} clients create for user:alice at once", scenes::STAMPEDE))?;
        let stampede = scenes::stampede(&self.client, "user:alice").await?;
        let Stampede { answered_ms, running_ms, instance_id, .. } = &stampede;
        self.add(&format!("1 was admitted: {instance_id}"))?;
        self.add(&format!("{} got 409 with that id; all were answered within {answered_ms} ms", scenes::STAMPEDE - 1))?;
        self.add(&format!("it runs {running_ms} ms after it was asked for"))?;

        let proxy = scenes::proxied(&self.server.address, self.key.expose(), *instance_id, &self.install).await?;
        self.tell(&format!("proxy: {} is answered by process {} in {} ms", proxy.url, proxy.pid, proxy.answered_ms))?;

        let crash = self.crash().await?;

        self.tell("destroy: user:carol's instance is destroyed while it is being made")?;
        let destroy = scenes::destroy_wins(&self.client, "user:carol", &self.install).await?;
        let ended = word(destroy.provision);
        self.add(&format!(
            "it is gone after {} ms; its provision is {ended}, its route is 410, no process is left",
            destroy.destroyed_ms
        ))?;

        let processes = scenes::census(&self.client, &self.install).await?;
        let Census { contexts, instances, processes: running } = &processes;
        self.tell(&format!("process table: {contexts} contexts, {instances} instances, {running} processes"))?;
        self.add("every instance has exactly one process, and every process an instance")?;

        let audit = verify(&self.client, Scope::All).await?;
        if let Some(line) = &audit.broken {
            return Err(broken(format!(
                "the audit chain of {} breaks at line {}: {}",
                line.owner, line.line, line.why
            )));
        }
        self.tell(&format!("audit: {} lines of {} contexts, every hash recomputed", audit.events, audit.contexts))?;
        Ok(Report {
            ok: true,
            folder: self.place.folder.display().to_string(),
            server: format!("http://{}", self.server.address),
            key_file: self.place.data().join(OPERATOR_KEY_FILE).display().to_string(),
            stampede,
            proxy,
            crash,
            destroy,
            processes,
            audit,
            total_ms: self.began.elapsed().as_millis(),
        })
    }

    /// Kills the server in the middle of provisions, and starts it again.
    async fn crash(&mut self) -> Result<Crash, Failure> {
        self.tell(&format!(
            "crash: {} owners create, and the server is killed with -9 in the middle",
            scenes::IN_FLIGHT
        ))?;
        let mut in_the_middle = None;
        for round in 1..=ROUNDS_MAX {
            in_the_middle = InFlight::begin(&self.client, round).await?;
            if in_the_middle.is_some() {
                break;
            }
            self.add("all of them were done already; once more")?;
        }
        let in_flight = in_the_middle.ok_or_else(|| broken("no server could be killed in the middle of its work"))?;
        let address = self.server.address.clone();
        let killed = self.server.pid();
        self.server.kill().await?;
        let since = Instant::now();
        self.server = Server::start_at_best(&self.place, &address).await?;
        self.client = client_of(&self.server, &self.key)?;
        self.add(&format!("process {killed} is killed; the server answers {} after its start", self.about_server()))?;
        let crash = in_flight.settle(&self.client, since).await?;
        let Crash { provisions, taken_over, finished, cleaned, settled_ms } = &crash;
        self.add(&format!("{taken_over} of {provisions} were cut in the middle and taken over"))?;
        self.add(&format!("{finished} finished, {cleaned} cleaned up, {settled_ms} ms after the kill"))?;
        self.add(&format!("asked again with their keys, the {finished} give the same answers"))?;
        Ok(crash)
    }

    fn close(&self, report: &Report) -> Result<(), Failure> {
        if self.output.json {
            return self.output.json(report);
        }
        self.output.text(&format!("\nEverything held, in {:.1} s.", self.began.elapsed().as_secs_f64()))
    }

    /// Leaves the server to whoever wants to play with it, until they are done.
    async fn stay(&mut self) -> Result<(), Failure> {
        let address = &self.server.address;
        let config = self.place.config().display().to_string();
        let elsewhere = if address.ends_with(&format!(":{USUAL_PORT}")) {
            String::new()
        } else {
            format!(" --server http://{address}")
        };
        tell(
            self.output,
            &format!(
                "The API is at http://{address}; the operator's key is in {key}.\n\n\
                 \x20 export KEY=$(cat {key})\n\
                 \x20 curl -H \"Authorization: Bearer $KEY\" http://{address}/v1/instances\n\
                 \x20 curl -H \"Authorization: Bearer $KEY\" -d '{{\"owner\":\"user:dave\"}}' -H 'Content-Type: application/json' http://{address}/v1/instances\n\
                 \x20 curl http://{address}/openapi.json\n\
                 \x20 {program} instance list --config {config}{elsewhere}\n\n\
                 The server stays up. Ctrl-C ends it and destroys its instances.",
                key = self.place.data().join(OPERATOR_KEY_FILE).display(),
                program = std::env::args().next().unwrap_or_else(|| "freehold".to_owned()),
            ),
        )?;
        let mut ending = Ending::watch()?;
        tokio::select! {
            _ = ending.asked() => Ok(()),
            status = self.server.ended() => Err(Failure::failed(format!("the server ended by itself ({})", status?))
                .hint(format!("its log is {}", self.place.log().display()))),
        }
    }

    /// Cleans up, unless somebody cannot wait for it.
    async fn clean_up(self) -> Result<(), Failure> {
        let mut ending = Ending::watch()?;
        let folder = self.place.folder.display().to_string();
        tokio::select! {
            cleaned = self.clean_up_all() => cleaned,
            by = ending.asked() => Err(Failure::failed(format!("a second {by}: instances of the demo may still run"))
                .hint(format!("`freehold serve --config {folder}/freehold.toml` finds them again"))),
        }
    }

    /// Destroys what runs, and ends the server. The folder stays.
    async fn clean_up_all(mut self) -> Result<(), Failure> {
        if !self.server.is_up() {
            // Instances outlive their server; only a server ends them.
            self.server = Server::start_at_best(&self.place, &self.server.address.clone()).await?;
            self.client = client_of(&self.server, &self.key)?;
        }
        let destroyed = scenes::destroy_all(&self.client, &self.install).await;
        let ended = self.server.end(&self.place).await;
        let count = destroyed?;
        ended?;
        let folder = self.place.folder.display();
        tell(self.output, &format!("\n{count} instances are destroyed and the server has ended; {folder} stays."))
    }

    fn tell(&self, line: &str) -> Result<(), Failure> {
        tell(self.output, &format!("{:6.2} s  {line}", self.began.elapsed().as_secs_f64()))
    }

    fn add(&self, line: &str) -> Result<(), Failure> {
        tell(self.output, &format!("          {line}"))
    }
}

fn client_of(server: &Server, key: &Secret) -> Result<Client, Failure> {
    Ok(Client::new(&format!("http://{}", server.address), Some(Token::new(key.expose())?))?)
}

/// The story is what this command prints; beside JSON it is talk.
fn tell(output: Output, text: &str) -> Result<(), Failure> {
    if output.json {
        say(text);
        return Ok(());
    }
    output.text(text)
}

/// Makes the demo's folder, with a configuration for its server.
fn make_place() -> Result<(Place, String), Failure> {
    let name = chance_name()?;
    let folder = std::env::temp_dir().join(format!("freehold-demo-{name}"));
    std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| {
        Failure::failed(format!("cannot make {}: {}", folder.display(), crate::config::plain(&error)))
            .hint("TMPDIR names another place for it")
    })?;
    let place = Place { folder };
    let install = format!("demo-{name}");
    // A text in TOML is a text in JSON, but for what no path here contains.
    let data_dir = serde_json::json!(place.data().to_string_lossy());
    let config = format!(
        "# The demo's server. Everything else is as it is without a configuration.\ndata_dir = {data_dir}\ninstall_id = \"{install}\"\n"
    );
    std::fs::write(place.config(), config)?;
    Ok((place, install))
}
