//! From what an engine answers to what that means, as one table.
//!
//! The first row that fits decides. What no row names is [`Meaning::Unknown`]. Every row has the words of a real answer,
//! measured at Docker 20.10 or Podman 4.3 where it does not say otherwise, and a test per row holds it against them.

use Call::{
    Kill, MakeContainer, MakeImage, MakeVolume, Pull, RemoveContainer, RemoveVolume, Rename, Restart, Start, Stop,
    Unpause,
};
use Meaning::{
    Done, Foreign, Gone, InUse, Invalid, NameTaken, NoImage, NotSent, Running, Stuck, Unauthorized, UnderWay,
};

/// A call that changes something at an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `POST /volumes/create`
    MakeVolume,
    /// `POST /containers/create`
    MakeContainer,
    /// `POST /containers/{id}/start`
    Start,
    /// `POST /containers/{id}/unpause`
    Unpause,
    /// `POST /containers/{id}/kill`
    Kill,
    /// `POST /containers/{id}/stop`
    Stop,
    /// `POST /containers/{id}/restart`
    Restart,
    /// `POST /containers/{id}/rename`
    Rename,
    /// `DELETE /containers/{id}`
    RemoveContainer,
    /// `DELETE /volumes/{name}`
    RemoveVolume,
    /// `POST /images/create?fromImage=`, and what comes inside its stream, which counts as 500
    Pull,
    /// `POST /images/create?fromSrc=-`
    MakeImage,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is as it was asked to be.
    Done,
    /// What it was about is not there.
    Gone,
    /// The name is in use.
    NameTaken,
    /// The image is not at the engine.
    NoImage,
    /// Something else uses it; nothing was changed.
    InUse,
    /// It runs, and the call is for what does not; nothing was changed.
    Running,
    /// It will not start any more, and has to make room for another one.
    Stuck,
    /// Somebody else is at it.
    UnderWay,
    /// Surely refused, and always will be.
    Invalid,
    /// Surely refused: it is somebody else's.
    Foreign,
    /// Surely refused: the engine, or what guards it, does not know us.
    Unauthorized,
    /// Surely nothing of the instance was changed, and it may go better later.
    NotSent,
    /// Nothing is proven.
    Unknown,
}

/// One row.
struct Row {
    calls: &'static [Call],
    status: u16,
    /// What the message contains, in lower case; empty for any.
    says: &'static str,
    meaning: Meaning,
    /// A real message, which the test holds against the row.
    #[cfg_attr(not(test), expect(dead_code, reason = "the row's evidence, read by its test and by people"))]
    message: &'static str,
}

const fn row(calls: &'static [Call], status: u16, says: &'static str, meaning: Meaning, message: &'static str) -> Row {
    Row { calls, status, says, meaning, message }
}

const ALL: &[Call] = &[
    MakeVolume,
    MakeContainer,
    Start,
    Unpause,
    Kill,
    Stop,
    Restart,
    Rename,
    RemoveContainer,
    RemoveVolume,
    Pull,
    MakeImage,
];

const ON_A_CONTAINER: &[Call] = &[Start, Unpause, Kill, Stop, Restart, Rename, RemoveContainer];

