//! The registry in PostgreSQL while it comes: nobody serves it, and it says how far it is.

use std::time::Duration;

use deadpool_postgres::Object;
use freehold_domain::time::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::source::{Cell, Key, Rows, Source, same_json};
use super::tables::{Kind, TABLES, Table};
use super::{MoveError, Url};
use crate::postgres::args::{Args, At, Id};
use crate::postgres::error::words;
use crate::postgres::pool::{Database, Options, Trouble};
use crate::postgres::{records, registry};

/// How long one statement of a move may take.
const WITHIN: Duration = Duration::from_secs(120);

/// Whether a registry is on its way to a database: it is not to be served then.
pub(in crate::postgres) const MOVING: &str = "SELECT source FROM freehold_registry.moving";

/// Says that nobody may serve what is on its way here.
pub(in crate::postgres) fn is_moving(source: &str) -> String {
    format!("a registry is being moved here from {source}: let `freehold migrate store` finish it")
}

/// How far a target is.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Nothing is there.
    Empty,
    /// A registry is on its way.
    Coming { install: String, position: u64, part: String, last_key: Vec<u8> },
    /// A registry is there.
    There { install: String },
}

impl State {
    /// Whether this installation's registry is on its way.
    pub(super) fn is_coming(&self, whose: &str) -> bool {
        match self {
            Self::Coming { install, .. } => install == whose,
            Self::Empty | Self::There { .. } => false,
        }
    }

    /// Whether this installation's registry is there, to be served.
    pub(super) fn is_there(&self, whose: &str) -> bool {
        match self {
            Self::There { install } => install == whose,
            Self::Empty | Self::Coming { .. } => false,
        }
    }
}

/// Where to go on.
pub(super) struct Place {
    pub(super) part: String,
    pub(super) last_key: Vec<u8>,
}

/// The database that a registry moves to.
pub(super) struct Target {
    place: String,
    client: Object,
    with_records: bool,
}

fn failed(error: &tokio_postgres::Error) -> MoveError {
    MoveError::Target(words(error))
}

fn away(trouble: Trouble) -> MoveError {
    match trouble {
        Trouble::Crossed(said)
        | Trouble::Away(said)
        | Trouble::Blocked(said)
        | Trouble::Unknown(said)
        | Trouble::Refused { said, .. } => MoveError::Target(said),
    }
}

impl Target {
    /// Connects, and brings the schemas up to date.
    pub(super) async fn connect(url: &Url, with_records: bool) -> Result<Self, MoveError> {
        let options = Options { connections: 1, call_within: WITHIN };
        if with_records {
            let records = Database::new(url, options, records::SCHEMA)?;
            drop(records.lend_for_transaction().await.map_err(away)?);
        }
        let database = Database::new(url, options, registry::SCHEMA)?;
        let client = database.lend_for_transaction().await.map_err(away)?;
        Ok(Self { place: database.place().to_owned(), client, with_records })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The tables that move.
    pub(super) fn tables(&self) -> impl Iterator<Item = &'static Table> + use<> {
        let with_records = self.with_records;
        TABLES.iter().filter(move |table| with_records || !table.of_records)
    }

    async fn read(&self, sql: &str, args: &Args) -> Result<Vec<Row>, MoveError> {
        self.client.query_typed(sql, &args.typed()).await.map_err(|error| failed(&error))
    }

    async fn number(&self, sql: &str) -> Result<i64, MoveError> {
        let rows = self.read(sql, &Args::default()).await?;
        let row = rows.first().ok_or_else(|| MoveError::Target("a count without an answer".to_owned()))?;
        row.try_get(0).map_err(|error| failed(&error))
    }

    /// How far it is.
    pub(super) async fn state(&self) -> Result<State, MoveError> {
        let coming = "SELECT install, position, part, last_key FROM freehold_registry.moving";
        if let Some(row) = self.read(coming, &Args::default()).await?.first() {
            let read = || -> Result<State, tokio_postgres::Error> {
                Ok(State::Coming {
                    install: row.try_get(0)?,
                    position: row.try_get::<_, i64>(1)?.cast_unsigned(),
                    part: row.try_get(2)?,
                    last_key: row.try_get(3)?,
                })
            };
            return read().map_err(|error| failed(&error));
        }
        let there = "SELECT install FROM freehold_registry.installation";
        if let Some(row) = self.read(there, &Args::default()).await?.first() {
            return Ok(State::There { install: row.try_get(0).map_err(|error| failed(&error))? });
        }
        Ok(State::Empty)
    }

