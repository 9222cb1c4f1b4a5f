//! Rows, parsed once into types that cannot be wrong.

use std::fmt::Display;
use std::str::FromStr;

use freehold_domain::event::Actor;
use freehold_domain::ids::{InstanceId, OperationId, SubscriptionId};
use freehold_domain::owner::Context;
use freehold_domain::records::{InstanceRow, RecordsView, Subscription, SubscriptionStatus};
use freehold_domain::time::Timestamp;
use freehold_engine::ports::{Because, RecordChange, RecordsError};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::postgres::args::{At, Id};

/// The columns of a view, by name and in this order: a later schema may have more of them.
macro_rules! columns {
    () => {
        "instance_id, owner, assigned_user, provider, tier, created_at, destroyed_at, subscription_id, status, plan, \
         price_version, started_at, ended_at, reported, closed"
    };
}
pub(super) use columns;

fn corrupt(what: impl Display) -> RecordsError {
    RecordsError::Refused(format!("a row is not what this program takes it for: {what}"))
}

/// Columns, in their order.
struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Columns<'r> {
    fn get<T: FromSql<'r>>(&mut self) -> Result<T, RecordsError> {
        let value = self.row.try_get(self.next).map_err(corrupt)?;
        self.next += 1;
        Ok(value)
    }

    fn skip(&mut self, columns: usize) {
        self.next += columns;
    }

    fn id<T, E: Display>(&mut self, from: fn([u8; 16]) -> Result<T, E>) -> Result<T, RecordsError> {
        from(self.get::<Id>()?.0).map_err(corrupt)
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self) -> Result<T, RecordsError> {
        self.get::<&str>()?.parse().map_err(corrupt)
    }

    fn at(&mut self) -> Result<Timestamp, RecordsError> {
        Ok(self.get::<At>()?.0)
    }

    fn at_or_null(&mut self) -> Result<Option<Timestamp>, RecordsError> {
        Ok(self.get::<Option<At>>()?.map(|at| at.0))
    }

    /// The next `columns`, if the first of them is not null.
    fn if_there<T>(
        &mut self,
        columns: usize,
        read: impl FnOnce(&mut Self) -> Result<T, RecordsError>,
    ) -> Result<Option<T>, RecordsError> {
        let first: Option<Anything> = self.row.try_get(self.next).map_err(corrupt)?;
        match first {
            Some(Anything) => read(self).map(Some),
            None => {
                self.skip(columns);
                Ok(None)
            }
        }
    }
}

/// Whatever is there.
struct Anything;

impl FromSql<'_> for Anything {
    fn from_sql(_: &tokio_postgres::types::Type, _: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self)
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}

fn instance_row(instance: InstanceId, row: &mut Columns<'_>) -> Result<InstanceRow, RecordsError> {
    let owner = row.parsed()?;
    let user = row.parsed()?;
    Ok(InstanceRow {
        instance,
        context: Context::new(owner, Some(user)).map_err(corrupt)?,
        provider: row.parsed()?,
        tier: row.parsed()?,
        created_at: row.at()?,
        destroyed_at: row.at_or_null()?,
    })
}

fn subscription(instance: InstanceId, row: &mut Columns<'_>) -> Result<Subscription, RecordsError> {
    let id = row.id(SubscriptionId::from_bytes)?;
    let status = row.get::<&str>()?;
    let status = SubscriptionStatus::ALL.into_iter().find(|known| known.name() == status);
    Ok(Subscription {
        id,
        instance,
        status: status.ok_or_else(|| corrupt("a subscription has an unknown status"))?,
        plan: row.get()?,
        price_version: row.parsed()?,
        started_at: row.at()?,
        ended_at: row.at_or_null()?,
        reported: row.get()?,
    })
}

/// Reads a row of [`columns`].
pub(super) fn view(row: &Row) -> Result<RecordsView, RecordsError> {
    let mut columns = Columns { row, next: 0 };
    let instance = columns.id(InstanceId::from_bytes)?;
    Ok(RecordsView {
        row: columns.if_there(6, |columns| instance_row(instance, columns))?,
        subscription: columns.if_there(7, |columns| subscription(instance, columns))?,
        closed: columns.get()?,
    })
}

/// Reads a line of the change log.
pub(super) fn change(row: &Row) -> Result<RecordChange, RecordsError> {
    let mut columns = Columns { row, next: 0 };
    let instance = columns.id(InstanceId::from_bytes)?;
    let action = columns.get()?;
    let actor = columns.get::<&str>()?;
    let actor = Actor::ALL.into_iter().find(|known| known.name() == actor);
    Ok(RecordChange {
        instance,
        action,
        because: Because {
            actor: actor.ok_or_else(|| corrupt("an unknown actor changed something"))?,
            operation: columns.if_there(1, |columns| columns.id(OperationId::from_bytes))?,
            reason: columns.get()?,
        },
        before: columns.get()?,
        after: columns.get()?,
        at: columns.at()?,
    })
}
