//! What nodes share, and what keys are known.

use std::sync::Arc;
use std::time::Duration;

use freehold_engine::ports::{Admission, Admitted, Installation, KeyRecord, KeyRole, StoreError};

use super::{Bench, answer, key, user};

/// Two nodes propose; both get the first one's.
pub async fn the_first_installation_is_kept(bench: Arc<Bench>) {
    let proposed = |byte: u8| Installation {
        install: format!("install-{byte}").parse().expect("a name"),
        mac_key: [byte; 32],
        secret_key: [byte + 1; 32],
    };
    assert_eq!(bench.store.installation(proposed(1)).await, Ok(proposed(1)));
    assert_eq!(bench.store.installation(proposed(7)).await, Ok(proposed(1)));
}

/// A key's hash is kept, its revocation is for good.
pub async fn keys_are_made_listed_and_revoked(bench: Arc<Bench>) {
    let mut made = Vec::new();
    for (number, role) in KeyRole::ALL.into_iter().enumerate() {
        let key = KeyRecord {
            id: format!("key{number}"),
            label: format!("for {}", role.name()),
            role,
            hash: [number as u8; 32],
            created_at: bench.now(),
            revoked_at: None,
        };
        bench.store.key_create(key.clone()).await.expect("answers");
        bench.store.key_create(key.clone()).await.expect("again changes nothing");
        made.push(key);
        bench.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(bench.store.key_list().await, Ok(made.clone()));
    let taken = KeyRecord { hash: [9; 32], ..made[0].clone() };
    assert!(bench.store.key_create(taken).await.is_err(), "an id has one key");
    made[1].revoked_at = Some(bench.now());
    assert_eq!(bench.store.key_revoke("key1", bench.now()).await, Ok(made[1].clone()));
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.store.key_revoke("key1", bench.now()).await, Ok(made[1].clone()), "again changes nothing");
    assert_eq!(bench.store.key_list().await, Ok(made));
    assert_eq!(bench.store.key_revoke("key9", bench.now()).await, Err(StoreError::Missing("key")));
}

/// Only those whose operation is over for long enough; then the key is free.
pub async fn old_idempotency_records_are_forgotten(bench: Arc<Bench>) {
    let admission = |context, scope| Admission { idempotency: Some(key(scope, 1)), ..bench.admission(context) };
    let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
    let old = bench.take(admission(&alice, 1)).await;
    bench.complete(&old, Some(answer(201, "{}"))).await;
    bench.take(admission(&bob, 2)).await;
    bench.clock.advance(Duration::from_secs(60));
    let young = bench.take(admission(&carol, 3)).await;
    bench.complete(&young, Some(answer(201, "{}"))).await;
    assert_eq!(bench.store.idempotency_purge(bench.now(), 10).await, Ok(1));
    assert_eq!(bench.store.idempotency_purge(bench.now(), 10).await, Ok(0));
    let view = bench.store.operation_describe(old.operation.id).await.expect("answers").expect("is there");
    assert_eq!(view.answer, None, "its answer is forgotten too");
    for (context, scope) in [(&bob, 2), (&carol, 3)] {
        let retried = bench.store.admit(admission(context, scope)).await;
        assert!(matches!(retried, Ok(Admitted::Replayed { .. })), "{retried:?}");
    }
    assert!(bench.store.admit(admission(&alice, 1)).await.is_err(), "the key is free, the context is not");
    bench.take(admission(&user("dave"), 1)).await;
}

/// A message is known from when it was put on record until it cannot come again.
pub async fn a_message_is_new_once(bench: Arc<Bench>) {
    let keep_until = bench.now().plus(Duration::from_secs(60));
    assert_eq!(bench.store.delivery_is_known("msg_1").await, Ok(false));
    assert_eq!(bench.store.delivery_put("msg_1", keep_until).await, Ok(()));
    assert_eq!(bench.store.delivery_is_known("msg_1").await, Ok(true));
    assert_eq!(bench.store.delivery_put("msg_1", keep_until).await, Ok(()));
    assert_eq!(bench.store.delivery_is_known("msg_2").await, Ok(false));
    bench.clock.advance(Duration::from_secs(61));
    assert_eq!(bench.store.delivery_put("msg_2", bench.now()).await, Ok(()));
    assert_eq!(bench.store.delivery_is_known("msg_1").await, Ok(false), "what cannot come again is forgotten");
}
