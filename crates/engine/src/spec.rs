//! What an instance runs, frozen at admission: templates resolved, limits copied from the tier, secrets encrypted.
//!
//! The frozen form is what the store keeps and what every attempt sends; [`Vault`] is the only place where secrets are
//! in the clear on their way in, and [`Spec::blueprint`] on their way out.

use std::collections::BTreeMap;
use std::sync::Arc;

use freehold_domain::reservation::FrozenSpec;
use ring::aead;
use serde::{Deserialize, Serialize};

use crate::ports::{Blueprint, Entropy, Ident};

/// What an instance runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The template it came from, for readers.
    pub template: Option<String>,
    /// The tier that its limits come from.
    pub tier: String,
    /// The image, for providers that run images.
    pub image: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The environment without secrets.
    pub env: BTreeMap<String, String>,
    /// Names of secrets, and their values encrypted.
    pub secrets: BTreeMap<String, Sealed>,
    /// Memory limit, in MiB.
    pub memory_mb: u32,
    /// CPU limit, in thousandths of a core.
    pub cpu_millis: u32,
    /// Size of the volume, in GB; 0 for none.
    pub volume_gb: u32,
}

/// An encrypted secret: a nonce and what ChaCha20-Poly1305 made of the value, with the secret's name as associated data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    nonce: [u8; aead::NONCE_LEN],
    bytes: Vec<u8>,
}

/// A spec that cannot be read back: stored by a newer program, damaged, or encrypted under another key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not what this program writes.
    #[error("the frozen spec cannot be read: {0}")]
    Unreadable(String),
    /// Another key.
    #[error("secret `{0}` cannot be decrypted; is this the key it was encrypted with?")]
    Undecryptable(String),
}

impl Spec {
    /// What is left of the spec of an instance whose owner is forgotten.
    #[must_use]
    pub(crate) fn bare() -> Self {
        Self {
            template: None,
            tier: "erased".to_owned(),
            image: None,
            command: Vec::new(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            memory_mb: 0,
            cpu_millis: 0,
            volume_gb: 0,
        }
    }

    /// The spec as bytes that never change again.
    #[must_use]
    pub fn freeze(&self) -> FrozenSpec {
        FrozenSpec(Arc::from(serde_json::to_vec(self).expect("maps with text keys are JSON")))
    }

    /// Reads a frozen spec.
    ///
    /// # Errors
    /// [`SpecError::Unreadable`] if it is none.
    pub fn thaw(frozen: &FrozenSpec) -> Result<Self, SpecError> {
        serde_json::from_slice(&frozen.0).map_err(|error| SpecError::Unreadable(error.to_string()))
    }

    /// What to run for an instance, secrets in the clear.
    ///
    /// # Errors
    /// [`SpecError::Undecryptable`] if the vault's key is not the one that the secrets were encrypted with.
    pub fn blueprint(&self, vault: &Vault, ident: &Ident, region: Option<String>) -> Result<Blueprint, SpecError> {
        let mut env = self.env.clone();
        for (name, sealed) in &self.secrets {
            env.insert(name.clone(), vault.open(name, sealed)?);
        }
        env.insert("FREEHOLD_INSTANCE_ID".to_owned(), ident.instance.to_string());
        env.insert("FREEHOLD_INSTALL".to_owned(), ident.tags.install.clone());
        Ok(Blueprint {
            command: self.command.clone(),
            image: self.image.clone(),
            env,
            secrets: self.secrets.keys().cloned().collect(),
            memory_mb: self.memory_mb,
            cpu_millis: self.cpu_millis,
            volume_gb: self.volume_gb,
            region,
        })
    }
}

/// Encrypts secrets at rest, and decrypts them on their way to the provider.
pub struct Vault {
    key: aead::LessSafeKey,
    entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// With the installation's key, and chance for nonces.
    ///
    /// # Panics
    /// Never: every 32 bytes are a key.
    #[must_use]
    pub fn new(key: &[u8; 32], entropy: Arc<dyn Entropy>) -> Self {
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key).expect("32 bytes are a key");
        Self { key: aead::LessSafeKey::new(key), entropy }
    }

    /// Encrypts the value of a secret. The name is authenticated with it, so values cannot be swapped.
    ///
    /// # Panics
    /// Never: values are bounded far below the cipher's limit.
    #[must_use]
    pub fn seal(&self, name: &str, value: &str) -> Sealed {
        let mut nonce = [0; aead::NONCE_LEN];
        self.entropy.fill(&mut nonce);
        let mut bytes = value.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                aead::Aad::from(name.as_bytes()),
                &mut bytes,
            )
            .expect("secrets are bounded in size");
        Sealed { nonce, bytes }
    }

    fn open(&self, name: &str, sealed: &Sealed) -> Result<String, SpecError> {
        let undecryptable = || SpecError::Undecryptable(name.to_owned());
        let mut bytes = sealed.bytes.clone();
        let nonce = aead::Nonce::assume_unique_for_key(sealed.nonce);
        let clear =
            self.key.open_in_place(nonce, aead::Aad::from(name.as_bytes()), &mut bytes).map_err(|_| undecryptable())?;
        String::from_utf8(clear.to_vec()).map_err(|_| undecryptable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(std::sync::atomic::AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    fn vault(key: u8) -> Vault {
        Vault::new(&[key; 32], Arc::new(Counting(0.into())))
    }

    #[test]
    fn a_secret_comes_back_under_its_key_and_name_only() {
        let sealed = vault(1).seal("TOKEN", "hunter2");
        assert!(!sealed.bytes.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(vault(1).open("TOKEN", &sealed), Ok("hunter2".to_owned()));
        assert_eq!(vault(2).open("TOKEN", &sealed), Err(SpecError::Undecryptable("TOKEN".to_owned())));
        assert_eq!(vault(1).open("OTHER", &sealed), Err(SpecError::Undecryptable("OTHER".to_owned())));
    }

    #[test]
    fn a_frozen_spec_reads_back_and_damage_is_told() {
        let spec = Spec {
            template: Some("hello".to_owned()),
            tier: "small".to_owned(),
            image: None,
            command: vec!["freehold".to_owned(), "hello-instance".to_owned()],
            env: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            secrets: BTreeMap::from([("TOKEN".to_owned(), vault(1).seal("TOKEN", "x"))]),
            memory_mb: 256,
            cpu_millis: 1_000,
            volume_gb: 1,
        };
        assert_eq!(Spec::thaw(&spec.freeze()), Ok(spec.clone()));
        assert_eq!(spec.freeze(), spec.freeze());
        assert!(matches!(Spec::thaw(&FrozenSpec(Arc::from(&b"{"[..]))), Err(SpecError::Unreadable(_))));
    }
}
