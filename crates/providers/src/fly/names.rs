//! Names at Fly: one app per instance in a namespace that everybody shares, one machine in it, volumes whose names carry
//! the MAC because nothing else of a volume can.

use freehold_domain::ids::InstanceId;
use freehold_engine::ports::Ident;

/// How many digits of the MAC a volume's name carries: with its beginning the name has 30 characters, the most there are.
const VOLUME_MAC_DIGITS: usize = 27;

/// The longest name of an app.
const APP_BYTES_MAX: usize = 63;

/// The name of an instance's app: the one it has, where it was made elsewhere.
pub(super) fn app(prefix: &str, ident: &Ident) -> String {
    ident.given.clone().unwrap_or_else(|| format!("{prefix}-{}", ident.instance.simple()))
}

/// Whether a text can be the name of an app, and so may stand in a path.
pub(super) fn is_app(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= APP_BYTES_MAX && name.bytes().all(inner) && !name.starts_with('-')
}

/// The instance that an app is named after.
pub(super) fn instance(prefix: &str, app: &str) -> Option<InstanceId> {
    let simple = app.strip_prefix(prefix)?.strip_prefix('-')?;
    let part = |range: std::ops::Range<usize>| simple.get(range);
    let parts = [part(0..8)?, part(8..12)?, part(12..16)?, part(16..20)?, simple.get(20..)?];
    // Ids are read in more ways than they are written.
    parts.join("-").parse().ok().filter(|id: &InstanceId| id.simple() == simple)
}

/// The name of an instance's volumes.
pub(super) fn volume(ident: &Ident) -> String {
    volume_of(&ident.tags.mac)
}

/// The name of the volumes that a MAC is over.
pub(super) fn volume_of(mac: &str) -> String {
    format!("fh_{}", mac.get(..VOLUME_MAC_DIGITS).unwrap_or_default())
}

/// Whether a volume's name is one that we give, to some instance.
pub(super) fn is_volume(name: &str) -> bool {
    let digits = name.strip_prefix("fh_").unwrap_or_default();
    digits.len() == VOLUME_MAC_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use freehold_domain::owner::Context;
    use freehold_engine::ident::Idents;

    fn ident() -> Ident {
        let idents = Idents::new("prod".parse().expect("valid"), &[7; 32]);
        let context = Context::new("user:alice".parse().expect("valid"), None).expect("valid");
        idents.of(InstanceId::mint(1, [1; 10]), &context)
    }

    #[test]
    fn an_app_names_its_instance_and_no_other_name_does() {
        let ident = ident();
        let name = app("fh", &ident);
        assert_eq!(instance("fh", &name), Some(ident.instance));
        assert_eq!(instance("other", &name), None);
        assert_eq!(instance("fh", &format!("fh-{}", ident.instance)), None, "with dashes it is nobody's of ours");
        assert_eq!(instance("fh", "fh-website"), None);
    }

    #[test]
    fn what_was_made_elsewhere_keeps_its_name() {
        let ident = Ident { given: Some("acme-prod".to_owned()), ..ident() };
        assert_eq!(app("fh", &ident), "acme-prod");
        assert!(is_app("acme-prod") && !is_app("") && !is_app("a/b") && !is_app("-a") && !is_app("A"));
    }

    #[test]
    fn a_volumes_name_is_one_that_fly_takes() {
        let name = volume(&ident());
        assert_eq!(name.len(), 30);
        assert!(is_volume(&name) && !is_volume("fh_data"));
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
    }
}