const TABLE: &[Row] = &[
    // Success, and what is success because it was so before.
    row(&[MakeVolume, MakeContainer], 201, "", Done, ""),
    row(&[Pull, MakeImage], 200, "", Done, ""),
    row(&[Start, Unpause, Kill, Stop, Restart, Rename, RemoveContainer, RemoveVolume], 204, "", Done, ""),
    row(&[Start, Stop], 304, "", Done, ""),
    // Whoever answers does not let us in. An engine has no accounts; what stands before it may.
    row(ALL, 401, "", Unauthorized, "authorization required"),
    row(&[Pull], 403, "", Invalid, "denied: requested access to the resource is denied"),
    row(ALL, 403, "", Unauthorized, "authorization denied by plugin"),
    // The engine was replaced by another version while we ran. The next call asks for its version.
    row(ALL, 400, "client version", NotSent, "client version 1.99 is too new. Maximum supported API version is 1.41"),
    // Making.
    row(
        &[MakeVolume],
        400,
        "",
        Invalid,
        "create v: volume name is too short, names should be at least two alphanumeric characters",
    ),
    row(&[MakeVolume], 409, "", Foreign, "create v: conflict: volume name must be unique"),
    row(
        &[MakeVolume],
        500,
        "volume already exists",
        NameTaken,
        "adding volume to state: name v is in use: volume already exists",
    ),
    row(&[MakeContainer], 400, "", Invalid, "Minimum memory limit allowed is 6MB"),
    row(&[MakeContainer], 404, "image", NoImage, "No such image: nosuch:9"),
    row(&[MakeContainer], 404, "image", NoImage, "no such image: localhost/nosuch:9: image not known"),
    // What Podman was about to import or fetch when it was killed.
    row(
        &[MakeContainer],
        500,
        "layer not known",
        NoImage,
        "reading information about layer \"3a191f0c47d1688e44d5b4c60f16f034c99847e14f02db4adde526ae4682fab7\": layer not known",
    ),
    row(
        &[MakeContainer, Rename],
        409,
        "already in use",
        NameTaken,
        "Conflict. The container name \"/x\" is already in use by container \"2547\". You have to remove (or rename) that container to be able to reuse that name.",
    ),
    row(
        &[MakeContainer, Rename],
        500,
        "already in use",
        NameTaken,
        "container create: creating container storage: the container name \"x\" is already in use by 1b21. You have to remove that container to be able to reuse that name: that name is already in use",
    ),
    row(
        &[MakeContainer],
        500,
        "container-init binary not found",
        Invalid,
        "container create: container-init binary not found on the host: stat /usr/libexec/podman/catatonit: no such file or directory",
    ),
    row(
        &[MakeContainer],
        500,
        "network not found",
        Invalid,
        "container create: unable to find network with name or ID nosuch: network not found",
    ),
    row(
        &[MakeContainer],
        500,
        "normalizing name for compat api",
        Invalid,
        "normalizing image: normalizing name for compat API: repository name must be lowercase",
    ),
    row(
        &[Start, Restart],
        400,
        "executable file not found",
        Invalid,
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH: unknown",
    ),
    row(
        &[Start, Restart],
        400,
        "no such file or directory",
        Invalid,
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/nosuch\": stat /nosuch: no such file or directory: unknown",
    ),
    row(
        &[Start, Restart],
        400,
        "permission denied",
        Invalid,
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/etc/passwd\": permission denied: unknown",
    ),
    row(
        &[Start, Restart],
        500,
        "a command that was not found",
        Invalid,
        "runc: runc create failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH: OCI runtime attempted to invoke a command that was not found",
    ),
    row(
        &[Start, Restart],
        500,
        "oci permission denied",
        Invalid,
        "runc: runc create failed: unable to start container process: exec: \"/etc/passwd\": permission denied: OCI permission denied",
    ),
    row(&[Start, Restart], 404, "network", Invalid, "network nosuch not found"),
    row(
        &[Start, Restart],
        500,
        ": already exists",
        Stuck,
        "task b30b3bf60087b7226f3e0c2d2e018d2cd8a1428afcf83e63ec620c78ce36b4e2: already exists",
    ),
    row(&[Start, Restart], 500, "id already in use", Stuck, "id already in use"),
    row(
        &[Start, Restart],
        500,
        "cannot listen on the tcp port",
        Stuck,
        "cannot listen on the TCP port: listen tcp4 127.0.0.1:39363: bind: address already in use",
    ),
    row(
        &[Start, Restart],
        500,
        "` failed: exit status",
        Stuck,
        "`/usr/bin/runc start 9e8d3ce4a470476575b18ce9f23ee38483c1ea09210be8bf9ae90e00af0784a4` failed: exit status 1",
    ),
    // Gone, and on its way to that.
    row(ON_A_CONTAINER, 404, "container", Gone, "No such container: x"),
    row(ON_A_CONTAINER, 404, "container", Gone, "no container with name or ID \"x\" found: no such container"),
    row(&[RemoveVolume], 404, "volume", Gone, "get v: no such volume"),
    row(&[RemoveVolume], 404, "volume", Gone, "no volume with name \"v\" found: no such volume"),
    row(&[RemoveContainer], 409, "already in progress", UnderWay, "removal of container x is already in progress"),
    row(
        &[Start, Stop, Restart],
        409,
        "marked for removal",
        UnderWay,
        "container is marked for removal and cannot be started",
    ),
    row(&[RemoveVolume], 409, "", InUse, "remove v: volume is in use - [2547]"),
    row(
        &[RemoveVolume],
        409,
        "",
        InUse,
        "volume v is being used by the following container(s): 5a4c: volume is being used",
    ),
    row(&[Kill], 409, "is not running", Done, "Cannot kill container: x: Container 0a0f is not running"),
    row(
        &[Kill],
        500,
        "can only kill running containers",
        Done,
        "can only kill running containers. e421 is in state exited: container state improper",
    ),
    row(
        &[RemoveContainer],
        409,
        "cannot remove a",
        Running,
        "You cannot remove a running container 0a0f. Stop the container before attempting removal or force remove",
    ),
    row(
        &[RemoveContainer],
        409,
        "cannot remove a",
        Running,
        "You cannot remove a paused container 0a0f. Unpause and then stop the container before attempting removal or force remove",
    ),
    row(
        &[RemoveContainer],
        500,
        "cannot be removed without force",
        Running,
        "cannot remove container e421 as it is running - running or paused containers cannot be removed without force: container state improper",
    ),
    // Images. Whatever a registry says, nothing of an instance was made.
    row(&[Pull], 400, "", Invalid, "invalid reference format: repository name must be lowercase"),
    row(&[Pull], 404, "", Invalid, "manifest for x:9 not found: manifest unknown: manifest unknown"),
    row(
        &[Pull],
        404,
        "",
        Invalid,
        "pull access denied for x, repository does not exist or may require 'docker login': denied",
    ),
    row(&[Pull], 500, "manifest unknown", Invalid, "reading manifest 9 in localhost:5000/x: manifest unknown"),
    row(&[Pull], 500, "manifest unknown", Invalid, "manifest unknown: manifest unknown"),
    row(
        &[Pull],
        500,
        "access to the resource is denied",
        Invalid,
        "initializing source docker://x:9: reading manifest 9 in docker.io/library/x: errors:\ndenied: requested access to the resource is denied",
    ),
    row(
        &[Pull],
        500,
        "normalizing name for compat api",
        Invalid,
        "normalizing image: normalizing name for compat API: repository name must be lowercase",
    ),
    row(&[Pull], 500, "", NotSent, "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused"),
    row(
        &[Pull],
        500,
        "",
        NotSent,
        "initializing source docker://nosuch.invalid/x:1: pinging container registry nosuch.invalid: dial tcp: no such host",
    ),
    row(&[Pull], 429, "", NotSent, "toomanyrequests: you have reached your pull rate limit"),
    row(&[MakeImage], 500, "", NotSent, "no space left on device"),
];

