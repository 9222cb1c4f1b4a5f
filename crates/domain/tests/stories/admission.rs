//! Who may create: every small ledger, against the rule said in one breath. A context takes one more reservation when
//! none of its reservations is unresolved and fewer than `limit` of them are complete and wanted.

use freehold_domain::ledger::{Entry, Refusal, admit};
use freehold_domain::operation::FailureCode;
use freehold_domain::reservation::{Resolution, Status};

use crate::common::{instance, operation};

/// The largest ledger that is enumerated.
const ENTRIES_MAX: u32 = 4;

const STATUSES: [Status; 4] = [
    Status::InProgress,
    Status::NeedsReconciliation { code: FailureCode::ProviderProvisionFailed },
    Status::Completed,
    Status::Released { because: Resolution::AbsenceProven },
];

fn ledgers() -> impl Iterator<Item = Vec<Entry>> {
    let kinds = u32::try_from(STATUSES.len() * 2).expect("few");
    (0..=ENTRIES_MAX).flat_map(move |size| {
        (0..kinds.pow(size)).map(move |mut code| {
            (0..size)
                .map(|position| {
                    let kind = (code % kinds) as usize;
                    code /= kinds;
                    let number = u8::try_from(position).expect("small") + 1;
                    Entry {
                        instance: instance(number),
                        operation: operation(number),
                        status: STATUSES[kind / 2],
                        destroying: kind % 2 == 1,
                    }
                })
                .collect()
        })
    })
}

#[test]
fn every_small_ledger_is_judged_by_the_rule() {
    let mut judged = 0;
    for entries in ledgers() {
        for limit in 0..=3 {
            judged += 1;
            let unresolved = entries.iter().find(|entry| entry.status.is_unresolved());
            let active: Vec<_> =
                entries.iter().filter(|entry| entry.status == Status::Completed && !entry.destroying).collect();
            let said = admit(&entries, limit);
            match (unresolved, active.as_slice()) {
                (Some(entry), _) => {
                    let cleaning_up = entry.destroying || entry.status != Status::InProgress;
                    let Entry { instance, operation, status, .. } = *entry;
                    assert_eq!(said, Err(Refusal::InProgress { instance, operation, status, cleaning_up }));
                }
                (None, [entry, ..]) if active.len() >= limit as usize => {
                    let Entry { instance, operation, .. } = **entry;
                    assert_eq!(said, Err(Refusal::AlreadyActive { instance, operation }));
                }
                (None, _) => assert_eq!(said, Ok(()), "{entries:?} with limit {limit}"),
            }
        }
    }
    assert_eq!(judged, 4 * (1 + 8 + 64 + 512 + 4096), "the enumeration is complete");
}

#[test]
fn what_was_admitted_is_in_the_way_of_the_next() {
    for entries in ledgers().filter(|entries| admit(entries, 1).is_ok()) {
        let mut after = entries;
        after.push(Entry {
            instance: instance(9),
            operation: operation(9),
            status: Status::InProgress,
            destroying: false,
        });
        assert!(matches!(admit(&after, 1), Err(Refusal::InProgress { .. })));
        let last = after.last_mut().expect("just pushed");
        last.status = Status::Completed;
        assert!(matches!(admit(&after, 1), Err(Refusal::AlreadyActive { .. })));
        after.last_mut().expect("just pushed").destroying = true;
        assert_eq!(admit(&after, 1), Ok(()), "an accepted destroy of a complete instance frees its context");
    }
}
