//! The file: a table for each kind of record, and the version of the whole.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError,
    TableDefinition,
};

use crate::effect::{Kept, Record, Table};
use crate::shell::clock;

/// Grows when what a table holds or the head of a record changes. A table more changes nothing for
/// a program that does not know it.
const VERSION: u64 = 1;
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// What is read often is in the core's memory already.
const CACHE_BYTES: usize = 2 * 1024 * 1024;

/// The head of a record: the time of day its times count from, milliseconds since 1970.
const HEAD_BYTES: usize = 8;

#[derive(Debug)]
pub(super) struct File {
    database: Database,
}

/// Why there is no file to work with.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// It is damaged, or a newer version's.
    #[error("{0}")]
    Unusable(String),
    /// The system, or another daemon, stands in the way.
    #[error("{0}")]
    Refused(String),
}

impl File {
    /// Makes it if it is not there. The library may panic where a file was tampered with.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Kept>), Trouble> {
        let opened = catch_unwind(|| {
            let file = Self {
                database: database(path)?,
            };
            let records = file.read()?;
            Ok((file, records))
        });
        let opened = opened.unwrap_or_else(|_| Err(Trouble::Unusable("it is damaged".to_owned())));
        opened.map_err(|trouble| trouble.about(path))
    }

    /// All or nothing, and on disk when it returns.
    pub(super) fn commit(
        &self,
        batch: &BTreeMap<(Table, Bytes), Option<Record>>,
    ) -> Result<(), Trouble> {
        let commit = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            for table in Table::ALL {
                let its = batch.range((table, Bytes::new())..);
                let its = its.take_while(|((one, _), _)| *one == table);
                let mut its = its.peekable();
                if its.peek().is_none() {
                    continue;
                }
                let mut records = transaction.open_table(definition(table))?;
                for ((_, key), record) in its {
                    match record {
                        Some(record) => drop(records.insert(&key[..], &headed(record)[..])?),
                        None => drop(records.remove(&key[..])?),
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        };
        let done = catch_unwind(AssertUnwindSafe(commit));
        match done {
            Ok(done) => done.map_err(|error| Trouble::Refused(error.to_string())),
            Err(_) => Err(Trouble::Refused("a commit broke off".to_owned())),
        }
    }

    fn read(&self) -> Result<Vec<Kept>, Trouble> {
        self.version()?;
        let read = || -> Result<Vec<Kept>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let mut records = Vec::new();
            for table in Table::ALL {
                for entry in transaction.open_table(definition(table))?.iter()? {
                    let (key, value) = entry?;
                    records.push(Kept {
                        table,
                        key: Bytes::copy_from_slice(key.value()),
                        record: beheaded(value.value()),
                    });
                }
            }
            Ok(records)
        };
        read().map_err(|error| Trouble::Unusable(error.to_string()))
    }

    /// Checks it, and writes it into a new file.
    fn version(&self) -> Result<(), Trouble> {
        let version = || -> Result<u64, redb::Error> {
            let transaction = self.database.begin_write()?;
            let found = {
                let mut meta = transaction.open_table(META)?;
                let found = meta.get("version")?.map(|version| version.value());
                if found.is_none() {
                    meta.insert("version", VERSION)?;
                }
                found
            };
            if found.is_none_or(|found| found == VERSION) {
                for table in Table::ALL {
                    transaction.open_table(definition(table))?;
                }
            }
            transaction.commit()?;
            Ok(found.unwrap_or(VERSION))
        };
        match version() {
            Ok(VERSION) => Ok(()),
            Ok(other) => Err(Trouble::Unusable(format!(
                "its version is {other}, this program writes {VERSION}"
            ))),
            Err(redb::Error::Io(error)) => Err(Trouble::Refused(error.to_string())),
            Err(error) => Err(Trouble::Unusable(error.to_string())),
        }
    }
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match table {
        Table::Registrations => "registrations",
        Table::Calls => "calls",
        Table::Conferences => "conferences",
        Table::Outbox => "outbox",
        Table::Bans => "bans",
    })
}

fn database(path: &Path) -> Result<Database, Trouble> {
    let refused = |error: io::Error| Trouble::Refused(error.to_string());
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(0o600).open(path).map_err(refused)?;
    let is_new = file.metadata().is_ok_and(|metadata| metadata.len() == 0);
    let made = FileBackend::new(file).and_then(|file| {
        let mut builder = Builder::new();
        builder
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(file)
    });
    let damaged = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    made.map_err(|error| {
        if let DatabaseError::Storage(StorageError::Io(error)) = error {
            if is_new {
                // A full disk: what was begun would be damaged at the next start.
                drop(std::fs::remove_file(path));
            } else if damaged.contains(&error.kind()) {
                return Trouble::Unusable(format!("it is damaged: {error}"));
            }
            return refused(error);
        }
        if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
            let why = "another daemon has it open: give each its own file";
            return Trouble::Refused(why.to_owned());
        }
        Trouble::Unusable(error.to_string())
    })
}

impl Trouble {
    fn about(self, path: &Path) -> Self {
        let path = path.display();
        match self {
            Self::Unusable(why) => Self::Unusable(format!("{path}: {why}")),
            Self::Refused(why) => Self::Refused(format!("{path}: {why}")),
        }
    }
}

fn headed(record: &Record) -> Vec<u8> {
    let age = clock::now().saturating_duration_since(record.at);
    let written = clock::wall().checked_sub(age).unwrap_or(UNIX_EPOCH);
    let since = written.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    [&ms.to_be_bytes()[..], &record.bytes].concat()
}

/// A clock that was set back makes records look new: they last as long as they would have then.
fn beheaded(value: &[u8]) -> Record {
    let (head, rest) = value.split_at_checked(HEAD_BYTES).unwrap_or((&[], &[]));
    let ms = <[u8; HEAD_BYTES]>::try_from(head).map_or(0, u64::from_be_bytes);
    let written = UNIX_EPOCH.checked_add(Duration::from_millis(ms));
    let age = written.and_then(|written| clock::wall().duration_since(written).ok());
    let now: Instant = clock::now();
    Record {
        at: now.checked_sub(age.unwrap_or_default()).unwrap_or(now),
        bytes: Bytes::copy_from_slice(rest),
    }
}

/// Makes the file one of a program that knew no table but the first.
#[cfg(test)]
pub(super) fn forget_tables(path: &Path) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    for table in [Table::Calls, Table::Conferences, Table::Outbox, Table::Bans] {
        assert!(transaction.delete_table(definition(table)).unwrap());
    }
    transaction.commit().unwrap();
}

/// Makes the file another version's.
#[cfg(test)]
pub(super) fn renumber(path: &Path, version: u64) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut meta = transaction.open_table(META).unwrap();
    meta.insert("version", version).unwrap();
    drop(meta);
    transaction.commit().unwrap();
}
