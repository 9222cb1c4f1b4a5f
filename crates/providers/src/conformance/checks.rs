//! The checks.

use std::collections::BTreeMap;
use std::sync::Arc;

use freehold_domain::resource::{
    Custody, Observation, Outcome, Rejection, RejectionClass, Resource, ResourceKind, RuntimeState,
};
use freehold_engine::ports::{Claim, Made, Order};

pub(super) use super::races::{create_with_the_answer_cut, destroy_while_creating};
use super::subject::{LIST_PAGES_MAX, Subject, done, ensure, kinds_of_ours, must};
use super::{Pass, Verdict};

/// How many create at once while a seal is set.
const RACERS: usize = 8;

/// How often the lag of looks is measured.
const LAGS: usize = 3;

/// How many bases are made for a list whose pages are not counted.
const BASES: usize = 3;

pub(super) async fn create_twice_is_one_resource(subject: &Subject) -> Verdict {
    let ident = subject.ident();
    let first = subject.ensure_all(&ident).await?;
    let second = subject.ensure_all(&ident).await?;
    must(
        first.iter().zip(&second).all(|(first, second)| first.same_thing(second)),
        format!("the second time made something else: {first:?}, then {second:?}"),
    )?;
    let kinds = subject.kinds();
    let lag = subject
        .until(subject.provider.as_ref(), &ident, "one resource of each kind", |seen| kinds_of_ours(seen) == kinds)
        .await?;
    subject.measured(lag);
    Ok(Pass::Passed)
}

pub(super) async fn resources_come_in_order(subject: &Subject) -> Verdict {
    let ident = subject.ident();
    let (mut resources, mut kinds) = (Vec::new(), Vec::new());
    for kind in subject.kinds() {
        let made: Made = done(&format!("making the {kind}"), subject.ensure(kind, &ident, &resources).await)?;
        must(
            made.runtime.is_some() == (kind == ResourceKind::Runtime),
            format!("only a runtime has a runtime's state: {made:?}"),
        )?;
        resources.push(made.resource);
        kinds.push(kind);
        let what = format!("exactly {kinds:?}");
        subject
            .until(subject.provider.as_ref(), &ident, &what, |seen| {
                let known = |found: &Resource| resources.iter().any(|one| one.same_thing(found));
                kinds_of_ours(seen) == kinds && seen.found.iter().all(|found| known(&found.resource))
            })
            .await?;
    }
    Ok(Pass::Passed)
}

pub(super) async fn destroy_twice_is_success(subject: &Subject) -> Verdict {
    let ident = subject.ident();
    let resources = subject.ensure_all(&ident).await?;
    for _ in 0..2 {
        for resource in resources.iter().rev() {
            done(&format!("removing {}", resource.kind), subject.provider.destroy(&ident, resource).await)?;
        }
    }
    let lag = subject.until_absent(&ident).await?;
    subject.measured(lag);
    Ok(Pass::Passed)
}

pub(super) async fn sealed_means_refused(subject: &Subject) -> Verdict {
    if !subject.provider.capabilities().seals {
        return Ok(Pass::NotApplicable("it promises no seal".to_owned()));
    }
    // A call that is surely not carried out now is asked again later, and is then refused as surely.
    let refused = |outcome: Outcome<Made>| match outcome {
        Outcome::Rejected(_) | Outcome::NotSent(_) => Ok(()),
        other => Err(format!("a sealed ident let through: {other:?}")),
    };
    // One that has everything, and one that has nothing yet.
    for made_before in [true, false] {
        let ident = subject.ident();
        let resources = if made_before { subject.ensure_all(&ident).await? } else { Vec::new() };
        for _ in 0..2 {
            done("the seal", subject.provider.seal(&ident).await)?;
        }
        for resource in resources.iter().rev() {
            done("removing", subject.provider.destroy(&ident, resource).await)?;
        }
        subject.until_absent(&ident).await?;
        // A fenced executor has one call in flight: each comes alone.
        for kind in subject.kinds() {
            match subject.ensure(kind, &ident, &resources).await {
                Outcome::Done(_) if kind == ResourceKind::Base && subject.untagged_base => {
                    subject.sweep(subject.provider.as_ref(), &ident).await?;
                }
                outcome => refused(outcome)?,
            }
        }
        let seen = subject.observe(&ident).await?;
        must(seen.proves_absence(), format!("a refused creation left something: {seen:?}"))?;
    }
    Ok(Pass::Passed)
}

