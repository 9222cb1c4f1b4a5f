//! Checks in which somebody stops waiting, or is not waited for: what an executor that died, stalled or was fenced leaves
//! to the one after it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::{Duration, Instant};

use freehold_domain::plan::Names;
use freehold_domain::resource::{Custody, Observation, Outcome, Resource, ResourceKind};
use freehold_engine::ports::{Ident, Made};

use super::subject::{Pace, Subject, done, kinds_of_ours, must};
use super::{Pass, Verdict};

/// How often each kind of create is cut.
const CUTS: usize = 3;

/// A create that nobody waited for to the end.
struct Cut {
    ident: Ident,
    kind: ResourceKind,
    /// What was made before it, and with it where the answer came first.
    resources: Vec<Resource>,
    at: Instant,
    /// Whether the answer was cut, and its effect was not seen yet.
    unseen: bool,
}

/// A part of a time, at random.
fn part_of(whole: Duration) -> Duration {
    let chance = RandomState::new().build_hasher().finish();
    whole.mul_f64(f64::from(u32::try_from(chance >> 32).unwrap_or(0)) / f64::from(u32::MAX))
}

/// How long each kind of create takes when it is waited for.
async fn times(subject: &Subject) -> Result<Vec<(ResourceKind, Duration)>, String> {
    let ident = subject.ident();
    let (mut resources, mut times) = (Vec::new(), Vec::new());
    for kind in subject.kinds() {
        let began = Instant::now();
        resources.push(done(&format!("making the {kind}"), subject.ensure(kind, &ident, &resources).await)?.resource);
        times.push((kind, began.elapsed()));
    }
    Ok(times)
}

async fn cut(subject: &Subject, kind: ResourceKind, after: Duration) -> Result<Cut, String> {
    let ident = subject.ident();
    let mut resources = Vec::new();
    for earlier in subject.kinds().into_iter().take_while(|earlier| *earlier != kind) {
        let what = format!("making the {earlier}");
        resources.push(done(&what, subject.ensure(earlier, &ident, &resources).await)?.resource);
    }
    let answered = tokio::time::timeout(after, subject.ensure(kind, &ident, &resources)).await;
    let at = Instant::now();
    let unseen = answered.is_err();
    if let Ok(outcome) = answered {
        resources.push(done(&format!("making the {kind}"), outcome)?.resource);
    }
    Ok(Cut { ident, kind, resources, at, unseen })
}

/// Looks until what was cut can no longer take effect, and measures when it did.
async fn settle(subject: &Subject, cuts: &mut [Cut]) -> Result<(), String> {
    let capabilities = subject.provider.capabilities();
    let mut pace = Pace::new();
    loop {
        let mut waiting = false;
        for cut in cuts.iter_mut().filter(|cut| cut.unseen) {
            let asked = cut.at.elapsed();
            let seen = subject.observe(&cut.ident).await?;
            if kinds_of_ours(&seen).contains(&cut.kind) {
                cut.unseen = false;
                subject.measured(asked);
            }
            waiting |= cut.unseen && asked < capabilities.settle_horizon;
        }
        // Where names are enforced a second send finds or makes the first one: nobody has to wait for that.
        if !waiting || capabilities.names == Names::Unique {
            return Ok(());
        }
        pace.wait().await;
    }
}

/// Asks again until there is an answer, as an executor does that takes over.
async fn again(subject: &Subject, ident: &Ident, kind: ResourceKind, known: &[Resource]) -> Result<Made, String> {
    let (began, mut pace) = (Instant::now(), Pace::new());
    loop {
        match subject.ensure(kind, ident, known).await {
            Outcome::NotSent(_) | Outcome::Unknown(_) if began.elapsed() < subject.patience => pace.wait().await,
            outcome => return done(&format!("making the {kind} again"), outcome),
        }
    }
}

