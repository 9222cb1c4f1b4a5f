//! Connections that become something else, such as a WebSocket: both sides are joined and their bytes passed on, until
//! one side ends or the server stops.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

/// Whether a client asks for another protocol.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    let names = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    headers.contains_key(UPGRADE)
        && names.flat_map(|value| value.split(',')).any(|name| name.trim().eq_ignore_ascii_case("upgrade"))
}

/// Which protocol it asks for.
pub(super) fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(UPGRADE).cloned()
}

/// Puts the question, or the consent, on a message.
pub(super) fn ask(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

/// Joins both sides in a task of their own, once our consent is on its way to the client.
pub(super) fn join(client: OnUpgrade, instance: OnUpgrade, shutdown: CancellationToken) {
    tokio::spawn(async move {
        let joined = async {
            let (client, instance) = tokio::try_join!(client, instance)?;
            let (mut client, mut instance) = (TokioIo::new(client), TokioIo::new(instance));
            // An end without a goodbye is how most of them end.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut instance).await;
            Ok::<_, hyper::Error>(())
        };
        tokio::select! {
            done = joined => if let Err(error) = done {
                tracing::debug!(%error, "an upgrade did not come about");
            },
            () = shutdown.cancelled() => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_is_asked_for_with_both_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        assert!(!wanted(&headers));
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        assert!(wanted(&headers));
        headers.remove(UPGRADE);
        assert!(!wanted(&headers));
    }
}
