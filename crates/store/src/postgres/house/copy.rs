//! Copying: table by table, in the order of their keys, from where the last run ended.

use super::source::{Key, Source};
use super::target::{Place, Target};
use super::{MoveError, Progress};

/// Copies everything that is not there yet. Answers how many rows that were.
pub(super) async fn all(
    source: &Source,
    target: &mut Target,
    mut at: Place,
    tell: &mut impl FnMut(Progress),
) -> Result<u64, MoveError> {
    let tables: Vec<_> = target.tables().collect();
    let first = tables.iter().position(|table| table.name == at.part);
    let first = first.ok_or_else(|| MoveError::Target(format!("a move ended in {}, which does not move", at.part)))?;
    let mut copied = 0;
    for (number, table) in tables.iter().enumerate().skip(first) {
        let mut after = if number == first {
            Key::from_bytes(table.key_kind, &at.last_key)
                .ok_or_else(|| MoveError::Target(format!("a move ended at no key of {}", table.name)))?
        } else {
            Key::least(table.key_kind)
        };
        let mut of_table = 0;
        loop {
            let rows = source.rows(table, &after)?;
            let Some(last) = rows.keys.last() else { break };
            target.write(table, &rows, &mut at).await?;
            after = last.clone();
            copied += rows.rows.len() as u64;
            of_table += rows.rows.len() as u64;
            tell(Progress::Copied(table.name, of_table));
        }
    }
    Ok(copied)
}
