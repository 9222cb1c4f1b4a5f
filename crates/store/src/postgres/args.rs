//! Values of the domain on their way to a statement and back, with their types: an unnamed statement needs no round trip
//! to learn them.

use std::error::Error;

use freehold_domain::time::Timestamp;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// Microseconds from 1970, where ours begin, to 2000, where PostgreSQL's do.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

type Failure = Box<dyn Error + Sync + Send>;

/// The sixteen bytes of an id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id(pub(super) [u8; 16]);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }
    accepts!(UUID);
    to_sql_checked!();
}

impl FromSql<'_> for Id {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Failure> {
        Ok(Self(raw.try_into()?))
    }
    accepts!(UUID);
}

/// A time. What PostgreSQL cannot have is its infinity.
#[derive(Clone, Copy, Debug)]
pub(super) struct At(pub(super) Timestamp);

impl ToSql for At {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        let micros = match self.0 {
            Timestamp::NEVER => i64::MAX,
            at => at.as_micros().saturating_sub(POSTGRES_EPOCH),
        };
        out.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }
    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl FromSql<'_> for At {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Failure> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(Timestamp::from_micros(micros.saturating_add(POSTGRES_EPOCH))))
    }
    accepts!(TIMESTAMPTZ);
}

/// The arguments of a statement, in their order.
#[derive(Default)]
pub(super) struct Args(Vec<(Box<dyn ToSql + Send + Sync>, Type)>);

impl Args {
    fn and(mut self, value: impl ToSql + Send + Sync + 'static, of: Type) -> Self {
        self.0.push((Box::new(value), of));
        self
    }

    pub(super) fn id(self, bytes: &[u8; 16]) -> Self {
        self.and(Id(*bytes), Type::UUID)
    }

    pub(super) fn id_or_null(self, bytes: Option<&[u8; 16]>) -> Self {
        self.and(bytes.copied().map(Id), Type::UUID)
    }

    pub(super) fn text(self, text: impl Into<String>) -> Self {
        self.and(text.into(), Type::TEXT)
    }

    pub(super) fn at(self, at: Timestamp) -> Self {
        self.and(At(at), Type::TIMESTAMPTZ)
    }

    pub(super) fn at_or_null(self, at: Option<Timestamp>) -> Self {
        self.and(at.map(At), Type::TIMESTAMPTZ)
    }

    pub(super) fn flag(self, flag: bool) -> Self {
        self.and(flag, Type::BOOL)
    }

    pub(super) fn number(self, number: i64) -> Self {
        self.and(number, Type::INT8)
    }

    pub(super) fn number_or_null(self, number: Option<i64>) -> Self {
        self.and(number, Type::INT8)
    }

    pub(super) fn bytes(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.and(bytes.into(), Type::BYTEA)
    }

    /// A column of many rows.
    pub(super) fn column<T>(self, values: Vec<T>, of: Type) -> Self
    where
        Vec<T>: ToSql + Send + Sync + 'static,
    {
        self.and(values, of)
    }

    /// How many rows at most.
    pub(super) fn limit(self, limit: usize) -> Self {
        self.and(i64::try_from(limit).unwrap_or(i64::MAX), Type::INT8)
    }

    /// The same as the driver wants them.
    pub(super) fn typed(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.0.iter().map(|(value, of)| (value.as_ref() as &(dyn ToSql + Sync), of.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_as_itself() {
        for micros in [0, 1, -1, 1_767_225_601_000_001, i64::MAX] {
            let at = Timestamp::from_micros(micros);
            let mut raw = BytesMut::new();
            At(at).to_sql(&Type::TIMESTAMPTZ, &mut raw).expect("written");
            assert_eq!(At::from_sql(&Type::TIMESTAMPTZ, &raw).expect("read").0, at);
        }
        let mut raw = BytesMut::new();
        At(Timestamp::from_micros(POSTGRES_EPOCH)).to_sql(&Type::TIMESTAMPTZ, &mut raw).expect("written");
        assert_eq!(raw[..], [0; 8]);
    }
}