/// What an answer to a call means.
pub(super) fn meaning(call: Call, status: u16, message: &str) -> Meaning {
    let message = message.to_lowercase();
    let fits = |row: &&Row| row.calls.contains(&call) && row.status == status && message.contains(row.says);
    TABLE.iter().find(fits).map_or(Meaning::Unknown, |row| row.meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_decides_what_it_was_measured_for() {
        for row in TABLE {
            // An earlier row may be for one of the calls alone.
            for &call in row.calls.iter().filter(|call| !(row.status == 403 && row.calls.len() > 1 && **call == Pull)) {
                let meaning = meaning(call, row.status, row.message);
                assert_eq!(meaning, row.meaning, "{call:?} {} {}", row.status, row.message);
            }
        }
    }

    #[test]
    fn what_nobody_measured_proves_nothing() {
        for &call in ALL {
            for (status, message) in [(500, "context deadline exceeded"), (502, ""), (503, ""), (504, ""), (408, "")] {
                let images_cost_nothing = matches!(call, Pull | MakeImage) && status == 500;
                let expected = if images_cost_nothing { NotSent } else { Meaning::Unknown };
                assert_eq!(meaning(call, status, message), expected, "{call:?} {status}");
            }
        }
        // A page that is no engine's.
        assert_eq!(meaning(RemoveContainer, 404, "page not found"), Meaning::Unknown);
        assert_eq!(meaning(RemoveVolume, 404, "page not found"), Meaning::Unknown);
        assert_eq!(meaning(MakeContainer, 404, "page not found"), Meaning::Unknown);
        assert_eq!(meaning(MakeContainer, 200, ""), Meaning::Unknown);
        assert_eq!(meaning(Start, 500, "driver failed programming external connectivity"), Meaning::Unknown);
    }
}
