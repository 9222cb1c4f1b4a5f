//! Rows that are read from left to right, into types that cannot be wrong.

use std::fmt::Display;
use std::str::FromStr;

use freehold_domain::ids::{InstanceId, LeakId, OperationId, SubscriptionId};
use freehold_domain::owner::Context;
use freehold_domain::time::Timestamp;
use freehold_engine::ports::StoreError;

use super::names::Named;

/// Ids in rows.
pub(crate) trait Id: Sized {
    /// Reads an id's sixteen bytes.
    fn read(bytes: [u8; 16]) -> Result<Self, impl Display>;
}

macro_rules! ids {
    ($($id:ident),*) => {$(
        impl Id for $id {
            fn read(bytes: [u8; 16]) -> Result<Self, impl Display> {
                Self::from_bytes(bytes)
            }
        }
    )*};
}

ids!(InstanceId, OperationId, LeakId, SubscriptionId);

/// The columns of a row that are not read yet, in the order of their statement. Each read takes the next one.
pub(crate) trait Fields<'r> {
    /// A text, or null.
    fn text_or_null(&mut self) -> Result<Option<&'r str>, StoreError>;

    /// A whole number, or null.
    fn number_or_null(&mut self) -> Result<Option<i64>, StoreError>;

    /// Bytes of any number, or null.
    fn blob_or_null(&mut self) -> Result<Option<&'r [u8]>, StoreError>;

    /// The sixteen bytes of an id.
    fn id_bytes(&mut self) -> Result<[u8; 16], StoreError>;

    /// That the column which was read last is wrong.
    fn wrong(&self, what: impl Display) -> StoreError;

    /// A text.
    fn text(&mut self) -> Result<&'r str, StoreError> {
        self.text_or_null()?.ok_or_else(|| self.wrong("null where a text belongs"))
    }

    /// A whole number.
    fn number(&mut self) -> Result<i64, StoreError> {
        self.number_or_null()?.ok_or_else(|| self.wrong("null where a number belongs"))
    }

    /// So many bytes.
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let bytes = self.blob_or_null()?.ok_or_else(|| self.wrong("null where bytes belong"))?;
        bytes.try_into().map_err(|_| self.wrong(format!("{} bytes where {N} belong", bytes.len())))
    }

    /// An id.
    fn id<I: Id>(&mut self) -> Result<I, StoreError> {
        let bytes = self.id_bytes()?;
        I::read(bytes).map_err(|error| self.wrong(error))
    }

    /// A count.
    fn count<N: TryFrom<i64>>(&mut self) -> Result<N, StoreError> {
        let number = self.number()?;
        N::try_from(number).map_err(|_| self.wrong(format!("{number} is out of range")))
    }

    /// A time.
    fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.number().map(Timestamp::from_micros)
    }

    /// A time, or null.
    fn time_or_null(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.number_or_null()?.map(Timestamp::from_micros))
    }

    /// Something with a name.
    fn named<T: Named>(&mut self) -> Result<T, StoreError> {
        let name = self.text()?;
        T::from_name(name).ok_or_else(|| self.wrong(format!("{name:?} is no {}", T::WHAT)))
    }

    /// Something that parses from its text.
    fn parsed<T: FromStr<Err: Display>>(&mut self) -> Result<T, StoreError> {
        let text = self.text()?;
        text.parse().map_err(|error| self.wrong(error))
    }

    /// A context, from its two columns.
    fn context(&mut self) -> Result<Context, StoreError> {
        let owner = self.parsed()?;
        let assigned_user = self.parsed()?;
        Context::new(owner, Some(assigned_user)).map_err(|error| self.wrong(error))
    }
}
