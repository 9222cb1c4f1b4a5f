//! Many rows as columns: each column of a statement's rows is one argument, an array. So a statement's text is the same
//! however many rows it has.

/// A row, and rows as columns. Each field is a column: its name is the column's, behind it what the column is in SQL.
macro_rules! columns {
    ($(#[$meta:meta])* $row:ident in $rows:ident { $($field:ident: $rust:ty = $sql:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone)]
        pub(super) struct $row { $(pub(super) $field: $rust),* }

        /// The same, many of them.
        #[derive(Default)]
        pub(super) struct $rows { $($field: Vec<$rust>),* }

        impl $rows {
            /// The columns and what they are.
            pub(super) const COLUMNS: &'static [(&'static str, &'static str)] = &[$((stringify!($field), $sql)),*];

            pub(super) fn push(&mut self, row: $row) {
                let $row { $($field),* } = row;
                $(self.$field.push($field);)*
            }

            pub(super) fn args(self, args: $crate::postgres::args::Args) -> $crate::postgres::args::Args {
                $(let args = args.column(self.$field, $crate::postgres::registry::columns::array_of($sql));)*
                args
            }
        }
    };
}

pub(super) use columns;

use tokio_postgres::types::Type;

/// The type of an array of something.
pub(super) fn array_of(sql: &str) -> Type {
    match sql {
        "uuid" => Type::UUID_ARRAY,
        "bigint" => Type::INT8_ARRAY,
        "integer" => Type::INT4_ARRAY,
        "smallint" => Type::INT2_ARRAY,
        "bytea" => Type::BYTEA_ARRAY,
        _ => Type::TEXT_ARRAY,
    }
}

/// `unnest(…) AS name(…)` over the columns, with arguments from the `first`th on; and how many they are.
pub(super) fn source(name: &str, columns: &[(&str, &str)], first: &mut usize) -> String {
    let arrays: Vec<String> = columns
        .iter()
        .map(|(_, sql)| {
            let array = format!("${first}::{sql}[]");
            *first += 1;
            array
        })
        .collect();
    format!("unnest({}) AS {name}({})", arrays.join(", "), names("", columns))
}

/// The names of the columns, each behind `prefix`.
pub(super) fn names(prefix: &str, columns: &[(&str, &str)]) -> String {
    let names: Vec<String> = columns.iter().map(|(name, _)| format!("{prefix}{name}")).collect();
    names.join(", ")
}