    /// Begins, or finds out where to go on.
    pub(super) async fn begin(&mut self, state: State, source: &Source, now: Timestamp) -> Result<Place, MoveError> {
        match state {
            State::There { install } => {
                Err(MoveError::Taken { what: format!("the registry of the installation {install}") })
            }
            State::Coming { install, .. } if install != source.install => {
                Err(MoveError::Taken { what: format!("a part of the registry of the installation {install}") })
            }
            State::Coming { position, .. } if position != source.position => Err(MoveError::Changed),
            State::Coming { part, last_key, .. } => Ok(Place { part, last_key }),
            State::Empty => {
                for table in self.tables() {
                    if self.number(&format!("SELECT count(*) FROM {}", table.target)).await? > 0 {
                        return Err(MoveError::Taken { what: format!("rows in {}", table.target) });
                    }
                }
                let first = TABLES[0];
                let last_key = Key::least(first.key_kind).to_bytes();
                let args = Args::default()
                    .text(source.install.as_str())
                    .text(source.shown())
                    .number(source.position.cast_signed())
                    .number(now.as_micros())
                    .text(first.name)
                    .bytes(last_key.clone());
                let begin = "INSERT INTO freehold_registry.moving \
                    (only_row, install, source, position, began_at, part, last_key) VALUES (1, $1, $2, $3, $4, $5, $6)";
                self.read(begin, &args).await?;
                Ok(Place { part: first.name.to_owned(), last_key })
            }
        }
    }

    /// Takes away what an earlier move brought. Nobody ever served it.
    pub(super) async fn clear(&mut self) -> Result<(), MoveError> {
        let tx = self.client.build_transaction().start().await.map_err(|error| failed(&error))?;
        let mut statements = String::new();
        let with_records = self.with_records;
        for table in TABLES.iter().rev().filter(|table| with_records || !table.of_records) {
            // Rows of records are never deleted, but for these, which never were any.
            let keeps = table.of_records;
            if keeps {
                statements.push_str(&format!("ALTER TABLE {} DISABLE TRIGGER freehold_keep; ", table.target));
            }
            statements.push_str(&format!("DELETE FROM {}; ", table.target));
            if keeps {
                statements.push_str(&format!("ALTER TABLE {} ENABLE TRIGGER freehold_keep; ", table.target));
            }
        }
        statements.push_str("DELETE FROM freehold_registry.moving");
        tx.batch_execute(&statements).await.map_err(|error| failed(&error))?;
        tx.commit().await.map_err(|error| failed(&error))
    }

    /// Writes rows and how far that is, both or neither. `at` is how far it was.
    pub(super) async fn write(&mut self, table: &Table, rows: &Rows, at: &mut Place) -> Result<(), MoveError> {
        let Some(last) = rows.keys.last() else { return Ok(()) };
        let next = Place { part: table.name.to_owned(), last_key: last.to_bytes() };
        let tx = self.client.build_transaction().start().await.map_err(|error| failed(&error))?;
        let far = "UPDATE freehold_registry.moving SET part = $1, last_key = $2 WHERE part = $3 AND last_key = $4";
        let args = Args::default()
            .text(next.part.as_str())
            .bytes(next.last_key.clone())
            .text(at.part.as_str())
            .bytes(at.last_key.clone());
        let moved = tx.execute_typed(far, &args.typed()).await.map_err(|error| failed(&error))?;
        if moved != 1 {
            return Err(MoveError::Target("somebody else moves a registry there at the same time".to_owned()));
        }
        if table.arrives {
            let off = format!("ALTER TABLE {} DISABLE TRIGGER freehold_arrives", table.target);
            tx.batch_execute(&off).await.map_err(|error| failed(&error))?;
        }
        let args = columns(table, &rows.rows, |_| true)?;
        tx.execute_typed(&insert(table), &args.typed()).await.map_err(|error| failed(&error))?;
        if table.arrives {
            let on = format!("ALTER TABLE {} ENABLE TRIGGER freehold_arrives", table.target);
            tx.batch_execute(&on).await.map_err(|error| failed(&error))?;
        }
        tx.commit().await.map_err(|error| failed(&error))?;
        *at = next;
        Ok(())
    }