pub(super) async fn seal_beats_racing_creations(subject: &Subject) -> Verdict {
    if !subject.provider.capabilities().seals {
        return Ok(Pass::NotApplicable("it promises no seal".to_owned()));
    }
    for early in [0, 1, 3] {
        let ident = subject.ident();
        // How much is there already when the race begins.
        let mut resources = Vec::new();
        for kind in subject.kinds().into_iter().take(early) {
            resources.push(done("making", subject.ensure(kind, &ident, &resources).await)?.resource);
        }
        let mut racers = Vec::new();
        for racer in 0..RACERS {
            let (provider, ident) = (Arc::clone(&subject.provider), ident.clone());
            let (blueprint, mut kinds) = (subject.blueprint.clone(), subject.kinds());
            if subject.untagged_base {
                // Whoever made a base behind the seal is fenced before the next call.
                kinds = vec![kinds[racer % kinds.len()]];
            }
            racers.push(tokio::spawn(async move {
                for kind in kinds {
                    let order = Order { ident: &ident, blueprint: &blueprint, resources: &[] };
                    drop(ensure(provider.as_ref(), kind, &order).await);
                }
            }));
        }
        tokio::task::yield_now().await;
        // A seal that is not sure in the middle of this is asked for again.
        subject.sweep(subject.provider.as_ref(), &ident).await?;
        for racer in racers {
            racer.await.map_err(|error| error.to_string())?;
        }
        if subject.untagged_base {
            subject.sweep(subject.provider.as_ref(), &ident).await?;
        }
        let seen = subject.observe(&ident).await?;
        must(seen.proves_absence(), format!("a creation got past the seal: {seen:?}"))?;
    }
    Ok(Pass::Passed)
}

pub(super) async fn looks_follow_what_was_done(subject: &Subject) -> Verdict {
    for _ in 0..LAGS {
        look_follows(subject).await?;
    }
    Ok(Pass::Passed)
}

async fn look_follows(subject: &Subject) -> Result<(), String> {
    let ident = subject.ident();
    let before = subject.observe(&ident).await?;
    must(before.found.is_empty(), format!("an ident that was never used has something: {before:?}"))?;
    must(before.runtime == RuntimeState::Missing, format!("and a runtime: {before:?}"))?;
    let resources = subject.ensure_all(&ident).await?;
    let kinds = subject.kinds();
    let made = subject
        .until(subject.provider.as_ref(), &ident, "everything to be seen", |seen| kinds_of_ours(seen) == kinds)
        .await?;
    for resource in resources.iter().rev() {
        done("removing", subject.provider.destroy(&ident, resource).await)?;
    }
    let gone = subject.until_absent(&ident).await?;
    subject.measured(made);
    subject.measured(gone);
    Ok(())
}

pub(super) async fn foreign_is_left_alone(subject: &Subject) -> Verdict {
    let (ours, theirs) = subject.two_idents();
    let order = Order { ident: &theirs, blueprint: &subject.blueprint, resources: &[] };
    let planted = done("planting", subject.stranger.ensure_base(&order).await)?.resource;
    if subject.untagged_base {
        let mut theirs = vec![planted.clone()];
        for kind in subject.kinds().into_iter().skip(1) {
            let order = Order { resources: &theirs, ..order };
            theirs.push(done("planting", ensure(subject.stranger.as_ref(), kind, &order).await)?.resource);
        }
    }
    let told = |seen: &Observation| match subject.untagged_base {
        true => seen.foreign().is_some() && kinds_of_ours(seen) == [ResourceKind::Base],
        false => seen.foreign().is_some_and(|one| one.same_thing(&planted)) && kinds_of_ours(seen).is_empty(),
    };
    subject.until(subject.provider.as_ref(), &ours, "the stranger's work to be seen as such", told).await?;
    for kind in subject.kinds() {
        match subject.ensure(kind, &ours, &[]).await {
            Outcome::Rejected(Rejection { class: RejectionClass::ConflictForeign, .. }) => {}
            // Without a base of ours there is nothing to put it into.
            Outcome::Rejected(Rejection { class: RejectionClass::Invalid, .. }) if kind != ResourceKind::Base => {}
            other => return Err(format!("making a {kind} under a stranger's name: {other:?}")),
        }
    }
    match subject.provider.destroy(&ours, &planted).await {
        Outcome::Rejected(_) | Outcome::NotSent(_) => {}
        other => return Err(format!("removing what is a stranger's: {other:?}")),
    }
    let seen = subject.stranger.observe(&theirs).await.map_err(|error| error.to_string())?;
    must(
        seen.found.iter().any(|found| found.resource.same_thing(&planted) && found.custody == Custody::Ours),
        format!("the stranger's base is gone or changed: {seen:?}"),
    )?;
    Ok(Pass::Passed)
}

