//! Admissions on a look that was made before.

use freehold_engine::ports::{AdmitRefused, Admitted, ContextPeek};
use freehold_store::conformance::{TERM, key, user};

use super::lossy::Wire;
use super::{Place, bench, block_on, trail};

/// Whoever looks first is admitted by one statement more.
#[test]
fn the_common_admission_is_a_look_and_a_write() {
    let place = Place::new();
    block_on(async {
        bench(&place.url).store.made_at().await.expect("ready");
        let wire = Wire::to(place.lab.port()).await;
        let bench = bench(&wire.url(&place.url, place.lab.port()));
        for number in 0..10 {
            let context = user(&format!("u{number}"));
            assert_eq!(bench.store.context_peek(&context, 1, None).await, Ok(ContextPeek::Free));
            let run = bench.taken(&context).await;
            assert_eq!(run.operation.due_at, Some(bench.now().plus(TERM.0)));
        }
        assert_eq!(wire.seen(), (10, 10));
        // Nobody who did not look, looked with another key, or was admitted on it before.
        bench.release_untouched(&bench.taken(&user("alice")).await).await;
        assert_eq!(wire.seen(), (11, 12));
        assert_eq!(bench.store.context_peek(&user("alice"), 1, None).await, Ok(ContextPeek::Free));
        let mut admission = bench.admission(&user("alice"));
        admission.idempotency = Some(key(1, 1));
        bench.take(admission).await;
        assert_eq!(wire.seen(), (13, 13));
    });
}

/// A look that another node has overtaken is found out, whatever came of the context since.
#[test]
fn an_admission_on_an_old_look_is_decided_anew() {
    let place = Place::new();
    block_on(async {
        let (here, there) = (bench(&place.url), bench(&place.url));
        // Ids that nobody here mints.
        for _ in 0..1_000 {
            let _ = there.instance();
        }
        for (number, used_before) in [(0, false), (1, true)] {
            let context = user(&format!("u{number}"));
            if used_before {
                here.release_untouched(&here.taken(&context).await).await;
            }
            assert_eq!(here.store.context_peek(&context, 1, None).await, Ok(ContextPeek::Free));
            let theirs = there.taken(&context).await;
            let refused = here.store.admit(here.admission(&context)).await;
            assert!(matches!(refused, Err(AdmitRefused::Conflict(_))), "{refused:?}");
            there.release_untouched(&theirs).await;
            assert_eq!(here.store.context_peek(&context, 1, None).await, Ok(ContextPeek::Free));
            there.release_untouched(&there.taken(&context).await).await;
            let taken = here.store.admit(here.admission(&context)).await;
            assert!(matches!(taken, Ok(Admitted::Taken(_))), "{taken:?}");
        }
        trail(here.store.as_ref()).await;
    });
}