    /// Reads rows back, in the order in which they were written; those that are not there are left out.
    pub(super) async fn read_back(&self, table: &Table, rows: &Rows) -> Result<Vec<Vec<Cell>>, MoveError> {
        let is_key = |name: &str| table.identity.contains(&name);
        let keys: Vec<_> = table.columns.iter().filter(|column| is_key(column.name)).collect();
        let arrays: Vec<_> = (1..).zip(&keys).map(|(at, key)| format!("${at}::{}[]", key.kind.sql())).collect();
        let names: Vec<_> = keys.iter().map(|key| format!("k_{}", key.name)).collect();
        let same: Vec<_> = keys.iter().map(|key| format!("t.{0} = k.k_{0}", key.name)).collect();
        let shown: Vec<_> = table.columns.iter().map(|column| shown(column.name, column.kind)).collect();
        let sql = format!(
            "SELECT {} FROM unnest({}) WITH ORDINALITY AS k({}, place) JOIN {} t ON {} ORDER BY k.place",
            shown.join(", "),
            arrays.join(", "),
            names.join(", "),
            table.target,
            same.join(" AND "),
        );
        let found = self.read(&sql, &columns(table, &rows.rows, is_key)?).await?;
        found.iter().map(|row| cells(table, row)).collect()
    }

    /// How many rows there are.
    pub(super) async fn count(&self, target: &str) -> Result<u64, MoveError> {
        Ok(self.number(&format!("SELECT count(*) FROM {target}")).await?.cast_unsigned())
    }

    /// The heads of the audit chains behind a context: owner, user, number and hash.
    pub(super) async fn heads(&self, after: [u8; 16]) -> Result<Vec<Head>, MoveError> {
        let sql = "SELECT context_id, owner, assigned_user, audit_seq, audit_head FROM freehold_registry.contexts \
                   WHERE context_id > $1 ORDER BY context_id LIMIT 1000";
        let rows = self.read(sql, &Args::default().id(&after)).await?;
        let head = |row: &Row| -> Result<Head, tokio_postgres::Error> {
            Ok(Head {
                context_id: row.try_get::<_, Id>(0)?.0,
                owner: row.try_get(1)?,
                assigned_user: row.try_get(2)?,
                seq: row.try_get::<_, i64>(3)?.cast_unsigned(),
                hash: row.try_get(4)?,
            })
        };
        rows.iter().map(|row| head(row).map_err(|error| failed(&error))).collect()
    }

    /// Lets the registry be served, with its sequences behind what is there. An earlier run's last commit may arrive while this
    /// one compares; then it may be served already, and its sequences are no longer this move's to set.
    pub(super) async fn open(&mut self) -> Result<(), MoveError> {
        let tx = self.client.build_transaction().start().await.map_err(|error| failed(&error))?;
        let opened = tx.execute_typed("DELETE FROM freehold_registry.moving", &[]).await;
        if opened.map_err(|error| failed(&error))? == 0 {
            return Ok(());
        }
        let mut statements = "\
            SELECT setval('freehold_registry.audit_position', GREATEST(max(position), 1), max(position) IS NOT NULL) \
            FROM freehold_registry.audit; "
            .to_owned();
        if self.with_records {
            statements.push_str(
                "SELECT setval(pg_get_serial_sequence('freehold.freehold_subscription_change_log', 'position'), \
                 GREATEST(max(position), 1), max(position) IS NOT NULL) FROM freehold.freehold_subscription_change_log",
            );
        }
        tx.batch_execute(&statements).await.map_err(|error| failed(&error))?;
        tx.commit().await.map_err(|error| failed(&error))
    }
}

/// The end of a context's audit chain.
pub(super) struct Head {
    pub(super) context_id: [u8; 16],
    pub(super) owner: String,
    pub(super) assigned_user: String,
    pub(super) seq: u64,
    pub(super) hash: Vec<u8>,
}

fn insert(table: &Table) -> String {
    let names: Vec<_> = table.columns.iter().map(|column| column.name).collect();
    let values: Vec<_> = table
        .columns
        .iter()
        .map(|column| match column.kind {
            Kind::Json => format!("n.{}::jsonb", column.name),
            _ => format!("n.{}", column.name),
        })
        .collect();
    let arrays: Vec<_> =
        (1..).zip(table.columns).map(|(at, column)| format!("${at}::{}[]", column.kind.sql())).collect();
    format!(
        "INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE SELECT {} FROM unnest({}) AS n({names})",
        table.target,
        values.join(", "),
        arrays.join(", "),
        names = names.join(", "),
    )
}

