//! What makes resources. An adapter is small and honest: it never retries, decides no policy, waits for nothing once a
//! resource has an id, and never turns "I do not know" into "no". Each of its calls answers within a time it knows.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use freehold_domain::ids::InstanceId;
use freehold_domain::plan::Capabilities;
use freehold_domain::resource::{Observation, Outcome, Resource, RuntimeState};
use freehold_domain::route::Endpoint;

/// What every resource of an instance is tagged with. The MAC is over the other three, so a resource with our name and
/// without a valid MAC is somebody else's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tags {
    /// `freehold_install`: the installation.
    pub install: String,
    /// `freehold_instance`: the instance's id.
    pub instance: String,
    /// `freehold_owner`: the owner, hashed: 32 hexadecimal digits.
    pub owner: String,
    /// `freehold_mac`: HMAC-SHA256 over the three, 64 hexadecimal digits.
    pub mac: String,
}

impl Tags {
    /// The tags as names and values, in a fixed order.
    #[must_use]
    pub fn pairs(&self) -> [(&'static str, &str); 4] {
        [
            ("freehold_install", &self.install),
            ("freehold_instance", &self.instance),
            ("freehold_owner", &self.owner),
            ("freehold_mac", &self.mac),
        ]
    }
}

/// The provider-side name and tags of an instance: the same on every attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ident {
    /// The instance.
    pub instance: InstanceId,
    /// `fh-` and the instance's id without dashes: 35 characters.
    pub name: String,
    /// What its base is called, where it was not made here and has a name of its own.
    pub given: Option<String>,
    /// What its resources carry.
    pub tags: Tags,
}

/// What to run and how large, with secrets in the clear: never logged, never stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Blueprint {
    /// The program and its arguments; empty where the image says.
    pub command: Vec<String>,
    /// The image, for providers that run images.
    pub image: Option<String>,
    /// The environment, secrets included.
    pub env: BTreeMap<String, String>,
    /// Which names of the environment are secrets: where a provider has a better place for those, that is where they go.
    pub secrets: BTreeSet<String>,
    /// Memory limit, in MiB.
    pub memory_mb: u32,
    /// CPU limit, in thousandths of a core.
    pub cpu_millis: u32,
    /// Size of the volume, in GB; 0 for none.
    pub volume_gb: u32,
    /// The region to try, where the provider has regions.
    pub region: Option<String>,
}

impl std::fmt::Debug for Blueprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blueprint").field("image", &self.image).field("region", &self.region).finish_non_exhaustive()
    }
}

/// What a call is about.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Under which name and tags.
    pub ident: &'a Ident,
    /// What to run.
    pub blueprint: &'a Blueprint,
    /// What is on record, of each kind the instance's own first.
    pub resources: &'a [Resource],
}

/// A resource that a call made, or found made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The resource.
    pub resource: Resource,
    /// What the runtime is doing, where the resource is one.
    pub runtime: Option<RuntimeState>,
}

/// Something at a provider that was made elsewhere, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The base, the volume if there is one, and the runtime.
    pub resources: Vec<Resource>,
    /// What the runtime is doing.
    pub runtime: RuntimeState,
    /// Where it is, where the provider has regions.
    pub region: Option<String>,
    /// What it runs.
    pub image: Option<String>,
    /// The program and its arguments; empty where the image says.
    pub command: Vec<String>,
    /// Its environment, as far as the provider shows it.
    pub env: BTreeMap<String, String>,
    /// Its memory, in MiB; 0 where the provider does not say.
    pub memory_mb: u32,
    /// Its share of CPUs, in thousandths of a core; 0 where the provider does not say.
    pub cpu_millis: u32,
    /// The size of its volume, in GB; 0 where it has none.
    pub volume_gb: u32,
    /// The tags it carries, not yet verified.
    pub tags: Option<Tags>,
}

/// Why something at a provider cannot be taken over as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The provider takes nothing over.
    #[error("this provider takes nothing over that was made elsewhere")]
    Unsupported,
    /// There is no such thing.
    #[error("{0}")]
    Missing(String),
    /// It is not what an instance looks like, or somebody else's.
    #[error("{0}")]
    Refused(String),
    /// It cannot be seen.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

/// A reading call had no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider did not answer: {0}")]
pub struct Unanswered(pub String);

/// What a listed resource says whose it is, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It carries these tags.
    Tags(Tags),
    /// It can carry no tags, and its name is made of the instance's id: it is ours if the registry knows that instance.
    Name(InstanceId),
}

