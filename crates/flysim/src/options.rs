//! What a simulated Fly is like before anything goes wrong in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::fault::Rule;

/// How the simulated Fly behaves. Start from `Options::default()`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen: a loopback address, because the control routes have no lock of their own. Default
    /// `127.0.0.1:0`, a free port.
    pub listen: SocketAddr,
    /// Bearer tokens and the slug of the organisation that each belongs to. Default: `flysim` for `personal`.
    pub tokens: BTreeMap<String, String>,
    /// From `created` to `started` (and to `stopped`, where launching is skipped). 0: at once. Default 50 ms.
    pub boot: Duration,
    /// From `stopping` to `stopped`, and from `destroying` to `destroyed`. 0: at once. Default 20 ms.
    pub halt: Duration,
    /// How long a deleted app is still there, refusing creates, before it answers 404. 0: at once. Default 50 ms.
    pub app_gone: Duration,
    /// How long a deleted volume is still listed as `pending_destroy`. 0: at once. Default 50 ms.
    pub volume_gone: Duration,
    /// How long a destroyed machine can still be read as `destroyed` before it answers 404. Default 60 s.
    pub remember: Duration,
    /// The regions that exist; the first one is taken when a call names none.
    pub regions: Vec<String>,
    /// Regions without room: creates in them are refused for capacity.
    pub full_regions: BTreeSet<String>,
    /// Regions in which the hosts of volumes are full: a machine on an existing volume is refused there, while a
    /// machine without one, and another volume, are not.
    pub full_volume_hosts: BTreeSet<String>,
    /// Images that start like one of these do not exist. Default: `missing/`.
    pub missing_images: Vec<String>,
    /// The private address of every machine. Default: an `fdaa:` address of its own.
    pub private_ip: Option<String>,
    /// Whether the published rate limits are enforced. Default: no.
    pub rate_limits: bool,
    /// Rules that are there from the start.
    pub rules: Vec<Rule>,
    /// Where ids come from: the same seed and the same calls give the same ids.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tokens: BTreeMap::from([("flysim".to_owned(), "personal".to_owned())]),
            boot: Duration::from_millis(50),
            halt: Duration::from_millis(20),
            app_gone: Duration::from_millis(50),
            volume_gone: Duration::from_millis(50),
            remember: Duration::from_secs(60),
            regions: ["ams", "arn", "cdg", "fra", "gru", "iad", "lhr", "nrt", "ord", "sin", "sjc", "syd"]
                .map(str::to_owned)
                .to_vec(),
            full_regions: BTreeSet::new(),
            full_volume_hosts: BTreeSet::new(),
            missing_images: vec!["missing/".to_owned()],
            private_ip: None,
            rate_limits: false,
            rules: Vec::new(),
            seed: 0,
        }
    }
}

impl Options {
    /// A Fly in which everything happens at once: no boot, no halt, nothing lingers.
    #[must_use]
    pub fn instant() -> Self {
        Self {
            boot: Duration::ZERO,
            halt: Duration::ZERO,
            app_gone: Duration::ZERO,
            volume_gone: Duration::ZERO,
            ..Self::default()
        }
    }
}