/// A column as it is read back.
fn shown(name: &str, kind: Kind) -> String {
    match kind {
        Kind::Json => format!("t.{name}::text"),
        Kind::Int4 | Kind::Shard => format!("t.{name}::bigint"),
        Kind::Uuid | Kind::Context | Kind::Text | Kind::Exact | Kind::Int | Kind::Bytes | Kind::Bool | Kind::At => {
            format!("t.{name}")
        }
    }
}

/// Rows as columns: the arguments of a statement.
fn columns(table: &Table, rows: &[Vec<Cell>], wanted: impl Fn(&str) -> bool) -> Result<Args, MoveError> {
    let mut args = Args::default();
    for (at, column) in table.columns.iter().enumerate().filter(|(_, column)| wanted(column.name)) {
        let cells = || rows.iter().map(|row| &row[at]);
        let odd = || MoveError::Target(format!("{}.{} is not what it should be", table.name, column.name));
        macro_rules! array {
            ($type:expr, $cell:ident => $value:expr) => {
                args.column(
                    cells()
                        .map(|cell| match cell {
                            Cell::Null => Ok(None),
                            Cell::$cell(value) => Ok(Some($value(value))),
                            _ => Err(odd()),
                        })
                        .collect::<Result<Vec<_>, _>>()?,
                    $type,
                )
            };
        }
        args = match column.kind {
            Kind::Uuid | Kind::Context => array!(Type::UUID_ARRAY, Uuid => |id: &[u8; 16]| Id(*id)),
            #[expect(clippy::cast_possible_truncation, reason = "it was made of sixteen bits")]
            Kind::Shard => array!(Type::INT2_ARRAY, Int => |number: &i64| *number as i16),
            #[expect(clippy::cast_possible_truncation, reason = "it was looked at when it was read")]
            Kind::Int4 => array!(Type::INT4_ARRAY, Int => |number: &i64| *number as i32),
            Kind::Text | Kind::Exact | Kind::Json => array!(Type::TEXT_ARRAY, Text => |text: &String| text.clone()),
            Kind::Int => array!(Type::INT8_ARRAY, Int => |number: &i64| *number),
            Kind::Bytes => array!(Type::BYTEA_ARRAY, Bytes => |bytes: &Vec<u8>| bytes.clone()),
            Kind::Bool => array!(Type::BOOL_ARRAY, Bool => |yes: &bool| *yes),
            Kind::At => array!(Type::TIMESTAMPTZ_ARRAY, Int => |at: &i64| At(Timestamp::from_micros(*at))),
        };
    }
    Ok(args)
}

/// A row that was read back.
fn cells(table: &Table, row: &Row) -> Result<Vec<Cell>, MoveError> {
    let mut cells = Vec::with_capacity(table.columns.len());
    for (at, column) in table.columns.iter().enumerate() {
        let read = || -> Result<Option<Cell>, tokio_postgres::Error> {
            Ok(match column.kind {
                Kind::Uuid | Kind::Context => row.try_get::<_, Option<Id>>(at)?.map(|id| Cell::Uuid(id.0)),
                Kind::Text | Kind::Exact | Kind::Json => row.try_get::<_, Option<String>>(at)?.map(Cell::Text),
                Kind::Int | Kind::Int4 | Kind::Shard => row.try_get::<_, Option<i64>>(at)?.map(Cell::Int),
                Kind::Bytes => row.try_get::<_, Option<Vec<u8>>>(at)?.map(Cell::Bytes),
                Kind::Bool => row.try_get::<_, Option<bool>>(at)?.map(Cell::Bool),
                Kind::At => row.try_get::<_, Option<At>>(at)?.map(|at| Cell::Int(at.0.as_micros())),
            })
        };
        let cell = read().map_err(|error| failed(&error))?.unwrap_or(Cell::Null);
        cells.push(match (column.kind, cell) {
            (Kind::Json, Cell::Text(text)) => Cell::Text(same_json(&text).map_err(MoveError::Target)?),
            (_, cell) => cell,
        });
    }
    Ok(cells)
}
