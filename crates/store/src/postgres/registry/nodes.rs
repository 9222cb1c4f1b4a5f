//! The list of nodes. Who has a node's name is said in the port; here it is the condition of one statement, which puts a
//! beat on record and brings back who else is there: one round trip a beat.

use std::time::Duration;

use freehold_domain::lease::{Holder, NodeId};
use freehold_engine::ports::{
    Elsewhere, LISTED_FOR, LIVE_FOR, NodeBeat, NodeOrders, NodeRecord, Peer, Share, StoreError, providers_of,
};

use super::loaded::{all, first};
use super::time::now_or_given;
use super::{PostgresStore, behind_a_write};
use crate::postgres::args::Args;
use crate::shared::corrupt;
use crate::shared::fields::Fields as _;

/// `$8` is whether this is the beginning of a life, which takes the name whoever has it. A beat that is not heard brings
/// back no `draining`.
const BEAT: &str = concat!(
    "WITH t AS MATERIALIZED (SELECT ",
    now_or_given!(),
    " AS now), put AS ( \
        INSERT INTO freehold_registry.nodes AS n \
            (node, incarnation, roles, version, address, started_at, seen_at, draining, providers) \
        SELECT $2::text, $3::bigint, $4::text, $5::text, $6::text, t.now, t.now, false, $9::text FROM t \
        ON CONFLICT (node) DO UPDATE SET \
            incarnation = excluded.incarnation, roles = excluded.roles, version = excluded.version, \
            address = excluded.address, seen_at = excluded.seen_at, providers = excluded.providers, \
            started_at = CASE WHEN n.incarnation = excluded.incarnation AND NOT $8::boolean THEN n.started_at \
                ELSE excluded.started_at END, \
            draining = n.draining AND NOT $8::boolean \
        WHERE $8::boolean OR n.incarnation = excluded.incarnation OR n.seen_at <= excluded.seen_at - $7::bigint \
        RETURNING CASE WHEN n.draining THEN 1::bigint ELSE 0::bigint END AS draining) \
     SELECT t.now, (SELECT draining FROM put), o.node, o.roles, o.providers FROM t LEFT JOIN freehold_registry.nodes o \
     ON o.node <> $2::text AND NOT o.draining AND o.seen_at > t.now - $7::bigint"
);

const FORGET: &str = concat!("DELETE FROM freehold_registry.nodes WHERE seen_at <= ", now_or_given!(), " - $2::bigint");

/// Leases that have not lapsed are counted from the index of those that are held.
const LIST: &str = concat!(
    "WITH t AS MATERIALIZED (SELECT ",
    now_or_given!(),
    " AS now) \
     SELECT n.node, n.incarnation, n.roles, n.version, n.address, n.providers, n.started_at, n.seen_at, \
        CASE WHEN n.draining THEN 1::bigint ELSE 0::bigint END, \
        (SELECT count(*) FROM freehold_registry.operations o WHERE o.holder_node = n.node \
            AND o.holder_node IS NOT NULL AND o.due_at IS NOT NULL AND o.due_at > t.now) \
     FROM t CROSS JOIN freehold_registry.nodes n WHERE n.seen_at > t.now - $2::bigint"
);

const DRAIN: &str = "UPDATE freehold_registry.nodes SET draining = $2 WHERE node = $1";

/// Another node, if the row has one.
fn peer((node, roles, providers): &(Option<String>, Option<String>, Option<String>)) -> Option<Peer<'_>> {
    Some(Peer { node: node.as_deref()?, roles: roles.as_deref()?, providers: providers.as_deref()? })
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

impl PostgresStore {
    /// Puts a node on record in a new life. Nodes that nobody lists any more are forgotten on the way.
    pub(super) async fn node_starts(&self, beat: &NodeBeat) -> Result<NodeOrders, StoreError> {
        let args = Args::default().number_or_null(self.desk.time.given()).number(micros(LISTED_FOR));
        self.desk.write_again(FORGET, &args).await?;
        self.node_tells(beat, true).await
    }

    /// Puts a beat on record, if this life of the node has its name. Doing it twice is doing it once.
    pub(super) async fn node_tells(&self, beat: &NodeBeat, begins: bool) -> Result<NodeOrders, StoreError> {
        let NodeBeat { holder: Holder { node, incarnation }, roles, version, address, providers: _ } = beat;
        let args = Args::default()
            .number_or_null(self.desk.time.given())
            .text(node.as_str())
            .number(incarnation.cast_signed())
            .text(roles.as_str())
            .text(version.as_str())
            .text(address.as_str())
            .number(micros(LIVE_FOR))
            .flag(begins)
            .text(beat.providers_on_record());
        let rows = self.desk.write_again(BEAT, &args).await?;
        let (now, heard) = first(&rows, |row| Ok((row.time()?, row.number_or_null()?)))?
            .ok_or_else(|| corrupt("a beat that brought nothing back"))?;
        let others = all(&rows, |row| {
            let (_now, _heard) = (row.time()?, row.number_or_null()?);
            let mut text = || Ok::<_, StoreError>(row.text_or_null()?.map(str::to_owned));
            Ok((text()?, text()?, text()?))
        })?;
        let own = (heard == Some(0)).then_some(Peer { node: node.as_str(), roles, providers: "" });
        let there: Vec<Peer<'_>> = others.iter().filter_map(peer).chain(own).collect();
        let share = if heard.is_some() { Share::among(node.as_str(), &there) } else { Share::ALL };
        let elsewhere = Elsewhere::of(beat, &there);
        Ok(NodeOrders { draining: heard == Some(1), superseded: heard.is_none(), share, elsewhere, now })
    }

    /// Every node that was heard of lately, by name.
    pub(super) async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let args = Args::default().number_or_null(self.desk.time.given()).number(micros(LISTED_FOR));
        let mut nodes = all(&self.rows(LIST, args).await?, |row| {
            let holder = Holder { node: row.parsed()?, incarnation: row.number()?.cast_unsigned() };
            let (roles, version, address) = (row.text()?.to_owned(), row.text()?.to_owned(), row.text()?.to_owned());
            let providers = providers_of(row.text()?).collect();
            let beat = NodeBeat { holder, roles, version, address, providers };
            let (started_at, seen_at) = (row.time()?, row.time()?);
            Ok(NodeRecord { beat, started_at, seen_at, draining: row.number()? != 0, operations: row.count()? })
        })?;
        nodes.sort_unstable_by(|one, other| one.beat.holder.node.cmp(&other.beat.holder.node));
        Ok(nodes)
    }

    /// Asks a node to be drained, or not to be.
    pub(super) async fn node_drains(&self, node: &NodeId, draining: bool) -> Result<NodeRecord, StoreError> {
        self.desk.write_again(DRAIN, &Args::default().text(node.as_str()).flag(draining)).await?;
        let listed = self.nodes().await.map_err(behind_a_write)?;
        listed.into_iter().find(|record| record.beat.holder.node == *node).ok_or(StoreError::Missing("node"))
    }
}