pub(super) async fn create_with_the_answer_cut(subject: &Subject) -> Verdict {
    let mut cuts = Vec::new();
    for (kind, takes) in times(subject).await? {
        for _ in 0..CUTS {
            cuts.push(cut(subject, kind, part_of(takes)).await?);
        }
    }
    let were_cut = cuts.iter().filter(|cut| cut.unseen).count();
    settle(subject, &mut cuts).await?;
    let kinds = subject.kinds();
    for cut in &mut cuts {
        for kind in &kinds {
            let made = again(subject, &cut.ident, *kind, &cut.resources).await?;
            if !cut.resources.iter().any(|known| known.same_thing(&made.resource)) {
                cut.resources.push(made.resource);
            }
        }
    }
    for cut in &cuts {
        let what = format!("one resource of each kind after a create of the {} was cut", cut.kind);
        subject
            .until(subject.provider.as_ref(), &cut.ident, &what, |seen| {
                let known = |found: &Resource| cut.resources.iter().any(|one| one.same_thing(found));
                kinds_of_ours(seen) == kinds && seen.found.iter().all(|found| known(&found.resource))
            })
            .await?;
        must(
            cut.resources.len() == kinds.len(),
            format!("making it again made another one after a create of the {} was cut: {:?}", cut.kind, cut.resources),
        )?;
    }
    Ok(match were_cut {
        0 => Pass::NotApplicable("every call was over before it could be cut".to_owned()),
        _ => Pass::Passed,
    })
}

/// Makes everything, whatever becomes of it: the executor that was fenced.
async fn make_all(subject: &Subject, ident: &Ident) {
    let mut resources = Vec::new();
    for kind in subject.kinds() {
        if let Outcome::Done(made) = subject.ensure(kind, ident, &resources).await {
            resources.push(made.resource);
        }
    }
}

/// Removes whatever is seen, over and over: the executor of the destroy.
async fn remove_all(subject: &Subject, ident: &Ident) {
    let mut pace = Pace::new();
    loop {
        if let Ok(seen) = subject.observe(ident).await {
            let mut ours: Vec<_> = seen.found.into_iter().filter(|found| found.custody == Custody::Ours).collect();
            ours.sort_by_key(|found| std::cmp::Reverse(found.resource.kind));
            for found in ours {
                // A refusal is lawful while something is being made inside it.
                drop(subject.provider.destroy(ident, &found.resource).await);
            }
        }
        pace.wait().await;
    }
}

pub(super) async fn destroy_while_creating(subject: &Subject) -> Verdict {
    for _ in 0..CUTS {
        let ident = subject.ident();
        // Both in this task: whoever drops the check drops what it is doing.
        tokio::select! {
            () = make_all(subject, &ident) => {}
            () = remove_all(subject, &ident) => {}
        }
        // No call is under way any more, so everything can be removed, without a seal too.
        let (began, mut pace) = (Instant::now(), Pace::new());
        loop {
            let seen = subject.observe(&ident).await?;
            if seen.proves_absence() {
                break;
            }
            must(began.elapsed() < subject.patience, format!("it cannot be removed: {seen:?}"))?;
            remove_seen(subject, &ident, &seen).await?;
            pace.wait().await;
        }
        // Every call was answered, so nothing is on its way: a second look a moment later finds what comes back.
        pace.wait().await;
        let seen = subject.observe(&ident).await?;
        must(seen.proves_absence(), format!("what was removed is back: {seen:?}"))?;
    }
    Ok(Pass::Passed)
}

async fn remove_seen(subject: &Subject, ident: &Ident, seen: &Observation) -> Result<(), String> {
    let mut ours: Vec<_> = seen.found.iter().filter(|found| found.custody == Custody::Ours).collect();
    ours.sort_by_key(|found| std::cmp::Reverse(found.resource.kind));
    for found in ours {
        match subject.provider.destroy(ident, &found.resource).await {
            Outcome::Done(()) | Outcome::NotSent(_) | Outcome::Unknown(_) => {}
            Outcome::Rejected(why) => return Err(format!("removing the {}: {}", found.resource.kind, why.detail)),
        }
    }
    Ok(())
}
