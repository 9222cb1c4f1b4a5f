//! Killed in the middle of writing, and then the end of the database's log damaged, as a power cut may leave what was
//! not synced.
//!
//! What is committed stays as it is, also where nobody was told: it was synced, or its sync was under way.

use anyhow::{Context, Result, ensure};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::Told;
use super::chance::Chance;
use super::house::House;
use super::storm::{self, Promises, Storm};
use super::verdict::Tally;
use super::wal::Wal;
use crate::server::Server;

/// What stands behind the last commit.
#[derive(Clone, Copy, Debug)]
enum Tail {
    /// Nothing: whatever was there is cut off.
    Cut,
    /// A commit, of which the second half is missing.
    HalfFrame,
    /// A commit whose header alone is there.
    HeaderOnly,
    /// A commit of which one byte is another.
    WrongByte,
    /// Space that was reserved and never written.
    Zeros,
    /// What was on the disk before.
    Garbage,
    /// A transaction without its commit.
    NoCommit,
    /// A transaction that is cut off in the middle.
    NoCommitCut,
    /// A commit, and zeros where the frame before it should be.
    Hole,
}

const TAILS: [Tail; 9] = [
    Tail::Cut,
    Tail::HalfFrame,
    Tail::HeaderOnly,
    Tail::WrongByte,
    Tail::Zeros,
    Tail::Garbage,
    Tail::NoCommit,
    Tail::NoCommitCut,
    Tail::Hole,
];

/// Where the header of a frame ends.
const HEADER: usize = 24;

pub(super) async fn play(house: &House, mut chance: Chance, tally: &mut Tally) -> Result<Told> {
    let mut server = house.start(None)?;
    let mut tails = TAILS.into_iter();
    let (mut damaged, mut frames) = (0, 0);
    let mut dice = chance.branch();
    let fault = async |server: &mut Server, _: &Storm| {
        let tail = tails.next().context("more rounds than kinds of damage")?;
        server.end();
        frames = damage(house, tail, &mut dice).with_context(|| format!("damaging the log: {tail:?}"))?;
        damaged += 1;
        *server = house.start(None).with_context(|| format!("starting over a log with {tail:?}"))?;
        Ok(())
    };
    let promises = storm::rage(house, &mut server, TAILS.len(), &mut chance, Promises::default(), fault).await?;
    house.settle(&server, &promises, tally).await?;
    ensure!(damaged == TAILS.len(), "{damaged} of {} tails were torn", TAILS.len());
    let line = format!(
        "torn behind the last commit {damaged} times, each in a way of its own; {frames} committed frames stood before \
         the last"
    );
    Ok(Told { line, count: Some(format!("{damaged} torn tails")), kills: 0 })
}

/// Puts `tail` behind what is committed. Answers how many frames that is.
fn damage(house: &House, tail: Tail, dice: &mut Chance) -> Result<usize> {
    let path = house.database_log();
    let before = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let wal = Wal::read(&before)?;
    let commit = wal.continued(1, 0xff, true);
    let at = (wal.committed, wal.frames);
    let bytes = match tail {
        Tail::Cut => Vec::new(),
        Tail::HalfFrame => commit[..commit.len() / 2].to_vec(),
        Tail::HeaderOnly => commit[..HEADER].to_vec(),
        Tail::WrongByte => {
            let mut commit = commit;
            let byte = usize::try_from(dice.below(commit.len() as u64))?;
            commit[byte] ^= 0x40;
            commit
        }
        Tail::Zeros => vec![0; 3 * wal.frame_length()],
        Tail::Garbage => (0..3 * wal.frame_length()).map(|_| dice.draw().to_le_bytes()[0]).collect(),
        Tail::NoCommit => wal.continued(3, 0xff, false),
        Tail::NoCommitCut => {
            let mut frames = wal.continued(3, 0xff, true);
            frames.truncate(2 * wal.frame_length() + HEADER);
            frames
        }
        Tail::Hole => {
            let mut frames = wal.continued(2, 0xff, true);
            frames[..wal.frame_length()].fill(0);
            frames
        }
    };
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(wal.committed as u64)?;
    file.write_all_at(&bytes, wal.committed as u64)?;
    let after = Wal::read(&std::fs::read(&path)?)?;
    ensure!((after.committed, after.frames) == at, "the damage reaches what is committed, or commits itself");
    Ok(wal.frames)
}
