//! Volumes: names mean nothing, a region is for life, and one machine at a time.

use serde::Deserialize;
use serde_json::{Value, json};

use super::make::no_room;
use super::view::time;
use super::{Due, Kind, Millis, World};
use crate::answer::Answer;
use crate::call::Call;

/// The longest name (the published document).
const NAME_MAX: usize = 30;
/// The size where none is asked for, and the largest. Gigabytes.
const SIZE_DEFAULT: u64 = 3;
const SIZE_MAX: u64 = 500;

#[derive(Debug)]
pub(super) struct Volume {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) region: String,
    pub(super) size_gb: u64,
    encrypted: bool,
    snapshot_retention: u64,
    auto_backup: bool,
    /// Deleted, and still listed.
    pub(super) going: bool,
    pub(super) attached: Option<String>,
    pub(super) created: Millis,
}

#[derive(Deserialize)]
struct Asked {
    name: String,
    region: Option<String>,
    size_gb: Option<u64>,
    encrypted: Option<bool>,
    snapshot_retention: Option<u64>,
    auto_backup_enabled: Option<bool>,
}

#[derive(Deserialize)]
struct Update {
    snapshot_retention: Option<u64>,
    auto_backup_enabled: Option<bool>,
}

#[derive(Deserialize)]
struct Extend {
    size_gb: u64,
}

impl Volume {
    pub(super) fn state(&self) -> &'static str {
        if self.going { "pending_destroy" } else { "created" }
    }

    pub(super) fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "state": self.state(),
            "size_gb": self.size_gb,
            "region": self.region,
            "zone": "flysim",
            "encrypted": self.encrypted,
            "attached_machine_id": self.attached,
            "attached_alloc_id": Value::Null,
            "created_at": time(self.created),
            "snapshot_retention": self.snapshot_retention,
            "auto_backup_enabled": self.auto_backup,
            "host_status": "ok",
        })
    }
}

impl World {
    /// Also what is on its way out, with its state: a client has to look at it.
    pub(super) fn list_volumes(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let volumes = self.app(org, &call.app)?.volumes.values().map(Volume::shown);
        Ok(Answer::json(200, Value::from(volumes.collect::<Vec<_>>())))
    }

    pub(super) fn create_volume(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        self.app_to_fill(org, &call.app)?;
        let asked: Asked = call.parse()?;
        let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if asked.name.is_empty() || asked.name.len() > NAME_MAX || !asked.name.bytes().all(fine) {
            return Err(Answer::error(
                422,
                "invalid_argument: a volume is named by at most 30 lowercase letters, digits and underscores",
            ));
        }
        let region = self.region(asked.region)?;
        let size_gb = asked.size_gb.unwrap_or(SIZE_DEFAULT);
        if !(1..=SIZE_MAX).contains(&size_gb) {
            return Err(Answer::error(422, "invalid_argument: size_gb is from 1 to 500"));
        }
        if self.options.full_regions.contains(&region) {
            return Err(no_room(&region));
        }
        let volume = Volume {
            id: self.id("vol_", b"0123456789abcdefghijklmnopqrstuvwxyz", 17),
            name: asked.name,
            region,
            size_gb,
            encrypted: asked.encrypted.unwrap_or(true),
            snapshot_retention: asked.snapshot_retention.unwrap_or(5),
            auto_backup: asked.auto_backup_enabled.unwrap_or(true),
            going: false,
            attached: None,
            created: self.now,
        };
        let shown = volume.shown();
        self.add_volume(&call.app, volume);
        Ok(Answer::json(200, shown))
    }

    pub(super) fn add_volume(&mut self, app: &str, volume: Volume) {
        self.ledger.made(Kind::Volume, &volume.id, app, &volume.name, self.now);
        if let Some(app) = self.apps.get_mut(app) {
            app.volumes.insert(volume.id.clone(), volume);
        }
    }

    /// A small volume, whoever asks for it.
    pub(super) fn plain_volume(&mut self, name: &str, region: &str) -> Volume {
        Volume {
            id: self.id("vol_", b"0123456789abcdefghijklmnopqrstuvwxyz", 17),
            name: name.to_owned(),
            region: region.to_owned(),
            size_gb: 1,
            encrypted: true,
            snapshot_retention: 5,
            auto_backup: true,
            going: false,
            attached: None,
            created: self.now,
        }
    }

    pub(super) fn get_volume(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        Ok(Answer::json(200, self.volume(org, call)?.shown()))
    }

    pub(super) fn update_volume(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let update: Update = call.parse()?;
        let volume = self.volume_to_change(org, call)?;
        volume.snapshot_retention = update.snapshot_retention.unwrap_or(volume.snapshot_retention);
        volume.auto_backup = update.auto_backup_enabled.unwrap_or(volume.auto_backup);
        Ok(Answer::json(200, volume.shown()))
    }

    pub(super) fn extend_volume(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let extend: Extend = call.parse()?;
        let volume = self.volume_to_change(org, call)?;
        if extend.size_gb < volume.size_gb || extend.size_gb > SIZE_MAX {
            return Err(Answer::error(422, "invalid_argument: a volume only grows, up to 500 GB"));
        }
        volume.size_gb = extend.size_gb;
        Ok(Answer::json(200, json!({ "volume": volume.shown(), "needs_restart": volume.attached.is_some() })))
    }

    /// 412 while a machine holds it, in the words of the live API.
    pub(super) fn delete_volume(&mut self, org: &str, call: &Call) -> Result<Answer, Answer> {
        let volume = self.volume_to_change(org, call)?;
        if let Some(holder) = &volume.attached {
            let error = format!("failed_precondition: volume is currently bound to machine: {holder}");
            return Err(Answer::error(412, error));
        }
        volume.going = true;
        let shown = volume.shown();
        let wait = self.options.volume_gone;
        if wait.is_zero() {
            self.drop_volume(&call.app, &call.id);
        } else {
            self.later(wait, Due::Volume { app: call.app.clone(), id: call.id.clone() });
        }
        Ok(Answer::json(200, shown))
    }

    pub(super) fn drop_volume(&mut self, app: &str, id: &str) {
        let gone = self.apps.get_mut(app).and_then(|app| app.volumes.remove(id));
        if gone.is_some() {
            self.ledger.gone(id, self.now);
        }
    }

    /// Who holds a volume from now on.
    pub(super) fn attach(&mut self, app: &str, volume: Option<&str>, machine: Option<&str>) {
        let volumes = self.apps.get_mut(app).map(|app| &mut app.volumes);
        if let Some(volume) = volumes.zip(volume).and_then(|(volumes, id)| volumes.get_mut(id)) {
            volume.attached = machine.map(str::to_owned);
        }
    }

    fn volume(&self, org: &str, call: &Call) -> Result<&Volume, Answer> {
        self.app(org, &call.app)?.volumes.get(&call.id).ok_or_else(|| Answer::error(404, "volume not found"))
    }

    /// One that is not on its way out.
    fn volume_to_change(&mut self, org: &str, call: &Call) -> Result<&mut Volume, Answer> {
        self.volume(org, call)?;
        let volumes = self.apps.get_mut(&call.app).map(|app| &mut app.volumes);
        let volume = volumes.and_then(|volumes| volumes.get_mut(&call.id)).filter(|volume| !volume.going);
        volume.ok_or_else(|| Answer::error(404, "volume not found"))
    }
}
