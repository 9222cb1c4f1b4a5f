//! Secrets: named in the configuration, never written in it, and never printed.
//!
//! A setting says where a secret comes from (`*_env`, `*_file`); the secret is read when it is needed. Its type has no
//! way to be shown except on purpose, through [`Secret::expose`].

use std::fmt;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

/// The longest secret that is read from a file, in bytes: a private key fits, a log file does not.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// What stands where a secret would.
pub(crate) const REDACTED: &str = "[redacted]";

/// A secret. Printing it prints [`REDACTED`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Why a secret that the configuration names cannot be had. The message never holds the secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// The variable is not there.
    #[error("the environment variable `{0}` is not set")]
    Unset(String),
    /// The variable or the file holds nothing.
    #[error("{0} is empty")]
    Empty(String),
    /// The file cannot be read.
    #[error("cannot read `{}`: {why}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
}

/// Where one secret comes from.
#[derive(Clone, Debug)]
pub(crate) struct SecretSource<'a> {
    /// The setting without its `_env` or `_file`: `auth.operator_key`.
    pub(crate) path: &'static str,
    /// The variable; empty for none.
    pub(crate) env: &'a str,
    /// The file; empty for none.
    pub(crate) file: &'a Path,
    /// The variable that is asked for when nothing is configured, and may then be missing.
    pub(crate) usual_env: &'static str,
}

impl SecretSource<'_> {
    /// Whether two places are named at once.
    pub(crate) fn is_ambiguous(&self) -> bool {
        !self.file.as_os_str().is_empty() && !self.env.is_empty() && self.env != self.usual_env
    }

    /// Reads the secret; `None` where the configuration asks for none.
    ///
    /// # Errors
    /// A place that was named on purpose and holds nothing: falling back silently would swap one key for another.
    pub(crate) fn read(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Secret>, SecretError> {
        if !self.file.as_os_str().is_empty() {
            return read_file(self.file).map(Some);
        }
        if self.env.is_empty() {
            return Ok(None);
        }
        match env(self.env) {
            Some(text) if text.trim().is_empty() => Err(SecretError::Empty(format!("the variable `{}`", self.env))),
            Some(text) => Ok(Some(Secret::new(text.trim()))),
            None if self.env == self.usual_env => Ok(None),
            None => Err(SecretError::Unset(self.env.to_owned())),
        }
    }

    /// Where it comes from, for people.
    pub(crate) fn describe(&self) -> String {
        if !self.file.as_os_str().is_empty() {
            format!("file {}", self.file.display())
        } else if self.env.is_empty() {
            "nowhere".to_owned()
        } else {
            format!("${}", self.env)
        }
    }
}

/// Reads a secret from a file, without the white space around it.
///
/// # Errors
/// A file that is missing, unreadable, too long or empty.
pub(crate) fn read_file(path: &Path) -> Result<Secret, SecretError> {
    let unreadable = |why: String| SecretError::Unreadable { path: path.to_owned(), why };
    let about = std::fs::metadata(path).map_err(|error| unreadable(plain(&error)))?;
    if !about.is_file() && !about.file_type().is_char_device() {
        return Err(unreadable("it is not a file".to_owned()));
    }
    if about.len() > SECRET_BYTES_MAX {
        return Err(unreadable(format!("it is longer than {SECRET_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(plain(&error)))?;
    match text.trim() {
        "" => Err(SecretError::Empty(format!("`{}`", path.display()))),
        trimmed => Ok(Secret::new(trimmed)),
    }
}

/// What went wrong, without the number of the error.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// A URL that may hold a password. It is printed and shown without it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct GuardedUrl(String);

impl GuardedUrl {
    /// Keeps a URL's password from being shown.
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole URL, with its password.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for GuardedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for GuardedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for GuardedUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `scheme://user:password@host/…?password=…` without its passwords. In doubt it hides too much: a password may hold
/// any of the characters that end one elsewhere.
fn redact(url: &str) -> String {
    let mut shown = url.to_owned();
    if let Some((scheme, rest)) = url.split_once("://")
        && let Some((who, host)) = rest.rsplit_once('@')
        && let Some((user, _)) = who.split_once(':')
    {
        shown = format!("{scheme}://{user}:{REDACTED}@{host}");
    }
    let Some((address, query)) = shown.split_once('?') else { return shown };
    let parts: Vec<String> = query
        .split('&')
        .map(|part| match part.split_once('=') {
            Some((name, _)) if ["password", "token", "secret", "key"].iter().any(|word| name.contains(word)) => {
                format!("{name}={REDACTED}")
            }
            Some(_) | None => part.to_owned(),
        })
        .collect();
    format!("{address}?{}", parts.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source<'a>(env: &'a str, file: &'a Path) -> SecretSource<'a> {
        SecretSource { path: "auth.operator_key", env, file, usual_env: "USUAL" }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)).matches("hunter2").count(), 0);
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn urls_are_shown_without_their_passwords() {
        for (url, shown) in [
            ("sqlite:registry.db", "sqlite:registry.db"),
            ("postgres://db/freehold", "postgres://db/freehold"),
            ("postgres://me@db/freehold", "postgres://me@db/freehold"),
            ("postgres://me:hunter2@db:5432/f?sslmode=require", "postgres://me:[redacted]@db:5432/f?sslmode=require"),
            ("postgres://me:p@ss@db/f", "postgres://me:[redacted]@db/f"),
            ("postgres://me:p/s?s@db/f", "postgres://me:[redacted]@db/f"),
            ("postgres://db/f?user=me&password=hunter2", "postgres://db/f?user=me&password=[redacted]"),
        ] {
            let url = GuardedUrl(url.to_owned());
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
            assert_eq!(serde_json::to_value(&url).unwrap(), shown);
        }
    }

    #[test]
    fn a_named_place_that_holds_nothing_is_an_error_and_an_unnamed_one_is_not() {
        let nothing = |_: &str| None;
        let set = |name: &str| (name == "GIVEN").then(|| " k3y \n".to_owned());
        assert!(source("", Path::new("")).read(&nothing).unwrap().is_none());
        assert!(source("USUAL", Path::new("")).read(&nothing).unwrap().is_none());
        assert!(
            matches!(source("GIVEN", Path::new("")).read(&nothing), Err(SecretError::Unset(name)) if name == "GIVEN")
        );
        assert_eq!(source("GIVEN", Path::new("")).read(&set).unwrap().unwrap().expose(), "k3y");
        let error = source("", Path::new("/no/such/file")).read(&nothing).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/no/such/file`: no such file or directory");
    }

    #[test]
    fn a_file_is_read_without_the_white_space_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "  k3y\n").unwrap();
        assert_eq!(source("", &file).read(&|_| None).unwrap().unwrap().expose(), "k3y");
        std::fs::write(&file, "\n").unwrap();
        assert!(matches!(source("", &file).read(&|_| None), Err(SecretError::Empty(_))));
        assert!(source("OTHER", &file).is_ambiguous());
        assert!(!source("USUAL", &file).is_ambiguous());
    }
}