pub(super) async fn lists_are_paged(subject: &Subject) -> Verdict {
    let mut missing = BTreeMap::new();
    let counts_pages = subject.more_than_a_page > 0;
    for _ in 0..if counts_pages { subject.more_than_a_page } else { BASES } {
        let ident = subject.ident();
        let made = done("making a base", subject.ensure(ResourceKind::Base, &ident, &[]).await)?;
        missing.insert(made.resource.id, ident);
    }
    let install = subject.idents.install().as_str();
    let (mut pages, mut next) = (0, None);
    loop {
        let page = subject.provider.list_owned(install, next.as_deref()).await.map_err(|error| error.to_string())?;
        pages += 1;
        for owned in page.resources {
            let ident = missing.remove(&owned.resource.id);
            match &owned.claim {
                Claim::Tags(tags) => {
                    must(tags.install == install, format!("not of this install: {owned:?}"))?;
                    let ours = ident.is_none_or(|ident| subject.idents.verify(tags, ident.instance));
                    must(ours, format!("wrong tags: {owned:?}"))?;
                }
                Claim::Name(instance) => {
                    let named = ident.is_none_or(|ident| ident.instance == *instance);
                    must(named, format!("named after another instance: {owned:?}"))?;
                }
            }
        }
        next = page.next;
        if next.is_none() {
            break;
        }
        must(pages < LIST_PAGES_MAX, "the list never ends")?;
    }
    must(missing.is_empty(), format!("the list left out {} resources", missing.len()))?;
    must(pages > 1 || !counts_pages, "everything came on one page")?;
    let page = subject.provider.list_owned("no-such-install", None).await.map_err(|error| error.to_string())?;
    let ours = page.resources.iter().find(|owned| matches!(owned.claim, Claim::Tags(_)) || !subject.untagged_base);
    must(ours.is_none(), format!("the list of another install has our resources: {ours:?}"))?;
    Ok(Pass::Passed)
}

pub(super) async fn power_does_what_it_says(subject: &Subject) -> Verdict {
    let ident = subject.ident();
    let mut resources = subject.ensure_all(&ident).await?;
    subject.until_runtime(&ident, &RuntimeState::Running).await?;
    let provider = subject.provider.as_ref();
    for call in ["stop", "stop", "start", "start", "restart", "update", "stop", "update", "restart"] {
        let was = subject.observe(&ident).await?.runtime;
        let keeps_running = was == RuntimeState::Running;
        let order = Order { ident: &ident, blueprint: &subject.blueprint, resources: &resources };
        let outcome = match call {
            "stop" => provider.stop(&order).await,
            "start" => provider.start(&order).await,
            "restart" => provider.restart(&order).await,
            _ => provider.update(&order, keeps_running).await,
        };
        let made = done(call, outcome)?;
        let wanted = if call == "stop" || (call == "update" && !keeps_running) {
            RuntimeState::Stopped
        } else {
            RuntimeState::Running
        };
        subject.until_runtime(&ident, &wanted).await.map_err(|why| format!("after {call}: {why}"))?;
        must(
            resources.last().is_some_and(|runtime| runtime.same_thing(&made.resource)),
            format!("{call} is about another runtime: {made:?}"),
        )?;
        resources.pop();
        resources.push(made.resource);
    }
    Ok(Pass::Passed)
}

pub(super) async fn endpoint_is_named(subject: &Subject) -> Verdict {
    let ident = subject.ident();
    let resources = subject.ensure_all(&ident).await?;
    let endpoint = subject.provider.endpoint(&resources).ok_or("a runtime has no endpoint")?;
    let named = endpoint.0.strip_prefix("http://").is_some_and(|rest| !rest.contains('/') && rest.contains(':'));
    must(named, format!("an endpoint is http://HOST:PORT: {endpoint:?}"))?;
    must(subject.provider.endpoint(&[]).is_none(), "nothing has an endpoint")?;
    let seen = subject.observe(&ident).await?;
    let found: Vec<_> = seen.found.into_iter().map(|found| found.resource).collect();
    must(subject.provider.endpoint(&found) == Some(endpoint), "what a look finds answers elsewhere")?;
    Ok(Pass::Passed)
}

pub(super) async fn restart_changes_nothing(subject: &Subject) -> Verdict {
    let ident = subject.ident();
    let resources = subject.ensure_all(&ident).await?;
    subject.until_runtime(&ident, &RuntimeState::Running).await?;
    let before = subject.observe(&ident).await?;
    let reopened = (subject.reopen)();
    let after = reopened.observe(&ident).await.map_err(|error| error.to_string())?;
    // It was another question.
    let after = Observation { reference: before.reference.clone(), ..after };
    must(before == after, format!("before: {before:?}, after: {after:?}"))?;
    let order = Order { ident: &ident, blueprint: &subject.blueprint, resources: &resources };
    let made = done("making the runtime again", reopened.ensure_runtime(&order).await)?;
    must(resources.contains(&made.resource), format!("the restarted server made another one: {made:?}"))?;
    done("stop", reopened.stop(&order).await)?;
    subject.until_runtime(&ident, &RuntimeState::Stopped).await?;
    subject.sweep(reopened.as_ref(), &ident).await?;
    subject.until_absent(&ident).await?;
    Ok(Pass::Passed)
}