/// A resource that carries our install's tags, or a name that only we give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedResource {
    /// The resource.
    pub resource: Resource,
    /// What it says whose it is.
    pub claim: Claim,
}

/// One page of what carries our install's tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedPage {
    /// The resources.
    pub resources: Vec<OwnedResource>,
    /// How many things of the page could not be looked into. They are not gone, and the next pass asks again.
    pub unseen: u64,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// Which part of the logs to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// How many of the last lines to begin with.
    pub tail: usize,
    /// Whether to wait for more.
    pub follow: bool,
}

/// Logs that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogsUnavailable {
    /// The provider has none to give.
    #[error("this provider has no logs")]
    Unsupported,
    /// They cannot be read at the moment.
    #[error("the logs cannot be read: {0}")]
    Unreadable(String),
}

/// Logs as they are read. Dropping it ends the reading.
#[async_trait]
pub trait LogReader: Send {
    /// The next piece, whole lines; `None` at the end, which a followed log has only once its runtime is gone.
    async fn next(&mut self) -> Option<Vec<u8>>;
}

/// A provider.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What kind of provider it is: `process`, `docker`, `fly`.
    fn kind(&self) -> &'static str;

    /// What it can promise.
    fn capabilities(&self) -> Capabilities;

    /// Where to try when a request names no region, in order; empty where it has none.
    fn regions(&self) -> &[String] {
        &[]
    }

    /// Whether a blueprint can work at all, before anything is taken.
    ///
    /// # Errors
    /// What is wrong with it, in words for the caller.
    fn accepts(&self, blueprint: &Blueprint) -> Result<(), String>;

    /// Makes the container of everything else, or finds it made.
    async fn ensure_base(&self, order: &Order<'_>) -> Outcome<Made>;

    /// Makes the volume, or finds it made.
    async fn ensure_storage(&self, order: &Order<'_>) -> Outcome<Made>;

    /// Makes the runtime and starts it, or finds it made. Does not wait until it is ready.
    async fn ensure_runtime(&self, order: &Order<'_>) -> Outcome<Made>;

    /// Starts the runtime; "already up" is success.
    async fn start(&self, order: &Order<'_>) -> Outcome<Made>;

    /// Stops the runtime; "already down" is success.
    async fn stop(&self, order: &Order<'_>) -> Outcome<Made>;

    /// Stops the runtime and starts it.
    async fn restart(&self, order: &Order<'_>) -> Outcome<Made>;

    /// Makes the runtime run the blueprint from now on; `running` says whether it is to be up afterwards.
    async fn update(&self, order: &Order<'_>, running: bool) -> Outcome<Made>;

    /// Looks for everything that carries the ident, by name first and tags second.
    async fn observe(&self, ident: &Ident) -> Result<Observation, Unanswered>;

    /// Makes creation under the ident impossible from now on. `Done` only once that holds; what is there may stay.
    async fn seal(&self, ident: &Ident) -> Outcome<()>;

    /// Removes a resource; "gone" is success.
    async fn destroy(&self, ident: &Ident, resource: &Resource) -> Outcome<()>;

    /// Lists what carries the install's tags.
    async fn list_owned(&self, install: &str, page: Option<&str>) -> Result<OwnedPage, Unanswered>;

    /// Where the proxy sends traffic; `None` if these resources answer nobody.
    fn endpoint(&self, resources: &[Resource]) -> Option<Endpoint>;

    /// Reads what the instance wrote.
    async fn logs(&self, ident: &Ident, query: LogQuery) -> Result<Box<dyn LogReader>, LogsUnavailable>;

    /// Looks at something that was made elsewhere, by the name that its base has at the provider. Changes nothing.
    async fn survey(&self, name: &str) -> Result<Survey, Unfit> {
        let _ = name;
        Err(Unfit::Unsupported)
    }

    /// Puts an ident's tags on what was surveyed, which goes on running as it is; "carries them already" is success.
    /// What carries other tags, or was replaced since, is left as it is.
    async fn tag(&self, ident: &Ident, resources: &[Resource]) -> Outcome<()> {
        let (_, _) = (ident, resources);
        Outcome::NotSent(Unfit::Unsupported.to_string())
    }

    /// Removes what keeps up old seals that no late call can need any more, where a seal is kept up by something. Answers
    /// how many things it removed.
    async fn forget_seals(&self) -> Result<u64, Unanswered> {
        Ok(0)
    }
}
